"""A whole optimizer step as one CUDA graph: no Python, no launches one by one, once it has been captured.

A graph holds addresses, not tensors: what it reads (inputs, targets, learning rate, weights, optimizer state) and what
it writes stays alive and in place as long as it does. Each shape of the effective batch gets a graph of its own after a
few ordinary steps, which are real steps: nothing is computed twice, nothing is thrown away. As graphs never run at the
same time, they share their memory, and hand it back while another shape takes its ordinary steps: a run needs the
memory of one step, whatever its shapes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from transit_cli.model.acceleration import layout
from transit_cli.training.execution.base import Executor
from transit_cli.training.execution.replicas import UnsupportedExecution

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from torch import nn

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


class CudaGraph(Executor):
    """The step as a CUDA graph. The schedule's learning rate is a tensor that is filled before each replay."""

    name = "cuda-graph"
    captures = True

    def __init__(self, step: Step, device: CapturingDevice) -> None:
        super().__init__(step)
        self._device = device
        self._forwards: Mapping[nn.Module, Callable[..., Any]] = {}
        self._rate = torch.zeros((), device=device.torch_device)
        for group in step.optimizer.param_groups:
            group["lr"], group["capturable"] = self._rate, True
        self._seen: dict[tuple[int, ...], int] = {}
        self._graphs: dict[tuple[int, ...], _Graph] = {}
        self._pool = device.pool()

    def run(self, micro_batches: Sequence[Batch], *, prepared: bool = False) -> Tensor:
        """As the base says."""
        if self._step.settings.mixup and not prepared:  # it draws its random numbers on the host
            micro_batches, prepared = self._step.prepared(micro_batches), True
        kind = (prepared, *(len(batch) for batch in micro_batches))
        seen = self._seen.get(kind, 0)
        self._seen[kind] = seen + 1
        if seen < WARM_UP:
            self._make_room()
            with self._device.side_stream():
                return super().run(micro_batches, prepared=prepared)
        if kind not in self._graphs:
            self._graphs[kind] = self._capture(micro_batches, prepared)
        graph = self._graphs[kind]
        for kept, batch in zip(graph.inputs, micro_batches, strict=True):
            kept.copy_(batch)
        self._step.set_rate()
        graph.replay()
        self._step.steps += 1
        return graph.loss.clone()  # the next replay writes into the graph's own

    def backward(self, batch: Batch, share: float) -> Tensor:
        """As the base says."""
        with layout.replaced(self._forwards):
            return super().backward(batch, share)

    def benchmark_fn(self, batch: Batch) -> Callable[[], object]:
        """As the base says."""
        with self._device.side_stream():
            for _ in range(WARM_UP):
                self.gradients([batch])
                self._step.optimizer.zero_grad(set_to_none=True)
        return self._device.capture(lambda: self.gradients([batch]), self._device.pool())[1]

    def _make_room(self) -> None:
        """Give up the graphs and their memory; they are captured anew when their shapes come again."""
        if self._graphs:
            self._device.synchronize()
            self._graphs.clear()
            self._pool = self._device.pool()
            self._device.empty_cache()

    def _capture(self, micro_batches: Sequence[Batch], prepared: bool) -> _Graph:
        inputs = [batch.clone() for batch in micro_batches]
        step, data_parallel = self._step, self._step.data_parallel

        def ready() -> Sequence[Batch]:
            return inputs if prepared else step.prepared(inputs)

        def work() -> Tensor:
            loss = self.gradients(ready())
            step.apply()
            return loss

        if data_parallel is None:
            return _Graph(inputs, *self._device.capture(work, self._pool))

        # What processes exchange stays out of the graphs: a graph that waits for a process that has ended cannot be
        # left, and NCCL does not end while a graph holds it.
        values, compute = self._device.capture(lambda: data_parallel.own(self, ready()), self._pool)

        def finish() -> Tensor:
            loss = data_parallel.spread(values)
            step.apply()
            return loss

        loss, update = self._device.capture(finish, self._pool)

        def replay() -> None:
            compute()
            step.processes.all_reduce(values)
            update()

        return _Graph(inputs, loss, replay)


class TritonGraph(CudaGraph):
    """The same, with runs of convolutions, poolings and ReLUs as fused kernels (`model.fused`).

    Raises:
        Unsuitable: there is no Triton, or nothing in the network for which there is a kernel.
    """

    name = "triton"

    def __init__(self, step: Step, device: CapturingDevice) -> None:
        try:
            from transit_cli.model.acceleration.fused import fused
        except ImportError as error:
            raise UnsupportedExecution(f"Triton is missing ({error})") from error
        forwards = fused(step.network)
        if not forwards:
            raise UnsupportedExecution("it has no layers for which there is a kernel")
        super().__init__(step, device)
        self._forwards = forwards
