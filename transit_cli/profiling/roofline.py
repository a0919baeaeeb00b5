"""How fast this machine moves bytes and multiplies, measured, and what share of that a step reaches.

The model is Williams, Waterman & Patterson 2009 (CACM 52, 65): a step cannot be faster than its arithmetic at the peak
rate of matrix products, nor than its bytes at the peak rate of a copy.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Callable

    from transit_cli.device.base import Device

#: float32 values of the copied array: 64 MiB, beyond every cache but the largest servers'.
COPY_VALUES = 1 << 24
#: Rows and columns of the multiplied matrices.
MATRIX = {"cpu": 1024, "cuda": 8192, "mps": 2048}


@dataclass(frozen=True)
class Peaks:
    """What the machine can do.

    Attributes:
        copy: bytes read and written a second by a copy of one large float32 array.
        matmul: floating-point operations a second of a float32 matrix product.
        dispatch: seconds that a small operator takes to be called (computed or queued), as part of a step: a chain
            of them runs forward and backward through autograd, and the time is divided by all the calls.
    """

    copy: float
    matmul: float
    dispatch: float


@dataclass(frozen=True)
class Roofline:
    """A step against the machine's limits.

    Attributes:
        seconds: what it takes.
        by_bytes: what its bytes alone would take.
        by_flops: what its arithmetic alone would take.
        by_calls: what calling its operators alone would take.
    """

    seconds: float
    by_bytes: float
    by_flops: float
    by_calls: float

    @property
    def bytes_share(self) -> float:
        """Share of the copy rate that is reached."""
        return self.by_bytes / self.seconds

    @property
    def flops_share(self) -> float:
        """Share of the matrix-product rate that is reached."""
        return self.by_flops / self.seconds

    @property
    def calls_share(self) -> float:
        """Share of the step that calling its operators accounts for."""
        return self.by_calls / self.seconds


def measure_peaks(device: Device) -> Peaks:
    """Measure this machine, in about a second."""
    where = device.torch_device
    source = torch.ones(COPY_VALUES, device=where)
    target = torch.empty_like(source)
    copy = best(device, lambda: target.copy_(source))
    side = MATRIX[device.kind]
    left = torch.ones(side, side, device=where)
    product = torch.empty_like(left)
    matmul = best(device, lambda: torch.mm(left, left, out=product))
    small = torch.ones(8, device=where, requires_grad=True)
    calls = 200

    def many() -> None:
        value = small
        for _ in range(calls // 2):
            value = value * 1.0
        torch.autograd.grad(value, small, torch.ones_like(value))

    return Peaks(2 * source.nbytes / copy, 2 * side**3 / matmul, best(device, many) / calls)


def best(device: Device, work: Callable[[], object], seconds: float = 0.25) -> float:
    """The shortest time of `work`, repeated for about `seconds`."""
    work()
    device.synchronize()
    shortest, end = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < end:
        start = time.perf_counter()
        work()
        device.synchronize()
        shortest = min(shortest, time.perf_counter() - start)
    return shortest


def place(seconds: float, count_bytes: int, flops: int, calls: int, peaks: Peaks) -> Roofline:
    """A step of so many seconds, bytes, operations and calls against the machine's peaks."""
    return Roofline(seconds, count_bytes / peaks.copy, flops / peaks.matmul, calls * peaks.dispatch)
