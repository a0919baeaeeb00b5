"""How fast this machine moves bytes and multiplies, measured, and what share of that a step reaches.

The model is Williams, Waterman & Patterson 2009 (CACM 52, 65): a step cannot be faster than its arithmetic at the peak
rate of matrix products, nor than its bytes at the peak rate of a copy.
"""

from __future__ import annotations

import statistics
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
        copy: bytes per second, read and written, of a copy of one large float32 array.
        matmul: floating-point operations per second of a matrix product.
    """

    copy: float
    matmul: float


@dataclass(frozen=True)
class Roofline:
    """A step against the machine's limits.

    Attributes:
        seconds: its shortest time, as the peaks are the machine's best.
        by_bytes: time that its bytes would take.
        by_flops: time that its arithmetic would take.
        by_calls: time that calling its operators would take if they were all small.
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


def measure_peaks(device: Device, dtype: torch.dtype = torch.float32) -> Peaks:
    """Measure this machine, in about a second; `dtype` is that of the multiplied matrices."""
    where = device.torch_device
    source = torch.ones(COPY_VALUES, device=where)
    target = torch.empty_like(source)
    copy = best(device, lambda: target.copy_(source))
    side = MATRIX[device.kind]
    left = torch.ones(side, side, device=where, dtype=dtype)
    product = torch.empty_like(left)
    matmul = best(device, lambda: torch.mm(left, left, out=product))
    return Peaks(2 * source.nbytes / copy, 2 * side**3 / matmul)


def launch_seconds(device: Device, calls: int, step: Callable[[], object], rounds: int = 7) -> tuple[float, float]:
    """Seconds for calling `calls` small operators, and for a step measured in turn with it.

    A chain of as many differentiable operators runs forward and backward, in turn with the step, so that other programs
    slow both alike. Medians.
    """
    small = torch.ones(8, device=device.torch_device, requires_grad=True)

    def chain() -> None:
        value = small
        for _ in range(max(calls // 2, 1)):
            value = value * small
        torch.autograd.grad(value, small, torch.ones_like(value))

    times: tuple[list[float], list[float]] = ([], [])
    chain()
    for _ in range(rounds):
        for work, seconds in zip((chain, step), times, strict=True):
            start = time.perf_counter()
            work()
            device.synchronize()
            seconds.append(time.perf_counter() - start)
    return statistics.median(times[0]), statistics.median(times[1])


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
