"""The computer under the device: processor, cores, memory. A container's limits count, not its host's."""

from __future__ import annotations

import ctypes
import functools
import os
import platform
import sys
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")


@functools.cache
def processor_name() -> str:
    """What the processor calls itself ("Apple M4", "AMD EPYC 9R14")."""
    if sys.platform == "darwin":
        name = sysctl("machdep.cpu.brand_string")
        return name if isinstance(name, str) else platform.processor()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith(("model name", "Model")))
    return next(names, "") or platform.processor() or platform.machine()


def usable_cores(cgroup: Path = CGROUP) -> int:
    """Cores that this process may use: its affinity, and in a container its share of time, rounded up."""
    allowed = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    quota, period = -1, 100_000
    words = _read(cgroup / "cpu.max").split()  # version 2: "200000 100000", or "max 100000"
    if len(words) == 2 and words[0].isdigit():
        quota, period = int(words[0]), int(words[1])
    elif not words:  # version 1
        quota = _number(cgroup / "cpu/cpu.cfs_quota_us", -1)
        period = _number(cgroup / "cpu/cpu.cfs_period_us", period)
    return min(allowed, -(-quota // period)) if quota > 0 else allowed


@functools.cache
def memory_bytes() -> int:
    """Memory that this process may use: the machine's, or the container's limit where that is lower."""
    import psutil

    return min(psutil.virtual_memory().total, container_memory_bytes() or sys.maxsize)


def container_memory_bytes(cgroup: Path = CGROUP) -> int | None:
    """The container's memory limit (cgroup version 2 or 1); None where there is none."""
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        limit = _number(cgroup / name, 0)
        if 0 < limit < 1 << 60:  # version 1 says "no limit" with a number near 2^63
            return limit
    return None


def container_used_bytes(cgroup: Path = CGROUP) -> int | None:
    """What the container's processes hold, without the file cache that would be given up first; None outside one."""
    used = _number(cgroup / "memory.current", -1)
    statistics, key = cgroup / "memory.stat", "inactive_file"
    if used < 0:
        used = _number(cgroup / "memory/memory.usage_in_bytes", -1)
        statistics, key = cgroup / "memory/memory.stat", "total_inactive_file"
    if used < 0:
        return None
    cache = (line.split() for line in _read(statistics).splitlines())
    return used - next((int(words[1]) for words in cache if words[0] == key), 0)


def sysctl(name: str) -> int | str | None:
    """A value of macOS's sysctl, asked without starting a process; None elsewhere and where the name is unknown."""
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


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _number(path: Path, otherwise: int) -> int:
    text = _read(path).strip()
    return int(text) if text.removeprefix("-").isdigit() else otherwise
