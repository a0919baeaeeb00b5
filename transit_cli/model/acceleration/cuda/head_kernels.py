"""The end of a network in Triton: LayerNorm and hidden layer, dense layers' biases, and the binary loss."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def head_forward(
    joined, gamma, beta, weight, bias, out_weight, out_bias, dropout, hidden, logits,
    samples, features, epsilon,
    FEATURES: tl.constexpr, HIDDEN: tl.constexpr, OUTPUTS: tl.constexpr, DROPOUT: tl.constexpr,
    BLOCK: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """LayerNorm, linear, ReLU, dropout, linear: joined [B, features] -> hidden [B, HIDDEN] and logits [B, OUTPUTS].

    FEATURES is features rounded up to a power of two; dropout [B, HIDDEN] holds 0 or the inverse of what is kept.
    """
    row = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    column, unit = tl.arange(0, FEATURES), tl.arange(0, HIDDEN)
    row_mask, column_mask = (row < samples)[:, None], (column < features)[None, :]
    x = tl.load(joined + row[:, None] * features + column[None, :], row_mask & column_mask, 0.0)
    mean = tl.sum(x, 1) / features
    centred = tl.where(column_mask, x - mean[:, None], 0.0)
    deviation = tl.rsqrt(tl.sum(centred * centred, 1) / features + epsilon)
    scale = tl.load(gamma + column, column < features, 0.0)
    normed = centred * deviation[:, None] * scale[None, :] + tl.load(beta + column, column < features, 0.0)[None, :]
    w = tl.load(weight + unit[:, None] * features + column[None, :], column_mask, 0.0)
    value = tl.dot(normed, tl.trans(w), input_precision=PRECISION) + tl.load(bias + unit)[None, :]
    value = tl.maximum(value, 0.0)
    at = row[:, None] * HIDDEN + unit[None, :]
    if DROPOUT:
        value = value * tl.load(dropout + at, row_mask, 0.0)
    tl.store(hidden + at, value, row_mask)
    for output in tl.static_range(OUTPUTS):
        logit = tl.sum(value * tl.load(out_weight + output * HIDDEN + unit)[None, :], 1)
        tl.store(logits + row * OUTPUTS + output, logit + tl.load(out_bias + output), row < samples)


@triton.jit
def head_backward(
    grad_logits, joined, gamma, beta, weight, out_weight, hidden, grad_joined, partial,
    samples, features, epsilon, kept,
    FEATURES: tl.constexpr, HIDDEN: tl.constexpr, OUTPUTS: tl.constexpr, BLOCK: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """The gradients of `head_forward`; kept is the factor of the units that dropout kept.

    partial [programs, ...] holds each program's sums for weight, bias, gamma, beta, out_weight and out_bias in turn.
    """
    program = tl.program_id(0)
    row = program * BLOCK + tl.arange(0, BLOCK)
    column, unit = tl.arange(0, FEATURES), tl.arange(0, HIDDEN)
    row_mask, column_mask = (row < samples)[:, None], (column < features)[None, :]
    x = tl.load(joined + row[:, None] * features + column[None, :], row_mask & column_mask, 0.0)
    mean = tl.sum(x, 1) / features
    centred = tl.where(column_mask, x - mean[:, None], 0.0)
    deviation = tl.rsqrt(tl.sum(centred * centred, 1) / features + epsilon)
    scaled = centred * deviation[:, None]
    scale = tl.load(gamma + column, column < features, 0.0)
    normed = scaled * scale[None, :] + tl.load(beta + column, column < features, 0.0)[None, :]
    value = tl.load(hidden + row[:, None] * HIDDEN + unit[None, :], row_mask, 0.0)

    base = partial + program.to(tl.int64) * (HIDDEN * (features + 1 + OUTPUTS) + 2 * features + OUTPUTS)
    out_at = base + HIDDEN * (features + 1) + 2 * features
    grad = tl.zeros((BLOCK, HIDDEN), tl.float32)
    for output in tl.static_range(OUTPUTS):
        grad_logit = tl.load(grad_logits + row * OUTPUTS + output, row < samples, 0.0).to(tl.float32)
        grad += grad_logit[:, None] * tl.load(out_weight + output * HIDDEN + unit)[None, :]
        tl.store(out_at + output * HIDDEN + unit, tl.sum(grad_logit[:, None] * value, 0))
        tl.store(out_at + OUTPUTS * HIDDEN + output, tl.sum(grad_logit, 0))
    grad = tl.where(value > 0, grad * kept, 0.0)
    grad_weight = tl.dot(tl.trans(grad), tl.where(row_mask, normed, 0.0), input_precision=PRECISION)
    tl.store(base + unit[:, None] * features + column[None, :], grad_weight, column_mask)
    tl.store(base + HIDDEN * features + unit, tl.sum(grad, 0))

    w = tl.load(weight + unit[:, None] * features + column[None, :], column_mask, 0.0)
    grad_normed = tl.dot(grad, w, input_precision=PRECISION)
    scale_at = base + HIDDEN * (features + 1)
    tl.store(scale_at + column, tl.sum(grad_normed * scaled, 0), column < features)
    tl.store(scale_at + features + column, tl.sum(grad_normed, 0), column < features)
    grad_scaled = grad_normed * scale[None, :]
    along = tl.sum(grad_scaled * scaled, 1) / features
    shift = tl.sum(grad_scaled, 1) / features
    result = (grad_scaled - shift[:, None] - scaled * along[:, None]) * deviation[:, None]
    tl.store(grad_joined + row[:, None] * features + column[None, :], result, row_mask & column_mask)


@triton.jit
def sum_programs(partial, output, programs, numel, BLOCK: tl.constexpr):
    """partial [programs, numel] -> output [numel], summed in order."""
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    acc = tl.zeros((BLOCK,), tl.float32)
    for program in range(programs):
        acc += tl.load(partial + program * numel + at, at < numel, 0.0)
    tl.store(output + at, acc, at < numel)


@triton.jit
def sum_bias_relu(partial, bias, output, parts, numel, units, BLOCK: tl.constexpr):
    """The sum of partial [parts, B, units], plus a bias [units], at least 0: output [B, units]."""
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = at < numel
    acc = tl.load(bias + at % units, mask, 0.0).to(tl.float32)
    for part in range(parts):
        acc += tl.load(partial + part * numel + at, mask, 0.0).to(tl.float32)
    tl.store(output + at, tl.maximum(acc, 0.0).to(output.dtype.element_ty), mask)


@triton.jit
def relu_bias_grad(
    grad_output, output, grad_input, grad_bias, samples, units, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr
):
    """The gradient before a ReLU, [B, units], and its sum over the samples, the gradient of a bias."""
    unit = tl.program_id(0) * BLOCK_N + tl.arange(0, BLOCK_N)
    acc = tl.zeros((BLOCK_M, BLOCK_N), tl.float32)
    for start in range(0, samples, BLOCK_M):
        row = start + tl.arange(0, BLOCK_M)
        mask = (row < samples)[:, None] & (unit < units)[None, :]
        at = row.to(tl.int64)[:, None] * units + unit[None, :]
        grad = tl.load(grad_output + at, mask, 0.0)
        grad = tl.where(tl.load(output + at, mask, 0.0) > 0, grad, 0.0)
        tl.store(grad_input + at, grad, mask)
        acc += grad.to(tl.float32)
    tl.store(grad_bias + unit, tl.sum(acc, 0), unit < units)


@triton.jit
def binary_loss(logits, targets, loss, grad_logits, positive_weight, samples, weight, smoothing, BLOCK: tl.constexpr):
    """weight x the mean binary cross-entropy of logits [B] against smoothed targets [B], and its gradient [B]."""
    positive = tl.load(positive_weight)
    factor = weight / samples
    acc = tl.zeros((BLOCK,), tl.float32)
    for start in range(0, samples, BLOCK):
        row = start + tl.arange(0, BLOCK)
        mask = row < samples
        logit = tl.load(logits + row, mask, 0.0).to(tl.float32)
        target = tl.load(targets + row, mask, 0.0) * (1 - smoothing) + smoothing * 0.5
        decay = tl.exp(-tl.abs(logit))
        softplus = tl.maximum(-logit, 0.0) + tl.log(1 + decay)  # of -logit
        weighted = 1 + (positive - 1) * target
        acc += tl.where(mask, (1 - target) * logit + weighted * softplus, 0.0)
        other = tl.where(logit >= 0, decay, 1.0) / (1 + decay)  # 1 - sigmoid
        grad = (1 - target) - weighted * other
        tl.store(grad_logits + row, (grad * factor).to(grad_logits.dtype.element_ty), mask)
    tl.store(loss, tl.sum(acc, 0) * factor)
