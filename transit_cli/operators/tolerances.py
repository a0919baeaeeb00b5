"""Deviations of an operator's results from float64, and their tolerances.

The reference is the CPU's own error in the same precision: a device may sum in another order, so it is allowed a
multiple of that, and at least a minimum for its type. torch's own MPS tests allow 1e-4 (float32), 2e-2 (float16)
and 5e-2 (bfloat16) for their lists of imprecise operators (`_compute_tolerances` in test_mps.py); errors here are
relative to the largest value of a result, which is a milder scale, so that the minima can be lower.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

#: Errors below these are rounding, relative to the largest value of a result.
MIN_ERRORS = {torch.float32: 3e-5, torch.float16: 8e-3, torch.bfloat16: 6e-2, torch.float64: 1e-12}
#: How many times the CPU's own error a device may have.
MARGIN = 32.0


@dataclass(frozen=True)
class Deviation:
    """A result against its reference.

    Attributes:
        error: largest deviation from float64, relative to the largest value; infinite where it is not finite.
        bound: the largest error that rounding explains.
        elements: how many elements were compared.
    """

    error: float
    bound: float
    elements: int

    @property
    def wrong(self) -> bool:
        """Whether the error is larger than rounding explains."""
        return not self.error <= self.bound

    def worse(self, other: Deviation) -> Deviation:
        """The deviation further beyond its bound, with the elements of both."""
        first = self.error * other.bound >= other.error * self.bound
        kept = self if first or self.wrong else other
        return Deviation(kept.error, kept.bound, self.elements + other.elements)


def compare(device: Sequence[Tensor], host: Sequence[Tensor], exact: Sequence[Tensor]) -> Deviation:
    """Compare a device's tensors with the CPU's in the same types, and both with float64's."""
    worst = Deviation(0.0, MIN_ERRORS[torch.float32], 0)
    for found, same, reference in zip(device, host, exact, strict=True):
        worst = worst.worse(_compare_one(found.detach().cpu(), same, reference))
    return worst


def _compare_one(found: Tensor, same: Tensor, reference: Tensor) -> Deviation:
    if found.shape != same.shape or found.dtype != same.dtype:
        return Deviation(float("inf"), 0.0, same.numel())
    if not same.is_floating_point() or found.numel() == 0:
        differ = float((found != same).float().mean()) if found.numel() and not same.is_complex() else 0.0
        return Deviation(differ, 0.0, found.numel())
    exact = reference.double()
    finite = same.isfinite() & exact.isfinite()  # where the CPU overflows in this type, the device may too
    if not finite.any():
        return Deviation(0.0, MIN_ERRORS[same.dtype], 0)
    if not found[finite].isfinite().all():
        return Deviation(float("inf"), MIN_ERRORS[same.dtype], found.numel())
    scale = float(exact[finite].abs().max()) or 1.0
    error = float((found.double() - exact)[finite].abs().max()) / scale
    own = float((same.double() - exact)[finite].abs().max()) / scale
    return Deviation(error, max(MIN_ERRORS[same.dtype], MARGIN * own), found.numel())


def copied(tree: Any, change: Callable[[Tensor], Tensor] = torch.clone) -> Any:
    """`tree` with every tensor in it replaced by what `change` makes of it."""

    def one(leaf: Any) -> Any:
        return change(leaf) if isinstance(leaf, Tensor) else leaf

    return tree_map(one, tree)


def exactly(tensor: Tensor) -> Tensor:
    """A contiguous float64 copy; other types as they are."""
    return tensor.double().contiguous().clone() if tensor.is_floating_point() else tensor.clone()


def tensors_of(tree: Any) -> list[Tensor]:
    """The tensors in `tree`."""
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


def strided(tensor: Tensor) -> Tensor:
    """The same values with a gap after each element of the last dimension."""
    if tensor.ndim == 0:
        return tensor.clone()
    wide = torch.empty(*tensor.shape[:-1], 2 * tensor.shape[-1], dtype=tensor.dtype, device=tensor.device)
    return wide[..., ::2].copy_(tensor)


def permuted(tensor: Tensor) -> Tensor:
    """The same values, dimensions in reverse order in memory: dense, as a transposed weight is."""
    backwards = tuple(reversed(range(tensor.ndim)))
    return tensor.permute(backwards).clone(memory_format=torch.contiguous_format).permute(backwards)


def expanded(tensor: Tensor) -> Tensor:
    """The first sample in the place of all, by a stride of 0; tensors that hold no numbers stay."""
    if not tensor.is_floating_point() or tensor.ndim == 0 or tensor.shape[0] < 2:
        return tensor.clone()
    return tensor[:1].clone().expand(tensor.shape)
