"""Members side by side on one GPU against one after another: whole runs of `transit train`, in one process.

    python benchmarks/side_by_side.py [--members 4] [--epochs 20] [--batch-size 64]

Random views of 2001/201 bins, 8,192 samples to train on and 1,024 to validate with; validation and checkpoints
included. The members' weights are compared bit for bit.
"""

import argparse
import contextlib
import os
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from transit_cli import console
from transit_cli.data import viewset
from transit_cli.model import saved
from transit_cli.training.settings import TrainSettings
from transit_cli.training.train import train

TRAINING, VALIDATION = 8192, 1024
VIEWS = {"global": 2001, "local": 201}


def write_set(path):
    random = np.random.default_rng(0)
    rows = TRAINING + VALIDATION
    views = {name: random.normal(size=(rows, length)).astype(np.float32) for name, length in VIEWS.items()}
    tces = {
        "star": np.array([f"TIC {number}" for number in range(rows)]),
        "signal": np.array(["1"] * rows),
        "label": np.where(np.arange(rows) % 2, "PC", "J"),
        "split": np.array(["train"] * TRAINING + ["val"] * VALIDATION),
    }
    viewset.write(path, views, tces, {"kind": "benchmark", "simulated": True})


def run(settings):
    """Seconds of a run, and its weights."""
    begin = time.perf_counter()
    with console.session(), Path(os.devnull).open("w") as nowhere, contextlib.redirect_stderr(nowhere):
        train(settings)
    seconds = time.perf_counter() - begin
    return seconds, saved.read(settings.out / saved.FILE)[1]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--members", type=int, default=4)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--execution", default="triton")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--precision", default="fp32")
    options = parser.parse_args()
    given = {name: getattr(options, name) for name in ("members", "batch_size", "execution", "device", "precision")}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_set(folder / "set")
        base = TrainSettings().replace(viewset=folder / "set", scalars=(), **given)
        run(base.replace(epochs=1, members=1, out=folder / "warm"))
        ratios = []
        for number in range(options.rounds):
            found = {}
            for count in (1, options.members):
                out = folder / f"{number}-{count}"
                found[count] = run(base.replace(epochs=options.epochs, processes=count, out=out))
            (alone, weights), (beside, same) = found.values()
            equal = all(torch.equal(a[key], b[key]) for a, b in zip(weights, same, strict=True) for key in a)
            ratios.append(alone / beside)
            samples = TRAINING * options.epochs * options.members
            print(
                f"one after another {alone:.2f} s ({samples / alone:,.0f} samples/s), side by side {beside:.2f} s"
                f" ({samples / beside:,.0f}): {ratios[-1]:.2f} x, bits {'equal' if equal else 'differ'}"
            )
    place = torch.cuda.get_device_name() if options.device == "cuda" else options.device
    print(f"{options}\n{place}, torch {torch.__version__}: median {statistics.median(ratios):.2f} x")


if __name__ == "__main__":
    main()
