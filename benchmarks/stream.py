"""Processor time of the streaming loader on a view set in one folder and in shards, from the page cache.

    python benchmarks/stream.py build/scale --rows 100000 --shards 1 100 1000 --rounds 5

One epoch is read, with nothing computed; the rounds of the sets are interleaved, and each gives the time of every set
over that of one folder in the same round.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path

import numpy as np
import scale
import torch

from transit_cli.data.viewset import ViewSet
from transit_cli.training.loading.samples import Batching
from transit_cli.training.loading.stream import OnDiskSamples


def read(path: Path, batch_size: int, epoch: int) -> float:
    """Processor seconds of an epoch."""
    views = ViewSet.open(path)
    rows = views.labelled(("train",))
    stored = {name: views.stored_rows(name) for name in views.lengths}
    samples = OnDiskSamples(path, stored, None, torch.zeros(len(rows)), rows)
    loader, batching = samples.loader(torch.device("cpu"), 0), Batching(len(rows), batch_size, 1)
    list(next(loader.epoch(batching, 0, epoch)))  # files are opened
    begin = time.process_time()
    for _ in loader.epoch(batching, 0, epoch):
        pass
    return time.process_time() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--shards", type=int, nargs="+", default=[1, 100])
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[64, 1024])
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    sets = {shards: options.folder / f"{options.rows}-{shards}" for shards in (0, *options.shards)}
    for shards, path in sets.items():
        scale.make(path, options.rows, shards)
        for file in path.rglob("*.npy"):
            np.load(file).sum()  # into the page cache
    for size in options.batch_sizes:
        found = [{n: read(path, size, epoch) for n, path in sets.items()} for epoch in range(options.rounds + 1)][1:]
        for shards in sets:
            seconds = statistics.median(item[shards] for item in found)
            ratio = statistics.median(item[shards] / item[0] for item in found)
            line = {"rows": options.rows, "batch_size": size, "shards": shards, "processor_seconds": round(seconds, 3)}
            print(json.dumps(line | {"over_one_folder": round(ratio, 3)}), flush=True)


if __name__ == "__main__":
    main()
