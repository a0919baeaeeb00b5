"""Dropout masks drawn for a whole batch, and the check that a network can be computed in parts of a batch."""

from __future__ import annotations

import threading
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F  # noqa: N812 - PyTorch's own convention
from torch import Tensor, nn

from transit_cli.model.acceleration import layout
from transit_cli.training.execution.errors import UnsupportedExecution

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from transit_cli.training.batch import Batch
    from transit_cli.training.step import OptimizerStep


def reject_cross_sample_layers(network: nn.Module) -> None:
    """Raise `UnsupportedExecution` for a network whose output for a sample depends on the others of its batch."""
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):  # noqa: SLF001 - the common base class
            raise UnsupportedExecution("BatchNorm needs the whole batch at once")


class SharedDropout:
    """Dropout with masks drawn for the whole batch before it is split, in the order of the layers.

    Threads that drew for themselves would do so in random order. The masks are those that `nn.Dropout` would draw for
    the whole batch, so that a run has the same masks with every executor.

    Args:
        step: whose network has the `nn.Dropout` layers; its device's random state is preserved.
        example: a micro-batch; the layers' order and shapes are recorded from a forward pass on two of its samples.

    Raises:
        UnsupportedExecution: the network mixes samples, or draws random numbers other than those of `nn.Dropout`.
    """

    def __init__(self, step: OptimizerStep, example: Batch) -> None:
        reject_cross_sample_layers(step.network)
        layers = [module for module in step.network.modules() if type(module) is nn.Dropout]
        self._calls: list[tuple[nn.Dropout, Tensor]] = []
        self._thread = threading.local()
        before = step.device.rng_state()
        with layout.replaced({layer: partial(self._record_call, layer) for layer in layers}), torch.no_grad():
            step.forward(example.rows(slice(0, 2)))
        if not torch.equal(step.device.rng_state(), before):
            step.device.set_rng_state(before)
            raise UnsupportedExecution("it draws random numbers other than those of nn.Dropout")
        self.forwards: dict[nn.Module, Callable[..., Any]] = {layer: partial(self._apply, layer) for layer in layers}

    def _record_call(self, layer: nn.Dropout, values: Tensor) -> Tensor:
        self._calls.append((layer, values[:1]))
        return values

    def draw(self, rows: int) -> list[Tensor]:
        """The masks of a batch of `rows` samples, one per call of a layer."""
        calls = [(layer.p, example) for layer, example in self._calls if layer.training and layer.p]
        return [F.dropout(example.new_ones(rows, *example.shape[1:]), share) for share, example in calls]

    def set_masks(self, masks: Sequence[Tensor]) -> None:
        """Use these masks in this thread's next forward pass."""
        self._thread.masks = iter(masks)

    def _apply(self, layer: nn.Dropout, values: Tensor) -> Tensor:
        if not (layer.training and layer.p):
            return values
        masks: Iterator[Tensor] = self._thread.masks
        return values * next(masks)
