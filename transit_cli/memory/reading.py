"""One reading of the system's memory: this process, the machine or container, swap."""

from __future__ import annotations

import functools
import sys
from dataclasses import dataclass
from pathlib import Path

import psutil

from transit_cli.device import host
from transit_cli.device.container import read_text


@dataclass(frozen=True)
class Reading:
    """Memory at one moment, in bytes.

    Attributes:
        resident: memory of this process that is in RAM.
        available: what programs could still take without swapping; in a container, within its limit.
        total: RAM, or the container's limit where that is lower.
        swap_used: swap in use by the whole machine.
        container_limit: the container's limit; None if there is none.
    """

    resident: int
    available: int
    total: int
    swap_used: int
    container_limit: int | None


def read() -> Reading:
    """Read the memory now. It takes less than a millisecond."""
    machine = psutil.virtual_memory()
    total, available = machine.total, machine.available
    container = host.container_memory()
    if container and container.limit < total:
        total, available = container.limit, min(available, container.available)
    return Reading(
        resident=_process().memory_info().rss,
        available=available,
        total=total,
        swap_used=psutil.swap_memory().used,
        container_limit=container.limit if container else None,
    )


def peak_resident() -> int:
    """The most that this process has had in RAM since it was started, in bytes, by the system's own count."""
    if sys.platform == "linux":  # getrusage would count what the process that started this one had
        line = next(line for line in read_text(Path("/proc/self/status")).splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) << 10
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


@functools.cache
def _process() -> psutil.Process:
    return psutil.Process()
