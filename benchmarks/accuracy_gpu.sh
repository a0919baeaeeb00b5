#!/bin/sh
# Trains and measures what docs/accuracy.md says of ensembles and of few labels, on one GPU in about eight minutes:
# simulation, pretrained networks, label efficiency, vetting out of fold. TESS is the imported view set; results and
# networks are written to $OUT.
#
#     transit data import tess_yu2019 scratch/tess --split published --mission tess
#     OUT=build/results TESS=scratch/tess sh benchmarks/accuracy_gpu.sh
#
# PYTHON needs torch, NumPy, SciPy, scikit-learn, safetensors, PyYAML, psutil, rich and exoplanet-core; transit need not
# be installed. It ends within about BUDGET seconds (470): trainings for which there is no time left are not begun,
# and those that last a minute longer are given up. With
# DEVICE=cpu, JOBS=1 and BUDGET=1000000 it runs without a GPU, in a day.
set -u
PYTHON=${PYTHON:-python3} TESS=${TESS:-scratch/tess} OUT=${OUT:-build/results} SECONDS_LEFT=${BUDGET:-470}
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
  timeout "$(left -60)" $PYTHON benchmarks/label_efficiency.py "$TESS" --group "$recipes" --out "build/gpu/$stage" --device "$DEVICE" \
    --limit "$limit" --jobs "$jobs" "$@" 2>&1 | grep -v -i "warn" || true
  [ -d "build/gpu/$stage" ] && tar czf "$OUT/$stage.tar.gz" -C build/gpu "$stage"
}

say "simulating $TCES TCEs; speed of five members"
simulate build/gpu/sim tess "$TCES" $((CORES - 2 > 1 ? CORES - 2 : 1)) >build/gpu/sim.log 2>&1 &
SIM=$!
speed() { # epochs, members
  $PYTHON - "$TESS" "$DEVICE" "$@" <<'PY' 2>&1 | grep -v -i "warn"
import shutil, sys, time
from pathlib import Path
from transit_cli import config
from transit_cli.training.settings import TrainSettings
from transit_cli.training.train import train
if __name__ == "__main__":
    viewset, device, epochs, members = sys.argv[1:]
    shutil.rmtree("build/gpu/speed", ignore_errors=True)
    begin = time.perf_counter()
    given = {"viewset": Path(viewset), "target": ("PC", "EB"), "device": device, "out": Path("build/gpu/speed")}
    done = train(config.resolve(TrainSettings, given | {"members": int(members), "epochs": int(epochs)}))
    print(f"speed: {members} members of {epochs} epochs in {time.perf_counter() - begin:.1f} s, "
          f"AP {done.data['average_precision']:.4f};", [round(fit["seconds"], 1) for fit in done.data["fits"]])
PY
}
wait $SIM
tail -2 build/gpu/sim.log
if [ "$DEVICE" = cuda ]; then speed 20 5; else speed 1 1; fi
say "pretraining"
measure "$RECIPES/pretrain.json" "$(left 300)" "$JOBS" --keep build/gpu/networks
(cd build/gpu && tar czf - networks) >"$OUT/networks.tar.gz"
$PYTHON benchmarks/choose_pretrained.py build/gpu/pretrain "$TESS" build/gpu/networks >build/gpu/chosen || true
cat build/gpu/chosen
cp build/gpu/chosen "$OUT/chosen.txt"
# The best network for triage; the shipped one if none is better on the `train` stars (SHIPPED is its figure there).
INIT=$(awk -v least="${SHIPPED:-0.9376}" '$1 == "three" && $2 > least { print $3 " " $4 " " $5 }' build/gpu/chosen | sed 's/ *$//')
PLANETS=$(sed -n 's/^three-PC [0-9.]* //p' build/gpu/chosen)
INIT=${INIT:-pretrained} PLANETS=${PLANETS:-pretrained}
for stage in members labels; do
  sed "s#\"INIT\"#\"$INIT\"#g; s#\"PLANETS\"#\"$PLANETS\"#g; s#\"WIDE\"#\"build/gpu/networks/three wide-0.safetensors\"#g" \
    "$RECIPES/$stage.json" >"build/gpu/$stage.json"
done
say "members from $PLANETS, labels from $INIT"
measure build/gpu/members.json "$(left 100)" "$JOBS" &
MEMBERS=$!
measure build/gpu/labels.json "$(left 30)" "$((JOBS > 2 ? JOBS / 2 : 1))"
say "labels are done"
wait $MEMBERS
say "done"
