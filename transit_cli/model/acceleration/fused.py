"""A network's convolutions, poolings and ReLUs as fused CUDA kernels, without touching its parameters.

Where convolutions, max-poolings and ReLUs follow each other in an `nn.Sequential`, as many of them as `kernels` has a
kernel for are computed by it, [B, L, C] from the first to the last. Everything else runs as it does without.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from transit_cli.model.acceleration import triton_kernels
from transit_cli.model.pooling import AverageAndMaximum

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

kernels: Any = triton_kernels  # how a kernel is launched has no types


@dataclass(frozen=True)
class Convolution:
    """A convolution with what follows it: one kernel."""

    layer: nn.Conv1d
    after: int

    def __call__(self, values: Tensor) -> Tensor:
        """[B, L, C_IN] -> [B, L_OUT, C_OUT]."""
        return _Convolve.apply(values, self.layer.weight, self.layer.bias, self.after, self.layer.padding[0])


@dataclass(frozen=True)
class Pooling:
    """A max-pooling and the ReLU that follows it: one kernel."""

    layer: nn.MaxPool1d

    def __call__(self, values: Tensor) -> Tensor:
        """[B, L, C] -> [B, L_OUT, C]."""
        return _Pool.apply(values, one(self.layer.kernel_size), one(self.layer.stride))


class _Convolve(torch.autograd.Function):
    @staticmethod
    def forward(*args: Any, **_: Any) -> Tensor:
        ctx, values, weight, bias, after, padding = args
        values = values.contiguous()
        samples, length, c_in = values.shape
        c_out, _, taps = weight.shape
        bins = length + 2 * padding - taps + 1
        length_out = bins // 2 if after == kernels.PAIRS else bins
        forward = values.new_empty(taps, c_out, c_in)
        back = values.new_empty(taps, c_in, c_out)
        kernels.transpose_weight[(-(-weight.numel() // 1024),)](
            weight, forward, back, weight.numel(), C_IN=c_in, C_OUT=c_out, TAPS=taps, NUMBERS=1024
        )
        result = values.new_empty(samples, length_out, c_out)
        passed = torch.empty_like(result, dtype=torch.int8) if after else result
        rows, tile = samples * length_out, FORWARD[c_out > 32]
        columns = min(c_out, tile.columns)
        kernels.convolve[(-(-rows // tile.rows), c_out // columns)](
            values, forward, bias, result, passed,
            rows, length, length_out, taps, padding,
            C_IN=c_in, C_OUT=c_out, AFTER=after, ROWS=tile.rows, COLUMNS=columns,
            DEPTH=max(16, power_of_two(taps)) if c_in == 1 else min(c_in, tile.depth),
            PRECISION=precision(), num_warps=tile.warps, num_stages=tile.stages,
        )  # fmt: skip
        ctx.save_for_backward(values, back, passed)
        ctx.after, ctx.padding = after, padding
        return result

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        values, back, passed = ctx.saved_tensors
        gradient = grad_outputs[0].contiguous()
        (samples, length, c_in), (taps, _, c_out), length_out = values.shape, back.shape, gradient.shape[1]
        to_values = None
        if ctx.needs_input_grad[0]:
            wide = max(c_in, 16)  # a product has at least 16 columns; those beyond a single channel's are thrown away
            to_values = values.new_empty(samples, length, wide)
            tile = BACKWARD[c_out > 32]
            rows = samples * ((length + 1) // 2 if ctx.after == kernels.PAIRS else length)
            columns = min(wide, tile.columns)
            kernels.conv_input_grad[(-(-rows // tile.rows), wide // columns)](
                gradient, passed, back.expand(-1, wide, -1).contiguous(), to_values,
                rows, length, length_out, taps, ctx.padding,
                C_IN=wide, C_OUT=c_out, AFTER=ctx.after, ROWS=tile.rows, COLUMNS=columns,
                DEPTH=min(c_out, tile.depth), PRECISION=precision(), num_warps=tile.warps, num_stages=tile.stages,
            )  # fmt: skip
            to_values = to_values[..., :c_in]
        tile = WEIGHT[c_out > 32]
        lines = taps * c_in + 1
        taken = min(tile.depth, max(16, power_of_two(lines)))
        padded = -(-lines // taken) * taken
        rows, columns = samples * length_out, min(c_out, tile.columns)
        share = max(1, PROGRAMS // (padded // taken * (c_out // columns)))
        steps = -(-rows // (tile.rows * share))
        programs = -(-rows // (tile.rows * steps))
        parts = values.new_empty(programs, padded, c_out, dtype=torch.float32)
        kernels.weight_grad_partial[(programs, padded // taken, c_out // columns)](
            values, gradient, passed, parts,
            rows, length, length_out, taps, ctx.padding, steps,
            C_IN=c_in, C_OUT=c_out, AFTER=ctx.after, PADDED=padded, ROWS=tile.rows, COLUMNS=columns, TAPS=taken,
            PRECISION=precision(), num_warps=tile.warps, num_stages=tile.stages,
        )  # fmt: skip
        to_weight = parts.new_empty(c_out, c_in, taps)
        to_bias = parts.new_empty(c_out)
        together = min(128, power_of_two(programs))
        numbers = 4096 // together
        kernels.weight_grad_reduce[(-(-lines * c_out // numbers),)](
            parts, to_weight, to_bias, programs, taps,
            C_IN=c_in, C_OUT=c_out, PADDED=padded, TOGETHER=together, NUMBERS=numbers,
        )  # fmt: skip
        return to_values, to_weight, to_bias, None, None


@dataclass(frozen=True)
class Tile:
    """How a kernel cuts its work: rows and columns of a program, depth of a product, warps, loads under way."""

    rows: int
    columns: int
    depth: int
    warps: int
    stages: int


#: For up to 32 channels, and for more: of some 500 choices the best, or nearly, on an H100 for our networks' layers at
#: batch 64, in TF32 and in bfloat16.
FORWARD = (Tile(64, 32, 32, 2, 3), Tile(64, 128, 64, 4, 2))
BACKWARD = (Tile(64, 32, 32, 4, 3), Tile(64, 128, 64, 4, 2))
WEIGHT = (Tile(128, 32, 64, 4, 2), Tile(128, 64, 64, 4, 2))


class _Pool(torch.autograd.Function):
    @staticmethod
    def forward(*args: Any, **_: Any) -> Tensor:
        ctx, values, size, stride = args
        values = values.contiguous()
        samples, length, channels = values.shape
        length_out = (length - size) // stride + 1
        result = values.new_empty(samples, length_out, channels)
        place = torch.empty_like(result, dtype=torch.int8)
        kernels.pool[(-(-result.numel() // 1024),)](
            values, result, place, result.numel(), length, length_out,
            C=channels, SIZE=size, STRIDE=stride, NUMBERS=1024,
        )  # fmt: skip
        ctx.save_for_backward(place)
        ctx.shape, ctx.size, ctx.stride = values.shape, size, stride
        return result

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        (place,) = ctx.saved_tensors
        gradient = grad_outputs[0].contiguous()
        wanted = gradient.new_empty(ctx.shape)
        kernels.pool_back[(-(-wanted.numel() // 1024),)](
            gradient, place, wanted, wanted.numel(), ctx.shape[1], gradient.shape[1],
            C=ctx.shape[2], SIZE=ctx.size, STRIDE=ctx.stride, NUMBERS=1024,
        )  # fmt: skip
        return wanted, None, None


class _Summarise(torch.autograd.Function):
    @staticmethod
    def forward(*args: Any, **_: Any) -> Tensor:
        ctx, values = args
        samples, length, channels = values.shape
        result = values.new_empty(samples, 2 * channels, dtype=torch.float32)
        place = values.new_empty(samples, channels, dtype=torch.int32)
        kernels.summarise[(samples,)](values, result, place, length, C=channels, ROWS=128)
        ctx.save_for_backward(place)
        ctx.shape, ctx.dtype = values.shape, values.dtype
        return result

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> Tensor:
        (place,) = ctx.saved_tensors
        samples, length, channels = ctx.shape
        wanted = torch.empty(ctx.shape, dtype=ctx.dtype, device=place.device)
        kernels.summarise_back[(-(-length // 128), samples)](
            grad_outputs[0].contiguous(), place, wanted, length, C=channels, ROWS=128
        )
        return wanted


#: Programs that compute a weight's gradient: four for each of an H100's processors.
PROGRAMS = 528


def fused(network: nn.Module) -> dict[nn.Module, Callable[..., Any]]:
    """Forwards for `layout.replaced` that compute what `kernels` can, for CUDA."""
    forwards: dict[nn.Module, Callable[..., Any]] = {}
    for module in network.modules():
        if type(module) is AverageAndMaximum:
            forwards[module] = summarise
        elif type(module) is nn.Sequential and "forward" not in module.__dict__:
            pieces = _pieces(list(module))
            if any(isinstance(piece, tuple) for piece in pieces):
                forwards[module] = partial(_run, pieces)
    return forwards


@contextmanager
def watching(told: Callable[[list[Tensor]], None]) -> Iterator[None]:
    """Within, `told` gets the tensors of each kernel that is launched: operators' watchers do not see them."""

    def hook(*arguments: Any, **_: Any) -> None:
        told([argument for argument in arguments if isinstance(argument, Tensor)])

    every = (
        kernels.transpose_weight,
        kernels.convolve,
        kernels.conv_input_grad,
        kernels.weight_grad_partial,
        kernels.weight_grad_reduce,
    )
    every += (kernels.pool, kernels.pool_back, kernels.summarise, kernels.summarise_back)
    for kernel in every:
        kernel.add_pre_run_hook(hook)
    try:
        yield
    finally:
        for kernel in every:
            kernel.pre_run_hooks.remove(hook)


