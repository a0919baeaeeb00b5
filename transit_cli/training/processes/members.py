"""Trains the tasks of a run in several processes on a CPU, one thread each: the side of the run's own process.

A task needs nothing of another, so that two processes train two members in the time of one. Every process writes the
checkpoints of its task; this one reads the last of them, as if it resumed the run. A task has the bits that it has in a
run on one thread.
"""

from __future__ import annotations

import os
import signal
import threading
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import torch

from transit_cli.results import ExitCode, TransitError
from transit_cli.training.runs.run import RESUMABLE_OPTIONS
from transit_cli.utils.isolation import Child

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transit_cli.training.plan import FitTask, Plan
    from transit_cli.training.runs.context import RunContext

#: Samples to train below which a run takes less time than starting processes is worth: about a minute on one core.
WORTHWHILE = 100_000
#: Seconds between two looks at signals and progress.
INTERVAL = 0.2


def process_count(plan: Plan) -> int:
    """The number of processes that train the tasks of a plan: 1 unless `--processes` is given or more pay."""
    settings, tasks = plan.settings, len(plan.tasks)
    if plan.device.kind != "cpu" or plan.device.can_capture or tasks < 2:
        return 1
    if settings.processes is not None:
        return min(settings.processes, tasks)
    samples = plan.total_steps * settings.effective_batch
    return min(torch.get_num_threads(), tasks) if samples >= WORTHWHILE else 1


def train_in_processes(tasks: Sequence[FitTask], context: RunContext, count: int) -> None:
    """Train tasks to the end, `count` at a time; their results are in the checkpoints of the run.

    Raises:
        TransitError: a process has failed; the others are stopped, and have saved their state.
        KeyboardInterrupt: a signal was received, likewise.
    """
    pool = _Pool(tasks, context)
    workers = [threading.Thread(target=pool.work, daemon=True) for _ in range(count)]
    for worker in workers:
        worker.start()
    told = False
    while any(worker.is_alive() for worker in workers):
        for worker in workers:
            worker.join(INTERVAL / count)
        if (context.signals.pending or pool.error) and not told:
            told = True
            pool.stop()
    context.signals.deliver()
    if pool.error:
        raise pool.error


class _Pool:
    """The tasks that are left, and the processes that train them.

    Attributes:
        error: why a process has ended; None while all is well.
    """

    def __init__(self, tasks: Sequence[FitTask], context: RunContext) -> None:
        self.error: TransitError | None = None
        self._rest, self._context = deque(tasks), context
        self._children: list[Child] = []
        self._lock = threading.Lock()
        settings = context.plan.settings
        given = {name: getattr(settings, name) for name in sorted(RESUMABLE_OPTIONS)}
        given |= {"out": None, "viewset": context.plan.viewset.path.absolute(), "resume": context.run.path.absolute()}
        self._options = {name: _plain(value) for name, value in given.items() if value is not None}

    def work(self) -> None:
        """Train tasks in one process, as long as there are any and nothing has failed."""
        env = os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        with Child("transit_cli.training.processes.worker", env=env) as child:
            with self._lock:
                self._children.append(child)
            while self.error is None and not self._context.signals.pending:
                try:
                    task = self._rest.popleft()
                except IndexError:
                    return
                done = child.run({"task": task.name, "options": self._options}, self._on_event)
                if done.kind != "done":
                    self._fail(task, done.message)
                    return

    def _on_event(self, event: dict[str, Any]) -> None:
        with self._lock:
            if "error" in event:
                self.error = self.error or TransitError(**event["error"])
            else:
                self._context.screen.relay(event["steps"], event["status"], line=event["line"])

    def _fail(self, task: FitTask, message: str) -> None:
        if self._context.signals.pending:
            return
        self.error = self.error or TransitError(
            f"the process that trained {task.name} has ended: {message or 'it was killed'}",
            wanted="memory and time for several processes",
            fix=f"transit train --resume {self._context.run.path} --processes 1",
            exit_code=ExitCode.MACHINE,
            code="worker-died",
        )

    def stop(self) -> None:
        """Let each process save its state after its optimizer step, and end."""
        with self._lock:
            for child in self._children:
                with suppress(ProcessLookupError):
                    os.kill(child.pid, signal.SIGTERM)


def _plain(value: object) -> Any:
    """A setting as JSON."""
    return value if isinstance(value, bool | int | float | str) else str(value)
