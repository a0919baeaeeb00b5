"""`transit train`: from settings to a run, fit after fit; under torchrun, shared out over processes."""

from __future__ import annotations

import shutil
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from transit_cli.cache import cache_folder
from transit_cli.data.simulation.simulate import embedded
from transit_cli.device.select import select
from transit_cli.files import locked
from transit_cli.memory.limit import MemoryLimit
from transit_cli.packages import check_installed
from transit_cli.results import Result
from transit_cli.training import checkpoint
from transit_cli.training import run as runs
from transit_cli.training.context import Job
from transit_cli.training.distributed import SINGLE_PROCESS, PeerLostError, process_group
from transit_cli.training.finish import finish
from transit_cli.training.fit import Fit
from transit_cli.training.interrupt import DeferredSignals
from transit_cli.training.keep_awake import awake
from transit_cli.training.plan import plan
from transit_cli.training.screen import screen
from transit_cli.training.tensorboard import Board

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from torch import nn

    from transit_cli.device.base import Device
    from transit_cli.training.distributed import ProcessGroup
    from transit_cli.training.plan import Plan, Task
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
    with process_group() as processes:
        run: Run | None = None
        if settings.resume:
            run, settings = runs.reopen(settings)
        if settings.viewset is None:
            processes.broadcast_from_rank0(lambda: embedded(cache_folder()))  # one makes it, the others find it
        planned = plan(settings)
        if run:
            runs.check_viewset(run, planned.viewset)
        return train_planned(settings, planned, run, prepare, processes)


def train_planned(
    settings: TrainSettings,
    planned: Plan,
    run: Run | None = None,
    prepare: Callable[[nn.Module, Device], None] | None = None,
    processes: ProcessGroup = SINGLE_PROCESS,
) -> Result:
    """Train what was planned, in a run that is resumed or else made."""
    if settings.tensorboard:
        check_installed("tensorboard", "tensorboard", "--tensorboard")
    device = select(settings.device)
    limit = MemoryLimit(device, settings.memory_limit)
    with _opened(settings, planned, run, device, processes) as opened, _resumable(opened):
        mine, all_gather = assign_tasks(planned.tasks, processes)
        todo = replace(planned, tasks=[*mine, *all_gather])
        with awake(), DeferredSignals() as signals, screen(todo.steps(settings), settings.epochs) as shown:
            board = Board(opened.path) if settings.tensorboard else None
            job = Job(settings, planned.examples, device, opened, limit, shown, signals, SINGLE_PROCESS, board, prepare)
            fitted = [Fit(task, job).train() for task in mine]
            job = replace(job, processes=processes)
            fitted += [Fit(task, job).train() for task in all_gather]
        found = {fit.task.name: fit for fits in processes.gather(fitted) for fit in fits}
        if processes.rank:
            return Result({"out": opened.path})
        return finish(settings, opened, planned, [found[task.name] for task in planned.tasks], device)


def assign_tasks(tasks: Sequence[Task], processes: ProcessGroup) -> tuple[Sequence[Task], Sequence[Task]]:
    """The tasks that this process trains by itself, and those that all of them train together.

    A network of its own for each process costs no communication; what is left over when they have been dealt out
    round by round is shared.
    """
    rounds = len(tasks) // processes.world_size * processes.world_size
    return tasks[:rounds][processes.rank :: processes.world_size], tasks[rounds:]


@contextmanager
def _opened(
    settings: TrainSettings, planned: Plan, run: Run | None, device: Device, processes: ProcessGroup
) -> Iterator[Run]:
    """The run's folder, resumed or made, and kept from other trainings; by process 0 for all."""
    with ExitStack() as stack:

        def open_() -> Run:
            if run:
                runs.check_device(run, device)
            opened = run or runs.create(settings, planned.viewset, device)
            _keep_source(settings, opened)
            stack.enter_context(locked(opened.path))
            opened.truncate_metrics(
                {t.name: checkpoint.latest_steps(opened.checkpoints(t.name)) for t in planned.tasks}
            )
            return opened

        yield processes.broadcast_from_rank0(open_)


@contextmanager
def _resumable(run: Run) -> Iterator[None]:
    """An interrupt, or the loss of another process, names the command that goes on."""
    try:
        yield
    except KeyboardInterrupt as interrupt:
        interrupt.args = (f"transit train --resume {run.path}",)
        raise
    except PeerLostError as lost:
        lost.fix += f"; then transit train --resume {run.path}, with as many processes as you like"
        raise


def _keep_source(settings: TrainSettings, run: Run) -> None:
    """A person's own network goes into the run's folder: it has to be there to use what was trained."""
    if ":" in settings.network:
        source = Path(settings.network.rpartition(":")[0]).expanduser()
        if source.is_file():
            shutil.copyfile(source, run.path / source.name)
