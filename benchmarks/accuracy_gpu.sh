#!/bin/sh
# Trains and measures everything of docs/results/accuracy.md on one GPU in about six minutes: simulation, pretrained networks,
# label efficiency and vetting. TESS is the imported view set; results and networks are written to $OUT.
#
#     transit data import tess_yu2019 scratch/tess --split published --mission tess
#     OUT=build/results TESS=scratch/tess sh benchmarks/accuracy_gpu.sh
#
# PYTHON needs torch, NumPy, SciPy, scikit-learn, safetensors, PyYAML, psutil, rich and exoplanet-core; transit need not
# be installed. It ends within BUDGET seconds (345): trainings for which there is no time left are not begun. With
# DEVICE=cpu, JOBS=1 and BUDGET=1000000 it runs without a GPU, in a day.
set -u
PYTHON=${PYTHON:-python3} TESS=${TESS:-scratch/tess} OUT=${OUT:-build/results} SECONDS_LEFT=${BUDGET:-345}
RECIPES=${RECIPES:-benchmarks/recipes}
CORES=$(nproc) TCES=${TCES:-40000} JOBS=${JOBS:-10} DEVICE=${DEVICE:-cuda}
export OMP_NUM_THREADS=1 PYTHONUNBUFFERED=1 XDG_CACHE_HOME="$PWD/build/cache"
export PYTHONPATH="$PWD:$PWD/plugins:$PWD/build/gpu/site${PYTHONPATH:+:$PYTHONPATH}"
BEGIN=$(date +%s)
left() { echo $((SECONDS_LEFT - $(date +%s) + BEGIN - ${1:-0})); }
say() { echo "== $(($(date +%s) - BEGIN)) s: $*"; }
rm -rf build/gpu && mkdir -p build/gpu/site "$OUT"

# The networks' names are entry points of the installed package; here it may not be installed.
$PYTHON - <<'PY'
import pathlib, tomllib
project = tomllib.loads(pathlib.Path("pyproject.toml").read_text())["project"]
folder = pathlib.Path("build/gpu/site/transit_cli-0.1.0.dist-info")
folder.mkdir(parents=True)
(folder / "METADATA").write_text("Metadata-Version: 2.1\nName: transit-cli\nVersion: 0.1.0\n")
groups = project["entry-points"].items()
lines = [f"[{group}]\n" + "".join(f"{name} = {value}\n" for name, value in named.items()) for group, named in groups]
(folder / "entry_points.txt").write_text("\n".join(lines))
PY

# A file, since the processes that it starts import it.
cat >build/gpu/simulate.py <<'PY'
import sys
from pathlib import Path
from transit_cli.data.settings import SimulateSettings
from transit_cli.data.simulation.simulate import make
if __name__ == "__main__":
    folder, mission, tces, workers = sys.argv[1:]
    more = {"secondary": mission == "tess"}
    make(SimulateSettings(out=Path(folder), mission=mission, tces=int(tces), workers=int(workers), seed=1, **more))
PY
simulate() { # folder, mission, TCEs, processes
  $PYTHON build/gpu/simulate.py "$@"
}
measure() { # recipes, seconds, processes, further options
  stage=$(basename "$1" .json) recipes=$1 limit=$2 jobs=$3
  shift 3
  [ "$limit" -gt 30 ] || limit=30
  $PYTHON benchmarks/label_efficiency.py "$TESS" --group "$recipes" --out "build/gpu/$stage" --device "$DEVICE" \
    --limit "$limit" --jobs "$jobs" "$@" 2>&1 | grep -v -i "warn" || true
  [ -d "build/gpu/$stage" ] && tar czf "$OUT/$stage.tar.gz" -C build/gpu "$stage"
}

say "simulating $TCES TCEs; networks from random weights"
simulate build/gpu/sim tess "$TCES" $((CORES - 4 > 1 ? CORES - 4 : 1)) >build/gpu/sim.log 2>&1 &
SIM=$!
$PYTHON - "$TESS" "$DEVICE" <<'PY' 2>&1 | grep -v -i "warn"
import sys, time
from pathlib import Path
from transit_cli import config
from transit_cli.training.settings import TrainSettings
from transit_cli.training.train import train
begin = time.perf_counter()
given = {"viewset": Path(sys.argv[1]), "target": ("PC", "EB"), "device": sys.argv[2], "out": Path("build/gpu/speed")}
done = train(config.resolve(TrainSettings, given | {**({"members": 5} if sys.argv[2] == "cuda" else {"epochs": 1})}))
print(f"speed: five members of 20 epochs in {time.perf_counter() - begin:.1f} s, AP {done.data['average_precision']:.4f};",
      [round(fit["seconds"], 1) for fit in done.data["fits"]])
PY
measure "$RECIPES/scratch.json" 60 4
wait $SIM
tail -2 build/gpu/sim.log
say "pretraining"
measure "$RECIPES/pretrain.json" "$(left 200)" "$JOBS" --keep build/gpu/networks
tar czf "$OUT/networks.tar.gz" -C build/gpu networks
$PYTHON benchmarks/choose_pretrained.py build/gpu/pretrain "$TESS" build/gpu/networks >build/gpu/chosen || true
cat build/gpu/chosen
cp build/gpu/chosen "$OUT/chosen.txt"
INIT=$(sed -n 's/^three //p' build/gpu/chosen)
INIT=${INIT:-pretrained}
(
  simulate build/gpu/kepler kepler "${KEPLER_TCES:-4000}" 5 >build/gpu/kepler.log 2>&1
  $PYTHON - <<'PY'
from pathlib import Path
from transit_cli import config
from transit_cli.training.settings import TrainSettings
from transit_cli.training.train import train
if __name__ == "__main__":
    given = {"viewset": Path("build/gpu/kepler"), "target": ("classes",), "members": 3, "epochs": 12, "seed": 1}
    train(config.resolve(TrainSettings, given | {"learning_rate": 2e-3, "out": Path("build/gpu/kepler-run")}))
PY
) >build/gpu/kepler-train.log 2>&1 &
KEPLER=$!
say "fine-tuning from $INIT"
sed "s#\"INIT\"#\"$INIT\"#g" "$RECIPES/finetune.json" >build/gpu/finetune.json
measure build/gpu/finetune.json "$(left 22)" "$JOBS"
say "collecting"
LEFT=$(left 5)
( [ "$LEFT" -gt 1 ] && sleep "$LEFT"; kill $KEPLER 2>/dev/null ) &
wait $KEPLER
cp build/gpu/kepler-run/model.safetensors "$OUT/2001-201.safetensors" 2>/dev/null
say "done"
