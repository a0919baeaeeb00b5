"""Time, processor time and memory of the commands on view sets of many rows, in one folder and in shards.

    python benchmarks/scale.py build/scale --rows 10000 100000 --shards 100

The views are noise with a dip in half of them, so that a million rows are made in a minute; what is measured does
not depend on what the views show. Each command is a process of its own; its peak memory is that of the process, with
the pages of mapped files that the system may take back (`peak`), and without them (`own`).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np

from transit_cli.data import viewset
from transit_cli.data.shards.shard import Shard
from transit_cli.data.shards.sharded_set import SHARD, assemble
from transit_cli.data.split import split_of
from transit_cli.data.storage.columns import Text

LENGTHS = {"global": 201, "local": 61}


def write_rows(path: Path, rows: range, recipe: dict) -> None:
    rng, count = np.random.default_rng([7, rows.start]), len(rows)
    labels = rng.choice(4, count, p=[0.25, 0.25, 0.4, 0.1]).astype(np.int32)
    views = {}
    for name, length in LENGTHS.items():
        view = rng.normal(0, 0.1, (count, length)).astype(np.float32)
        view[labels < 2, length // 2] -= 1
        views[name] = view
    stars = [f"SIM 7-{number:07}" for number in rows]
    numbers = {name: rng.lognormal(1, 1, count).round(6) for name in ("period_days", "epoch_days", "snr", "depth_ppm")}
    more = {f"measured_{index}": rng.normal(size=count).round(6) for index in range(6)}
    columns = {
        "star": Text(np.array(stars), np.arange(count, dtype=np.int32)),
        "signal": ["1"] * count,
        "mission": ["tess"] * count,
        "time_system": ["BTJD"] * count,
        "duration_hours": np.full(count, 2.5),
        "label": Text(np.array(["PC", "EB", "J", "UNK"]), labels),
        "split": [split_of(star) for star in stars],
        "source": ["noise"] * count,
    }
    viewset.write(path, views, columns | numbers | more, recipe)


def make(path: Path, rows: int, shards: int) -> None:
    recipe = {"simulated": True, "noise": rows}
    if (path / viewset.INFO).exists():
        return
    if not shards:
        write_rows(path, range(rows), recipe)
        return
    for number in range(1, shards + 1):
        shard = Shard(number, shards)
        if not (path / shard.name).exists():
            write_rows(path / shard.name, range(rows)[shard.part(rows)], recipe | {SHARD: str(shard)})
    assemble(path, shards)


def run(*arguments: object) -> dict:
    """Seconds, processor seconds, and MB of memory of a command."""
    begin = time.monotonic()
    line = [sys.executable, "-m", "transit_cli", *map(str, arguments)]
    process = subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    own, done = [0], threading.Event()

    def watch() -> None:
        while not done.wait(0.05):
            try:
                status = Path(f"/proc/{process.pid}/status").read_text()
            except OSError:
                return
            found = [int(line.split()[1]) for line in status.splitlines() if line.startswith("RssAnon")]
            own[0] = max(own[0], *found, 0)

    watcher = threading.Thread(target=watch)
    watcher.start()
    errors = process.stderr.read()
    _, code, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(code)
    done.set()
    watcher.join()
    if process.returncode not in {0, 1}:
        raise SystemExit(f"{line}: {errors[-2000:]}")
    return {
        "seconds": round(time.monotonic() - begin, 1),
        "processor_seconds": round(usage.ru_utime + usage.ru_stime, 1),
        "peak_mb": usage.ru_maxrss // 1024,
        "own_mb": own[0] // 1024,
        "load": round(os.getloadavg()[0], 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--shards", type=int, default=0, help="number of shards; 0 for one folder")
    parser.add_argument("--only", nargs="*", help="commands: info check device stream evaluate predict")
    options = parser.parse_args()
    for rows in options.rows:
        name = f"{rows}-{options.shards}"
        views, trained = options.folder / name, options.folder / f"run-{name}"
        make(views, rows, options.shards)
        train = ["train", views, "--epochs", 1, "--batch-size", 64, "--execution", "eager", "--device", "cpu"]
        scored = ["--out", options.folder / f"out-{name}"]
        commands = {
            "info": ["data", "info", views],
            "check": ["data", "info", views, "--check"],
            "device": [*train, "--loader", "device", "--out", trained],
            "stream": [*train, "--loader", "stream", "--out", f"{trained}-stream"],
            "evaluate": ["evaluate", views, "--no-report", *scored],
            "predict": ["predict", views, "--max-plots", 0, *scored],
        }
        for command, arguments in commands.items():
            if options.only is None or command in options.only:
                found = {"rows": rows, "shards": options.shards, "command": command} | run(*arguments)
                print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
