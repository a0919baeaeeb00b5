"""The interface of an executor, and PyTorch's default (eager) execution."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

    from transit_cli.training.batch import Batch
    from transit_cli.training.execution.data_parallel import DataParallel
    from transit_cli.training.step import OptimizerStep


class Executor:
    """Eager execution, as PyTorch runs a step by default; the base of the other executors.

    Args:
        step: whose network, loss and optimizer are run.
        data_parallel: combines the gradients of several processes; None for one process.
    """

    name: ClassVar[str] = "eager"
    #: Whether augmentation is part of what it captures.
    captures_augmentation: ClassVar[bool] = False
    #: The executor that has taken over after a failure.
    fallback: Executor | None = None

    def __init__(self, step: OptimizerStep, data_parallel: DataParallel | None = None) -> None:
        self._step, self._data_parallel = step, data_parallel

    def run(self, micro_batches: Sequence[Batch], *, augmented: bool = False) -> Tensor:
        """Take one optimizer step; returns the effective batch's mean loss, detached.

        Args:
            micro_batches: as the loader yields them.
            augmented: whether they have been augmented and mixed up already.
        """
        loss = self.gradients(micro_batches if augmented else self._step.augment_batches(micro_batches))
        self._step.update()
        return loss

    def run_summing(self, micro_batches: Sequence[Batch], total: Tensor, *, augmented: bool = False) -> None:
        """As `run`, with the loss added to `total`, a scalar on the device."""
        total += self.run(micro_batches, augmented=augmented)

    def gradients(self, micro_batches: Sequence[Batch]) -> Tensor:
        """Add the gradients of the effective batch's mean loss to `.grad`; micro-batches are weighted by size."""
        if self._data_parallel:
            return self._data_parallel.gradients(self.backward, micro_batches)
        samples = sum(len(batch) for batch in micro_batches)
        total = self.backward(micro_batches[0], len(micro_batches[0]) / samples)
        for batch in micro_batches[1:]:
            total = total + self.backward(batch, len(batch) / samples)
        return total

    def backward(self, batch: Batch, weight: float) -> Tensor:
        """Add the gradients of `weight` x the mean loss (x the scaler's factor); returns that loss, detached."""
        loss = self._step.forward(batch) * weight
        self._step.scaler.scale(loss).backward()
        return loss.detach()

    def benchmark_fn(self, batch: Batch) -> Callable[[], object]:
        """A function that computes a micro-batch's gradients, to be timed."""
        return lambda: self.gradients([batch])
