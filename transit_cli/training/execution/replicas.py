"""A replica of the network per core, each with its part of the batch, their gradients summed.

One thread per replica computes whole layers alone, where one step on all threads stops at the end of every operator to
wait for the slowest. The replicas share the parameters. Each computes its own gradients, which are added in a fixed
order: the sum does not depend on which thread was first, and repeating a run repeats its bits.
"""

from __future__ import annotations

import itertools
import threading
from concurrent.futures import ThreadPoolExecutor, wait
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F  # noqa: N812 - as everybody writes it
from torch import Tensor, nn

from transit_cli.model.acceleration import layout
from transit_cli.training.execution.base import Executor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from transit_cli.device.base import Device
    from transit_cli.training.step import Batch, Step

#: Fewer samples than this for a replica are not worth a thread.
LEAST_SAMPLES = 4


class UnsupportedExecution(Exception):  # noqa: N818 - it is an answer, not a failure
    """A network cannot be run this way with the same numbers; the text says why."""


class Replicas(Executor):
    """As `OneDnn`, a replica per thread of torch's (at least two).

    Raises:
        Unsuitable: the network mixes the samples of a batch, or draws random numbers other than dropout's.
    """

    name = "replicas"

    def __init__(self, step: Step, example: Batch) -> None:
        super().__init__(step)
        reject_cross_sample_layers(step.network)
        self._dropout = SharedDropout(step.network, partial(self._trace, example), step.device)
        self._forwards = layout.blocked(step.network) | self._dropout.forwards
        self._count = max(2, torch.get_num_threads())
        self._pool = ThreadPoolExecutor(self._count, initializer=torch.set_num_threads, initargs=(1,))

    def _trace(self, example: Batch) -> None:
        with torch.no_grad():
            self._step.forward(example.rows(slice(0, 2)))

    def backward(self, batch: Batch, share: float) -> Tensor:
        """As the base says."""
        count = max(1, min(self._count, len(batch) // LEAST_SAMPLES))
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
                    share * (part.stop - part.start) / len(batch),
                    factor,
                )
                for part in parts
            ]
            wait(jobs)  # all of them, also if one failed: none may run on with the forwards taken away
        losses, gradients = zip(*(job.result() for job in jobs), strict=True)
        for parameter, *pieces in zip(self._step.parameters, *gradients, strict=True):
            for piece in pieces:
                if piece is None:
                    continue
                if parameter.grad is None:
                    # A convolution's comes channels last; the fused optimizer takes for granted that a gradient lies as
                    # its parameter does, and silently pairs other elements where it does not.
                    parameter.grad = torch.empty_like(parameter).copy_(piece)
                else:
                    parameter.grad.add_(piece)
        return torch.stack(losses).sum()

    def _replica(
        self, batch: Batch, masks: Sequence[Tensor], share: float, factor: Tensor
    ) -> tuple[Tensor, tuple[Tensor | None, ...]]:
        self._dropout.set_masks(masks)
        loss = self._step.forward(batch) * share
        # Not as the first gradient: given one, torch imports its compiler's symbolic shapes, for half a second.
        gradients = torch.autograd.grad(loss * factor, self._step.parameters, allow_unused=True)
        return loss.detach(), gradients


def reject_cross_sample_layers(network: nn.Module) -> None:
    """Raise `UnsupportedExecution` for a network whose numbers for one sample depend on the others of its batch."""
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):  # noqa: SLF001 - the one name all of them share
            raise UnsupportedExecution("BatchNorm needs the whole batch at once")


class SharedDropout:
    """Dropout with masks that are drawn for the whole batch before it is split, in the order of the layers.

    Threads that drew for themselves would take turns by chance. The numbers are those that `nn.Dropout` would draw for
    the whole batch at once, so that a run has the same masks in every way.

    Args:
        network: its `nn.Dropout` layers.
        look: runs the network once; the layers' order and shapes are learned from it.
        device: whose random numbers must not move meanwhile.
    """

    def __init__(self, network: nn.Module, look: Callable[[], None], device: Device) -> None:
        layers = [module for module in network.modules() if type(module) is nn.Dropout]
        self._calls: list[tuple[nn.Dropout, Tensor]] = []
        self._thread = threading.local()
        before = device.rng_state()
        with layout.replaced({layer: partial(self._record_call, layer) for layer in layers}):
            look()
        if not torch.equal(device.rng_state(), before):
            device.set_rng_state(before)
            raise UnsupportedExecution("it draws random numbers other than those of nn.Dropout")
        self.forwards: dict[nn.Module, Callable[..., Any]] = {layer: partial(self._apply, layer) for layer in layers}

    def _record_call(self, layer: nn.Dropout, values: Tensor) -> Tensor:
        self._calls.append((layer, values[:1]))
        return values

    def draw(self, rows: int) -> list[Tensor]:
        """The masks of a batch, one a call of a layer."""
        calls = [(layer.p, example) for layer, example in self._calls if layer.training and layer.p]
        return [F.dropout(example.new_ones(rows, *example.shape[1:]), share) for share, example in calls]

    def set_masks(self, masks: Sequence[Tensor]) -> None:
        """Take these masks in this thread's next forward pass."""
        self._thread.masks = iter(masks)

    def _apply(self, layer: nn.Dropout, values: Tensor) -> Tensor:
        if not (layer.training and layer.p):
            return values
        masks: Iterator[Tensor] = self._thread.masks
        return values * next(masks)
