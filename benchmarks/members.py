"""Members of an ensemble side by side on the cores, against one after another: python benchmarks/members.py.

    python benchmarks/members.py [--rows 13000] [--members 5] [--epochs 2] [--rounds 3]

`transit train` as the command, `--processes 1` and one process per core in turn, on a set of noise of 201/61 bins: the
time does not depend on what the views show. Wall-clock and processor time with the start; the networks are the same bit
for bit. Wall-clock ratios need cores that nobody else uses, those of processor time hardly do.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from figure import Figure, save

from transit_cli.data import viewset
from transit_cli.device.host import usable_cores

LENGTHS = {"global": 201, "local": 61}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=13_000)
    parser.add_argument("--members", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    counts = (1, min(options.members, usable_cores()))
    spent: dict[int, list[tuple[float, float]]] = {count: [] for count in counts}
    weights: dict[int, bytes] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["XDG_CACHE_HOME"] = name
        write_set(folder / "set", options.rows)
        for number in range(options.rounds):
            for count in counts:
                run = folder / f"run-{count}-{number}"
                spent[count].append(train(folder / "set", run, count, options))
                weights[count] = (run / "model.safetensors").read_bytes()
    figures = []
    for what, place in (("wall-clock", 0), ("processor", 1)):
        ratios = sorted(one[place] / side[place] for one, side in zip(spent[1], spent[counts[1]], strict=True))
        value = statistics.median(times[place] for times in spent[counts[1]])
        figures.append(
            Figure(
                f"{options.members} members, {counts[1]} processes, {what}", value, "s", "one after another",
                statistics.median(ratios), (ratios[0], ratios[-1]),
            )
        )  # fmt: skip
        print(f"{figures[-1].name}: {value:.1f} s, {figures[-1].ratio:.2f} x one after another")
    print(f"equal networks: {weights[1] == weights[counts[1]]}; load {os.getloadavg()[0]:.1f}, {os.cpu_count()} cores")
    save(options.json, figures)
    return int(weights[1] != weights[counts[1]])


def write_set(path: Path, rows: int) -> None:
    """Noise with a dip in half of the views."""
    random = np.random.default_rng(0)
    views = {name: random.normal(size=(rows, length)).astype(np.float32) for name, length in LENGTHS.items()}
    for view in views.values():
        view[np.arange(rows) // 10 % 2 == 0, view.shape[1] // 2] -= 3
    tces = {
        "star": np.array([f"TIC {number}" for number in range(rows)]),
        "signal": np.array(["1"] * rows),
        "label": np.where(np.arange(rows) // 10 % 2, "J", "PC"),
        "split": np.where(np.arange(rows) % 10, "train", "val"),
    }
    viewset.write(path, views, tces, {"kind": "benchmark", "simulated": True})


def train(path: Path, run: Path, processes: int, options: argparse.Namespace) -> tuple[float, float]:
    """Seconds of wall-clock and of processor time, children included."""
    command = [sys.executable, "-m", "transit_cli", "train", path, "--out", run, "--members", options.members]
    command += ["--epochs", options.epochs, "--device", "cpu", "--processes", processes, "--quiet"]
    command += ["--execution", "single-thread", "--scalars", ""]
    before, begun = os.times(), time.perf_counter()
    subprocess.run([*map(str, command)], check=True)
    wall, after = time.perf_counter() - begun, os.times()
    return wall, after.children_user + after.children_system - before.children_user - before.children_system


if __name__ == "__main__":
    sys.exit(main())
