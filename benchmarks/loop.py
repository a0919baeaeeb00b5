"""What the training loop costs over the arithmetic: `make bench`.

    python benchmarks/loop.py [--rounds 7]

*Overhead*: `transit train` on a network of 26 tiny parameters, with its feed, logging and progress, against a bare
forward, backward, clip and fused optimizer on one fixed batch, in one process and in turn; median milliseconds a step.
*Epoch*: `transit train`'s epoch on the two-branch network at 2001/201 bins and batch 64, without augmentation, against
the same step repeated on one fixed batch, the same way.
Processor time tells more than the wall's on a machine that others use too (OMP_NUM_THREADS=1 for a fair one).
"""

import argparse
import contextlib
import os
import statistics
import tempfile
import time
from pathlib import Path

from figure import Figure, save

# As the command sets it; before torch is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import torch

from transit_cli import console
from transit_cli.data import viewset
from transit_cli.device.select import select
from transit_cli.model import registry
from transit_cli.training import fit
from transit_cli.training.batch import Batch
from transit_cli.training.runner import StepRunner
from transit_cli.training.settings import TrainSettings
from transit_cli.training.step import OptimizerStep
from transit_cli.training.train import train
from transit_cli.training.workload import random_inputs

#: Most milliseconds that the loop may add to a step, and most that an epoch may take over its steps, as a share.
MOST_OVERHEAD_MS, MOST_OVER = 0.5, 0.03

TINY = """
from torch import nn

class Tiny(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(*[nn.Linear(8, 8) for _ in range(12)], nn.Linear(8, 1))

    def forward(self, inputs):
        return self.layers(inputs["global"]).squeeze(1)

def build(views, scalars):
    return Tiny()
"""


def write_set(path, rows, lengths):
    random = np.random.default_rng(0)
    views = {name: random.normal(size=(rows, length)).astype(np.float32) for name, length in lengths.items()}
    held_out = 64
    tces = {
        "star": np.array([f"TIC {number}" for number in range(rows)]),
        "signal": np.array(["1"] * rows),
        "label": np.where(np.arange(rows) % 2, "PC", "J"),
        "split": np.array(["train"] * (rows - held_out) + ["val"] * held_out),
    }
    viewset.write(path, views, tces, {"kind": "benchmark", "simulated": True})


class Clock:
    """Milliseconds a step since it was made: by the wall, and of the processors."""

    def __init__(self):
        self.begin = time.perf_counter(), time.process_time()

    def read(self, steps):
        ends = time.perf_counter(), time.process_time()
        return [1e3 * (end - begin) / steps for begin, end in zip(self.begin, ends, strict=True)]


def bare(runner, batch):
    """Forward, backward, clip, optimizer, and nothing else."""
    step = runner.step
    step.forward(batch).backward()
    torch.nn.utils.clip_grad_norm_(step.parameters, 1.0)
    step.optimizer.step()
    step.optimizer.zero_grad(set_to_none=True)


def repeated(runner, batch):
    """Our step on a fixed batch."""
    runner.run([batch])


def compare(folder, network, lengths, *, size, steps, rounds, work, execution):
    """Milliseconds a step in epochs of `transit train` and in `work`, in turn."""
    write_set(folder / "set", size * steps + 64, lengths)
    options = {"network": network, "views": tuple(lengths), "scalars": (), "batch_size": size, "execution": execution}
    plain = {"time_reversal": False, "noise": 0.0, "device": "cpu", "checkpoint_minutes": 60.0}
    settings = TrainSettings(viewset=folder / "set", out=folder / "run", epochs=rounds + 1, **options, **plain)
    runner = StepRunner(OptimizerStep(registry.build(network, lengths), select("cpu"), settings, 10**6))
    batch = Batch(random_inputs(lengths, size), torch.arange(size).remainder(2.0))
    runner.run([batch])
    ours, theirs = [], []
    clock = Clock()
    end_epoch = fit.Fit._end_epoch  # noqa: SLF001 - the place between two epochs

    def between(self, loss, speed):
        """After each epoch of ours it is the other's turn."""
        nonlocal clock
        ours.append(clock.read(steps))
        clock = Clock()
        for _ in range(steps):
            work(runner, batch)
        theirs.append(clock.read(steps))
        end_epoch(self, loss, speed)
        clock = Clock()

    fit.Fit._end_epoch = between  # noqa: SLF001
    try:
        with console.session(), Path(os.devnull).open("w") as nowhere, contextlib.redirect_stderr(nowhere):
            train(settings)
    finally:
        fit.Fit._end_epoch = end_epoch  # noqa: SLF001
    return ours[1:], theirs[1:]  # the first epoch warms up


def middle(values):
    return [statistics.median(column) for column in zip(*values, strict=True)]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rounds = options.rounds
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for part in ("a", "b"):
            (folder / part).mkdir()
        (folder / "tiny.py").write_text(TINY)
        tiny = f"{folder / 'tiny.py'}:build"
        ours, floor = compare(
            folder / "a", tiny, {"global": 8}, size=64, steps=400, rounds=rounds, work=bare, execution="eager"
        )
        over = middle([[a - b for a, b in zip(*pair, strict=True)] for pair in zip(ours, floor, strict=True)])
        figures = f"{middle(ours)[0]:.2f} against {middle(floor)[0]:.2f} ms"
        print(
            f"overhead of the loop: {over[0]:.2f} ms a step ({figures}); {over[1]:.2f} ms of the processor's time",
            end="",
        )
        print(f"; at most {MOST_OVERHEAD_MS} is wanted")
        views = {"global": 2001, "local": 201}
        ours, floor = compare(
            folder / "b",
            "two-branch",
            views,
            size=64,
            steps=10,
            rounds=rounds,
            work=repeated,
            execution="single-thread",
        )
        share = middle([[a / b - 1 for a, b in zip(*pair, strict=True)] for pair in zip(ours, floor, strict=True)])
        figures = f"{middle(ours)[0]:.1f} against {middle(floor)[0]:.1f} ms"
        print(f"epoch over its steps: {share[0]:+.1%} ({figures}); {share[1]:+.1%} of the processor's time", end="")
        print(f"; at most {MOST_OVER:.0%} is wanted")
    epoch = 1 + share[0]
    save(
        options.json,
        [
            Figure("loop over its step, 26 tiny layers", over[0], "ms", wanted=MOST_OVERHEAD_MS, at_most=True),
            Figure(
                "epoch over its steps, two-branch", middle(ours)[0], "ms/step", "the step repeated", epoch,
                wanted=1 + MOST_OVER, at_most=True,
            ),
        ],
    )  # fmt: skip
    print(f"{rounds} rounds in turn, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    return int(over[0] > MOST_OVERHEAD_MS or share[0] > MOST_OVER)


if __name__ == "__main__":
    raise SystemExit(main())
