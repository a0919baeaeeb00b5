"""Fused convolution, max-pooling and ReLU in Triton: one kernel forward, two backward.

A network of a dozen small layers is limited by memory bandwidth: PyTorch reads and writes the activations once for each
of convolution, bias, pooling and ReLU, and again in the backward pass. Here a layer's output is written once, and the
gradient before pooling is never stored: it is that of the output at the bin of the maximum, if that is positive.

Activations are [B, L, C], channels contiguous. A convolution is an implicit matrix product (im2col without a copy): one
row per bin, K x C columns. Sums over bins have a fixed order, so that results are reproducible bit for bit.

The tests run these kernels in Triton's interpreter, on the CPU.
"""

from __future__ import annotations

import triton
import triton.language as tl

#: Epilogues of a convolution: none, ReLU, or max-pooling over 2 bins and ReLU.
NONE, RELU, POOL_RELU = 0, 1, 2


@triton.jit
def transpose_weight(
    weight, forward, backward, numel,
    C_IN: tl.constexpr, C_OUT: tl.constexpr, TAPS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """weight [C_OUT, C_IN, TAPS] -> forward [TAPS, C_OUT, C_IN], backward [TAPS, C_IN, C_OUT].

    In both, the dimension that is summed over is contiguous, as tensor cores require for float32.
    """
    index = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = index < numel
    tap, in_channel, out_channel = index % TAPS, index // TAPS % C_IN, index // TAPS // C_IN
    value = tl.load(weight + index, mask, 0.0).to(forward.dtype.element_ty)
    tl.store(forward + (tap * C_OUT + out_channel) * C_IN + in_channel, value, mask)
    tl.store(backward + (tap * C_IN + in_channel) * C_OUT + out_channel, value, mask)


@triton.jit
def conv_forward(
    x_ptr, weight, bias, output, argmax_mask,
    rows, length, length_out, taps, padding,
    C_IN: tl.constexpr, C_OUT: tl.constexpr, EPILOGUE: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """x [B, L, C_IN], weight [taps, C_OUT, C_IN] -> output [B, L_OUT, C_OUT]; rows = B x L_OUT.

    With ReLU, argmax_mask [B, L_OUT, C_OUT] is 0 where the output is 0, else 1 for the (even) bin, 2 for the odd bin.
    """
    row = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    out_channel = tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)
    sample, position = row // length_out, row % length_out
    row_mask = (row < rows)[:, None]
    acc_even = tl.zeros((BLOCK_M, BLOCK_N), tl.float32)
    acc_odd = tl.zeros((BLOCK_M, BLOCK_N), tl.float32)
    if C_IN == 1:  # one product over all taps
        tap = tl.arange(0, BLOCK_K)
        w = tl.load(weight + tap[:, None] * C_OUT + out_channel[None, :], (tap < taps)[:, None], 0.0)
        start = position * (2 if EPILOGUE == 2 else 1) - padding
        bin_ = start[:, None] + tap[None, :]
        at = x_ptr + (sample.to(tl.int64) * length)[:, None] + bin_
        mask = row_mask & (bin_ >= 0) & (bin_ < length)
        acc_even = tl.dot(tl.load(at, mask, 0.0), w, acc_even, input_precision=PRECISION)
        if EPILOGUE == 2:
            mask = row_mask & (bin_ + 1 >= 0) & (bin_ + 1 < length)
            acc_odd = tl.dot(tl.load(at + 1, mask, 0.0), w, acc_odd, input_precision=PRECISION)
    else:
        for depth in range(0, C_IN, BLOCK_K):
            channel = depth + tl.arange(0, BLOCK_K)
            for shift in range(taps + (1 if EPILOGUE == 2 else 0)):
                bin_ = position * (2 if EPILOGUE == 2 else 1) + shift - padding
                mask = row_mask & ((bin_ >= 0) & (bin_ < length))[:, None]
                at = x_ptr + (sample * length + bin_).to(tl.int64)[:, None] * C_IN + channel[None, :]
                x = tl.load(at, mask, 0.0)
                w_at = weight + (shift * C_OUT + out_channel)[:, None] * C_IN + channel[None, :]
                if EPILOGUE == 2:
                    w = tl.load(w_at, (out_channel * 0 + shift < taps)[:, None], 0.0)
                    acc_even = tl.dot(x, tl.trans(w), acc_even, input_precision=PRECISION)
                    w = tl.load(w_at - C_IN * C_OUT, (out_channel * 0 + shift > 0)[:, None], 0.0)
                    acc_odd = tl.dot(x, tl.trans(w), acc_odd, input_precision=PRECISION)
                else:
                    acc_even = tl.dot(x, tl.trans(tl.load(w_at)), acc_even, input_precision=PRECISION)
    if EPILOGUE == 2:
        argmax = tl.where(acc_even >= acc_odd, 1, 2)
        acc_even = tl.maximum(acc_even, acc_odd)
    else:
        argmax = tl.full((BLOCK_M, BLOCK_N), 1, tl.int32)
    acc_even += tl.load(bias + out_channel)[None, :].to(tl.float32)
    at = row.to(tl.int64)[:, None] * C_OUT + out_channel[None, :]
    if EPILOGUE > 0:
        tl.store(argmax_mask + at, tl.where(acc_even > 0, argmax, 0).to(tl.int8), row_mask)
        acc_even = tl.maximum(acc_even, 0.0)
    tl.store(output + at, acc_even.to(output.dtype.element_ty), row_mask)


@triton.jit
def conv_input_grad(
    grad_output, argmax_mask, weight, grad_input,
    rows, length, length_out, taps, padding,
    C_IN: tl.constexpr, C_OUT: tl.constexpr, EPILOGUE: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """grad_output [B, L_OUT, C_OUT], weight [taps, C_IN, C_OUT] -> grad_input [B, L, C_IN].

    rows = B x L; with pooling, a row is two bins: rows = B x (L + 1) // 2.
    """
    row = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    in_channel = tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)
    span = (length + 1) // 2 if EPILOGUE == 2 else length
    sample, position = row // span, row % span
    row_mask = (row < rows)[:, None]
    acc_even = tl.zeros((BLOCK_M, BLOCK_N), tl.float32)
    acc_odd = tl.zeros((BLOCK_M, BLOCK_N), tl.float32)
    for depth in range(0, C_OUT, BLOCK_K):
        channel = depth + tl.arange(0, BLOCK_K)
        for shift in range(taps + (1 if EPILOGUE == 2 else 0)):
            offset = padding - taps + 1 + shift
            source = position + ((offset >> 1) if EPILOGUE == 2 else offset)
            mask = row_mask & ((source >= 0) & (source < length_out))[:, None]
            at = (sample * length_out + source).to(tl.int64)[:, None] * C_OUT + channel[None, :]
            grad = tl.load(grad_output + at, mask, 0.0)
            if EPILOGUE > 0:
                selected = tl.load(argmax_mask + at, mask, 0) == ((offset & 1) + 1 if EPILOGUE == 2 else 1)
                grad = tl.where(selected, grad, 0.0)
            w_at = weight + ((taps - 1 - shift) * C_IN + in_channel)[:, None] * C_OUT + channel[None, :]
            if EPILOGUE == 2:
                w = tl.load(w_at, (in_channel * 0 + shift < taps)[:, None], 0.0)
                acc_even = tl.dot(grad, tl.trans(w), acc_even, input_precision=PRECISION)
                w = tl.load(w_at + C_IN * C_OUT, (in_channel * 0 + shift > 0)[:, None], 0.0)
                acc_odd = tl.dot(grad, tl.trans(w), acc_odd, input_precision=PRECISION)
            else:
                acc_even = tl.dot(grad, tl.trans(tl.load(w_at)), acc_even, input_precision=PRECISION)
    if EPILOGUE == 2:
        bin_ = position * 2
        at = grad_input + (sample * length + bin_).to(tl.int64)[:, None] * C_IN + in_channel[None, :]
        tl.store(at, acc_even.to(grad_input.dtype.element_ty), row_mask)
        tl.store(at + C_IN, acc_odd.to(grad_input.dtype.element_ty), row_mask & (bin_ + 1 < length)[:, None])
    else:
        at = grad_input + row.to(tl.int64)[:, None] * C_IN + in_channel[None, :]
        tl.store(at, acc_even.to(grad_input.dtype.element_ty), row_mask)


@triton.jit
def weight_grad_partial(
    x_ptr, grad_output, argmax_mask, partial,
    rows, length, length_out, taps, padding, steps,
    C_IN: tl.constexpr, C_OUT: tl.constexpr, EPILOGUE: tl.constexpr, PADDED: tl.constexpr,
    BLOCK_K: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_M: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """The weight gradient, summed by each program over its own rows: partial [programs, PADDED, C_OUT].

    Of the PADDED rows, the first taps x C_IN are those of weight [taps, C_IN, C_OUT], the next is the bias. A program
    sums steps x BLOCK_K of the rows = B x L_OUT.
    """
    program = tl.program_id(0)
    weight_row = tl.program_id(1) * BLOCK_M + tl.arange(0, BLOCK_M)
    out_channel = tl.program_id(2) * BLOCK_N + tl.arange(0, BLOCK_N)
    tap, in_channel = weight_row // C_IN, weight_row % C_IN
    is_weight, is_bias = (tap < taps)[None, :], (weight_row == taps * C_IN)[None, :]
    acc = tl.zeros((BLOCK_M, BLOCK_N), tl.float32)
    for step in range(steps):
        row = (program * steps + step) * BLOCK_K + tl.arange(0, BLOCK_K)
        row_mask = (row < rows)[:, None]
        sample, position = row // length_out, row % length_out
        at = row.to(tl.int64)[:, None] * C_OUT + out_channel[None, :]
        grad = tl.load(grad_output + at, row_mask, 0.0)
        bin_ = (position * (2 if EPILOGUE == 2 else 1) - padding)[:, None] + tap[None, :]
        x_at = x_ptr + ((sample * length)[:, None] + bin_).to(tl.int64) * C_IN + in_channel[None, :]
        x = tl.load(x_at, row_mask & is_weight & (bin_ >= 0) & (bin_ < length), 0.0)
        x = tl.where(is_bias, 1.0, x).to(x_ptr.dtype.element_ty)
        if EPILOGUE > 0:
            argmax = tl.load(argmax_mask + at, row_mask, 0)
            acc = tl.dot(tl.trans(x), tl.where(argmax == 1, grad, 0.0), acc, input_precision=PRECISION)
            if EPILOGUE == 2:
                x = tl.load(x_at + C_IN, row_mask & is_weight & (bin_ + 1 >= 0) & (bin_ + 1 < length), 0.0)
                x = tl.where(is_bias, 1.0, x).to(x_ptr.dtype.element_ty)
                acc = tl.dot(tl.trans(x), tl.where(argmax == 2, grad, 0.0), acc, input_precision=PRECISION)
        else:
            acc = tl.dot(tl.trans(x), grad, acc, input_precision=PRECISION)
    tl.store(partial + (program * PADDED + weight_row)[:, None] * C_OUT + out_channel[None, :], acc)


@triton.jit
def weight_grad_reduce(
    partial, weight, bias, programs, taps,
    C_IN: tl.constexpr, C_OUT: tl.constexpr, PADDED: tl.constexpr, BLOCK_P: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Sum partial [programs, PADDED, C_OUT] into weight [C_OUT, C_IN, taps] and bias [C_OUT]."""
    index = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    weight_row, out_channel = index // C_OUT, index % C_OUT
    mask = weight_row <= taps * C_IN
    acc = tl.zeros((BLOCK,), tl.float32)
    for start in range(0, programs, BLOCK_P):
        program = start + tl.arange(0, BLOCK_P)
        at = program[:, None] * (PADDED * C_OUT) + index[None, :]
        acc += tl.sum(tl.load(partial + at, (program < programs)[:, None] & mask[None, :], 0.0), 0)
    tl.store(
        weight + (out_channel * C_IN + weight_row % C_IN) * taps + weight_row // C_IN, acc, weight_row < taps * C_IN
    )
    tl.store(bias + out_channel, acc, weight_row == taps * C_IN)


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
def average_max_backward(grad_output, argmax_ptr, grad_input, length, C: tl.constexpr, BLOCK_M: tl.constexpr):
    """grad_output [B, 2 x C] -> grad_input [B, L, C]."""
    sample, channel = tl.program_id(1), tl.arange(0, C)
    bin_ = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    grad_average = tl.load(grad_output + sample * 2 * C + channel) / length
    grad_maximum = tl.load(grad_output + sample * 2 * C + C + channel)
    is_maximum = bin_[:, None] == tl.load(argmax_ptr + sample * C + channel)[None, :]
    value = grad_average[None, :] + tl.where(is_maximum, grad_maximum[None, :], 0.0)
    at = (sample * length + bin_).to(tl.int64)[:, None] * C + channel[None, :]
    tl.store(grad_input + at, value.to(grad_input.dtype.element_ty), (bin_ < length)[:, None])
