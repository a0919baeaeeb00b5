"""A whole optimizer step as one CUDA graph: no Python, no launches one by one, once it has been captured.

A graph holds addresses, not tensors: what it reads (inputs, targets, learning rate, weights, optimizer state) and what
it writes stays alive and in place as long as it does. Each shape of the effective batch gets a graph of its own after a
few ordinary steps, which are real steps: nothing is computed twice, nothing is thrown away.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from transit_cli.training.ways.way import Way

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from transit_cli.device.base import CapturingDevice
    from transit_cli.training.step import Batch, Step

#: Ordinary steps of a shape before it is captured: libraries choose their kernels and workspaces in the first ones.
WARM_UP = 3


@dataclass(frozen=True)
class _Graph:
    """A captured step: what it reads, where it leaves its loss, and how it is run again."""

    inputs: Sequence[Batch]
    loss: Tensor
    replay: Callable[[], None]


class Captured(Way):
    """The step as a CUDA graph. The schedule's learning rate is a tensor that is filled before each replay."""

    name = "captured"

    def __init__(self, step: Step, device: CapturingDevice) -> None:
        super().__init__(step)
        self._device = device
        self._rate = torch.zeros((), device=device.torch_device)
        for group in step.optimizer.param_groups:
            group["lr"], group["capturable"] = self._rate, True
        self._seen: dict[tuple[int, ...], int] = {}
        self._graphs: dict[tuple[int, ...], _Graph] = {}

    def run(self, micro_batches: Sequence[Batch]) -> Tensor:
        """As the base says."""
        shape = tuple(len(batch) for batch in micro_batches)
        seen = self._seen.get(shape, 0)
        self._seen[shape] = seen + 1
        if seen < WARM_UP:
            with self._device.side_stream():
                return super().run(micro_batches)
        if shape not in self._graphs:
            self._graphs[shape] = self._capture(micro_batches)
        graph = self._graphs[shape]
        for kept, batch in zip(graph.inputs, micro_batches, strict=True):
            kept.copy_(batch)
        self._step.set_rate()
        graph.replay()
        self._step.steps += 1
        return graph.loss.clone()  # the next replay writes into the graph's own

    def _capture(self, micro_batches: Sequence[Batch]) -> _Graph:
        inputs = [batch.clone() for batch in micro_batches]

        def work() -> Tensor:
            loss = self.gradients(inputs)
            self._step.apply()
            return loss

        loss, replay = self._device.capture(work)
        return _Graph(inputs, loss, replay)
