"""Fused convolution, max-pooling and ReLU in Triton: one kernel forward, one for the gradient of the input.

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

#: Epilogues of a convolution: none, ReLU, max-pooling over 2 bins and ReLU, or a ReLU through which the next layer
#: takes its gradient (MASK_INPUT).
NONE, RELU, POOL_RELU, RELU_MASKED_BEHIND = 0, 1, 2, 3


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
def transpose_weights(table, ELEMENT: tl.constexpr, BLOCK: tl.constexpr):
    """`transpose_weight` for many layers: a row of table [chunks, 7] for each BLOCK values of a layer.

    It has the addresses of weight, forward and backward, C_IN, C_OUT, TAPS, and the chunk's first value.
    """
    row = table + tl.program_id(0) * 7
    weight = tl.load(row).to(tl.pointer_type(tl.float32))
    forward, backward = tl.load(row + 1).to(tl.pointer_type(ELEMENT)), tl.load(row + 2).to(tl.pointer_type(ELEMENT))
    c_in, c_out, taps = tl.load(row + 3).to(tl.int32), tl.load(row + 4).to(tl.int32), tl.load(row + 5).to(tl.int32)
    index = tl.load(row + 6).to(tl.int32) + tl.arange(0, BLOCK)
    mask = index < c_in * c_out * taps
    tap, in_channel, out_channel = index % taps, index // taps % c_in, index // taps // c_in
    value = tl.load(weight + index, mask, 0.0).to(ELEMENT)
    tl.store(forward + (tap * c_out + out_channel) * c_in + in_channel, value, mask)
    tl.store(backward + (tap * c_in + in_channel) * c_out + out_channel, value, mask)


@triton.jit
def conv_forward(
    x_ptr, weight, bias, output, argmax_mask,
    rows, length, length_out, taps, padding,
    C_IN: tl.constexpr, C_OUT: tl.constexpr, EPILOGUE: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """x [B, L, C_IN], weight [taps, C_OUT, C_IN] -> output [B, L_OUT, C_OUT]; rows = B x L_OUT.

    With RELU and POOL_RELU, argmax_mask [B, L_OUT, C_OUT] is 0 where the output is 0, else 1 for the (even) bin, 2 for
    the odd bin.
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
    if EPILOGUE == 1 or EPILOGUE == 2:
        tl.store(argmax_mask + at, tl.where(acc_even > 0, argmax, 0).to(tl.int8), row_mask)
    if EPILOGUE > 0:
        acc_even = tl.maximum(acc_even, 0.0)
    tl.store(output + at, acc_even.to(output.dtype.element_ty), row_mask)


@triton.jit
def conv_input_grad(
    grad_output, argmax_mask, weight, values, grad_input,
    rows, length, length_out, padding,
    C_IN: tl.constexpr, C_OUT: tl.constexpr, TAPS: tl.constexpr, EPILOGUE: tl.constexpr, MASK_INPUT: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """grad_output [B, L_OUT, C_OUT], weight [TAPS, C_IN, C_OUT] -> grad_input [B, L, C_IN]; rows = B x L.

    EPILOGUE is NONE or RELU. With MASK_INPUT, the gradient is 0 where the layer's input `values` is not positive: the
    input is the output of a ReLU that leaves this to the layer behind it.
    """
    row = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    in_channel = tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)
    sample, position = row // length, row % length
    row_mask = (row < rows)[:, None]
    acc = tl.zeros((BLOCK_M, BLOCK_N), tl.float32)
    for depth in range(0, C_OUT, BLOCK_K):
        channel = depth + tl.arange(0, BLOCK_K)
        for shift in range(TAPS):
            source = position + (padding - TAPS + 1 + shift)
            mask = row_mask & ((source >= 0) & (source < length_out))[:, None]
            at = (sample * length_out + source).to(tl.int64)[:, None] * C_OUT + channel[None, :]
            grad = tl.load(grad_output + at, mask, 0.0)
            if EPILOGUE == 1:
                grad = tl.where(tl.load(argmax_mask + at, mask, 0) == 1, grad, 0.0)
            w_at = weight + ((TAPS - 1 - shift) * C_IN + in_channel)[:, None] * C_OUT + channel[None, :]
            acc = tl.dot(grad, tl.trans(tl.load(w_at)), acc, input_precision=PRECISION)
    at = row.to(tl.int64)[:, None] * C_IN + in_channel[None, :]
    if MASK_INPUT:
        acc = tl.where(tl.load(values + at, row_mask, 0.0) > 0, acc, 0.0)
    tl.store(grad_input + at, acc.to(grad_input.dtype.element_ty), row_mask)


