"""A micro-batch: its tensors, or the part of all samples that it is."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
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

    def take(self, index: Tensor) -> Batch:
        """A copy of the samples at `index`, which is on the same device, in its order."""
        return Batch({name: values.index_select(0, index) for name, values in self.inputs.items()}, self.targets[index])

    def gathered(self) -> Batch:
        """The batch with tensors of its own: this one."""
        return self

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


class IndexedBatch(Batch):
    """Part of the samples that are kept on the device, gathered when `inputs` or `targets` are first read.

    Args:
        samples: all of them.
        order: indices into them, [M] int64 on the same device; not changed as long as a batch refers to it.
        start: the first place in `order` that belongs to the batch.
        stop: the place after the last.
    """

    def __init__(self, samples: Batch, order: Tensor, start: int, stop: int) -> None:
        self.samples, self.order, self.start, self.stop = samples, order, start, stop

    @cached_property
    def inputs(self) -> dict[str, Tensor]:  # type: ignore[override]
        """As `Batch.inputs`."""
        return self._tensors.inputs

    @cached_property
    def targets(self) -> Tensor:  # type: ignore[override]
        """As `Batch.targets`."""
        return self._tensors.targets

    @cached_property
    def _tensors(self) -> Batch:
        return self.gathered()

    def __len__(self) -> int:
        return self.stop - self.start

    def gathered(self) -> Batch:
        """A new batch of the same samples, with tensors of its own."""
        return self.samples.take(self.order[self.start : self.stop])

    def rows(self, part: slice) -> Batch:
        """The samples of a slice, which are gathered for themselves."""
        places = range(self.start, self.stop)[part]
        return IndexedBatch(self.samples, self.order, places.start, places.stop)

    def to(self, device: torch.device, dtype: torch.dtype | None = None, *, non_blocking: bool = False) -> Batch:
        """The batch on a device; it stays as it is where it is there already."""
        if dtype is None and device == self.order.device:
            return self
        return self._tensors.to(device, dtype, non_blocking=non_blocking)
