"""Poolings in Triton, and the turn from [B, L, C] to what a dense layer takes."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def max_pool_forward(
    x_ptr, output, argmax_ptr, numel, length, length_out,
    C: tl.constexpr, SIZE: tl.constexpr, STRIDE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Max-pooling over SIZE bins and ReLU: x [B, L, C] -> output [B, L_OUT, C] and the bin of the maximum, or -1."""
    index = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    mask = index < numel
    row, channel = (index // C).to(tl.int32), (index % C).to(tl.int32)
    sample, position = row // length_out, row % length_out
    at = x_ptr + (sample * length + position * STRIDE).to(tl.int64) * C + channel
    maximum = tl.load(at, mask, 0.0).to(tl.float32)
    argmax = tl.zeros((BLOCK,), tl.int32)
    for bin_ in tl.static_range(1, SIZE):
        value = tl.load(at + bin_ * C, mask, 0.0).to(tl.float32)
        argmax = tl.where(value > maximum, bin_, argmax)
        maximum = tl.maximum(value, maximum)
    tl.store(output + index, tl.maximum(maximum, 0.0).to(output.dtype.element_ty), mask)
    tl.store(argmax_ptr + index, tl.where(maximum > 0, argmax, -1).to(tl.int8), mask)


@triton.jit
def max_pool_backward(
    grad_output, argmax_ptr, grad_input, numel, length, length_out,
    C: tl.constexpr, SIZE: tl.constexpr, STRIDE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """grad_output [B, L_OUT, C] -> grad_input [B, L, C]; each bin gathers its gradients."""
    index = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    mask = index < numel
    row, channel = (index // C).to(tl.int32), (index % C).to(tl.int32)
    sample, bin_ = row // length, row % length
    acc = tl.zeros((BLOCK,), tl.float32)
    for step in tl.static_range((SIZE + STRIDE - 1) // STRIDE):
        position = bin_ // STRIDE - step
        offset = bin_ - position * STRIDE
        valid = mask & (position >= 0) & (position < length_out) & (offset < SIZE)
        at = (sample * length_out + position).to(tl.int64) * C + channel
        value = tl.load(grad_output + at, valid, 0.0).to(tl.float32)
        acc += tl.where(tl.load(argmax_ptr + at, valid, -1) == offset, value, 0.0)
    tl.store(grad_input + index, acc.to(grad_input.dtype.element_ty), mask)


@triton.jit
def average_max_forward(x_ptr, output, argmax_ptr, length, C: tl.constexpr, BLOCK_M: tl.constexpr):
    """x [B, L, C] -> output [B, 2 x C], average and maximum of each channel, and the bin of the maximum [B, C]."""
    sample, channel = tl.program_id(0), tl.arange(0, C)
    acc = tl.zeros((C,), tl.float32)
    maximum = tl.full((C,), float("-inf"), tl.float32)
    argmax = tl.zeros((C,), tl.int32)
    for start in range(0, length, BLOCK_M):
        bin_ = start + tl.arange(0, BLOCK_M)
        mask = (bin_ < length)[:, None]
        at = (sample * length + bin_).to(tl.int64)[:, None] * C + channel[None, :]
        value = tl.load(x_ptr + at, mask, 0.0).to(tl.float32)
        acc += tl.sum(value, 0)
        block_max, position = tl.max(tl.where(mask, value, float("-inf")), 0, return_indices=True)
        argmax = tl.where(block_max > maximum, start + position, argmax)
        maximum = tl.maximum(block_max, maximum)
    tl.store(output + sample * 2 * C + channel, acc / length)
    tl.store(output + sample * 2 * C + C + channel, maximum)
    tl.store(argmax_ptr + sample * C + channel, argmax)


@triton.jit
def average_max_backward(grad_output, argmax_ptr, grad_input, stride, length, C: tl.constexpr, BLOCK_M: tl.constexpr):
    """grad_output [B, 2 x C], samples `stride` apart -> grad_input [B, L, C]."""
    sample, channel = tl.program_id(1), tl.arange(0, C)
    bin_ = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    grad_average = tl.load(grad_output + sample * stride + channel) / length
    grad_maximum = tl.load(grad_output + sample * stride + C + channel)
    is_maximum = bin_[:, None] == tl.load(argmax_ptr + sample * C + channel)[None, :]
    value = grad_average[None, :] + tl.where(is_maximum, grad_maximum[None, :], 0.0)
    at = (sample * length + bin_).to(tl.int64)[:, None] * C + channel[None, :]
    tl.store(grad_input + at, value.to(grad_input.dtype.element_ty), (bin_ < length)[:, None])


@triton.jit
def transpose_bins(
    values, output, length, value_stride, output_stride,
    C: tl.constexpr, BACKWARD: tl.constexpr, BLOCK_L: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """values [B, L, C] -> output [B, C x L], samples the strides apart; BACKWARD the other way."""
    sample = tl.program_id(0).to(tl.int64)
    bin_ = tl.program_id(1) * BLOCK_L + tl.arange(0, BLOCK_L)
    channel = tl.program_id(2) * BLOCK_C + tl.arange(0, BLOCK_C)
    mask = (bin_ < length)[:, None] & (channel < C)[None, :]
    by_bin = bin_[:, None] * C + channel[None, :]
    by_channel = channel[None, :] * length + bin_[:, None]
    if BACKWARD:
        value = tl.load(values + sample * value_stride + by_channel, mask)
        tl.store(output + sample * output_stride + by_bin, value.to(output.dtype.element_ty), mask)
    else:
        value = tl.load(values + sample * value_stride + by_bin, mask)
        tl.store(output + sample * output_stride + by_channel, value.to(output.dtype.element_ty), mask)
