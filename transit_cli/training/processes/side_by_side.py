"""Trains the tasks of a run side by side on one GPU, each in a thread with a stream and random generators of its own.

A small network's captured step leaves most of a large GPU idle. The graphs of several fits run at the same time, and
while one fit validates or writes a checkpoint, the others train. Each has the bits that it has alone.
"""

from __future__ import annotations

import signal
import threading
from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING, cast

from transit_cli.training.fit import Fit
from transit_cli.training.loading.samples import InMemorySamples
from transit_cli.training.processes.turns import SharedTurn, Turns
from transit_cli.training.runs.interrupt import Signals

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transit_cli.device.base import CapturingDevice, Lane
    from transit_cli.training.plan import FitTask, Plan
    from transit_cli.training.runs.context import FitResult, RunContext

#: Fits at the same time unless `--processes` is given.
FITS = 4
#: The share of the device's memory that the fits' samples may take together.
MEMORY = 0.25
#: Streams that torch hands out before it gives the same ones again; a fit has one for each view.
STREAMS = 32
#: Seconds between two looks at the signals.
INTERVAL = 0.2


def fit_count(plan: Plan, tasks: int) -> int:
    """How many of so many tasks train at the same time: 1 where the device cannot; memory and streams limit it."""
    if not plan.device.can_capture or not isinstance(plan.samples, InMemorySamples):
        return 1
    size = sum(values.nbytes for values in plan.samples.inputs.values())
    limit = plan.device.memory().limit
    room = int(MEMORY * limit / max(size, 1)) if limit else FITS
    return max(1, min(plan.settings.processes or FITS, tasks, room, STREAMS // len(plan.views)))


def train_side_by_side(tasks: Sequence[FitTask], context: RunContext, count: int) -> list[FitResult]:
    """Train tasks, `count` at a time.

    Raises:
        TransitError: one could not be trained; the others have saved their state.
        KeyboardInterrupt: a signal was received; all have saved their state.
    """
    device = cast("CapturingDevice", context.plan.device)
    device.synchronize()
    fits = _Fits(tasks, context)
    threads = [threading.Thread(target=fits.work, args=[device.lane()], daemon=True) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        while thread.is_alive():
            thread.join(INTERVAL)
    context.signals.deliver()
    if fits.error:
        raise fits.error
    return [fits.results[task.name] for task in tasks]


class _StoppedError(Exception):
    """A fit has saved its state after a signal."""


class _Stop(Signals):
    """The signals of the run, as a thread sees them; the failure of a fit is one for the others."""

    def __init__(self, fits: _Fits, signals: Signals) -> None:
        self._fits, self._signals = fits, signals

    @property
    def pending(self) -> int:  # type: ignore[override]
        """See `Signals.pending`."""
        return self._signals.pending or (int(signal.SIGTERM) if self._fits.error else 0)

    def deliver(self, number: int = 0) -> None:
        """End the fit; the main thread delivers the signal."""
        if number or self.pending:
            raise _StoppedError


class _Fits:
    """The tasks that are left, and the results of the others.

    Attributes:
        error: why a fit has failed; None while all is well.
        results: by the task's name.
    """

    def __init__(self, tasks: Sequence[FitTask], context: RunContext) -> None:
        self.error: BaseException | None = None
        self.results: dict[str, FitResult] = {}
        self._rest, self._context = deque(tasks), context
        self._turns, self._signals = Turns(), _Stop(self, context.signals)

    def work(self, lane: Lane) -> None:
        """Train tasks in one thread, as long as there are any and nothing has failed."""
        try:
            with SharedTurn(self._turns, lane) as turn:
                context = replace(self._context, signals=self._signals, turn=turn)
                while self._rest and not self._signals.pending:
                    task = self._rest.popleft()
                    self.results[task.name] = Fit(task, context).train()
        except _StoppedError:
            return
        except BaseException as error:  # noqa: BLE001 - raised again in the main thread
            self.error = self.error or error
