"""The step with Metal kernels (`model.acceleration.metal`): a few large launches instead of more than a hundred.

Convolutions with what follows them, the head, the loss, all weight gradients, and clipping with the optimizer update
are custom kernels; every other layer runs as in eager. If a kernel fails during training, its step is computed again by
PyTorch, and so are all later ones.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, cast

import torch

from transit_cli import console
from transit_cli.device import precision
from transit_cli.model.acceleration import layout
from transit_cli.model.acceleration.metal import layers
from transit_cli.model.acceleration.metal.functions import cross_entropy
from transit_cli.model.acceleration.metal.fused_optimizer import FlatAdam, agrees, suits
from transit_cli.model.acceleration.metal.gradients import Gradients
from transit_cli.model.acceleration.metal.library import Library
from transit_cli.training.execution.base import Executor
from transit_cli.training.execution.errors import UnsupportedExecution

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from transit_cli.device.base import CompilingDevice
    from transit_cli.training.batch import Batch
    from transit_cli.training.execution.data_parallel import DataParallel
    from transit_cli.training.step import OptimizerStep


class Metal(Executor):
    """The step with Metal kernels for the layers that have one.

    Raises:
        UnsupportedExecution: the device is not MPS, no layer of the network has a kernel, the kernels do not compile,
            or the optimizer's kernel does not compute what torch's optimizer does.
    """

    name = "metal"
    #: Whether SIMD-groups multiply by 8 x 8 matrices.
    matrices: ClassVar[bool] = False

    def __init__(self, step: OptimizerStep, data_parallel: DataParallel | None = None) -> None:
        if step.device.kind != "mps":
            raise UnsupportedExecution(f"it needs MPS, and this is {step.device.kind}")
        if data_parallel:
            raise UnsupportedExecution("several processes would share one GPU")
        if any(parameter.dtype != torch.float32 for parameter in step.parameters):
            raise UnsupportedExecution("its parameters are not float32")
        super().__init__(step)
        self._library = Library(cast("CompilingDevice", step.device).compile_shader, matrices=self.matrices)
        self._gradients = Gradients(self._library, step.parameters)
        self._forwards = layers.forwards(step.network, self._library, self._gradients)
        if not self._forwards:
            raise UnsupportedExecution("it has no layers for which there is a kernel")
        self._adam: FlatAdam | None = None
        self._updates = not step.scaler.is_enabled() and not suits(step.optimizer)
        try:
            if self._updates and not agrees(self._library, step.optimizer):
                raise UnsupportedExecution("the optimizer's kernel does not compute what PyTorch's optimizer does")
        except RuntimeError as error:  # a MetalError, or what torch reports of a launch
            raise UnsupportedExecution((str(error).splitlines() or [""])[0]) from error

    def run(self, micro_batches: Sequence[Batch], *, augmented: bool = False) -> Tensor:
        step = self._step
        if not augmented:
            micro_batches = step.augment_batches(micro_batches)
        try:
            return self._run(micro_batches)
        except (RuntimeError, ValueError) as error:
            if step.device.is_out_of_memory(error):
                raise
            step.optimizer.zero_grad(set_to_none=True)
            first = (str(error).splitlines() or [""])[0]
            console.warn(f"Metal kernels failed ({first}): going on without them, from the same weights")
            self.fallback = Executor(step)
            return self.fallback.run(micro_batches, augmented=True)

    def _run(self, micro_batches: Sequence[Batch]) -> Tensor:
        step = self._step
        loss = self.gradients(micro_batches)
        if not (self._updates and self._gradients.whole):
            step.update()
            return loss
        if self._adam is None or not self._adam.lies_flat:
            self._adam = FlatAdam(self._library, step.optimizer, self._gradients)
        step.set_learning_rate()
        self._adam.step(step.settings.clip)
        step.global_step += 1
        return loss

    def backward(self, batch: Batch, weight: float) -> Tensor:
        step, settings = self._step, self._step.settings
        try:
            with layout.replaced(self._forwards):
                if batch.targets.ndim > 1:  # several classes, whose loss has no kernel
                    loss = step.forward(batch) * weight
                    step.scaler.scale(loss).backward()
                    self._gradients.collect()
                    return loss.detach()
                with precision.autocast(step.device, step.precision):
                    logits = step.network(batch.inputs).to(batch.targets.dtype)
                loss, gradient = cross_entropy(
                    self._library,
                    logits.detach(),
                    batch.targets,
                    share=weight,
                    smoothing=settings.label_smoothing,
                    positive_weight=settings.positive_weight,
                )
                logits.backward(step.scaler.scale(gradient))
                self._gradients.collect()
        finally:
            self._gradients.forget()
        return loss


class MetalMatrices(Metal):
    """The same kernels, whose SIMD-groups multiply by 8 x 8 matrices where a layer has the channels for it."""

    name = "metal-matrices"
    matrices = True


#: The executions with Metal kernels, the one that every other depends on first.
METAL: dict[str, type[Metal]] = {kind.name: kind for kind in (Metal, MetalMatrices)}
