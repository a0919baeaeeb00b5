"""Convolutions, poolings, ReLUs and heads of a network as fused CUDA kernels, without changing its parameters.

Sequences of convolutions, max-poolings and ReLUs in an `nn.Sequential` that the kernels support are computed by them,
in [B, L, C] from the first to the last. All other modules run unchanged.
"""

from __future__ import annotations

import itertools
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
import triton
from torch import Tensor, nn

from transit_cli.model.acceleration.cuda import convolution, head, optimizer, pooling
from transit_cli.model.acceleration.cuda.convolution import FusedConvolution, TransposedWeights
from transit_cli.model.acceleration.cuda.head import FusedLinear
from transit_cli.model.acceleration.cuda.pooling import FusedPooling
from transit_cli.model.acceleration.patterns import plain_convolution, plain_pooling
from transit_cli.model.astronet import AstroNet, Column
from transit_cli.model.pooling import AverageAndMaximum
from transit_cli.model.two_branch import TwoBranch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from transit_cli.model.acceleration.cuda.convolution import Transposed

    #: Computes several tensors, side by side if the device can.
    Concurrently = Callable[[Sequence[Callable[[], Tensor]]], list[Tensor]]

FusedLayer = FusedConvolution | FusedPooling
#: Consecutive layers of an `nn.Sequential`: a module as it is, a dense layer, or fused layers in [B, L, C].
Piece = nn.Module | FusedLinear | tuple[FusedLayer, ...]


def one_after_another(works: Sequence[Callable[[], Tensor]]) -> list[Tensor]:
    """Compute each."""
    return [work() for work in works]


def fused_forwards(
    network: nn.Module,
    weights: TransposedWeights | None = None,
    concurrently: Concurrently = one_after_another,
) -> dict[nn.Module, Callable[..., Any]]:
    """Replacement forwards for `layout.replaced` that run the fused kernels, for CUDA.

    Args:
        network: any.
        weights: those of `fused_convolutions(network)`; without, each layer transposes its own in each forward pass.
        concurrently: how the branches of this project's networks are computed.
    """
    transposed = weights.of if weights else {}
    forwards: dict[nn.Module, Callable[..., Any]] = {}
    for module in network.modules():
        if type(module) is AverageAndMaximum:
            forwards[module] = pooling.average_max
        elif type(module) is Column:
            forwards[module] = partial(_column, module)
        elif type(module) is TwoBranch:
            forwards[module] = partial(_two_branch, module, concurrently)
        elif type(module) is AstroNet:
            forwards[module] = partial(_astronet, module, concurrently)
        elif type(module) is nn.Sequential and "forward" not in module.__dict__:
            pieces = _pieces(list(module))
            if any(not isinstance(piece, nn.Module) for piece in pieces):
                forwards[module] = partial(_run, pieces, transposed)
    return forwards


def fused_convolutions(network: nn.Module) -> list[nn.Conv1d]:
    """The convolutions that run as fused kernels."""
    sequences = [module for module in network.modules() if type(module) is nn.Sequential]
    tuples = [piece for module in sequences for piece in _pieces(list(module)) if isinstance(piece, tuple)]
    return [layer.layer for layers in tuples for layer in layers if isinstance(layer, FusedConvolution)]


@contextmanager
def watch_launches(callback: Callable[[list[Tensor]], None]) -> Iterator[None]:
    """Call back with the tensors of each kernel launch, which torch's dispatch modes do not see."""

    def hook(*arguments: Any, **_: Any) -> None:
        callback([argument for argument in arguments if isinstance(argument, Tensor)])

    modules = convolution.kernels, convolution.weights, pooling.kernels, head.kernels, optimizer.kernels
    values = [value for module in modules for value in vars(module).values() if not isinstance(value, type)]
    launched = [value for value in values if hasattr(value, "add_pre_run_hook")]
    for kernel in launched:
        kernel.add_pre_run_hook(hook)
    try:
        yield
    finally:
        for kernel in launched:
            kernel.pre_run_hooks.remove(hook)


