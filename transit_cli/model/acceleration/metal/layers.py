"""Which of a network's layers run as Metal kernels, without touching its parameters.

Where convolutions, max-poolings, dense layers and ReLUs follow each other in an `nn.Sequential`, those that have a
kernel are computed by it, and so is the head of `two-branch`. Everything else runs as it does without.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from transit_cli.model.acceleration.metal.dense import Dense
from transit_cli.model.acceleration.metal.functions import (
    BINS,
    MOST_SLOTS,
    NOTHING,
    PAIRS,
    POOLED,
    RELU,
    THREADS,
    Convolution,
    Head,
    Pooling,
    quads,
)
from transit_cli.model.acceleration.metal.library import MOST_NUMBERS, TYPES
from transit_cli.model.acceleration.patterns import plain_convolution, plain_pooling
from transit_cli.model.pooling import AverageAndMaximum

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from transit_cli.model.acceleration.metal.gradients import Gradients
    from transit_cli.model.acceleration.metal.library import Library

#: Bytes of a threadgroup's memory, on every Apple GPU that torch runs on.
THREADGROUP_BYTES = 32 << 10
#: Taps whose sums a thread can hold in registers.
MOST_TAPS = 15
#: Bins of a max-pooling: which of them was the largest is kept in a byte.
MOST_POOLED = 254
#: Features and units of a head that a threadgroup can hold.
MOST_UNITS = 2048
#: Inputs and units of a dense layer: PyTorch divides a longer sum among threadgroups, and this kernel does not.
MOST_DENSE = 2048

LayerKernel = Convolution | Pooling | Dense
Piece = tuple[LayerKernel, tuple[nn.Module, ...]]


def forwards(network: nn.Module, library: Library, gradients: Gradients | None) -> dict[nn.Module, Callable[..., Any]]:
    """Forwards for `layout.replaced` that compute what there are kernels for; empty where there is nothing.

    Args:
        network: on the device.
        library: the kernels.
        gradients: where the gradients of weights go; `collect` it after each backward pass. None where there is none.
    """
    found: dict[nn.Module, Callable[..., Any]] = {}
    for module in network.modules():
        if type(module) is not nn.Sequential or "forward" in module.__dict__:
            continue
        layers = list(module)
        head = _head(layers, library, gradients)
        if head is not None:
            found[module] = partial(_run_head, head, layers)
            continue
        pieces = _pieces(layers, library, gradients)
        if any(isinstance(piece, tuple) for piece in pieces):
            found[module] = partial(_run, pieces)
    return found


def _pieces(layers: Sequence[nn.Module], library: Library, gradients: Gradients | None) -> list[nn.Module | Piece]:
    pieces: list[nn.Module | Piece] = []
    index = 0
    while index < len(layers):
        kernel, taken = _kernel(layers[index:], library, gradients)
        pieces.append(layers[index] if kernel is None else (kernel, tuple(layers[index : index + taken])))
        index += taken
    return pieces


def _kernel(
    layers: Sequence[nn.Module], library: Library, gradients: Gradients | None
) -> tuple[LayerKernel | None, int]:
    """The kernel for the first of these layers, and how many of them it computes."""
    kinds = [type(layer) if _plain(layer) else None for layer in layers[:3]]
    first = layers[0]
    if isinstance(first, nn.Conv1d) and kinds[0] is nn.Conv1d and _fits(first):
        after, taken = NOTHING, 1
        if kinds[1:] == [nn.MaxPool1d, nn.ReLU] and plain_pooling(layers[1]) == (2, 2):
            after, taken = PAIRS, 3
        elif kinds[1:] == [nn.ReLU, AverageAndMaximum]:
            after, taken = POOLED, 3
        elif kinds[1:2] == [nn.ReLU]:
            after, taken = RELU, 2
        return Convolution(first, after, library, gradients), taken
    if kinds[:2] == [nn.MaxPool1d, nn.ReLU] and (pools := plain_pooling(first)) and pools[0] <= MOST_POOLED:
        return Pooling(*pools, library), 2
    if isinstance(first, nn.Linear) and kinds[0] is nn.Linear and _dense_fits(first):
        relu = kinds[1:2] == [nn.ReLU]
        return Dense(first, relu, library, gradients), 1 + relu
    return None, 1


def _plain(layer: nn.Module) -> bool:
    """Whether a layer does what its class does, and no hook observes it."""
    hooks = layer._forward_hooks or layer._forward_pre_hooks or layer._backward_hooks  # noqa: SLF001 - no public name
    return not hooks and "forward" not in layer.__dict__


def _fits(layer: nn.Conv1d) -> bool:
    taps = layer.kernel_size[0]
    memory = []
    for depth, channels in ((layer.in_channels, layer.out_channels), (layer.out_channels, layer.in_channels)):
        columns = quads(channels)
        memory.append(
            min(depth, 8) * (taps * columns * 16 + (min(THREADS // columns, MOST_SLOTS) * BINS + taps - 1) * 4)
        )
    small = taps <= MOST_TAPS and max(memory) <= THREADGROUP_BYTES
    return plain_convolution(layer) and small and _float32(layer)


def _dense_fits(layer: nn.Linear) -> bool:
    return layer.bias is not None and max(layer.in_features, layer.out_features) <= MOST_DENSE and _float32(layer)


def _float32(layer: nn.Module) -> bool:
    return all(parameter.dtype == torch.float32 for parameter in layer.parameters())


def _head(layers: Sequence[nn.Module], library: Library, gradients: Gradients | None) -> Head | None:
    if not all(_plain(layer) and _float32(layer) for layer in layers):
        return None
    match layers:
        case [nn.LayerNorm() as norm, nn.Linear() as hidden, nn.ReLU(), nn.Dropout() as dropout, nn.Linear() as last]:
            pass
        case [nn.LayerNorm() as norm, nn.Linear() as hidden, nn.ReLU(), nn.Linear() as last]:
            dropout = None
        case _:
            return None
    joined = hidden.in_features
    usual = norm.normalized_shape == (joined,) and norm.weight is not None and norm.bias is not None
    biased = hidden.bias is not None and last.bias is not None and last.out_features == 1
    small = max(joined, hidden.out_features) <= MOST_UNITS and (dropout is None or dropout.p < 1)
    exact = all(type(layer) in {nn.LayerNorm, nn.Linear, nn.ReLU, nn.Dropout} for layer in layers)
    return Head(norm, hidden, dropout, last, library, gradients) if usual and biased and small and exact else None


def _run(pieces: Sequence[nn.Module | Piece], values: Tensor) -> Tensor:
    for piece in pieces:
        if isinstance(piece, nn.Module):
            values = piece(values)
        elif _can_take(piece[0], values):
            values = piece[0](values)
        else:
            for layer in piece[1]:
                values = layer(values)
    return values


def _can_take(kernel: LayerKernel, values: Tensor) -> bool:
    if values.dtype not in TYPES or values.numel() == 0:
        return False
    if isinstance(kernel, Dense):
        return values.ndim == 2 and len(values) * MOST_DENSE <= MOST_NUMBERS
    if values.ndim != 3:
        return False
    samples, _, length = values.shape
    if isinstance(kernel, Pooling):
        return values.numel() <= MOST_NUMBERS and length >= kernel.size
    layer = kernel.layer
    bins = length + 2 * int(layer.padding[0]) - layer.kernel_size[0] + 1
    most = samples * max(length * layer.in_channels, bins * layer.out_channels)
    return bins >= (2 if kernel.after == PAIRS else 1) and most <= MOST_NUMBERS


def _run_head(head: Head, layers: Sequence[nn.Module], features: Tensor) -> Tensor:
    if features.ndim == 2 and features.dtype in TYPES and len(features):
        return head(features)
    for layer in layers:
        features = layer(features)
    return features
