"""Trains tasks of a run in a process of its own: the side of the worker, see `members`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from transit_cli import console
from transit_cli.utils import isolation

if TYPE_CHECKING:
    from collections.abc import Callable

    from transit_cli.training.plan import Plan

_plans: dict[str, Plan] = {}


class _Bar(console.Progress):
    """Sends progress to the parent."""

    def __init__(self, emit: Callable[[dict[str, Any]], None], total: float) -> None:
        super().__init__("train", total, None, plain=False)
        self._emit, self._sent = emit, 0

    def update(
        self,
        completed: float | None = None,
        *,
        advance: float = 0,
        status: str | None = None,
        line: bool = False,
    ) -> None:
        """Send the optimizer steps since the last call."""
        steps = int((completed or 0) + advance) - self._sent
        self._sent += steps
        self._emit({"steps": steps, "status": status or "", "line": line})

    def print(self, text: str) -> None:
        """Send a line."""
        self._emit({"steps": 0, "status": text, "line": True})


def train_task(job: dict[str, Any], emit: Callable[[dict[str, Any]], None]) -> None:
    """Train one task of a run to the end, from its last checkpoint.

    Args:
        job: "task", its name; "options", those of `transit train --resume`.
        emit: sends an event: progress, or a TransitError.
    """
    from transit_cli.results import TransitError

    try:
        _train(job, emit)
    except TransitError as error:
        fields = {"found": error.found, "wanted": error.wanted, "fix": error.fix, "code": error.code}
        emit({"error": fields | {"exit_code": int(error.exit_code)}})


def _train(job: dict[str, Any], emit: Callable[[dict[str, Any]], None]) -> None:
    import torch

    torch.set_num_threads(1)
    from transit_cli import config
    from transit_cli.device.select import select
    from transit_cli.memory.limit import MemoryLimit
    from transit_cli.training.distributed import SINGLE_PROCESS
    from transit_cli.training.fit import Fit
    from transit_cli.training.plan import plan
    from transit_cli.training.runs.context import RunContext
    from transit_cli.training.runs.interrupt import DeferredSignals
    from transit_cli.training.runs.run import Run, resumed
    from transit_cli.training.runs.screen import Screen
    from transit_cli.training.runs.tensorboard import Board
    from transit_cli.training.settings import TrainSettings

    options = job["options"]
    key = str(options["resume"])
    if key not in _plans:
        settings = resumed(config.resolve(TrainSettings, options))
        _plans[key] = plan(settings.replace(device="cpu"), select("cpu"))
    planned = _plans[key]
    task = next(task for task in planned.tasks if task.name == job["task"])
    run, settings = Run(Path(options["resume"])), planned.settings
    shown = Screen(_Bar(emit, planned.total_steps), settings.epochs)
    with DeferredSignals() as signals:
        board = Board(run.path) if settings.tensorboard else None
        limit = MemoryLimit(planned.device, settings.memory_limit)
        Fit(task, RunContext(planned, run, limit, shown, signals, SINGLE_PROCESS, board)).train()


if __name__ == "__main__":
    isolation.serve(train_task)
