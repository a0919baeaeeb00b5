"""Convolutions, poolings and ReLUs of a network as fused CUDA kernels, without changing its parameters.

Sequences of convolutions, max-poolings and ReLUs in an `nn.Sequential` that the kernels support are computed by them,
in [B, L, C] from the first to the last. All other modules run unchanged.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
import triton
from torch import Tensor, nn

from transit_cli.model.acceleration import triton_kernels
from transit_cli.model.acceleration.patterns import plain_convolution, plain_pooling, scalar
from transit_cli.model.pooling import AverageAndMaximum

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

kernels: Any = triton_kernels  # Triton's launch syntax is not typed


@dataclass(frozen=True)
class FusedConvolution:
    """A convolution with its epilogue, as one kernel."""

    layer: nn.Conv1d
    epilogue: int

    def __call__(self, values: Tensor) -> Tensor:
        """[B, L, C_IN] -> [B, L_OUT, C_OUT]."""
        return _ConvFunction.apply(values, self.layer.weight, self.layer.bias, self.epilogue, self.layer.padding[0])


@dataclass(frozen=True)
class FusedPooling:
    """A max-pooling and a ReLU, as one kernel."""

    layer: nn.MaxPool1d

    def __call__(self, values: Tensor) -> Tensor:
        """[B, L, C] -> [B, L_OUT, C]."""
        return _MaxPoolFunction.apply(values, scalar(self.layer.kernel_size), scalar(self.layer.stride))


class _ConvFunction(torch.autograd.Function):
    @staticmethod
    def forward(*args: Any, **_: Any) -> Tensor:
        ctx, values, weight, bias, epilogue, padding = args
        values = values.contiguous()
        samples, length, c_in = values.shape
        c_out, _, taps = weight.shape
        bins = length + 2 * padding - taps + 1
        length_out = bins // 2 if epilogue == kernels.POOL_RELU else bins
        forward_weight = values.new_empty(taps, c_out, c_in)
        backward_weight = values.new_empty(taps, c_in, c_out)
        kernels.transpose_weight[(triton.cdiv(weight.numel(), 1024),)](
            weight, forward_weight, backward_weight, weight.numel(), C_IN=c_in, C_OUT=c_out, TAPS=taps, BLOCK=1024
        )
        output = values.new_empty(samples, length_out, c_out)
        argmax_mask = torch.empty_like(output, dtype=torch.int8) if epilogue else output
        rows, tile = samples * length_out, FORWARD[c_out > 32]
        block_n = min(c_out, tile.block_n)
        kernels.conv_forward[(triton.cdiv(rows, tile.block_m), c_out // block_n)](
            values, forward_weight, bias, output, argmax_mask,
            rows, length, length_out, taps, padding,
            C_IN=c_in, C_OUT=c_out, EPILOGUE=epilogue, BLOCK_M=tile.block_m, BLOCK_N=block_n,
            BLOCK_K=max(16, triton.next_power_of_2(taps)) if c_in == 1 else min(c_in, tile.block_k),
            PRECISION=precision(), num_warps=tile.warps, num_stages=tile.stages,
        )  # fmt: skip
        ctx.save_for_backward(values, backward_weight, argmax_mask)
        ctx.epilogue, ctx.padding = epilogue, padding
        return output

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        values, backward_weight, argmax_mask = ctx.saved_tensors
        grad_output = grad_outputs[0].contiguous()
        samples, length, c_in = values.shape
        taps, _, c_out = backward_weight.shape
        length_out = grad_output.shape[1]
        grad_input = None
        if ctx.needs_input_grad[0]:
            wide = max(c_in, 16)  # tl.dot needs at least 16 columns; those beyond c_in are dropped
            grad_input = values.new_empty(samples, length, wide)
            tile = BACKWARD[c_out > 32]
            rows = samples * ((length + 1) // 2 if ctx.epilogue == kernels.POOL_RELU else length)
            block_n = min(wide, tile.block_n)
            kernels.conv_input_grad[(triton.cdiv(rows, tile.block_m), wide // block_n)](
                grad_output, argmax_mask, backward_weight.expand(-1, wide, -1).contiguous(), grad_input,
                rows, length, length_out, taps, ctx.padding,
                C_IN=wide, C_OUT=c_out, EPILOGUE=ctx.epilogue, BLOCK_M=tile.block_m, BLOCK_N=block_n,
                BLOCK_K=min(c_out, tile.block_k), PRECISION=precision(), num_warps=tile.warps, num_stages=tile.stages,
            )  # fmt: skip
            grad_input = grad_input[..., :c_in]
        tile = WEIGHT[c_out > 32]
        weight_rows = taps * c_in + 1
        block_m = min(tile.block_m, max(16, triton.next_power_of_2(weight_rows)))
        padded = triton.cdiv(weight_rows, block_m) * block_m
        rows, block_n = samples * length_out, min(c_out, tile.block_n)
        share = max(1, PROGRAMS // (padded // block_m * (c_out // block_n)))
        steps = triton.cdiv(rows, tile.block_k * share)
        programs = triton.cdiv(rows, tile.block_k * steps)
        partial_sums = values.new_empty(programs, padded, c_out, dtype=torch.float32)
        kernels.weight_grad_partial[(programs, padded // block_m, c_out // block_n)](
            values, grad_output, argmax_mask, partial_sums,
            rows, length, length_out, taps, ctx.padding, steps,
            C_IN=c_in, C_OUT=c_out, EPILOGUE=ctx.epilogue, PADDED=padded,
            BLOCK_M=block_m, BLOCK_N=block_n, BLOCK_K=tile.block_k,
            PRECISION=precision(), num_warps=tile.warps, num_stages=tile.stages,
        )  # fmt: skip
        grad_weight = partial_sums.new_empty(c_out, c_in, taps)
        grad_bias = partial_sums.new_empty(c_out)
        block_p = min(128, triton.next_power_of_2(programs))
        block = 4096 // block_p
        kernels.weight_grad_reduce[(triton.cdiv(weight_rows * c_out, block),)](
            partial_sums, grad_weight, grad_bias, programs, taps,
            C_IN=c_in, C_OUT=c_out, PADDED=padded, BLOCK_P=block_p, BLOCK=block,
        )  # fmt: skip
        return grad_input, grad_weight, grad_bias, None, None


@dataclass(frozen=True)
class Tile:
    """Tile sizes and launch options of a kernel, named as in Triton's matrix products."""

    block_m: int
    block_n: int
    block_k: int
    warps: int
    stages: int


