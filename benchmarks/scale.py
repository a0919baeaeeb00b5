"""Time, processor time and memory of the commands on view sets of many rows, in one folder and in shards.

    python benchmarks/scale.py build/scale --rows 10000 100000 --shards 100
    python benchmarks/scale.py build/scale --rows 10000 100000 1000000 --jobs 4 --threads 4   # on a machine of 16 cores

The views are noise with a dip in half of them, so that a million rows are made in a minute; what is measured does
not depend on what the views show. Each command is a process of its own; its peak memory is that of the process, with
the pages of mapped files that the system may take back (`peak`), and without them (`own`). Both are read from the
system every 20 ms: what wait4 reports counts the memory of this process too, at the time when it started the other.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
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


def run(threads: int, *arguments: object) -> dict:
    """Seconds, processor seconds, and MB of memory of a command."""
    begin = time.monotonic()
    line = [sys.executable, "-m", "transit_cli", *map(str, arguments)]
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=errors, env=environment)
        peak = {"VmHWM": 0, "RssAnon": 0}
        while True:
            done, code, usage = os.wait4(process.pid, os.WNOHANG)
            if done:
                break
            for text in Path(f"/proc/{process.pid}/status").read_text().splitlines():
                name, _, value = text.partition(":")
                if name in peak:
                    peak[name] = max(peak[name], int(value.split()[0]) // 1024)
            time.sleep(0.02)
        process.returncode = os.waitstatus_to_exitcode(code)
        if process.returncode not in {0, 1}:
            errors.seek(0)
            raise SystemExit(f"{line}: {errors.read()[-2000:]}")
    return {
        "seconds": round(time.monotonic() - begin, 1),
        "processor_seconds": round(usage.ru_utime + usage.ru_stime, 1),
        "peak_mb": peak["VmHWM"],
        "own_mb": peak["RssAnon"],
        "load": round(os.getloadavg()[0], 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--shards", type=int, default=0, help="number of shards; 0 for one folder")
    parser.add_argument("--only", nargs="*", help="commands: info check device stream evaluate predict")
    parser.add_argument("--jobs", type=int, default=1, help="commands that run at once")
    parser.add_argument("--threads", type=int, default=1, help="threads of a command")
    parser.add_argument("--batch-size", type=int, default=64)
    options = parser.parse_args()
    sets = [options.folder / f"{rows}-{options.shards}" for rows in options.rows]
    with ProcessPoolExecutor(options.jobs, get_context("spawn")) as pool:  # this process stays small
        list(pool.map(make, sets, options.rows, [options.shards] * len(sets)))

    def measure(job: tuple[int, str, list]) -> None:
        rows, command, arguments = job
        found = {"rows": rows, "shards": options.shards, "command": command} | run(options.threads, *arguments)
        print(json.dumps(found), flush=True)

    jobs = []
    for rows, views in zip(options.rows, sets, strict=True):
        train = ["train", views, "--epochs", 1, "--batch-size", options.batch_size, "--execution", "eager"]
        train += ["--device", "cpu"]
        out = f"{options.folder}/out-{views.name}"
        commands = {
            "info": ["data", "info", views],
            "check": ["data", "info", views, "--check"],
            "device": [*train, "--loader", "device", "--out", f"{out}-device"],
            "stream": [*train, "--loader", "stream", "--out", f"{out}-stream"],
            "evaluate": ["evaluate", views, "--no-report", "--out", f"{out}-evaluate", "--device", "cpu"],
            "predict": ["predict", views, "--max-plots", 0, "--out", f"{out}-predict", "--device", "cpu"],
        }
        jobs += [(rows, name, line) for name, line in commands.items() if options.only is None or name in options.only]
    jobs.sort(key=lambda job: -job[0])  # the longest first
    with ThreadPoolExecutor(options.jobs) as pool:
        list(pool.map(measure, jobs))


if __name__ == "__main__":
    main()
