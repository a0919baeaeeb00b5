"""Checks before a long run: does everything work (`--dry-run`), and can the network learn (`--overfit`)?"""

from __future__ import annotations

import math
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from transit_cli import console
from transit_cli.device.select import select
from transit_cli.model import saved
from transit_cli.results import ExitCode, Result, Table
from transit_cli.training.batch import Batch
from transit_cli.training.plan import plan
from transit_cli.training.runner import StepRunner
from transit_cli.training.step import OptimizerStep
from transit_cli.training.train import train_planned

if TYPE_CHECKING:
    from transit_cli.training.settings import TrainSettings

#: Optimizer steps of a dry run.
DRY_STEPS = 2
#: Mean loss at which a batch counts as memorised, and the most optimizer steps for it.
LEARNED, MOST_STEPS = 0.01, 1000
#: The learning rate for it, whatever the run's own rate is: a good one for Adam on small networks.
OVERFIT_RATE = 1e-3


def dry_run(settings: TrainSettings) -> Result:
    """Two optimizer steps of one network, validation, checkpointing, saving and loading; nothing is kept.

    Raises:
        TransitError: what the run itself would have raised.
    """
    planned = plan(settings, select(settings.device))
    task = planned.tasks[0]
    task = replace(task, train=task.train[: DRY_STEPS * settings.effective_batch])
    with tempfile.TemporaryDirectory(prefix="transit-dry-run-") as folder:
        short = settings.replace(epochs=1, out=Path(folder, "run"))
        result = train_planned(replace(planned, settings=short, tasks=[task]))
        saved.load(Path(folder, "run", saved.FILE), trust=True)
    data = {key: value for key, value in result.data.items() if key not in {"out", "average_precision", "roc_auc"}}
    steps = planned.total_steps
    verdict = (
        f"the dry run passed: {DRY_STEPS} steps, validation, checkpoint and saving work; nothing is kept"
        f"\nnext: the same command without --dry-run, {steps:,} steps in all"
    )
    return Result(data | {"dry_run": True, "steps": steps}, verdict=verdict)


def overfit(settings: TrainSettings) -> Result:
    """Overfit one batch, without dropout, augmentation, smoothing or decay: fails if the pipeline is broken."""
    device = select(settings.device)
    planned = plan(settings, device)
    task = planned.tasks[0]
    torch.manual_seed(task.seed)
    training = planned.samples.subset(task.train)
    inputs, targets = training.take(torch.from_numpy(_both_classes(training.targets.numpy(), settings.batch_size)))
    network = planned.build_network()
    for module in network.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    plain = settings.replace(
        learning_rate=OVERFIT_RATE, schedule="constant", weight_decay=0.0, label_smoothing=0.0, mixup=0.0
    )
    step = OptimizerStep(network, device, plain, MOST_STEPS)
    runner = StepRunner(step)
    batch = Batch({n: v.to(device.torch_device) for n, v in inputs.items()}, targets.to(device.torch_device))
    losses: list[tuple[int, float]] = []
    with console.progress("overfit", MOST_STEPS) as bar:
        while not losses or (losses[-1][1] > LEARNED and step.global_step < MOST_STEPS):
            for _ in range(10):
                loss = runner.run([batch])
            losses.append((step.global_step, float(loss)))
            bar.update(step.global_step, status=f"loss {losses[-1][1]:.4f}")
            if not math.isfinite(losses[-1][1]):
                break
    steps, loss = losses[-1]
    learned = loss <= LEARNED
    shown = [row for index, row in enumerate(losses) if index % max(1, len(losses) // 8) == 0 or row == losses[-1]]
    table = Table(("step", "loss"), [(count, f"{value:.4f}") for count, value in shown])
    verdict = f"one batch of {len(batch)} was memorised in {steps} steps: loss {loss:.4f}"
    if not learned:
        verdict = (
            f"one batch of {len(batch)} could not be memorised: loss {loss:.4f} after {steps} steps"
            f"\nnext: transit data info {settings.viewset or ''} --check; two equal signals with different labels, "
            "inputs on a wrong scale, or a network that loses its input do this"
        )
    data = {"overfit": True, "learned": learned, "steps": steps, "loss": loss, "batch_size": len(batch)}
    return Result(data, [table], verdict, exit_code=ExitCode.DONE if learned else ExitCode.NEGATIVE)


def _both_classes(targets: np.ndarray, size: int) -> np.ndarray:
    """Indices of a batch of which half are positive, if there are enough."""
    positives, others = np.flatnonzero(targets == 1), np.flatnonzero(targets == 0)
    count = min(size // 2, len(positives))
    return np.concatenate([positives[:count], others[: size - count]])
