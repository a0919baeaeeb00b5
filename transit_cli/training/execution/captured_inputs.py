"""What changes from one captured step to the next: its samples and its learning rate.

A graph reads fixed addresses. Counters on the device, which the graph itself advances, say which part of the epoch's
order and which learning rate are next, so that consecutive steps of an epoch need nothing from the host but a replay.
The host keeps count too, and corrects a counter only where a step is not the successor of the last one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import torch

from transit_cli.training.batch import IndexedBatch
from transit_cli.training.optimization.schedule import learning_rate

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from transit_cli.training.batch import Batch
    from transit_cli.training.step import OptimizerStep

#: Learning rates that are computed, and copied to the device, at once.
RATES = 1024


class CapturedRate:
    """The learning rates of the steps to come, on the device.

    Args:
        step: whose schedule they follow.

    Attributes:
        rate: this step's, a float32 scalar: what the optimizer reads.
        counter: the place of the next step's rate, [1] int64.
    """

    def __init__(self, step: OptimizerStep) -> None:
        place = step.device.torch_device
        self.rate = torch.zeros((), dtype=torch.float32, device=place)
        self.counter = torch.zeros(1, dtype=torch.int64, device=place)
        self._step, self._rates = step, torch.zeros(RATES, dtype=torch.float32, device=place)
        self._first, self._next = -RATES, -1

    def prepare(self) -> None:
        """Make `read` give the rate of the step's `global_step`: before each replay."""
        number = self._step.global_step
        if not self._first <= number < self._first + RATES:
            self._fill(number)
        elif number != self._next:
            self.counter.fill_(number - self._first)
        self._next = number + 1

    def _fill(self, first: int) -> None:
        step = self._step
        count = min(RATES, max(step.total_steps - first, 1))
        rates = [learning_rate(step.settings, number, step.total_steps) for number in range(first, first + count)]
        rates += rates[-1:] * (RATES - count)  # later steps keep the last one
        self._rates.copy_(torch.tensor(rates, dtype=torch.float32), non_blocking=True)
        self.counter.zero_()
        self._first = first

    def read(self) -> None:
        """Set `rate`; captured."""
        torch.index_select(self._rates, 0, self.counter, out=self.rate.view(1))


class CapturedInputs(Protocol):
    """The micro-batches of a captured step."""

    def load(self, micro_batches: Sequence[Any]) -> None:
        """Make `read` give these micro-batches, of the shapes of those that it was made for: before each replay."""

    def read(self) -> Sequence[Batch]:
        """The micro-batches; captured."""
        ...

    def counters(self) -> tuple[list[Tensor], list[int]]:
        """Counters on the device, and what the graph is to add to each after `read`."""
        ...


class CopiedInputs:
    """Micro-batches that are copied to where the graph reads them."""

    def __init__(self, micro_batches: Sequence[Batch]) -> None:
        self._batches = [batch.clone() for batch in micro_batches]

    def load(self, micro_batches: Sequence[Batch]) -> None:
        """See `CapturedInputs.load`."""
        for kept, batch in zip(self._batches, micro_batches, strict=True):
            kept.copy_(batch)

    def read(self) -> Sequence[Batch]:
        """See `CapturedInputs.read`."""
        return self._batches

    def counters(self) -> tuple[list[Tensor], list[int]]:
        """None."""
        return [], []


class GatheredInputs:
    """Micro-batches that the graph gathers from samples on the device, in the epoch's order."""

    def __init__(self, micro_batches: Sequence[IndexedBatch]) -> None:
        first = micro_batches[0]
        self._samples, self._loaded, self._next = first.samples, first.order, first.start
        self._order = first.order.clone()
        self._sizes = [len(batch) for batch in micro_batches]
        self._step = sum(self._sizes)
        self._windows = self._order.unfold(0, self._step, 1)  # the part of the order that begins at each place
        self._counter = torch.full((1,), first.start, dtype=torch.int64, device=first.order.device)

    def load(self, micro_batches: Sequence[IndexedBatch]) -> None:
        """See `CapturedInputs.load`."""
        first = micro_batches[0]
        if first.order is not self._loaded:
            self._order.copy_(first.order)
            self._loaded = first.order
        if first.start != self._next:
            self._counter.fill_(first.start)
        self._next = first.start + self._step

    def read(self) -> Sequence[Batch]:
        """See `CapturedInputs.read`."""
        places = self._windows.index_select(0, self._counter).view(-1)
        return [self._samples.take(part) for part in places.split(self._sizes)]

    def counters(self) -> tuple[list[Tensor], list[int]]:
        """The place in the order."""
        return [self._counter], [self._step]


def inputs_for(micro_batches: Sequence[Batch]) -> CapturedInputs:
    """What a graph of the step over these micro-batches reads them from."""
    indexed = _indexed(micro_batches)
    return GatheredInputs(indexed) if indexed else CopiedInputs(micro_batches)


def layout(micro_batches: Sequence[Batch]) -> tuple[int, ...]:
    """What the micro-batches of a graph have in common with those that it was captured with."""
    sizes = tuple(len(batch) for batch in micro_batches)
    if indexed := _indexed(micro_batches):
        return (id(indexed[0].samples), len(indexed[0].order), *sizes)
    return sizes


def _indexed(micro_batches: Sequence[Batch]) -> list[IndexedBatch]:
    """The micro-batches if they are consecutive parts of one order of the same samples; else none."""
    found: list[IndexedBatch] = []
    for batch in micro_batches:
        if not isinstance(batch, IndexedBatch):
            return []
        if found and not (
            batch.samples is found[-1].samples and batch.order is found[-1].order and batch.start == found[-1].stop
        ):
            return []
        found.append(batch)
    return found
