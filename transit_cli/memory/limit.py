"""The guide's rule to stay under 85 % of the memory, as a limit that is enforced where each system allows it.

The limit counts what this process holds: on a CPU its resident memory, with Python, torch and libraries; on a GPU what
it holds from the driver. The device's allocator is capped, so that torch raises an out-of-memory error that can be
handled; on a CPU under Linux the kernel refuses (RLIMIT_DATA, which needs no privilege). As neither is exact, and macOS
enforces nothing, what is held, the system's memory pressure and the growth of swap are watched as well.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from transit_cli.memory import pressure, reading
from transit_cli.memory.settings import parse_size

if TYPE_CHECKING:
    from transit_cli.device.base import Device

#: Swap that may come into use before it counts as ours: macOS moves a little at all times.
SWAP_ALLOWANCE = 512 << 20


def limit_bytes(device: Device, limit: float | str) -> int:
    """The limit in bytes, of training and of probing alike: a size as it is, a share of what is usable.

    Usable is the device's memory and, where that is the machine's (a CPU, Apple silicon), no more than other programs
    leave.

    Args:
        device: before it is capped.
        limit: a share, above 0 and at most 1, or a size such as "4GiB".
    """
    held = device.memory()
    total = held.limit or reading.read().total
    if isinstance(limit, str):
        return min(parse_size(limit) or total, total)
    usable = total if device.kind == "cuda" else min(total, reading.read().available + held.driver)
    return int(limit * usable)


def cap_memory(device: Device, limit: int) -> None:
    """Make allocations of this process beyond `limit` bytes fail as out of memory, from now on."""
    device.cap_memory(min(limit / (device.memory().limit or reading.read().total), 1.0))


def impose(device: Device, limit: int) -> None:
    """`cap_memory`, for a process that has taken little so far.

    Raises:
        MemoryError: it holds more than `limit` already.
    """
    held = device.memory().driver
    if held >= limit:
        raise MemoryError(f"Python, torch and the network alone take {held / 2**20:.0f} MiB")
    cap_memory(device, limit)


class MemoryLimit:
    """A limit on the memory of this process and its device, from now on.

    Args:
        device: the device to cap.
        limit: as in `limit_bytes`.

    Attributes:
        bytes: the limit in bytes.
    """

    def __init__(self, device: Device, limit: float | str = 0.85) -> None:
        now = reading.read()
        self.bytes = limit_bytes(device, limit)
        cap_memory(device, self.bytes)
        self._device = device
        self._share = limit if isinstance(limit, float) else 1.0
        self._usable = now.available + now.resident
        self._swap = now.swap_used

    def exceeded(self) -> str:
        """Why no more memory should be taken; "" if there is no reason. Takes less than a millisecond."""
        now = reading.read()
        grown = now.swap_used - self._swap
        if grown > SWAP_ALLOWANCE:
            return f"swap has grown by {grown / 2**30:.1f} GiB"
        state = pressure.read()
        if state.level in {"warn", "critical"}:
            return f"memory pressure is {state.level} ({state.detail})"
        if (held := self._device.memory().driver) > self.bytes:
            return f"{held / 2**20:.0f} MiB are taken, and the limit is {self.bytes / 2**20:.0f} MiB"
        used = 1 - now.available / self._usable
        if sys.platform != "darwin" and used > self._share:
            return f"{used:.0%} of the usable memory is taken, and the limit is {self._share:.0%}"
        return ""
