"""The limit on a trial's memory: how much it is, and what holds the process to it.

The limit counts what a person sees a process take: on a CPU its resident memory, with Python, torch and libraries; on a
GPU what it holds from the driver. For a CPU Linux enforces it (RLIMIT_DATA, which needs no privilege), for
a GPU torch's allocator. Neither is exact, so a peak beyond the limit is a failure too, even if the run came through.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from transit_cli.memory import reading
from transit_cli.memory.settings import parse_size

if TYPE_CHECKING:
    from transit_cli.device.base import Device


def in_bytes(device: Device, limit: float | str) -> int:
    """The limit in bytes: a size as it is, a share of what is truly usable.

    Usable is the device's own limit and, where its memory is the machine's (a CPU, Apple silicon), no more than what
    other programs leave.
    """
    held = device.memory()
    most = held.limit or reading.read().total
    if isinstance(limit, str):
        return min(parse_size(limit) or most, most)
    usable = most if device.kind == "cuda" else min(most, reading.read().available + held.driver)
    return int(limit * usable)


def impose(device: Device, limit: int) -> None:
    """Hold this process to `limit` bytes from now on.

    Raises:
        MemoryError: it has taken more already.
    """
    held = device.memory()
    if held.driver >= limit:
        raise MemoryError(f"Python, torch and the network alone take {held.driver / 2**20:.0f} MiB")
    most = held.limit or reading.read().total
    device.cap_memory(min(limit / most, 1.0))
