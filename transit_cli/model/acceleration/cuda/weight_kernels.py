"""Gradients of a convolution's weight and bias in Triton: sums over all bins of a batch, in a fixed order."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def _scales(largest):
    """Of a tile whose largest magnitude is given: a power of two that brings it into [1, 2), and its inverse.

    Zero and subnormal numbers give 0 as the inverse.
    """
    exponent = largest.to(tl.int32, bitcast=True) & 0x7F800000
    return (0x7F000000 - exponent).to(tl.float32, bitcast=True), exponent.to(tl.float32, bitcast=True)


@triton.jit
def weight_grad_partial(
    x_ptr, grad_output, argmax_mask, partial,
    rows, length, length_out, taps, padding, steps,
    C_IN: tl.constexpr, C_OUT: tl.constexpr, EPILOGUE: tl.constexpr, PADDED: tl.constexpr,
    BLOCK_K: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_M: tl.constexpr,
    SCALED: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """The weight gradient of a layer without pooling, summed by each program over its own rows.

    partial [programs, PADDED, C_OUT]: of the PADDED rows, the first taps x C_IN are those of weight
    [taps, C_IN, C_OUT], the next is the bias. A program sums steps x BLOCK_K of the rows = B x L_OUT. What an output
    sees of x is contiguous: taps x C_IN values.

    With SCALED, the factors are float32 and are multiplied as float16, which has as many bits as TF32: each tile is
    divided by a power of two, so that its largest value lies in [1, 2); values below 2^-14 of it lose bits, and those
    below 2^-24 are lost. Tensor cores read a transposed factor of 16 bits from shared memory as it is, one of float32
    only value by value.
    """
    program = tl.program_id(0)
    weight_row = tl.program_id(1) * BLOCK_M + tl.arange(0, BLOCK_M)
    out_channel = tl.program_id(2) * BLOCK_N + tl.arange(0, BLOCK_N)
    is_weight, is_bias = (weight_row < taps * C_IN)[None, :], (weight_row == taps * C_IN)[None, :]
    acc = tl.zeros((BLOCK_M, BLOCK_N), tl.float32)
    for step in range(steps):
        row = (program * steps + step) * BLOCK_K + tl.arange(0, BLOCK_K)
        row_mask = (row < rows)[:, None]
        sample, position = row // length_out, row % length_out
        at = row.to(tl.int64)[:, None] * C_OUT + out_channel[None, :]
        grad = tl.load(grad_output + at, row_mask, 0.0)
        if EPILOGUE == 1:
            grad = tl.where(tl.load(argmax_mask + at, row_mask, 0) == 1, grad, 0.0)
        offset = ((position - padding) * C_IN)[:, None] + weight_row[None, :]
        mask = row_mask & is_weight & (offset >= 0) & (offset < length * C_IN)
        x = tl.load(x_ptr + (sample.to(tl.int64) * length * C_IN)[:, None] + offset, mask, 0.0)
        if SCALED:
            x_scale, x_unit = _scales(tl.max(tl.abs(x)))
            grad_scale, grad_unit = _scales(tl.max(tl.abs(grad)))
            x, grad = (x * x_scale).to(tl.float16), (grad * grad_scale).to(tl.float16)
            x = tl.where(is_bias, 1.0, x).to(tl.float16)
            unit = grad_unit * tl.where((weight_row == taps * C_IN)[:, None], 1.0, x_unit)
            acc += tl.dot(tl.trans(x), grad) * unit
        else:
            x = tl.where(is_bias, 1.0, x).to(x_ptr.dtype.element_ty)
            acc = tl.dot(tl.trans(x), grad, acc, input_precision=PRECISION)
    tl.store(partial + (program * PADDED + weight_row)[:, None] * C_OUT + out_channel[None, :], acc)


@triton.jit
def weight_grad_pooled(
    x_ptr, grad_output, argmax_mask, partial, partial_bias,
    rows, length, length_out, taps, padding, steps,
    C_IN: tl.constexpr, C_OUT: tl.constexpr, PADDED: tl.constexpr,
    BLOCK_K: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_M: tl.constexpr,
    SCALED: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """As `weight_grad_partial` for POOL_RELU: what both bins of an output see of x is read once.

    It is (taps + 1) x C_IN values. partial [programs, PADDED, 2, C_OUT] holds the products with the gradients of the
    outputs whose maximum was the even bin, and of those of the odd bin, for which a tap sees the values C_IN further
    on; partial_bias [programs, C_OUT].
    """
    program = tl.program_id(0)
    seen = tl.program_id(1) * BLOCK_M + tl.arange(0, BLOCK_M)
    out_channel = tl.program_id(2) * BLOCK_N + tl.arange(0, BLOCK_N)
    is_seen = (seen < (taps + 1) * C_IN)[None, :]
    even = tl.zeros((BLOCK_M, BLOCK_N), tl.float32)
    odd = tl.zeros((BLOCK_M, BLOCK_N), tl.float32)
    bias = tl.zeros((BLOCK_K, BLOCK_N), tl.float32)
    for step in range(steps):
        row = (program * steps + step) * BLOCK_K + tl.arange(0, BLOCK_K)
        row_mask = (row < rows)[:, None]
        sample, position = row // length_out, row % length_out
        at = row.to(tl.int64)[:, None] * C_OUT + out_channel[None, :]
        argmax = tl.load(argmax_mask + at, row_mask, 0)
        grad = tl.load(grad_output + at, row_mask, 0.0)
        bias += tl.where(argmax > 0, grad, 0.0).to(tl.float32)
        offset = ((position * 2 - padding) * C_IN)[:, None] + seen[None, :]
        mask = row_mask & is_seen & (offset >= 0) & (offset < length * C_IN)
        x = tl.load(x_ptr + (sample.to(tl.int64) * length * C_IN)[:, None] + offset, mask, 0.0)
        if SCALED:
            x_scale, x_unit = _scales(tl.max(tl.abs(x)))
            grad_scale, grad_unit = _scales(tl.max(tl.abs(grad)))
            x, grad = (x * x_scale).to(tl.float16), (grad * grad_scale).to(tl.float16)
            even += tl.dot(tl.trans(x), tl.where(argmax == 1, grad, 0.0).to(tl.float16)) * (x_unit * grad_unit)
            odd += tl.dot(tl.trans(x), tl.where(argmax == 2, grad, 0.0).to(tl.float16)) * (x_unit * grad_unit)
        else:
            dtype = grad.dtype
            grad_even, grad_odd = tl.where(argmax == 1, grad, 0.0).to(dtype), tl.where(argmax == 2, grad, 0.0).to(dtype)
            even = tl.dot(tl.trans(x), grad_even, even, input_precision=PRECISION)
            odd = tl.dot(tl.trans(x), grad_odd, odd, input_precision=PRECISION)
    at = partial + (program * PADDED + seen)[:, None] * (2 * C_OUT) + out_channel[None, :]
    tl.store(at, even)
    tl.store(at + C_OUT, odd)
    if tl.program_id(1) == 0:
        tl.store(partial_bias + program * C_OUT + out_channel, tl.sum(bias, 0))


@triton.jit
def weight_grad_first(
    x_ptr, grad_output, argmax_mask, partial,
    rows, length, length_out, padding, steps,
    C_OUT: tl.constexpr, TAPS: tl.constexpr, EPILOGUE: tl.constexpr, PADDED: tl.constexpr,
    BLOCK_K: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    """As `weight_grad_partial` for one input channel, without tensor cores, of which it would use a sixteenth.

    partial [programs, PADDED, C_OUT], in which row TAPS is the bias.
    """
    program = tl.program_id(0)
    tap = tl.arange(0, PADDED)
    out_channel = tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)
    acc = tl.zeros((PADDED, BLOCK_K, BLOCK_N), tl.float32)
    is_weight, is_bias = (tap < TAPS)[:, None], (tap == TAPS)[:, None]
    for step in range(steps):
        row = (program * steps + step) * BLOCK_K + tl.arange(0, BLOCK_K)
        row_mask = row < rows
        sample, position = row // length_out, row % length_out
        at = row.to(tl.int64)[:, None] * C_OUT + out_channel[None, :]
        grad = tl.load(grad_output + at, row_mask[:, None], 0.0).to(tl.float32)
        bin_ = (position * (2 if EPILOGUE == 2 else 1) - padding)[None, :] + tap[:, None]
        x_at = x_ptr + (sample.to(tl.int64) * length)[None, :] + bin_
        mask = row_mask[None, :] & is_weight
        x = tl.load(x_at, mask & (bin_ >= 0) & (bin_ < length), 0.0).to(tl.float32)
        x = tl.where(is_bias, 1.0, x)
        if EPILOGUE == 2:
            argmax = tl.load(argmax_mask + at, row_mask[:, None], 0)
            odd = tl.load(x_at + 1, mask & (bin_ + 1 >= 0) & (bin_ + 1 < length), 0.0).to(tl.float32)
            odd = tl.where(is_bias, 1.0, odd)
            acc += x[:, :, None] * tl.where(argmax == 1, grad, 0.0)[None, :, :]
            acc += odd[:, :, None] * tl.where(argmax == 2, grad, 0.0)[None, :, :]
        else:
            if EPILOGUE == 1:
                grad = tl.where(tl.load(argmax_mask + at, row_mask[:, None], 0) == 1, grad, 0.0)
            acc += x[:, :, None] * grad[None, :, :]
    tl.store(partial + (program * PADDED + tap[:, None]) * C_OUT + out_channel[None, :], tl.sum(acc, 1))


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
def pooled_grad_reduce(
    partial, partial_bias, weight, bias, programs, taps,
    C_IN: tl.constexpr, C_OUT: tl.constexpr, PADDED: tl.constexpr, BLOCK_P: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Sum what `weight_grad_pooled` wrote into weight [C_OUT, C_IN, taps] and bias [C_OUT]."""
    index = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    weight_row, out_channel = index // C_OUT, index % C_OUT
    is_weight, is_bias = weight_row < taps * C_IN, weight_row == taps * C_IN
    acc = tl.zeros((BLOCK,), tl.float32)
    for start in range(0, programs, BLOCK_P):
        program = start + tl.arange(0, BLOCK_P)[:, None]
        present = program < programs
        at = partial + (program * PADDED + weight_row[None, :]) * (2 * C_OUT) + out_channel[None, :]
        value = tl.load(at, present & is_weight[None, :], 0.0)
        value += tl.load(at + (2 * C_IN + 1) * C_OUT, present & is_weight[None, :], 0.0)
        value += tl.load(partial_bias + program * C_OUT + out_channel[None, :], present & is_bias[None, :], 0.0)
        acc += tl.sum(value, 0)
    tl.store(weight + (out_channel * C_IN + weight_row % C_IN) * taps + weight_row // C_IN, acc, is_weight)
    tl.store(bias + out_channel, acc, is_bias)


@triton.jit
def column_sums(values, partial, rows, steps, columns: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr):
    """values [rows, columns] -> partial [programs, columns]; a program sums steps x BLOCK_M rows."""
    program = tl.program_id(0)
    column = tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)
    acc = tl.zeros((BLOCK_M, BLOCK_N), tl.float32)
    for step in range(steps):
        row = (program * steps + step) * BLOCK_M + tl.arange(0, BLOCK_M)
        at = row.to(tl.int64)[:, None] * columns + column[None, :]
        acc += tl.load(values + at, (row < rows)[:, None], 0.0).to(tl.float32)
    tl.store(partial + program * columns + column, tl.sum(acc, 0))


@triton.jit
def sum_partial(partial, output, programs, columns, BLOCK_P: tl.constexpr, BLOCK: tl.constexpr):
    """partial [programs, columns] -> output [columns], in a fixed order."""
    column = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    acc = tl.zeros((BLOCK,), tl.float32)
    for start in range(0, programs, BLOCK_P):
        program = start + tl.arange(0, BLOCK_P)
        mask = (program < programs)[:, None] & (column < columns)[None, :]
        acc += tl.sum(tl.load(partial + program[:, None] * columns + column[None, :], mask, 0.0), 0)
    tl.store(output + column, acc, column < columns)