TritonGraph = Convolution | Pooling


def _pieces(layers: Sequence[nn.Module]) -> list[nn.Module | tuple[TritonGraph, ...]]:
    pieces: list[nn.Module | tuple[TritonGraph, ...]] = []
    index = 0
    while index < len(layers):
        found, taken = _kernel(layers[index:])
        before = pieces[-1] if pieces else None
        if found is None:
            pieces.append(layers[index])
        elif isinstance(before, tuple):
            pieces[-1] = (*before, found)
        else:
            pieces.append((found,))
        index += taken
    return pieces


def _kernel(layers: Sequence[nn.Module]) -> tuple[TritonGraph | None, int]:
    """The kernel for the first of these layers, and how many of them it computes."""
    kinds = [type(layer) for layer in layers[:3]]
    first = layers[0]
    if isinstance(first, nn.Conv1d) and kinds[0] is nn.Conv1d and _fits(first):
        if kinds[1:] == [nn.MaxPool1d, nn.ReLU] and _pools(layers[1]) == (2, 2):
            return Convolution(first, kernels.PAIRS), 3
        if kinds[1:2] == [nn.ReLU]:
            return Convolution(first, kernels.RELU), 2
        return Convolution(first, kernels.PLAIN), 1
    if isinstance(first, nn.MaxPool1d) and kinds[:2] == [nn.MaxPool1d, nn.ReLU] and _pools(first):
        return Pooling(first), 2
    return None, 1


