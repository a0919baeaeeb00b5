"""`transit train`: from settings to a run, fit after fit; under torchrun, distributed over processes."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from transit_cli import console
from transit_cli.device.select import select
from transit_cli.memory.limit import MemoryLimit
from transit_cli.results import Result
from transit_cli.training.distributed import SINGLE_PROCESS, PeerLostError, process_group
from transit_cli.training.fit import Fit
from transit_cli.training.plan import plan
from transit_cli.training.processes.members import process_count, train_in_processes
from transit_cli.training.processes.side_by_side import fit_count, train_side_by_side
from transit_cli.training.runs import checkpoint
from transit_cli.training.runs.context import RunContext
from transit_cli.training.runs.finish import finish
from transit_cli.training.runs.interrupt import DeferredSignals
from transit_cli.training.runs.run import open_run, resumed
from transit_cli.training.runs.screen import Screen, screen
from transit_cli.training.runs.tensorboard import Board
from transit_cli.utils.keep_awake import awake
from transit_cli.utils.packages import check_installed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from torch import nn

    from transit_cli.device.base import Device
    from transit_cli.training.distributed import ProcessGroup
    from transit_cli.training.plan import FitTask, Plan
    from transit_cli.training.runs.run import Run
    from transit_cli.training.settings import TrainSettings


def train(settings: TrainSettings, prepare: Callable[[nn.Module, Device], None] | None = None) -> Result:
    """Train the networks that the settings describe, and write a run.

    Args:
        settings: what to train, and how.
        prepare: called with each network that is built, before it trains.

    Raises:
        TransitError: settings, view set, network or machine are unusable; what was trained so far can be resumed.
        KeyboardInterrupt: a signal was received; its argument is the command that resumes.
    """
    with process_group() as processes:
        if settings.resume:
            settings = resumed(settings)
        planned = plan(settings, select(settings.device), processes)
        return train_planned(planned, prepare, processes)


def train_planned(
    planned: Plan,
    prepare: Callable[[nn.Module, Device], None] | None = None,
    processes: ProcessGroup = SINGLE_PROCESS,
) -> Result:
    """Train the tasks of a plan, in a new run or the one that is resumed."""
    settings = planned.settings
    if settings.tensorboard:
        check_installed("tensorboard", "tensorboard", "--tensorboard")
    limit = MemoryLimit(planned.device, settings.memory_limit)
    with open_run(planned, processes) as run, _resumable(run, planned.tasks):
        own, shared = assign_tasks(planned.tasks, processes)
        todo = replace(planned, tasks=[*own, *shared])
        with awake(), DeferredSignals() as signals, screen(todo.total_steps, settings.epochs) as shown:
            board = Board(run.path) if settings.tensorboard else None
            context = RunContext(planned, run, limit, shown, signals, SINGLE_PROCESS, board, prepare)
            count = process_count(todo) if processes.world_size == 1 and prepare is None else 1
            if count > 1:
                train_in_processes(own, context, count)
                context = replace(
                    context, screen=Screen(console.Progress("train", 0, None, plain=False), settings.epochs)
                )
            beside = fit_count(planned, len(own)) if prepare is None else 1
            if beside > 1:
                results = train_side_by_side(own, context, beside)
            else:
                results = [Fit(task, context).train() for task in own]
            context = replace(context, processes=processes)
            results += [Fit(task, context).train() for task in shared]
        by_name = {result.task.name: result for gathered in processes.gather(results) for result in gathered}
        if processes.rank:
            return Result({"out": run.path})
        return finish(planned, run, [by_name[task.name] for task in planned.tasks])


def assign_tasks(tasks: Sequence[FitTask], processes: ProcessGroup) -> tuple[Sequence[FitTask], Sequence[FitTask]]:
    """The tasks that this process trains by itself, and those that all processes train together.

    A network per process costs no communication; tasks that remain after whole rounds of them are shared.
    """
    assigned = len(tasks) // processes.world_size * processes.world_size
    return tasks[:assigned][processes.rank :: processes.world_size], tasks[assigned:]


@contextmanager
def _resumable(run: Run, tasks: Sequence[FitTask]) -> Iterator[None]:
    """Add what is saved and the command that resumes to an interrupt, and to the loss of another process."""
    try:
        yield
    except KeyboardInterrupt as interrupt:
        saved = saved_steps(run, tasks)
        interrupt.args = (f"transit train --resume {run.path}", saved) if saved else ("run the same command again",)
        raise
    except PeerLostError as lost:
        lost.fix += f"; then transit train --resume {run.path}, with any number of processes"
        raise


def saved_steps(run: Run, tasks: Sequence[FitTask]) -> str:
    """What the checkpoints of a run hold, in words; "" if there is none."""
    last = {task.name: files[-1] for task in tasks if (files := checkpoint.files(run.checkpoints(task.name)))}
    named = [f"{name} at step {checkpoint.steps_of(file)}" for name, file in last.items()][-2:]
    more = len(last) - len(named)
    return "saved: " + (f"{more} before, " if more else "") + ", ".join(named) if last else ""
