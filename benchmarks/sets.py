"""Importing and simulating view sets: TFRecords against the PyPI package `tfrecord`, simulation against training.

    python benchmarks/sets.py import FOLDER [--rounds 5]     needs `pip install tfrecord`
    python benchmarks/sets.py simulate [--tces 4000] [--mission kepler]

`import` reads every feature of every record into arrays, with both in turn; ours verifies the checksums, theirs does
not. `simulate` makes a set as the command does, on all cores, then trains the guide's network on it for two epochs,
again by the command, and takes the seconds that its epochs took.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from figure import Figure, save


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    importing = commands.add_parser("import")
    importing.add_argument("folder", type=Path)
    importing.add_argument("--rounds", type=int, default=5)
    simulating = commands.add_parser("simulate")
    simulating.add_argument("--tces", type=int, default=4000)
    simulating.add_argument("--mission", default="kepler")
    simulating.add_argument("--json", type=Path)
    options = parser.parse_args()
    if options.command == "import":
        return int(against_tfrecord(options.folder, options.rounds) < 5)
    ratio, rate = against_training(options.tces, options.mission)
    name, beside = f"simulate {options.mission} 2001/201", "time of two epochs of training"
    save(options.json, [Figure(name, rate, "TCEs/s", beside, ratio, wanted=1, at_most=True)])
    return int(ratio > 1)


def against_tfrecord(folder: Path, rounds: int) -> float:
    from tfrecord.reader import tfrecord_loader

    from transit_cli.data.catalogs import tfrecord

    files = sorted(path for path in folder.iterdir() if tfrecord.is_tfrecord(path))

    def ours() -> int:
        return sum(len(next(iter(tfrecord.read(file).values())).counts) for file in files)

    def theirs() -> int:
        return sum(1 for file in files for _ in tfrecord_loader(str(file), None))

    spent: dict[str, list[float]] = {"ours": [], "tfrecord": []}
    for _ in range(rounds):
        for name, read in (("ours", ours), ("tfrecord", theirs)):
            begin = time.perf_counter()
            count = read()
            spent[name].append(time.perf_counter() - begin)
    ratios = [their / our for our, their in zip(spent["ours"], spent["tfrecord"], strict=True)]
    for name, seconds in spent.items():
        print(f"{name:10} {statistics.median(seconds):.3f} s for {count:,} records")
    print(f"ratio      {statistics.median(ratios):.1f} (rounds {min(ratios):.1f} to {max(ratios):.1f})")
    return statistics.median(ratios)


def against_training(tces: int, mission: str) -> tuple[float, float]:
    with tempfile.TemporaryDirectory() as folder:
        out, run = Path(folder) / "set", Path(folder) / "run"
        command = [sys.executable, "-m", "transit_cli"]
        simulated = [*command, "data", "simulate", out, "--tces", str(tces), "--mission", mission, "--quiet"]
        begin = time.perf_counter()
        subprocess.run([*map(str, simulated), "--bins", "2001/201"], check=True)
        simulating = time.perf_counter() - begin
        trained = [*command, "train", out, "--out", run, "--epochs", "2", "--device", "cpu", "--json", "--quiet"]
        begin = time.perf_counter()
        done = subprocess.run([*map(str, trained)], check=True, capture_output=True, text=True)
        whole = time.perf_counter() - begin
    document = json.loads(done.stdout)["data"]
    epochs = float(document.get("seconds", whole))
    print(f"simulate {tces:,} {mission}-like TCEs at 2001/201: {simulating:.1f} s ({tces / simulating:,.0f} TCEs/s)")
    print(f"train them for 2 epochs: {epochs:.1f} s in the loop, {whole:.1f} s with the start")
    print(f"ratio {simulating / epochs:.2f} of the loop, {simulating / whole:.2f} of the command")
    return simulating / epochs, tces / simulating


if __name__ == "__main__":
    sys.exit(main())
