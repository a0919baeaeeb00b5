"""Memory through a step, phase by phase, and whether it grows from step to step."""

from __future__ import annotations

import ctypes
import itertools
import statistics
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from transit_cli.memory import reading

if TYPE_CHECKING:
    from collections.abc import Callable

    from transit_cli.device.base import Device
    from transit_cli.training.workload import Workload

#: Growth below this much is not called a leak: bytes that are counted exactly, and the coarser resident memory.
MIN_GROWTH = {"exact": 1 << 20, "resident": 32 << 20}


@dataclass(frozen=True)
class Sample:
    """Memory in bytes when a phase ended."""

    step: int
    phase: str
    allocated: int
    driver: int
    resident: int


@dataclass(frozen=True)
class Growth:
    """Memory held at the end of each of many steps.

    Attributes:
        held: bytes, one value per step.
        counted: "exact" where an allocator counts what is held, "resident" where only the process's size is known.
    """

    held: tuple[int, ...]
    counted: str

    @property
    def per_step(self) -> float:
        """Growth per step, bytes: from the median of the first quarter of the steps to that of the last."""
        first, *_, last = self._quarters
        return (last - first) / (0.75 * len(self.held))

    @property
    def leaks(self) -> bool:
        """Whether it grows in every quarter of the run, by more than chance does.

        A cache that fills grows once; a leak grows as much in the last quarter as in the one before.
        """
        quarters = self._quarters
        steps = [after - before for before, after in itertools.pairwise(quarters)]
        growth = quarters[-1] - quarters[0]
        return growth >= MIN_GROWTH[self.counted] and min(steps) > 0.5 * growth / len(steps)

    @property
    def _quarters(self) -> list[float]:
        size = len(self.held) // 4
        return [statistics.median(self.held[index * size : (index + 1) * size]) for index in range(4)]


def timeline(workload: Workload, steps: int = 3) -> list[Sample]:
    """Memory at the end of each phase of a few steps, after a first one that chooses how the step runs."""
    workload.run_step()
    samples: list[Sample] = []
    count = _counter(workload.device)
    for step in range(steps):

        def look(ended: str, begins: str, step: int = step) -> None:  # noqa: ARG001
            held = workload.device.memory()
            samples.append(Sample(step, ended, count(), held.driver, reading.read().resident))

        workload.run_step(look)
    return samples


def growth(workload: Workload, steps: int) -> Growth:
    """Run `steps` steps and note what is held after each. None of them waits for the device."""
    count = _counter(workload.device)
    held = []
    for _ in range(steps):
        workload.run_step()
        held.append(count())
    return Growth(tuple(held), "exact" if count is not _resident else "resident")


def _counter(device: Device) -> Callable[[], int]:
    """A function that returns the bytes that the program holds, as exactly as the device allows."""
    if device.kind != "cpu":
        return lambda: device.memory().allocated
    return _heap if sys.platform == "linux" and hasattr(_libc(), "mallinfo2") else _resident


def _resident() -> int:
    return reading.read().resident


class _Mallinfo2(ctypes.Structure):
    """`struct mallinfo2` of glibc 2.33 and later (malloc.h): bytes and counts, all of size_t."""

    _fields_ = tuple(
        (name, ctypes.c_size_t)
        for name in (
            "arena",
            "ordblks",
            "smblks",
            "hblks",
            "hblkhd",
            "usmblks",
            "fsmblks",
            "uordblks",
            "fordblks",
            "keepcost",
        )
    )


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None)


def _heap() -> int:
    """Bytes that the program holds from malloc, where torch's CPU tensors live: exact, unlike resident memory."""
    libc = _libc()
    libc.mallinfo2.restype = _Mallinfo2
    info = libc.mallinfo2()
    return int(info.uordblks + info.hblkhd)