@triton.jit
def conv_pool_input_grad(
    grad_output, argmax_mask, weight, values, grad_input,
    rows, length, length_out,
    C_IN: tl.constexpr, C_OUT: tl.constexpr, TAPS: tl.constexpr, PADDING: tl.constexpr, MASK_INPUT: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """As `conv_input_grad` for POOL_RELU; a row is two bins, rows = B x (L + 1) // 2.

    Each gradient is read once for both bins. The even bin 2 p gets from output q = p - d the weights of tap
    2 d + PADDING if q's maximum was its even bin, of the tap before if it was the odd one; the odd bin 2 p + 1 those of
    the tap after, and of 2 d + PADDING.
    """
    row = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    in_channel = tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)
    span = (length + 1) // 2
    sample, position = row // span, row % span
    row_mask = (row < rows)[:, None]
    acc_even = tl.zeros((BLOCK_M, BLOCK_N), tl.float32)
    acc_odd = tl.zeros((BLOCK_M, BLOCK_N), tl.float32)
    for depth in range(0, C_OUT, BLOCK_K):
        channel = depth + tl.arange(0, BLOCK_K)
        w_at = weight + in_channel[:, None] * C_OUT + channel[None, :]
        for index in tl.static_range(TAPS // 2 + 3):
            tap = 2 * (index - (PADDING + 1) // 2) + PADDING
            if tap - 1 < TAPS and tap + 1 >= 0:
                source = position - (index - (PADDING + 1) // 2)
                mask = row_mask & ((source >= 0) & (source < length_out))[:, None]
                at = (sample * length_out + source).to(tl.int64)[:, None] * C_OUT + channel[None, :]
                grad = tl.load(grad_output + at, mask, 0.0)
                argmax = tl.load(argmax_mask + at, mask, 0)
                grad_even = tl.where(argmax == 1, grad, 0.0)
                grad_odd = tl.where(argmax == 2, grad, 0.0)
                if tap >= 0 and tap < TAPS:
                    w = tl.trans(tl.load(w_at + tap * C_IN * C_OUT))
                    acc_even = tl.dot(grad_even, w, acc_even, input_precision=PRECISION)
                    acc_odd = tl.dot(grad_odd, w, acc_odd, input_precision=PRECISION)
                if tap - 1 >= 0 and tap - 1 < TAPS:
                    w = tl.trans(tl.load(w_at + (tap - 1) * C_IN * C_OUT))
                    acc_even = tl.dot(grad_odd, w, acc_even, input_precision=PRECISION)
                if tap + 1 >= 0 and tap + 1 < TAPS:
                    w = tl.trans(tl.load(w_at + (tap + 1) * C_IN * C_OUT))
                    acc_odd = tl.dot(grad_even, w, acc_odd, input_precision=PRECISION)
    bin_ = position * 2
    at = (sample * length + bin_).to(tl.int64)[:, None] * C_IN + in_channel[None, :]
    odd_mask = row_mask & (bin_ + 1 < length)[:, None]
    if MASK_INPUT:
        acc_even = tl.where(tl.load(values + at, row_mask, 0.0) > 0, acc_even, 0.0)
        acc_odd = tl.where(tl.load(values + at + C_IN, odd_mask, 0.0) > 0, acc_odd, 0.0)
    tl.store(grad_input + at, acc_even.to(grad_input.dtype.element_ty), row_mask)
    tl.store(grad_input + at + C_IN, acc_odd.to(grad_input.dtype.element_ty), odd_mask)