def _fits(layer: nn.Conv1d) -> bool:
    usual = layer.padding_mode == "zeros" and not isinstance(layer.padding, str) and layer.bias is not None
    simple = layer.stride == (1,) and layer.dilation == (1,) and layer.groups == 1
    channels = (layer.in_channels == 1 or _tiles(layer.in_channels)) and _tiles(layer.out_channels)
    return usual and simple and channels


def _tiles(channels: int) -> bool:
    return channels >= 16 and power_of_two(channels) == channels


def _pools(layer: nn.Module) -> tuple[int, int] | None:
    """Size and stride of a pooling that `kernels` can compute."""
    assert isinstance(layer, nn.MaxPool1d)
    if one(layer.padding) or one(layer.dilation) != 1 or layer.ceil_mode or layer.return_indices:
        return None
    return one(layer.kernel_size), one(layer.stride)


def _run(pieces: Sequence[nn.Module | tuple[TritonGraph, ...]], values: Tensor) -> Tensor:
    for piece in pieces:
        if isinstance(piece, nn.Module):
            values = piece(values)
            continue
        rows = values.transpose(1, 2)
        if torch.is_autocast_enabled(values.device.type):
            rows = rows.to(torch.get_autocast_dtype(values.device.type))
        for kernel in piece:
            rows = kernel(rows)
        values = rows.transpose(1, 2)
    return values


def summarise(features: Tensor) -> Tensor:
    """What `AverageAndMaximum` gives, of [B, C, L]."""
    return _Summarise.apply(features.transpose(1, 2).contiguous())


def precision() -> str:
    """How products of float32 are rounded: as PyTorch's own convolutions are."""
    return "tf32" if torch.backends.cudnn.allow_tf32 else "ieee"


def power_of_two(number: int) -> int:
    """The least power of two that is not below a number."""
    return 1 << (number - 1).bit_length()


def one(size: int | tuple[int, ...]) -> int:
    """A pooling's size, which may be given as a number or as a tuple of one."""
    return size if isinstance(size, int) else size[0]
