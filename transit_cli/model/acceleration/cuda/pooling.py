"""Poolings as one kernel forward and one backward, and the turn from bins to features, differentiable."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import triton
from torch import Tensor, nn

from transit_cli.model.acceleration.cuda import pooling_kernels
from transit_cli.model.acceleration.patterns import scalar

if TYPE_CHECKING:
    from collections.abc import Mapping

kernels: Any = pooling_kernels  # Triton's launch syntax is not typed


@dataclass(frozen=True)
class FusedPooling:
    """A max-pooling and a ReLU, as one kernel."""

    layer: nn.MaxPool1d

    def __call__(self, values: Tensor, _transposed: Mapping[nn.Module, object]) -> Tensor:
        """[B, L, C] -> [B, L_OUT, C]."""
        return _MaxPool.apply(values, scalar(self.layer.kernel_size), scalar(self.layer.stride))


class _MaxPool(torch.autograd.Function):
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


def average_max(features: Tensor) -> Tensor:
    """`AverageAndMaximum` as a fused kernel: [B, C, L] -> [B, 2 x C]."""
    return _AverageMax.apply(features.transpose(1, 2).contiguous())


class _AverageMax(torch.autograd.Function):
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
        grad_output = _rows(grad_outputs[0])
        grad_input = torch.empty(ctx.shape, dtype=ctx.dtype, device=argmax.device)
        kernels.average_max_backward[(triton.cdiv(length, 128), samples)](
            grad_output, argmax, grad_input, grad_output.stride(0), length, C=channels, BLOCK_M=128
        )
        return grad_input


def flatten_bins(features: Tensor) -> Tensor:
    """`features.flatten(1)` of [B, C, L], whose channels are contiguous, as a transposing kernel."""
    return _FlattenBins.apply(features.transpose(1, 2).contiguous())


class _FlattenBins(torch.autograd.Function):
    @staticmethod
    def forward(*args: Any, **_: Any) -> Tensor:
        ctx, values = args
        samples, length, channels = values.shape
        output = values.new_empty(samples, channels * length)
        _transpose_bins(values, output, length, channels, backward=False)
        ctx.shape = values.shape
        return output

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> Tensor:
        samples, length, channels = ctx.shape
        grad_output = _rows(grad_outputs[0])
        grad_input = grad_output.new_empty(samples, length, channels)
        _transpose_bins(grad_output, grad_input, length, channels, backward=True)
        return grad_input


def _transpose_bins(values: Tensor, output: Tensor, length: int, channels: int, *, backward: bool) -> None:
    grid = len(values), triton.cdiv(length, 64), triton.cdiv(channels, 32)
    kernels.transpose_bins[grid](
        values,
        output,
        length,
        values.stride(0),
        output.stride(0),
        C=channels,
        BACKWARD=backward,
        BLOCK_L=64,
        BLOCK_C=32,
    )


def _rows(values: Tensor) -> Tensor:
    """[B, N] whose samples may lie apart, as the parts of a concatenation do, without a copy if they are whole."""
    return values if values.stride(-1) == 1 else values.contiguous()
