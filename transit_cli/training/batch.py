"""A micro-batch on the device."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """A micro-batch on the device.

    Attributes:
        inputs: views by name, [B, L] float32, and "scalars" [B, S] where the network takes them.
        targets: [B] float32, 1 for a positive, 0 for a negative; between them after mixup. With several classes
            [B, C], the probability of each.
    """

    inputs: dict[str, Tensor]
    targets: Tensor

    def __len__(self) -> int:
        return len(self.targets)

    def rows(self, part: slice) -> Batch:
        """The samples of a slice, as views of this batch's memory."""
        return Batch({name: values[part] for name, values in self.inputs.items()}, self.targets[part])

    def split(self, size: int) -> list[Batch]:
        """The batch as micro-batches of `size` samples; the last one may be smaller."""
        return [self.rows(slice(start, start + size)) for start in range(0, len(self), size)]

    def to(self, device: torch.device, dtype: torch.dtype | None = None, *, non_blocking: bool = False) -> Batch:
        """The batch on a device; tensors that are there already are not copied."""
        options: dict[str, Any] = {"device": device, "dtype": dtype, "non_blocking": non_blocking}
        inputs = {name: values.to(**options) for name, values in self.inputs.items()}
        return Batch(inputs, self.targets.to(**options))

    def clone(self) -> Batch:
        """A copy in memory of its own."""
        return Batch({name: values.clone() for name, values in self.inputs.items()}, self.targets.clone())

    def copy_(self, other: Batch) -> None:
        """Copy a batch of the same shapes into this one's memory; a single kernel where the device has one."""
        own = [*self.inputs.values(), self.targets]
        torch._foreach_copy_(own, [*(other.inputs[name] for name in self.inputs), other.targets])
