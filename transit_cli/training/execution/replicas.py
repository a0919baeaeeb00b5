"""One replica of the network per core, each with its part of the batch; their gradients are summed.

One thread per replica computes whole layers, where one step on all threads would synchronize at the end of every
operator. The replicas share the parameters. Each computes its own gradients, which are added in a fixed order, so that
the sum does not depend on thread timing and a run repeats bit for bit.
"""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor, wait
from typing import TYPE_CHECKING

import torch

from transit_cli.model.acceleration import layout
from transit_cli.training.execution.base import Executor
from transit_cli.training.execution.dropout import SharedDropout

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from transit_cli.training.batch import Batch
    from transit_cli.training.step import OptimizerStep

#: Fewer samples than this per replica are not worth a thread.
MIN_SAMPLES = 4


class Replicas(Executor):
    """As `OneDnn`, with one replica per torch thread (at least two).

    Raises:
        UnsupportedExecution: the network mixes the samples of a batch, or draws random numbers other than dropout's.
    """

    name = "replicas"

    def __init__(self, step: OptimizerStep, example: Batch) -> None:
        super().__init__(step)
        self._dropout = SharedDropout(step, example)
        self._forwards = layout.blocked(step.network) | self._dropout.forwards
        self._count = max(2, torch.get_num_threads())
        self._pool = ThreadPoolExecutor(self._count, initializer=torch.set_num_threads, initargs=(1,))

    def backward(self, batch: Batch, weight: float) -> Tensor:
        count = max(1, min(self._count, len(batch) // MIN_SAMPLES))
        ends = [len(batch) * number // count for number in range(count + 1)]
        parts = [slice(begin, end) for begin, end in itertools.pairwise(ends)]
        masks = self._dropout.draw(len(batch))
        factor = self._step.scaler.scale(torch.ones(()))
        with layout.replaced(self._forwards):
            jobs = [
                self._pool.submit(
                    self._replica,
                    batch.rows(part),
                    [mask[part] for mask in masks],
                    weight * (part.stop - part.start) / len(batch),
                    factor,
                )
                for part in parts
            ]
            wait(jobs)  # also if one failed: none may continue after the forwards have been restored
        losses, gradients = zip(*(job.result() for job in jobs), strict=True)
        for parameter, *pieces in zip(self._step.parameters, *gradients, strict=True):
            for piece in pieces:
                if piece is None:
                    continue
                if parameter.grad is None:
                    # A convolution's gradient is channels-last, and the fused optimizer assumes the parameter's own
                    # layout: it would silently pair other elements.
                    parameter.grad = torch.empty_like(parameter).copy_(piece)
                else:
                    parameter.grad.add_(piece)
        return torch.stack(losses).sum()

    def _replica(
        self, batch: Batch, masks: Sequence[Tensor], weight: float, factor: Tensor
    ) -> tuple[Tensor, tuple[Tensor | None, ...]]:
        self._dropout.set_masks(masks)
        loss = self._step.forward(batch) * weight
        # Not as `grad_outputs`: given them, torch imports its compiler's symbolic shapes, for half a second.
        gradients = torch.autograd.grad(loss * factor, self._step.parameters, allow_unused=True)
        return loss.detach(), gradients
