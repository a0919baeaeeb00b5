"""Data-parallel training over processes, with the results that one process would compute."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from transit_cli.model.acceleration import layout
from transit_cli.results import ExitCode, TransitError
from transit_cli.training.execution.dropout import SharedDropout
from transit_cli.training.execution.errors import UnsupportedExecution

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

    from transit_cli.training.batch import Batch
    from transit_cli.training.distributed import ProcessGroup
    from transit_cli.training.step import OptimizerStep

    #: `Executor.backward`: a micro-batch and the weight of its mean loss.
    Backward = Callable[[Batch, float], Tensor]


class DataParallel:
    """Gradients of this process's part of each micro-batch, summed over the processes that train together.

    Every process draws dropout's masks for the whole micro-batch and keeps its own rows, so that all random generators
    stay in the same state.

    Args:
        step: whose network is trained.
        processes: the processes that train it.
        example: a micro-batch.

    Raises:
        TransitError: parts of a batch would not give the results of the whole.
    """

    def __init__(self, step: OptimizerStep, processes: ProcessGroup, example: Batch) -> None:
        self._step, self._processes = step, processes
        try:
            self._dropout = SharedDropout(step, example)
        except UnsupportedExecution as unsupported:
            error = TransitError(
                f"several processes cannot train this network together: {unsupported}",
                wanted="a network that treats each sample independently, with nn.Dropout as its only randomness",
                fix="start one process; or train as many --members as there are processes, one in each",
                code="network-not-shareable",
            )
            raise processes.report_on_rank0(error) from None

    def gradients(self, backward: Backward, micro_batches: Sequence[Batch]) -> Tensor:
        """As `Executor.gradients`, with the gradients and the loss of all processes in each."""
        values = self.local_gradients(backward, micro_batches)
        self.all_reduce(values)
        return self.scatter_gradients(values)

    def all_reduce(self, values: Tensor) -> None:
        """Sum the vector that `local_gradients` returned over all processes, in place."""
        self._processes.all_reduce(values)

    def local_gradients(self, backward: Backward, micro_batches: Sequence[Batch]) -> Tensor:
        """This process's part of the loss and of all gradients, flattened into one vector."""
        samples = sum(len(batch) for batch in micro_batches)
        try:
            total = torch.stack([self._backward(backward, batch, samples) for batch in micro_batches]).sum()
        except RuntimeError as error:
            if not self._step.device.is_out_of_memory(error):
                raise
            raise TransitError(
                f"out of memory in process {self._processes.rank}: {str(error).splitlines()[0]}",
                wanted=f"memory for 1/{self._processes.world_size} of --batch-size in each process",
                fix="start more processes; or resume in one, which halves the micro-batch if necessary",
                exit_code=ExitCode.MACHINE,
                code="out-of-memory",
            ) from error
        return torch.cat([total.reshape(1), *(gradient.flatten() for gradient in self._gradients())])

    def scatter_gradients(self, values: Tensor) -> Tensor:
        """Copy such a vector into the parameters' `.grad`; returns the loss in it."""
        gradients = self._gradients()
        total, *parts = values.split([1, *(gradient.numel() for gradient in gradients)])
        torch._foreach_copy_(gradients, [new.view_as(old) for new, old in zip(parts, gradients, strict=True)])
        return total.squeeze(0)

    def _gradients(self) -> list[Tensor]:
        """The gradients that exist: the same ones in every process, since all run the same network."""
        return [parameter.grad for parameter in self._step.parameters if parameter.grad is not None]

    def _backward(self, backward: Backward, batch: Batch, samples: int) -> Tensor:
        part = self._processes.partition(len(batch))
        weight = (part.stop - part.start) / samples
        if part.start == part.stop:  # more processes than samples: compute a row with weight 0, to stay in step
            part = slice(0, 1)
        self._dropout.set_masks([mask[part] for mask in self._dropout.draw(len(batch))])
        with layout.replaced(self._dropout.forwards):
            return backward(batch.rows(part), weight)
