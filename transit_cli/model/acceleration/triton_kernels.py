"""Convolution, max-pooling and ReLU as one CUDA kernel forward and two backward, written in Triton.

A network of a dozen small layers spends its time in moving activations: PyTorch reads and writes them once for each of
convolution, bias, pooling and ReLU, and again on the way back. Here a layer's output is written once, and its gradient
before pooling is never stored: it is what reaches the output, where that is positive, at the bin that was the maximum.

Values lie as [B, L, C], channels side by side. A convolution is a matrix product of rows, one a bin, with the K x C
numbers around each bin, taken from memory where they are needed. Sums over bins run in a fixed order, so that a
repeated step repeats its bits.

Tests run these kernels in Triton's interpreter, on the CPU.
"""

from __future__ import annotations

import triton
import triton.language as tl

#: What follows a convolution: nothing, ReLU, or max-pooling over pairs of bins and ReLU.
PLAIN, RELU, PAIRS = 0, 1, 2


@triton.jit
def transpose_weight(
    weight, forward, back, numbers,
    C_IN: tl.constexpr, C_OUT: tl.constexpr, TAPS: tl.constexpr, NUMBERS: tl.constexpr,
):  # fmt: skip
    """weight [C_OUT, C_IN, TAPS] -> forward [TAPS, C_OUT, C_IN], back [TAPS, C_IN, C_OUT].

    Both have side by side what is summed over, the one order in which tensor cores take float32.
    """
    number = tl.program_id(0) * NUMBERS + tl.arange(0, NUMBERS)
    known = number < numbers
    tap, channel, out = number % TAPS, number // TAPS % C_IN, number // TAPS // C_IN
    found = tl.load(weight + number, known, 0.0).to(forward.dtype.element_ty)
    tl.store(forward + (tap * C_OUT + out) * C_IN + channel, found, known)
    tl.store(back + (tap * C_IN + channel) * C_OUT + out, found, known)


