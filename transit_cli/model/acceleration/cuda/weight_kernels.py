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
    """The weight gradient, summed by each program over its own rows: partial [programs, PADDED, C_OUT].

    Of the PADDED rows, the first taps x C_IN are those of weight [taps, C_IN, C_OUT], the next is the bias. A program
    sums steps x BLOCK_K of the rows = B x L_OUT. What an output sees of x is contiguous: taps x C_IN values.

    With SCALED, the factors are float32 and are multiplied as float16, which has as many bits as TF32: each tile is
    divided by a power of two, so that its largest value lies in [1, 2), and values below 2^-24 of it are lost. Tensor
    cores read a transposed factor of 16 bits from shared memory as it is, one of float32 only value by value.
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
        begin = (position * (2 if EPILOGUE == 2 else 1) - padding) * C_IN
        offset = begin[:, None] + weight_row[None, :]
        x_at = x_ptr + (sample.to(tl.int64) * length * C_IN)[:, None] + offset
        mask = row_mask & is_weight
        x = tl.load(x_at, mask & (offset >= 0) & (offset < length * C_IN), 0.0)
        odd = x
        if EPILOGUE == 2:
            odd = tl.load(x_at + C_IN, mask & (offset + C_IN >= 0) & (offset + C_IN < length * C_IN), 0.0)
        unit = 1.0
        if SCALED:
            x_scale, x_unit = _scales(tl.max(tl.maximum(tl.abs(x), tl.abs(odd))))
            grad_scale, unit = _scales(tl.max(tl.abs(grad)))
            x, odd, grad = (x * x_scale).to(tl.float16), (odd * x_scale).to(tl.float16), (grad * grad_scale).to(tl.float16)
        x, odd = tl.where(is_bias, 1.0, x).to(grad.dtype), tl.where(is_bias, 1.0, odd).to(grad.dtype)
        product = tl.zeros((BLOCK_M, BLOCK_N), tl.float32) if SCALED else acc
        if EPILOGUE == 0:
            product = tl.dot(tl.trans(x), grad, product, input_precision=PRECISION)
        else:
            argmax = tl.load(argmax_mask + at, row_mask, 0)
            product = tl.dot(tl.trans(x), tl.where(argmax == 1, grad, 0.0).to(grad.dtype), product, input_precision=PRECISION)
            if EPILOGUE == 2:
                product = tl.dot(
                    tl.trans(odd), tl.where(argmax == 2, grad, 0.0).to(grad.dtype), product, input_precision=PRECISION
                )
        if SCALED:
            acc += product * unit * tl.where((weight_row == taps * C_IN)[:, None], 1.0, x_unit)
        else:
            acc = product
    tl.store(partial + (program * PADDED + weight_row)[:, None] * C_OUT + out_channel[None, :], acc)


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