def _pieces(layers: Sequence[nn.Module]) -> list[Piece]:
    pieces: list[Piece] = []
    index = 0
    while index < len(layers):
        found, taken = _kernel(layers[index:])
        before = pieces[-1] if pieces else None
        if found is None:
            pieces.append(layers[index])
        elif isinstance(found, FusedLinear):
            pieces.append(found)
        elif isinstance(before, tuple):
            pieces[-1] = (*before, found)
        else:
            pieces.append((found,))
        index += taken
    return [_masked_behind(piece) if isinstance(piece, tuple) else piece for piece in pieces]


def _masked_behind(layers: tuple[FusedLayer, ...]) -> tuple[FusedLayer, ...]:
    """Let a convolution behind a convolution with ReLU mask the gradient that it gives to it."""
    result = list(layers)
    for index, (first, second) in enumerate(itertools.pairwise(layers)):
        if not isinstance(first, FusedConvolution) or not isinstance(second, FusedConvolution):
            continue
        if first.epilogue == convolution.kernels.RELU:
            behind = result[index]
            assert isinstance(behind, FusedConvolution)
            result[index] = replace(behind, epilogue=convolution.kernels.RELU_MASKED_BEHIND)
            result[index + 1] = replace(second, masks_input=True)
    return tuple(result)


def _kernel(layers: Sequence[nn.Module]) -> tuple[FusedLayer | FusedLinear | None, int]:
    """The kernel for the first layers, and how many layers it replaces; (None, 1) if there is none."""
    kinds = [type(layer) for layer in layers[:3]]
    first = layers[0]
    if isinstance(first, nn.Conv1d) and kinds[0] is nn.Conv1d and _fits(first):
        if kinds[1:] == [nn.MaxPool1d, nn.ReLU] and plain_pooling(layers[1]) == (2, 2):
            return FusedConvolution(first, convolution.kernels.POOL_RELU), 3
        if kinds[1:2] == [nn.ReLU]:
            return FusedConvolution(first, convolution.kernels.RELU), 2
        return FusedConvolution(first, convolution.kernels.NONE), 1
    if isinstance(first, nn.MaxPool1d) and kinds[:2] == [nn.MaxPool1d, nn.ReLU] and plain_pooling(first):
        return FusedPooling(first), 2
    if isinstance(first, nn.Linear) and kinds[:2] == [nn.Linear, nn.ReLU] and first.bias is not None:
        return FusedLinear(first), 2
    return None, 1


def _fits(layer: nn.Conv1d) -> bool:
    channels = (layer.in_channels == 1 or _tiles(layer.in_channels)) and _tiles(layer.out_channels)
    return plain_convolution(layer) and channels


def _tiles(channels: int) -> bool:
    return channels >= 16 and triton.next_power_of_2(channels) == channels


def _run(pieces: Sequence[Piece], transposed: Mapping[nn.Module, Transposed], values: Tensor) -> Tensor:
    for piece in pieces:
        if not isinstance(piece, tuple):
            values = piece(values)
            continue
        rows = values.transpose(1, 2)
        if torch.is_autocast_enabled(values.device.type):
            rows = rows.to(torch.get_autocast_dtype(values.device.type))
        for kernel in piece:
            rows = kernel(rows, transposed)
        values = rows.transpose(1, 2)
    return values


def _column(column: Column, view: Tensor) -> Tensor:
    return pooling.flatten_bins(column.layers(view.unsqueeze(1)))


def _joined(
    branches: nn.ModuleList, network: TwoBranch | AstroNet, concurrently: Concurrently, inputs: Mapping[str, Tensor]
) -> Tensor:
    works = [partial(branch, inputs[name]) for name, branch in zip(network.views, branches, strict=True)]
    features = concurrently(works)
    if network.scalars:
        features.append(inputs["scalars"])
    return torch.cat(features, dim=1)


def _two_branch(network: TwoBranch, concurrently: Concurrently, inputs: Mapping[str, Tensor]) -> Tensor:
    joined = _joined(network.branches, network, concurrently, inputs)
    logits = head.fused_head(network, joined) if head.fits_head(network) else network.head(joined)
    return logits.squeeze(1) if network.outputs == 1 else logits


def _astronet(network: AstroNet, concurrently: Concurrently, inputs: Mapping[str, Tensor]) -> Tensor:
    logits = network.head(_joined(network.columns, network, concurrently, inputs))
    return logits.squeeze(1) if network.outputs == 1 else logits
