"""The guide's rule to stay under 85 % of the memory, as a limit that acts on what matters on each system.

Two things are done. The device's allocator is capped, so that torch raises an out-of-memory error that can be handled:
on MPS the share is of Metal's recommendation, on CUDA of the GPU's memory, on a CPU under Linux of the machine's or
container's. And where no allocator would raise in time, the system is watched: macOS by its pressure level and by the
growth of swap, Linux by the share of memory in use.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from transit_cli.memory import pressure, reading
from transit_cli.memory.settings import parse_size

if TYPE_CHECKING:
    from transit_cli.device.base import Device

#: Swap that may come in use while we run before it counts as ours: macOS moves a little about at all times.
SWAP_ALLOWANCE = 512 << 20


class MemoryLimit:
    """A limit on the memory of this process and its device, from now on.

    Args:
        device: the device to cap.
        limit: the share of its limit that may be used, above 0 and at most 1; or a size such as "4GiB", which counts
            what this process itself has taken, as on a machine of its own.
    """

    def __init__(self, device: Device, limit: float | str = 0.85) -> None:
        self._device = device
        self._size = parse_size(limit) if isinstance(limit, str) else None
        self._fraction = limit if isinstance(limit, float) else 1.0
        whole = (device.memory().limit or reading.read().total) if self._size else 0
        device.cap_memory(min(self._size / whole, 1.0) if self._size else self._fraction)
        self._swap = reading.read().swap_used

    def exceeded(self) -> str:
        """Why no more memory should be taken, in words; "" while all is well. Costs less than a millisecond."""
        now = reading.read()
        grown = now.swap_used - self._swap
        if grown > SWAP_ALLOWANCE:
            return f"swap has grown by {grown / 2**30:.1f} GiB"
        state = pressure.read()
        if state.level in {"warn", "critical"}:
            return f"memory pressure is {state.level} ({state.detail})"
        if self._size and (held := self._device.memory().driver) > self._size:
            return f"{held / 2**20:.0f} MiB are taken, and the limit is {self._size / 2**20:.0f} MiB"
        if sys.platform != "darwin" and now.used_fraction > self._fraction:
            return f"{now.used_fraction:.0%} of the memory is in use, and the limit is {self._fraction:.0%}"
        return ""
