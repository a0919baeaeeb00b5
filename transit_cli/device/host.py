"""The host: processor, cores, memory; in a container, the container's limits."""

from __future__ import annotations

import ctypes
import functools
import math
import os
import platform
import sys
from pathlib import Path

from transit_cli.device.container import Container, ContainerMemory, read_text

CONTAINER = Container()
#: Percent of the processors that other programs may use without disturbing a measurement.
QUIET = 15.0


@functools.cache
def processor_name() -> str:
    """The name of the processor ("Apple M4", "AMD EPYC 9R14")."""
    if sys.platform == "darwin":
        return str(sysctl("machdep.cpu.brand_string") or platform.processor())
    lines = read_text(Path("/proc/cpuinfo")).splitlines()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith(("model name", "Model")))
    return next(names, "") or platform.processor() or platform.machine()


@functools.cache
def usable_cores() -> int:
    """Cores that this process may use: its affinity, and in a container its share of time, rounded up."""
    allowed = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    return min(allowed, math.ceil(CONTAINER.cores() or allowed))


def busy_percent() -> float:
    """Percent of the processors in use, while this process waits."""
    import psutil

    return psutil.cpu_percent(interval=0.3)


def busy_warnings(percent: float) -> list[str]:
    """The warning for a measurement during which other programs used so much of the processors, if it matters."""
    if percent <= QUIET:
        return []
    return [f"other programs used {percent:.0f} % of the processors: the results are those of a busy machine"]


@functools.cache
def memory_bytes() -> int:
    """Memory that this process may use: the machine's, or the container's limit if that is lower."""
    import psutil

    limit = container_memory()
    total = psutil.virtual_memory().total
    return min(total, limit.limit) if limit else total


def container_memory() -> ContainerMemory | None:
    """The container's memory limit and what is left of it; None outside a container or without a limit."""
    return CONTAINER.memory() if sys.platform == "linux" else None


def sysctl(name: str) -> int | str | None:
    """A value of macOS's sysctl, read without a subprocess; None on other systems and for unknown names."""
    if sys.platform != "darwin":
        return None
    library = ctypes.CDLL(None)
    length = ctypes.c_size_t(0)
    if library.sysctlbyname(name.encode(), None, ctypes.byref(length), None, ctypes.c_size_t(0)) != 0:
        return None
    buffer = ctypes.create_string_buffer(length.value)
    if library.sysctlbyname(name.encode(), buffer, ctypes.byref(length), None, ctypes.c_size_t(0)) != 0:
        return None
    raw = buffer.raw[: length.value]
    if length.value in {4, 8}:
        return int.from_bytes(raw, sys.byteorder, signed=True)
    return raw.rstrip(b"\0").decode(errors="replace")
