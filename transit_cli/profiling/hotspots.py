"""The operators that a step spends its time in, and the trace of a few steps."""

from __future__ import annotations

import gzip
import os
import shutil
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch.profiler import ProfilerActivity

from transit_cli.results import TransitError
from transit_cli.training.execution.marks import PHASES
from transit_cli.utils.files import atomic_output

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from transit_cli.training.workload import Workload

PROFILED_STEPS, TRACED_STEPS = 5, 3
#: A trace beyond this size opens slowly or not at all.
MAX_TRACE_BYTES = 50_000_000


@dataclass(frozen=True)
class Operator:
    """An operator's share of a step.

    Attributes:
        name: "aten::max_pool1d".
        calls: per step.
        seconds: its own time per step, without what it calls.
        share: of the time of all operators.
        bytes: memory that it allocated per step, minus what it freed.
        shapes: its most expensive input shapes.
    """

    name: str
    calls: float
    seconds: float
    share: float
    bytes: float
    shapes: str


@dataclass(frozen=True)
class Hotspots:
    """Operators by their own time.

    Attributes:
        clock: what the times are: "device" (on the GPU's clock), "cpu" (computed there), or "dispatch" (the time to
            queue them: all that torch's profiler can see on MPS, for it has no MPS activity).
        operators: the most expensive first.
    """

    clock: str
    operators: tuple[Operator, ...]


def find(workload: Workload, steps: int = PROFILED_STEPS) -> Hotspots:
    """Profile a few steps."""
    with _profiler(workload) as profiler:
        for _ in range(steps):
            workload.run_step()
        workload.device.synchronize()
    cuda = workload.device.kind == "cuda"
    averages = [
        row for row in profiler.key_averages() if not row.key.startswith(("ProfilerStep", "Optimizer.", "cuda"))
    ]
    shapes: dict[str, tuple[float, str]] = {}
    for row in profiler.key_averages(group_by_input_shape=True):
        seconds = _seconds(row, cuda=cuda)
        if seconds > shapes.get(row.key, (0.0, ""))[0]:
            shapes[row.key] = (seconds, " ".join(str(shape) for shape in row.input_shapes if shape))
    whole = sum(_seconds(row, cuda=cuda) for row in averages) or 1.0
    found = [
        Operator(
            name=row.key,
            calls=row.count / steps,
            seconds=_seconds(row, cuda=cuda) / steps,
            share=_seconds(row, cuda=cuda) / whole,
            bytes=(row.self_device_memory_usage if cuda else row.self_cpu_memory_usage) / steps,
            shapes=shapes.get(row.key, (0.0, ""))[1],
        )
        for row in averages
    ]
    clock = {"cuda": "device", "cpu": "cpu", "mps": "dispatch"}[workload.device.kind]
    return Hotspots(clock, tuple(sorted(found, key=lambda operator: -operator.seconds)))


def _seconds(row: Any, *, cuda: bool) -> float:
    return (row.self_device_time_total if cuda else row.self_cpu_time_total) * 1e-6


@contextmanager
def _profiler(workload: Workload) -> Iterator[torch.profiler.profile]:
    activities = [ProfilerActivity.CPU]
    if workload.device.kind == "cuda":
        activities.append(ProfilerActivity.CUDA)
    options = {"activities": activities, "record_shapes": True, "profile_memory": True}
    with _silence(), torch.profiler.profile(**options) as profiler:
        yield profiler


@contextmanager
def _silence() -> Iterator[None]:
    """Send stderr to nowhere: Kineto and the allocator write lines of their own there, whatever the log level."""
    sys.stderr.flush()
    saved, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(nowhere)


class _Ranges:
    """Names the phases in a trace: one range after the other."""

    def __init__(self) -> None:
        self._open: Any = None
        self("", PHASES[0])

    def __call__(self, ended: str, begins: str) -> None:  # noqa: ARG002
        self.close()
        self._open = torch.profiler.record_function(f"phase: {begins}")
        self._open.__enter__()

    def close(self) -> None:
        """End the range that is open."""
        if self._open is not None:
            self._open.__exit__(None, None, None)
        self._open = None


def trace(workload: Workload, file: Path) -> int:
    """Write a Chrome trace of a few steps, gzipped, with the phases as named ranges. Returns its size in bytes.

    Raises:
        TransitError: even one step's trace is larger than a viewer can open.
    """
    for steps in (TRACED_STEPS, 1):
        with _profiler(workload) as profiler:
            for _ in range(steps):
                ranges = _Ranges()
                workload.run_step(ranges)
                ranges.close()
            workload.device.synchronize()
        with atomic_output(file) as temporary:
            plain = temporary.with_suffix("")
            profiler.export_chrome_trace(str(plain))
            with plain.open("rb") as source, gzip.open(temporary, "wb", compresslevel=6) as target:
                shutil.copyfileobj(source, target)
        if file.stat().st_size <= MAX_TRACE_BYTES:
            return file.stat().st_size
    size = file.stat().st_size
    file.unlink()
    raise TransitError(
        f"the trace of one step takes {size / 1e6:.0f} MB",
        wanted=f"at most {MAX_TRACE_BYTES / 1e6:.0f} MB, which viewers open",
        fix="profile with a smaller --accumulate",
        code="trace-too-large",
    )
