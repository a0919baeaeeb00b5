"""`transit train`: from settings to a run, one fit after another."""

from __future__ import annotations

import shutil
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from transit_cli.device.select import select
from transit_cli.memory.limit import MemoryLimit
from transit_cli.training import run as runs
from transit_cli.training.awake import awake
from transit_cli.training.board import Board, require
from transit_cli.training.fit import Fit, Job
from transit_cli.training.interrupt import Deferred
from transit_cli.training.outcome import finish
from transit_cli.training.plan import plan
from transit_cli.training.screen import screen

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import nn

    from transit_cli.device.base import Device
    from transit_cli.results import Result
    from transit_cli.training.plan import Plan
    from transit_cli.training.run import Run
    from transit_cli.training.settings import TrainSettings


def train(settings: TrainSettings, prepare: Callable[[nn.Module, Device], None] | None = None) -> Result:
    """Train the networks that the settings ask for, and write a run.

    Args:
        settings: what to train, and how.
        prepare: is shown each network that is built, before it trains.

    Raises:
        TransitError: settings, view set, network or machine will not do; what was trained so far can be resumed.
        KeyboardInterrupt: a signal came; its argument is the command that goes on.
    """
    run: Run | None = None
    if settings.resume:
        run, settings = runs.reopen(settings)
    planned = plan(settings)
    if run:
        runs.check_viewset(run, planned.viewset)
    return train_planned(settings, planned, run, prepare)


def train_planned(
    settings: TrainSettings,
    planned: Plan,
    run: Run | None = None,
    prepare: Callable[[nn.Module, Device], None] | None = None,
) -> Result:
    """Train what was planned, in a run that is resumed or else made."""
    if settings.tensorboard:
        require()
    device = select(settings.device)
    limit = MemoryLimit(device, settings.memory_limit)
    if run:
        runs.check_device(run, device)
    run = run or runs.create(settings, planned.viewset, device)
    _keep_source(settings, run)
    board = Board(run.path) if settings.tensorboard else None
    with run.locked(), _resumable(run):
        with awake(), Deferred() as signals, screen(planned.steps(settings), settings.epochs) as shown:
            job = Job(settings, planned.examples, device, run, limit, shown, signals, board, prepare)
            fitted = [Fit(task, job).train() for task in planned.tasks]
        return finish(settings, run, planned, fitted, device)


@contextmanager
def _resumable(run: Run) -> Iterator[None]:
    """An interrupt names the command that goes on."""
    try:
        yield
    except KeyboardInterrupt as interrupt:
        interrupt.args = (f"transit train --resume {run.path}",)
        raise


def _keep_source(settings: TrainSettings, run: Run) -> None:
    """A person's own network goes into the run's folder: it has to be there to use what was trained."""
    if ":" in settings.network:
        source = Path(settings.network.rpartition(":")[0]).expanduser()
        if source.is_file():
            shutil.copyfile(source, run.path / source.name)
