#!/bin/sh
# Trains and measures what docs/results/accuracy.md says of ensembles and of few labels, on one GPU in about nine minutes:
# vetting and triage with five members (recipes/members.json), and triage by number of labels (recipes/labels.json).
# TESS is the imported view set; results are written to $OUT.
#
#     transit data import tess_yu2019 scratch/tess --split published --mission tess
#     OUT=build/results TESS=scratch/tess sh benchmarks/accuracy_gpu.sh
#
# STAGES="pretrain" simulates light curves, trains the networks of recipes/pretrain.json on them and chooses among them;
# "pretrain members labels" does both. PYTHON needs torch, NumPy, SciPy, scikit-learn, safetensors, PyYAML, psutil, rich
# and exoplanet-core; transit need not be installed. It ends within about BUDGET seconds (540): trainings for which
# there is no time left are not begun, and those that last longer are given up. The most important ones begin first.
# With DEVICE=cpu, JOBS=1 and BUDGET=1000000 it runs without a GPU, in a day; EPOCHS=1 and SEEDS=1 try it out.
set -u
PYTHON=${PYTHON:-python3} TESS=${TESS:-scratch/tess} OUT=${OUT:-build/results} SECONDS_LEFT=${BUDGET:-540}
RECIPES=${RECIPES:-benchmarks/recipes} STAGES=${STAGES:-members labels} EPOCHS=${EPOCHS:-} SEEDS=${SEEDS:-}
CORES=$(nproc) TCES=${TCES:-40000} JOBS=${JOBS:-10} DEVICE=${DEVICE:-cuda}
export OMP_NUM_THREADS=1 PYTHONUNBUFFERED=1 XDG_CACHE_HOME="$PWD/build/cache"
export PYTHONPATH="$PWD:$PWD/plugins:$PWD/build/gpu/site${PYTHONPATH:+:$PYTHONPATH}"
BEGIN=$(date +%s)
left() { echo $((SECONDS_LEFT - $(date +%s) + BEGIN - ${1:-0})); }
stage() { case " $STAGES " in *" $1 "*) true ;; *) false ;; esac }
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
measure() { # recipes, seconds until none is begun, trainings at the same time, further options
  name=$1 limit=$2 jobs=$3
  shift 3
  [ "$limit" -gt 30 ] || limit=30
  timeout -k 5 "$(left 15)" $PYTHON benchmarks/label_efficiency.py "$TESS" --group "$RECIPES/$name.json" --out "build/gpu/$name" \
    --device "$DEVICE" --limit "$limit" --jobs "$jobs" ${EPOCHS:+--epochs "$EPOCHS"} ${SEEDS:+--seeds "$SEEDS"} \
    "$@" 2>&1 | grep -v -i "warn"
  $PYTHON benchmarks/label_efficiency.py "$TESS" --out "build/gpu/$name" --summarise >"$OUT/$name.txt"
  [ -d "build/gpu/$name" ] && tar czf "$OUT/$name.tar.gz" -C build/gpu "$name"
}

if stage pretrain; then
  say "simulating $TCES TCEs"
  simulate build/gpu/sim tess "$TCES" $((CORES - 2 > 1 ? CORES - 2 : 1)) >build/gpu/sim.log 2>&1
  tail -2 build/gpu/sim.log
  say "pretraining"
  measure pretrain "$(left 60)" "$JOBS" --keep build/gpu/networks
  (cd build/gpu && tar czf - networks) >"$OUT/networks.tar.gz"
  $PYTHON benchmarks/choose_pretrained.py build/gpu/pretrain "$TESS" build/gpu/networks | tee "$OUT/chosen.txt"
fi
if stage members; then
  say "members"
  measure members "$(left 90)" "$JOBS" &
fi
if stage labels; then
  say "labels"
  measure labels "$(left 40)" "$((JOBS > 2 ? JOBS / 2 : 1))"
  say "labels are done"
fi
wait
say "done"
