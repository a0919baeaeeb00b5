"""What a way of running a step is, and the three that need no more than a few lines."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from transit_cli.model.acceleration import layout

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from torch import nn

    from transit_cli.training.step import Batch, Step


class Executor:
    """As PyTorch runs it by default ("eager"), and the base of the other ways.

    Args:
        step: whose network, loss and optimizer are run.
    """

    name: ClassVar[str] = "eager"
    #: Whether it augments a batch as part of what it has captured.
    captures: ClassVar[bool] = False

    def __init__(self, step: Step) -> None:
        self._step = step

    def run(self, micro_batches: Sequence[Batch], *, prepared: bool = False) -> Tensor:
        """Take one optimizer step; returns the effective batch's mean loss, detached.

        Args:
            micro_batches: as they come from the feed.
            prepared: whether they have been augmented and mixed already.
        """
        loss = self.gradients(micro_batches if prepared else self._step.prepared(micro_batches))
        self._step.update()
        return loss

    def gradients(self, micro_batches: Sequence[Batch]) -> Tensor:
        """Add the gradients of the effective batch's mean loss to `.grad`; each micro-batch counts by its samples."""
        if self._step.data_parallel:
            return self._step.data_parallel.gradients(self, micro_batches)
        samples = sum(len(batch) for batch in micro_batches)
        total = self.backward(micro_batches[0], len(micro_batches[0]) / samples)
        for batch in micro_batches[1:]:
            total = total + self.backward(batch, len(batch) / samples)
        return total

    def backward(self, batch: Batch, share: float) -> Tensor:
        """Add the gradients of `share` x the batch's mean loss (x the scaler's factor); returns that loss, detached."""
        loss = self._step.forward(batch) * share
        self._step.scaler.scale(loss).backward()
        return loss.detach()

    def benchmark_fn(self, batch: Batch) -> Callable[[], object]:
        """What computes a micro-batch's gradients whenever it is called, to be timed."""
        return lambda: self.gradients([batch])


class ChannelsLast(Executor):
    """Each Conv1d as a channels-last Conv2d of height 1 (`model.layout`), on all threads."""

    name = "channels-last"

    def __init__(self, step: Step) -> None:
        super().__init__(step)
        self._forwards = self._laid_out(step.network)

    @staticmethod
    def _laid_out(network: nn.Module) -> dict[nn.Module, Callable[..., Any]]:
        return layout.channels_last(network)

    def backward(self, batch: Batch, share: float) -> Tensor:
        """As the base says."""
        with layout.replaced(self._forwards):
            return super().backward(batch, share)


class OneDnn(ChannelsLast):
    """Runs of convolutions, poolings and ReLUs in oneDNN's own layout (`model.layout`), on all threads."""

    name = "onednn"

    @staticmethod
    def _laid_out(network: nn.Module) -> dict[nn.Module, Callable[..., Any]]:
        return layout.blocked(network)


class SingleThread(OneDnn):
    """The same on one thread: on a busy machine, threads mostly wait for each other."""

    name = "single-thread"

    def run(self, micro_batches: Sequence[Batch], *, prepared: bool = False) -> Tensor:
        """As the base says."""
        with one_thread():
            return super().run(micro_batches, prepared=prepared)

    def gradients(self, micro_batches: Sequence[Batch]) -> Tensor:
        """As the base says."""
        with one_thread():
            return super().gradients(micro_batches)


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch compute on one thread within."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
