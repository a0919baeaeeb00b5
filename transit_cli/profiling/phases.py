"""The phases of an optimizer step, timed on the device's own clock while the real step runs.

Hooks on the step that trains, not a copy of it, mark the phases (`training.marks`). On CUDA and MPS a mark is an event
in the command stream, read after the last step, so that nothing waits in between; on a CPU it is the clock.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transit_cli.training.workload import Workload


@dataclass(frozen=True)
class StepTimes:
    """Seconds of each measured step.

    Attributes:
        phases: seconds by phase, one value per step; empty for a phase that did not occur.
        profiled: wall-clock seconds of each step with the marks in it.
        plain: wall-clock seconds of each step without marks, the reference for the phases.
        dispatch: seconds that the host took to enqueue a step without marks; on a CPU the whole step.
        first: seconds of the very first step, with all that is compiled and allocated once.
    """

    phases: dict[str, list[float]]
    profiled: list[float]
    plain: list[float]
    dispatch: list[float]
    first: float


class Marks:
    """Notes the end of each phase while a workload runs."""

    def __init__(self, workload: Workload) -> None:
        self._timer = workload.device.timer()
        self._names: list[str] = []
        self._timer.mark()

    def __call__(self, ended: str, begins: str) -> None:  # noqa: ARG002 - traces want to know what begins
        """The phase `ended` has just ended, and `begins` begins."""
        self._timer.mark()
        self._names.append(ended)

    def seconds(self) -> list[tuple[str, float]]:
        """Each phase with its time, in the order in which they ended. Waits for the device."""
        return list(zip(self._names, self._timer.seconds(), strict=True))


def measure(workload: Workload, steps: int, block: int = 5) -> StepTimes:
    """Time `steps` steps with marks and as many without, in alternating blocks, so that both meet the same machine.

    Args:
        workload: what runs.
        steps: optimizer steps of each kind.
        block: steps in a row of one kind; the device is waited for between blocks only.
    """
    device = workload.device
    start = time.perf_counter()
    workload.run_step()
    device.synchronize()
    first = time.perf_counter() - start
    for _ in range(3):  # the allocator and the optimizer warm up too
        workload.run_step()
    device.synchronize()
    times: dict[str, list[float]] = {name: [] for name in workload.phases}
    profiled: list[float] = []
    plain: list[float] = []
    dispatch: list[float] = []
    while len(plain) < steps:
        count = min(block, steps - len(plain))
        wall, host = _plain(workload, count)
        plain += wall
        dispatch += host
        profiled += _profiled(workload, count, times)
    return StepTimes(times, profiled, plain, dispatch, first)


def plain(workload: Workload, steps: int) -> list[float]:
    """Wall-clock seconds of so many unmarked steps, after a few that warm up."""
    _plain(workload, 3)
    return _plain(workload, steps)[0]


def _plain(workload: Workload, count: int) -> tuple[list[float], list[float]]:
    """Wall and dispatch seconds per step. If steps overlap on the device, only their mean is known, and repeated."""
    device = workload.device
    host = []
    start = before = time.perf_counter()
    for _ in range(count):
        workload.run_step()
        now = time.perf_counter()
        host.append(now - before)
        before = now
    device.synchronize()
    wall = time.perf_counter() - start
    return (list(host), host) if device.kind == "cpu" else ([wall / count] * count, host)


def _profiled(workload: Workload, count: int, times: dict[str, list[float]]) -> list[float]:
    device = workload.device
    start = time.perf_counter()
    marks = Marks(workload)
    ends = []
    for _ in range(count):
        workload.run_step(marks)
        ends.append(time.perf_counter())
    timed = marks.seconds()
    wall = time.perf_counter() - start
    for row in _by_step(timed):
        for name, samples in times.items():
            samples.append(row.get(name, 0.0))
    if device.kind == "cpu":
        return [after - before for before, after in zip([start, *ends], ends, strict=False)]
    return [wall / count] * count


def _by_step(timed: list[tuple[str, float]]) -> list[dict[str, float]]:
    """The phases of each step, summed over its micro-batches; `rest` ends a step."""
    rows: list[dict[str, float]] = [{}]
    for name, seconds in timed:
        rows[-1][name] = rows[-1].get(name, 0.0) + seconds
        if name == "rest":
            rows.append({})
    return rows[:-1]
