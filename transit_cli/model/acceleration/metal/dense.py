"""A dense layer, with the ReLU that follows it, as Metal kernels in autograd."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from transit_cli.model.acceleration.metal.functions import NOTHING, RELU
from transit_cli.model.acceleration.metal.gradients import Gradients, Job
from transit_cli.model.acceleration.metal.library import TYPES

if TYPE_CHECKING:
    from transit_cli.model.acceleration.metal.library import Library

#: Samples, units and inputs of a threadgroup's tile, and its threads.
TILE, THREADS = 32, 64
#: Parts of the gradients of weights: with more, writing and adding them up costs more than it saves.
MOST_PROGRAMS = 4
#: Samples for each further part.
PART_SAMPLES = 256


@dataclass(frozen=True)
class Dense:
    """A dense layer and the ReLU that follows it, if there is one: one kernel."""

    layer: nn.Linear
    relu: bool
    library: Library
    gradients: Gradients | None

    def __call__(self, values: Tensor) -> Tensor:
        """[B, INPUTS] -> [B, UNITS] float32."""
        return _Dense.apply(values, self.layer.weight, self.layer.bias, self)


class _Dense(torch.autograd.Function):
    @staticmethod
    def forward(*args: Any, **_: Any) -> Tensor:
        ctx, values, weight, bias, layer = args
        values, weight = values.contiguous(), weight.contiguous()
        units, inputs = weight.shape
        after = RELU if layer.relu else NOTHING
        defines = {"VALUE": TYPES[values.dtype], "INPUTS": inputs, "UNITS": units, "AFTER": after}
        result = values.new_empty(len(values), units, dtype=torch.float32)
        kernel = layer.library.kernel("dense", "dense", THREADS, **defines)
        kernel(values, weight, bias, result, len(values), groups=[_tiles(units), _tiles(len(values))])
        ctx.save_for_backward(values, weight, result)
        ctx.layer, ctx.defines = layer, defines
        return result

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        values, weight, result = ctx.saved_tensors
        layer, gradient = ctx.layer, grad_outputs[0].contiguous()
        (samples, inputs), units = values.shape, len(weight)
        wanted = None
        if ctx.needs_input_grad[0]:
            wanted = torch.empty_like(values)
            back = layer.library.kernel("dense", "dense_back", THREADS, **ctx.defines)
            back(gradient, result, weight, wanted, samples, groups=[_tiles(inputs), _tiles(samples)])
        learned = ((layer.layer.weight, 0), (layer.layer.bias, units * inputs))
        layer.gradients.add(
            Job(
                file="dense",
                function="dense_weigh",
                defines=tuple(ctx.defines.items()),
                types=(ctx.defines["VALUE"], "float", "float"),
                tensors=(values, gradient, result),
                sizes=(samples, 0, 0, 0),
                numbers=units * inputs + units,
                programs=min(MOST_PROGRAMS, -(-samples // PART_SAMPLES)),
                blocks=_tiles(units) * _tiles(inputs),
                scratch=2 * TILE * TILE * 4,
                parameters=tuple((p, at) for p, at in learned if isinstance(p, nn.Parameter) and p.requires_grad),
            )
        )
        return wanted, None, None, None


def _tiles(count: int) -> int:
    return -(-count // TILE)
