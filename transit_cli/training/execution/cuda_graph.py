"""A whole optimizer step as one CUDA graph: no Python and no single kernel launches once it has been captured.

A graph holds addresses, not tensors: what it reads (samples or copies of them, learning rates, weights, the optimizer's
state) and what it writes must stay alive and in place as long as the graph. Each shape of the effective batch gets its
own graph after a few ordinary steps, which are real steps: nothing is computed twice or discarded. As graphs never run
at the same time, they share a memory pool, which is released while another shape takes its ordinary steps: a run needs
the memory of one step, whatever its shapes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import torch

from transit_cli.device import precision
from transit_cli.model.acceleration import layout
from transit_cli.training.execution import captured_inputs
from transit_cli.training.execution.base import Executor
from transit_cli.training.execution.captured_inputs import CapturedInputs, CapturedRate
from transit_cli.training.execution.errors import UnsupportedExecution

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from torch import Tensor, nn

    from transit_cli.device.base import CapturingDevice
    from transit_cli.training.batch import Batch
    from transit_cli.training.execution.data_parallel import DataParallel
    from transit_cli.training.step import OptimizerStep

#: Ordinary steps of a shape before it is captured: libraries choose their kernels and workspaces in the first ones.
WARM_UP_STEPS = 3


@dataclass(frozen=True)
class _Graph:
    """A captured step.

    Attributes:
        inputs: what it reads.
        loss: the buffer that it writes.
        total: the sum that it adds the loss to.
        replay: runs it.
        held: other objects whose memory it uses.
    """

    inputs: CapturedInputs
    loss: Tensor
    total: Tensor | None
    replay: Callable[[], None]
    held: object


class CudaGraph(Executor):
    """The step as a CUDA graph. Samples that lie on the device are gathered by the graph, and the loss summed in it.

    Raises:
        UnsupportedExecution: the device cannot capture, or the gradient scaler of fp16 has to be read after every step.
    """

    name = "cuda-graph"
    captures_augmentation = True

    def __init__(self, step: OptimizerStep, data_parallel: DataParallel | None = None) -> None:
        _require_capture(step)
        super().__init__(step, data_parallel)
        self._device = device = cast("CapturingDevice", step.device)
        self._forwards: Mapping[nn.Module, Callable[..., Any]] = {}
        self._rate = CapturedRate(step)
        for group in step.optimizer.param_groups:
            group["lr"], group["capturable"] = self._rate.rate, True
        self._seen: dict[tuple[int, ...], int] = {}
        self._graphs: dict[tuple[int, ...], _Graph] = {}
        self._pool = device.pool()

    def run(self, micro_batches: Sequence[Batch], *, augmented: bool = False) -> Tensor:
        return self._run(micro_batches, None, augmented=augmented).clone()  # the next replay overwrites the buffer

    def run_summing(self, micro_batches: Sequence[Batch], total: Tensor, *, augmented: bool = False) -> None:
        self._run(micro_batches, total, augmented=augmented)

    def _run(self, micro_batches: Sequence[Batch], total: Tensor | None, *, augmented: bool) -> Tensor:
        """Take a step, and add its loss to `total`; returns the loss, which holds until the next step."""
        kind = (augmented, id(total), *captured_inputs.layout(micro_batches))
        seen = self._seen.get(kind, 0)
        self._seen[kind] = seen + 1
        if seen < WARM_UP_STEPS:
            self._release_graphs()
            with self._device.side_stream():
                loss = super().run(micro_batches, augmented=augmented)
                if total is not None:
                    total += loss
                return loss
        if kind not in self._graphs:
            self._graphs[kind] = self._capture(micro_batches, total, augmented=augmented)
        graph = self._graphs[kind]
        graph.inputs.load(micro_batches)
        self._rate.prepare()
        graph.replay()
        self._step.global_step += 1
        return graph.loss

    def backward(self, batch: Batch, weight: float) -> Tensor:
        with layout.replaced(self._forwards):
            return super().backward(batch, weight)

    def benchmark_fn(self, batch: Batch) -> Callable[[], object]:
        with self._device.side_stream():
            for _ in range(WARM_UP_STEPS):
                self.gradients([batch])
                self._step.optimizer.zero_grad(set_to_none=True)
        return self._device.capture(lambda: self.gradients([batch]), self._device.pool())[1]

    def _update(self) -> tuple[Callable[[], None], Callable[[], None]]:
        """What to capture to apply the gradients, and what to do after the capture."""
        return self._step.apply_gradients, lambda: None

    def _release_graphs(self) -> None:
        """Release the graphs and their memory; a shape that comes again is captured again."""
        if self._graphs:
            self._device.synchronize()
            self._graphs.clear()
            self._pool = self._device.pool()
            self._device.empty_cache()

    def _capture(self, micro_batches: Sequence[Batch], total: Tensor | None, *, augmented: bool) -> _Graph:
        inputs = captured_inputs.inputs_for(micro_batches)
        step, data_parallel = self._step, self._data_parallel
        counters, increments = inputs.counters()
        apply_gradients, captured = self._update()

        def ready() -> Sequence[Batch]:
            self._rate.read()
            batches = inputs.read()
            torch._foreach_add_([self._rate.counter, *counters], [1, *increments])  # one kernel
            return batches if augmented else step.augment_batches(batches)

        def update(loss: Tensor) -> Tensor:
            apply_gradients()
            if total is not None:
                total.add_(loss)
            return loss

        if data_parallel is None:
            loss, replay = self._device.capture(lambda: update(self.gradients(ready())), self._pool)
            captured()
            return _Graph(inputs, loss, total, replay, captured)

        # The all-reduce stays outside the graphs: a graph that waits for a dead process cannot be interrupted, and NCCL
        # does not shut down while a graph holds it.
        def local() -> Tensor:
            return data_parallel.local_gradients(self.backward, ready())

        values, compute = self._device.capture(local, self._pool)

        loss, finish = self._device.capture(lambda: update(data_parallel.scatter_gradients(values)), self._pool)
        captured()

        def replay_both() -> None:
            compute()
            data_parallel.all_reduce(values)
            finish()

        return _Graph(inputs, loss, total, replay_both, captured)


class TritonGraph(CudaGraph):
    """As `CudaGraph`, with fused Triton kernels for layers, loss, clipping and optimizer.

    Raises:
        UnsupportedExecution: Triton is missing, or has no kernel for any layer of the network.
    """

    name = "triton"

    def __init__(self, step: OptimizerStep, data_parallel: DataParallel | None = None) -> None:
        _require_capture(step)
        try:
            from transit_cli.model.acceleration.cuda.convolution import TransposedWeights
            from transit_cli.model.acceleration.cuda.fused import fused_convolutions, fused_forwards
        except ImportError as error:
            raise UnsupportedExecution(f"Triton is missing ({error})") from error
        layers = fused_convolutions(step.network)
        if not layers:
            raise UnsupportedExecution("it has no layers for which there is a kernel")
        super().__init__(step, data_parallel)
        dtype = precision.DTYPES[step.precision]
        self._weights = TransposedWeights(layers, dtype)
        self._forwards = fused_forwards(step.network, self._weights, self._device.concurrently)

    def backward(self, batch: Batch, weight: float) -> Tensor:
        from transit_cli.model.acceleration.cuda.head import binary_loss

        self._weights.refresh()
        step = self._step
        if batch.targets.ndim == 2:
            return super().backward(batch, weight)
        with layout.replaced(self._forwards), precision.autocast(step.device, step.precision):
            logits = step.network(batch.inputs)
        smoothing = step.settings.label_smoothing
        loss, grad = binary_loss(
            logits.detach(), batch.targets, step.positive_weight, weight=weight, smoothing=smoothing
        )
        logits.backward(grad)
        return loss

    def _update(self) -> tuple[Callable[[], None], Callable[[], None]]:
        from transit_cli.model.acceleration.cuda.optimizer import FusedUpdate

        step = self._step
        if not FusedUpdate.supports(step.optimizer):
            return super()._update()
        update = FusedUpdate(step.optimizer, decoupled=step.settings.optimizer == "adamw", clip=step.settings.clip)
        update.warm_up()

        def apply_gradients() -> None:
            update.launch()
            step.optimizer.zero_grad(set_to_none=True)

        return apply_gradients, update.fill


def _require_capture(step: OptimizerStep) -> None:
    if not step.device.can_capture:
        raise UnsupportedExecution(f"{step.device.kind} cannot capture a step as a graph")
    if step.scaler.is_enabled():
        raise UnsupportedExecution("the gradient scaler of fp16 has to be read after every step")
