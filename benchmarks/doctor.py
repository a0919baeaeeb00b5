"""How long `transit doctor` takes, against what it cannot do without: python benchmarks/doctor.py [--rounds 5].

`python -c "import torch"` and the doctor run in turn, round after round, so that a busy moment hits both. Wall-clock
time is what a person waits; processor time is beside it because it tells more on a machine that others use too.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

from figure import Figure, save

TRANSIT = [sys.executable, "-m", "transit_cli"]
COMMANDS = {
    "import torch": [sys.executable, "-c", "import torch"],
    "transit doctor": [*TRANSIT, "doctor"],
    "transit doctor --only chip": [*TRANSIT, "doctor", "--only", "chip"],
}
#: The most that each may take, as a multiple of `import torch`.
LIMITS = {"transit doctor": 1.6, "transit doctor --only chip": 0.4}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rounds = options.rounds
    figures = []
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in COMMANDS}
    for index in range(rounds + 1):
        for name, command in COMMANDS.items():
            took = run(command)
            if index:  # the first round fills the file cache
                times[name].append(took)
    baseline = [statistics.median(column) for column in zip(*times["import torch"], strict=True)]
    kept = True
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, {rounds} rounds, medians")
    for name, values in times.items():
        wall, processor = (statistics.median(column) for column in zip(*values, strict=True))
        ratios = [value[0] / base[0] for value, base in zip(values, times["import torch"], strict=True)]
        ratio = statistics.median(ratios)
        limit = LIMITS.get(name, float("inf"))
        kept &= ratio <= limit
        if name in LIMITS:
            limits = (min(ratios), max(ratios))
            figures.append(Figure(name, wall, "s", "import torch", ratio, limits, limit, at_most=True))
        print(
            f"{name:28} {wall:6.2f} s  {ratio:5.2f} x wall ({min(ratios):.2f}-{max(ratios):.2f})"
            f"  {processor / baseline[1]:5.2f} x processor" + (f"  limit {limit:g}" if name in LIMITS else "")
        )
    save(options.json, figures)
    return 0 if kept else 1


def run(command: list[str]) -> tuple[float, float]:
    """Seconds of wall-clock and of processor time, children included."""
    before, begun = os.times(), time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wall, after = time.perf_counter() - begun, os.times()
    return wall, after.children_user + after.children_system - before.children_user - before.children_system


if __name__ == "__main__":
    sys.exit(main())