@triton.jit
def convolve(
    values, weight, bias, result, passed,
    rows, length, length_out, taps, padding,
    C_IN: tl.constexpr, C_OUT: tl.constexpr, AFTER: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, DEPTH: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """values [B, L, C_IN], weight [taps, C_OUT, C_IN] -> result [B, L_OUT, C_OUT]; rows = B x L_OUT.

    After ReLU, passed [B, L_OUT, C_OUT] says where the result came from: 0 nowhere (it is 0), 1 the bin or the first of
    a pair, 2 the second.
    """
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    out = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    sample, place = row // length_out, row % length_out
    inside = (row < rows)[:, None]
    one = tl.zeros((ROWS, COLUMNS), tl.float32)
    two = tl.zeros((ROWS, COLUMNS), tl.float32)
    if C_IN == 1:  # the taps are what is summed over, all at once
        tap = tl.arange(0, DEPTH)
        part = tl.load(weight + tap[:, None] * C_OUT + out[None, :], (tap < taps)[:, None], 0.0)
        start = place * (2 if AFTER == 2 else 1) - padding
        bin_ = start[:, None] + tap[None, :]
        at = values + (sample.to(tl.int64) * length)[:, None] + bin_
        known = inside & (bin_ >= 0) & (bin_ < length)
        one = tl.dot(tl.load(at, known, 0.0), part, one, input_precision=PRECISION)
        if AFTER == 2:
            known = inside & (bin_ + 1 >= 0) & (bin_ + 1 < length)
            two = tl.dot(tl.load(at + 1, known, 0.0), part, two, input_precision=PRECISION)
    else:
        for depth in range(0, C_IN, DEPTH):
            channel = depth + tl.arange(0, DEPTH)
            for shift in range(taps + (1 if AFTER == 2 else 0)):
                bin_ = place * (2 if AFTER == 2 else 1) + shift - padding
                known = inside & ((bin_ >= 0) & (bin_ < length))[:, None]
                at = values + (sample * length + bin_).to(tl.int64)[:, None] * C_IN + channel[None, :]
                given = tl.load(at, known, 0.0)
                tile = weight + (shift * C_OUT + out)[:, None] * C_IN + channel[None, :]
                if AFTER == 2:
                    part = tl.load(tile, (out * 0 + shift < taps)[:, None], 0.0)
                    one = tl.dot(given, tl.trans(part), one, input_precision=PRECISION)
                    part = tl.load(tile - C_IN * C_OUT, (out * 0 + shift > 0)[:, None], 0.0)
                    two = tl.dot(given, tl.trans(part), two, input_precision=PRECISION)
                else:
                    one = tl.dot(given, tl.trans(tl.load(tile)), one, input_precision=PRECISION)
    if AFTER == 2:
        origin = tl.where(one >= two, 1, 2)
        one = tl.maximum(one, two)
    else:
        origin = tl.full((ROWS, COLUMNS), 1, tl.int32)
    one += tl.load(bias + out)[None, :].to(tl.float32)
    at = row.to(tl.int64)[:, None] * C_OUT + out[None, :]
    if AFTER > 0:
        tl.store(passed + at, tl.where(one > 0, origin, 0).to(tl.int8), inside)
        one = tl.maximum(one, 0.0)
    tl.store(result + at, one.to(result.dtype.element_ty), inside)


@triton.jit
def conv_input_grad(
    gradient, passed, weight, wanted,
    rows, length, length_out, taps, padding,
    C_IN: tl.constexpr, C_OUT: tl.constexpr, AFTER: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, DEPTH: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """gradient [B, L_OUT, C_OUT] of the result, weight [taps, C_IN, C_OUT] -> wanted [B, L, C_IN], that of the values.

    rows = B x L; with pairs, a row is two bins: rows = B x (L + 1) // 2.
    """
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    to = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    span = (length + 1) // 2 if AFTER == 2 else length
    sample, place = row // span, row % span
    inside = (row < rows)[:, None]
    one = tl.zeros((ROWS, COLUMNS), tl.float32)
    two = tl.zeros((ROWS, COLUMNS), tl.float32)
    for depth in range(0, C_OUT, DEPTH):
        channel = depth + tl.arange(0, DEPTH)
        for shift in range(taps + (1 if AFTER == 2 else 0)):
            offset = padding - taps + 1 + shift
            from_ = place + ((offset >> 1) if AFTER == 2 else offset)
            known = inside & ((from_ >= 0) & (from_ < length_out))[:, None]
            at = (sample * length_out + from_).to(tl.int64)[:, None] * C_OUT + channel[None, :]
            given = tl.load(gradient + at, known, 0.0)
            if AFTER > 0:
                let_through = tl.load(passed + at, known, 0) == ((offset & 1) + 1 if AFTER == 2 else 1)
                given = tl.where(let_through, given, 0.0)
            tile = weight + ((taps - 1 - shift) * C_IN + to)[:, None] * C_OUT + channel[None, :]
            if AFTER == 2:
                part = tl.load(tile, (to * 0 + shift < taps)[:, None], 0.0)
                one = tl.dot(given, tl.trans(part), one, input_precision=PRECISION)
                part = tl.load(tile + C_IN * C_OUT, (to * 0 + shift > 0)[:, None], 0.0)
                two = tl.dot(given, tl.trans(part), two, input_precision=PRECISION)
            else:
                one = tl.dot(given, tl.trans(tl.load(tile)), one, input_precision=PRECISION)
    if AFTER == 2:
        bin_ = place * 2
        at = wanted + (sample * length + bin_).to(tl.int64)[:, None] * C_IN + to[None, :]
        tl.store(at, one.to(wanted.dtype.element_ty), inside)
        tl.store(at + C_IN, two.to(wanted.dtype.element_ty), inside & (bin_ + 1 < length)[:, None])
    else:
        at = wanted + row.to(tl.int64)[:, None] * C_IN + to[None, :]
        tl.store(at, one.to(wanted.dtype.element_ty), inside)


@triton.jit
def weight_grad_partial(
    values, gradient, passed, wanted,
    rows, length, length_out, taps, padding, steps,
    C_IN: tl.constexpr, C_OUT: tl.constexpr, AFTER: tl.constexpr, PADDED: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, TAPS: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Each program's part of the gradient of the weight: wanted [programs, PADDED, C_OUT].

    Of the PADDED rows, the first taps x C_IN are those of weight [taps, C_IN, C_OUT], the next is the bias's. A program
    sums `steps` times ROWS of the rows = B x L_OUT.
    """
    part = tl.program_id(0)
    line = tl.program_id(1) * TAPS + tl.arange(0, TAPS)
    channel = tl.program_id(2) * COLUMNS + tl.arange(0, COLUMNS)
    tap, to = line // C_IN, line % C_IN
    weighs, is_bias = (tap < taps)[None, :], (line == taps * C_IN)[None, :]
    total = tl.zeros((TAPS, COLUMNS), tl.float32)
    for step in range(steps):
        row = (part * steps + step) * ROWS + tl.arange(0, ROWS)
        inside = (row < rows)[:, None]
        sample, place = row // length_out, row % length_out
        at = row.to(tl.int64)[:, None] * C_OUT + channel[None, :]
        found = tl.load(gradient + at, inside, 0.0)
        bin_ = (place * (2 if AFTER == 2 else 1) - padding)[:, None] + tap[None, :]
        from_ = values + ((sample * length)[:, None] + bin_).to(tl.int64) * C_IN + to[None, :]
        given = tl.load(from_, inside & weighs & (bin_ >= 0) & (bin_ < length), 0.0)
        given = tl.where(is_bias, 1.0, given).to(values.dtype.element_ty)
        if AFTER > 0:
            origin = tl.load(passed + at, inside, 0)
            total = tl.dot(tl.trans(given), tl.where(origin == 1, found, 0.0), total, input_precision=PRECISION)
            if AFTER == 2:
                given = tl.load(from_ + C_IN, inside & weighs & (bin_ + 1 >= 0) & (bin_ + 1 < length), 0.0)
                given = tl.where(is_bias, 1.0, given).to(values.dtype.element_ty)
                total = tl.dot(tl.trans(given), tl.where(origin == 2, found, 0.0), total, input_precision=PRECISION)
        else:
            total = tl.dot(tl.trans(given), found, total, input_precision=PRECISION)
    tl.store(wanted + (part * PADDED + line)[:, None] * C_OUT + channel[None, :], total)


@triton.jit
def weight_grad_reduce(
    parts, weight, bias, programs, taps,
    C_IN: tl.constexpr, C_OUT: tl.constexpr, PADDED: tl.constexpr, TOGETHER: tl.constexpr, NUMBERS: tl.constexpr,
):  # fmt: skip
    """Sum parts [programs, PADDED, C_OUT] into weight [C_OUT, C_IN, taps] and bias [C_OUT]."""
    number = tl.program_id(0) * NUMBERS + tl.arange(0, NUMBERS)
    line, out = number // C_OUT, number % C_OUT
    needed = line <= taps * C_IN
    total = tl.zeros((NUMBERS,), tl.float32)
    for begin in range(0, programs, TOGETHER):
        program = begin + tl.arange(0, TOGETHER)
        at = program[:, None] * (PADDED * C_OUT) + number[None, :]
        total += tl.sum(tl.load(parts + at, (program < programs)[:, None] & needed[None, :], 0.0), 0)
    tl.store(weight + (out * C_IN + line % C_IN) * taps + line // C_IN, total, line < taps * C_IN)
    tl.store(bias + out, total, line == taps * C_IN)


@triton.jit
def pool(
    values, result, place_of, numbers, length, length_out,
    C: tl.constexpr, SIZE: tl.constexpr, STRIDE: tl.constexpr, NUMBERS: tl.constexpr,
):  # fmt: skip
    """Max-pooling over SIZE bins and ReLU: values [B, L, C] -> result [B, L_OUT, C], and which bin it was, or -1."""
    number = tl.program_id(0).to(tl.int64) * NUMBERS + tl.arange(0, NUMBERS)
    known = number < numbers
    row, channel = (number // C).to(tl.int32), (number % C).to(tl.int32)
    sample, place = row // length_out, row % length_out
    at = values + (sample * length + place * STRIDE).to(tl.int64) * C + channel
    most = tl.load(at, known, 0.0).to(tl.float32)
    which = tl.zeros((NUMBERS,), tl.int32)
    for bin_ in tl.static_range(1, SIZE):
        found = tl.load(at + bin_ * C, known, 0.0).to(tl.float32)
        which = tl.where(found > most, bin_, which)
        most = tl.maximum(found, most)
    tl.store(result + number, tl.maximum(most, 0.0).to(result.dtype.element_ty), known)
    tl.store(place_of + number, tl.where(most > 0, which, -1).to(tl.int8), known)


@triton.jit
def pool_back(
    gradient, place_of, wanted, numbers, length, length_out,
    C: tl.constexpr, SIZE: tl.constexpr, STRIDE: tl.constexpr, NUMBERS: tl.constexpr,
):  # fmt: skip
    """gradient [B, L_OUT, C] of the result -> wanted [B, L, C], that of the values; each bin gathers its own."""
    number = tl.program_id(0).to(tl.int64) * NUMBERS + tl.arange(0, NUMBERS)
    known = number < numbers
    row, channel = (number // C).to(tl.int32), (number % C).to(tl.int32)
    sample, bin_ = row // length, row % length
    total = tl.zeros((NUMBERS,), tl.float32)
    for back in tl.static_range((SIZE + STRIDE - 1) // STRIDE):
        place = bin_ // STRIDE - back
        offset = bin_ - place * STRIDE
        here = known & (place >= 0) & (place < length_out) & (offset < SIZE)
        at = (sample * length_out + place).to(tl.int64) * C + channel
        found = tl.load(gradient + at, here, 0.0).to(tl.float32)
        total += tl.where(tl.load(place_of + at, here, -1) == offset, found, 0.0)
    tl.store(wanted + number, total.to(wanted.dtype.element_ty), known)


@triton.jit
def summarise(values, result, place_of, length, C: tl.constexpr, ROWS: tl.constexpr):
    """values [B, L, C] -> result [B, 2 x C], each channel's average and maximum, and the maximum's bin [B, C]."""
    sample, channel = tl.program_id(0), tl.arange(0, C)
    total = tl.zeros((C,), tl.float32)
    most = tl.full((C,), float("-inf"), tl.float32)
    where = tl.zeros((C,), tl.int32)
    for begin in range(0, length, ROWS):
        bin_ = begin + tl.arange(0, ROWS)
        known = (bin_ < length)[:, None]
        at = (sample * length + bin_).to(tl.int64)[:, None] * C + channel[None, :]
        found = tl.load(values + at, known, 0.0).to(tl.float32)
        total += tl.sum(found, 0)
        best, place = tl.max(tl.where(known, found, float("-inf")), 0, return_indices=True)
        where = tl.where(best > most, begin + place, where)
        most = tl.maximum(best, most)
    tl.store(result + sample * 2 * C + channel, total / length)
    tl.store(result + sample * 2 * C + C + channel, most)
    tl.store(place_of + sample * C + channel, where)


@triton.jit
def summarise_back(gradient, place_of, wanted, length, C: tl.constexpr, ROWS: tl.constexpr):
    """gradient [B, 2 x C] -> wanted [B, L, C]."""
    sample, channel = tl.program_id(1), tl.arange(0, C)
    bin_ = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    of_average = tl.load(gradient + sample * 2 * C + channel) / length
    of_maximum = tl.load(gradient + sample * 2 * C + C + channel)
    is_maximum = bin_[:, None] == tl.load(place_of + sample * C + channel)[None, :]
    found = of_average[None, :] + tl.where(is_maximum, of_maximum[None, :], 0.0)
    at = (sample * length + bin_).to(tl.int64)[:, None] * C + channel[None, :]
    tl.store(wanted + at, found.to(wanted.dtype.element_ty), (bin_ < length)[:, None])
