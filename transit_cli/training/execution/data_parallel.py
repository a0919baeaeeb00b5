"""This process's part of a micro-batch, with the numbers that one process would have computed for it."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from transit_cli.model.acceleration import layout
from transit_cli.results import ExitCode, TransitError
from transit_cli.training.execution.replicas import SharedDropout, UnsupportedExecution, reject_cross_sample_layers

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transit_cli.training.execution.base import Executor
    from transit_cli.training.step import Batch, Step


class DataParallel:
    """Gradients of a part of each micro-batch, summed over the processes that train together.

    Every process draws dropout's masks for the whole micro-batch and takes its own rows, so that all generators stay
    in step, and with them all that is drawn later.

    Args:
        step: whose network and processes.
        example: a micro-batch.

    Raises:
        TransitError: the network cannot be shared out with the same numbers.
    """

    def __init__(self, step: Step, example: Batch) -> None:
        self._step, self._processes = step, step.processes
        try:
            reject_cross_sample_layers(step.network)
            self._dropout = SharedDropout(step.network, partial(self._trace, example), step.device)
        except UnsupportedExecution as unsuitable:
            error = TransitError(
                f"several processes cannot train this network together: {unsuitable}",
                wanted="a network that treats each sample alone, with nn.Dropout as its only chance",
                fix="start one process; or train as many --members as there are processes, each by one of them",
                code="network-not-shareable",
            )
            raise self._processes.report_on_rank0(error) from None

    def _trace(self, example: Batch) -> None:
        with torch.no_grad():
            self._step.forward(example.rows(slice(0, 2)))

    def gradients(self, executor: Executor, micro_batches: Sequence[Batch]) -> Tensor:
        """See `Executor.gradients`: here every process gets the gradients and the loss of all."""
        values = self.own(executor, micro_batches)
        self._processes.all_reduce(values)
        return self.spread(values)

    def own(self, executor: Executor, micro_batches: Sequence[Batch]) -> Tensor:
        """This process's part of the loss and of all gradients, as one vector."""
        samples = sum(len(batch) for batch in micro_batches)
        try:
            total = torch.stack([self._backward(executor, batch, samples) for batch in micro_batches]).sum()
        except RuntimeError as error:
            if not self._step.device.is_out_of_memory(error):
                raise
            raise TransitError(
                f"out of memory in process {self._processes.rank}: {str(error).splitlines()[0]}",
                wanted=f"memory for a {self._processes.count}th of --batch-size in each process",
                fix="start more processes; or resume in one, which halves the micro-batch where it has to",
                exit_code=ExitCode.MACHINE,
                code="out-of-memory",
            ) from error
        return torch.cat([total.reshape(1), *(gradient.flatten() for gradient in self._gradients())])

    def spread(self, values: Tensor) -> Tensor:
        """Put such a vector into the parameters' `.grad`; returns the loss in it."""
        gradients = self._gradients()
        total, *parts = values.split([1, *(gradient.numel() for gradient in gradients)])
        torch._foreach_copy_(gradients, [new.view_as(old) for new, old in zip(parts, gradients, strict=True)])
        return total.squeeze(0)

    def _gradients(self) -> list[Tensor]:
        """Parameters without a gradient have none in any process: all run the same network."""
        return [parameter.grad for parameter in self._step.parameters if parameter.grad is not None]

    def _backward(self, executor: Executor, batch: Batch, samples: int) -> Tensor:
        rows = self._processes.rows(len(batch))
        share = (rows.stop - rows.start) / samples
        if rows.start == rows.stop:  # more processes than samples: count a row for nothing, to stay in step
            rows = slice(0, 1)
        self._dropout.set_masks([mask[rows] for mask in self._dropout.draw(len(batch))])
        with layout.replaced(self._dropout.forwards):
            return executor.backward(batch.rows(rows), share)