#: For up to 32 output channels, and for more: the best, or nearly, of some 500 choices on an H100 for the layers of
#: two-branch and astronet at batch 64, in TF32 and in bfloat16.
FORWARD = (Tile(64, 32, 32, 2, 3), Tile(64, 128, 64, 4, 2))
BACKWARD = (Tile(64, 32, 32, 4, 3), Tile(64, 128, 64, 4, 2))
WEIGHT = (Tile(64, 32, 128, 4, 2), Tile(64, 64, 128, 4, 2))


class _MaxPoolFunction(torch.autograd.Function):
    @staticmethod
    def forward(*args: Any, **_: Any) -> Tensor:
        ctx, values, size, stride = args
        values = values.contiguous()
        samples, length, channels = values.shape
        length_out = (length - size) // stride + 1
        output = values.new_empty(samples, length_out, channels)
        argmax = torch.empty_like(output, dtype=torch.int8)
        kernels.max_pool_forward[(triton.cdiv(output.numel(), 1024),)](
            values, output, argmax, output.numel(), length, length_out,
            C=channels, SIZE=size, STRIDE=stride, BLOCK=1024,
        )  # fmt: skip
        ctx.save_for_backward(argmax)
        ctx.shape, ctx.size, ctx.stride = values.shape, size, stride
        return output

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        (argmax,) = ctx.saved_tensors
        grad_output = grad_outputs[0].contiguous()
        grad_input = grad_output.new_empty(ctx.shape)
        kernels.max_pool_backward[(triton.cdiv(grad_input.numel(), 1024),)](
            grad_output, argmax, grad_input, grad_input.numel(), ctx.shape[1], grad_output.shape[1],
            C=ctx.shape[2], SIZE=ctx.size, STRIDE=ctx.stride, BLOCK=1024,
        )  # fmt: skip
        return grad_input, None, None


