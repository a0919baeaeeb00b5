"""Gradient clipping and Adam or AdamW over all parameters in Triton: two kernels, each value read and written once.

The parameters lie anywhere: `table` [chunks, 6] has a row for each chunk of at most BLOCK values, with the addresses
of parameter, gradient, first and second moment and step counter, and the number of values; a row whose number is
negative is not the first of its parameter.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def squared_norms(table, partial, chunks, BLOCK: tl.constexpr):
    """The sum of squares of the gradients in every chunk of this program, partial [programs]; counts the step."""
    acc = tl.zeros((BLOCK,), tl.float32)
    for chunk in range(tl.program_id(0), chunks, tl.num_programs(0)):
        row = table + chunk * 6
        numel = tl.load(row + 5)
        if numel > 0:
            count = tl.load(row + 4).to(tl.pointer_type(tl.float32))
            tl.store(count, tl.load(count) + 1)
        gradient = tl.multiple_of(tl.load(row + 1).to(tl.pointer_type(tl.float32)), 16)
        at = tl.arange(0, BLOCK)
        value = tl.load(gradient + at, at < tl.abs(numel), 0.0)
        acc += value * value
    tl.store(partial + tl.program_id(0), tl.sum(acc, 0))


@triton.jit
def clip_and_update(
    table, partial, rate, log_betas, programs,
    max_norm, beta1, rest1, beta2, rest2, epsilon, weight_decay,
    CLIP: tl.constexpr, DECOUPLED: tl.constexpr, PROGRAMS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Clip the gradients of a chunk to a total norm of max_norm, and update its parameters as torch's Adam(W) does.

    rest1 and rest2 are 1 - beta; log_betas [2] is float64, in which the bias corrections are computed, as torch's are.
    """
    row = table + tl.program_id(0) * 6
    numel = tl.abs(tl.load(row + 5))
    parameter = tl.multiple_of(tl.load(row).to(tl.pointer_type(tl.float32)), 16)
    gradient = tl.multiple_of(tl.load(row + 1).to(tl.pointer_type(tl.float32)), 16)
    first = tl.multiple_of(tl.load(row + 2).to(tl.pointer_type(tl.float32)), 16)
    second = tl.multiple_of(tl.load(row + 3).to(tl.pointer_type(tl.float32)), 16)
    step = tl.load(tl.load(row + 4).to(tl.pointer_type(tl.float32)))
    learning_rate = tl.load(rate)
    at = tl.arange(0, BLOCK)
    mask = at < numel
    grad = tl.load(gradient + at, mask, 0.0)
    value = tl.load(parameter + at, mask, 0.0)
    if CLIP:
        of = tl.arange(0, PROGRAMS)
        norm = tl.sqrt(tl.sum(tl.load(partial + of, of < programs, 0.0), 0))
        factor = max_norm / (norm + 1e-6)
        grad = grad * tl.where(factor > 1.0, 1.0, factor)  # NaN stays NaN
    if DECOUPLED:
        value = value * (1 - learning_rate * weight_decay)
    else:
        grad = grad + weight_decay * value
    mean = beta1 * tl.load(first + at, mask, 0.0) + rest1 * grad
    square = beta2 * tl.load(second + at, mask, 0.0) + rest2 * grad * grad
    correction1 = (1 - tl.exp(step.to(tl.float64) * tl.load(log_betas))).to(tl.float32)
    correction2 = tl.sqrt((1 - tl.exp(step.to(tl.float64) * tl.load(log_betas + 1))).to(tl.float32))
    value = value - learning_rate / correction1 * mean / (tl.sqrt(square) / correction2 + epsilon)
    tl.store(first + at, mean, mask)
    tl.store(second + at, square, mask)
    tl.store(parameter + at, value, mask)