class _AverageMaxFunction(torch.autograd.Function):
    @staticmethod
    def forward(*args: Any, **_: Any) -> Tensor:
        ctx, values = args
        samples, length, channels = values.shape
        output = values.new_empty(samples, 2 * channels, dtype=torch.float32)
        argmax = values.new_empty(samples, channels, dtype=torch.int32)
        kernels.average_max_forward[(samples,)](values, output, argmax, length, C=channels, BLOCK_M=128)
        ctx.save_for_backward(argmax)
        ctx.shape, ctx.dtype = values.shape, values.dtype
        return output

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> Tensor:
        (argmax,) = ctx.saved_tensors
        samples, length, channels = ctx.shape
        grad_input = torch.empty(ctx.shape, dtype=ctx.dtype, device=argmax.device)
        kernels.average_max_backward[(triton.cdiv(length, 128), samples)](
            grad_outputs[0].contiguous(), argmax, grad_input, length, C=channels, BLOCK_M=128
        )
        return grad_input


#: Programs that compute a weight gradient: four per multiprocessor of an H100.
PROGRAMS = 528


def fused_forwards(network: nn.Module) -> dict[nn.Module, Callable[..., Any]]:
    """Replacement forwards for `layout.replaced` that run the fused kernels, for CUDA."""
    forwards: dict[nn.Module, Callable[..., Any]] = {}
    for module in network.modules():
        if type(module) is AverageAndMaximum:
            forwards[module] = average_max
        elif type(module) is nn.Sequential and "forward" not in module.__dict__:
            pieces = _pieces(list(module))
            if any(isinstance(piece, tuple) for piece in pieces):
                forwards[module] = partial(_run, pieces)
    return forwards


@contextmanager
def watch_launches(callback: Callable[[list[Tensor]], None]) -> Iterator[None]:
    """Call back with the tensors of each kernel launch, which torch's dispatch modes do not see."""

    def hook(*arguments: Any, **_: Any) -> None:
        callback([argument for argument in arguments if isinstance(argument, Tensor)])

    launched = (
        kernels.transpose_weight,
        kernels.conv_forward,
        kernels.conv_input_grad,
        kernels.weight_grad_partial,
        kernels.weight_grad_reduce,
        kernels.max_pool_forward,
        kernels.max_pool_backward,
        kernels.average_max_forward,
        kernels.average_max_backward,
    )
    for kernel in launched:
        kernel.add_pre_run_hook(hook)
    try:
        yield
    finally:
        for kernel in launched:
            kernel.pre_run_hooks.remove(hook)


FusedLayer = FusedConvolution | FusedPooling


def _pieces(layers: Sequence[nn.Module]) -> list[nn.Module | tuple[FusedLayer, ...]]:
    pieces: list[nn.Module | tuple[FusedLayer, ...]] = []
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


def _kernel(layers: Sequence[nn.Module]) -> tuple[FusedLayer | None, int]:
    """The kernel for the first layers, and how many layers it replaces; (None, 1) if there is none."""
    kinds = [type(layer) for layer in layers[:3]]
    first = layers[0]
    if isinstance(first, nn.Conv1d) and kinds[0] is nn.Conv1d and _fits(first):
        if kinds[1:] == [nn.MaxPool1d, nn.ReLU] and plain_pooling(layers[1]) == (2, 2):
            return FusedConvolution(first, kernels.POOL_RELU), 3
        if kinds[1:2] == [nn.ReLU]:
            return FusedConvolution(first, kernels.RELU), 2
        return FusedConvolution(first, kernels.NONE), 1
    if isinstance(first, nn.MaxPool1d) and kinds[:2] == [nn.MaxPool1d, nn.ReLU] and plain_pooling(first):
        return FusedPooling(first), 2
    return None, 1


def _fits(layer: nn.Conv1d) -> bool:
    channels = (layer.in_channels == 1 or _tiles(layer.in_channels)) and _tiles(layer.out_channels)
    return plain_convolution(layer) and channels


def _tiles(channels: int) -> bool:
    return channels >= 16 and triton.next_power_of_2(channels) == channels


def _run(pieces: Sequence[nn.Module | tuple[FusedLayer, ...]], values: Tensor) -> Tensor:
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


def average_max(features: Tensor) -> Tensor:
    """`AverageAndMaximum` as a fused kernel: [B, C, L] -> [B, 2 x C]."""
    return _AverageMaxFunction.apply(features.transpose(1, 2).contiguous())


def precision() -> str:
    """Precision of float32 products, as PyTorch's convolutions have it."""
    return "tf32" if torch.backends.cudnn.allow_tf32 else "ieee"
