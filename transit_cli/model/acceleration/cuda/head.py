"""The head of the two-branch network, dense layers, and the binary loss, as few kernels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F  # noqa: N812 - PyTorch's own convention
import triton
from torch import Tensor, nn

from transit_cli.model.acceleration.cuda import convolution, head_kernels

if TYPE_CHECKING:
    from transit_cli.model.two_branch import TwoBranch

kernels: Any = head_kernels  # Triton's launch syntax is not typed

#: The largest hidden layer, in weights, that a multiprocessor holds at once; and samples of a program.
LARGEST_WEIGHT, BLOCK = 32768, 16
#: How a dense layer's product is split along its inner dimension: the parts to choose from, the least length of each,
#: and the most tiles of 64 x 64 outputs in all parts.
SPLITS, SPLIT_INNER, SPLIT_TILES = (2, 4, 8, 16), 1024, 128
#: The most classes; each has a pass over the hidden layer.
MOST_OUTPUTS = 8


def fits_head(network: TwoBranch) -> bool:
    """Whether the head's kernels can hold this network's hidden layer."""
    linear, out = network.head[1], network.head[4]
    assert isinstance(linear, nn.Linear)
    assert isinstance(out, nn.Linear)
    hidden = linear.out_features
    small = triton.next_power_of_2(linear.in_features) * hidden <= LARGEST_WEIGHT
    return small and hidden >= 16 and triton.next_power_of_2(hidden) == hidden and out.out_features <= MOST_OUTPUTS


def fused_head(network: TwoBranch, joined: Tensor) -> Tensor:
    """`network.head` of [B, features] in float32: [B, outputs].

    The dropout mask is drawn by `F.dropout`, so that it is PyTorch's own for a state of the random generator.
    """
    norm, linear, _, dropout, out = network.head
    assert isinstance(norm, nn.LayerNorm)
    assert isinstance(linear, nn.Linear)
    assert isinstance(dropout, nn.Dropout)
    assert isinstance(out, nn.Linear)
    mask = None
    if network.training and dropout.p:
        # In the type of the hidden layer: which random number an element gets depends on it.
        kind = joined.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else torch.float32
        mask = F.dropout(joined.new_ones(len(joined), linear.out_features, dtype=dtype), dropout.p, training=True)
    kept = 1 / (1 - dropout.p) if mask is not None and dropout.p < 1 else 1.0
    parameters = norm.weight, norm.bias, linear.weight, linear.bias, out.weight, out.bias
    return _Head.apply(joined.float(), *parameters, mask, kept, norm.eps)


class _Head(torch.autograd.Function):
    @staticmethod
    def forward(*args: Any, **_: Any) -> Tensor:
        ctx, joined, gamma, beta, weight, bias, out_weight, out_bias, mask, kept, epsilon = args
        joined = joined.contiguous()
        samples, features = joined.shape
        units, outputs = weight.shape[0], out_weight.shape[0]
        hidden, logits = joined.new_empty(samples, units), joined.new_empty(samples, outputs)
        kernels.head_forward[(triton.cdiv(samples, BLOCK),)](
            joined, gamma, beta, weight, bias, out_weight, out_bias, joined if mask is None else mask, hidden, logits,
            samples, features, epsilon,
            FEATURES=triton.next_power_of_2(features), HIDDEN=units, OUTPUTS=outputs, DROPOUT=mask is not None,
            BLOCK=BLOCK, PRECISION=convolution.precision(), num_warps=8,
        )  # fmt: skip
        ctx.save_for_backward(joined, gamma, beta, weight, out_weight, hidden)
        ctx.kept, ctx.epsilon = kept, epsilon
        return logits

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        joined, gamma, beta, weight, out_weight, hidden = ctx.saved_tensors
        samples, features = joined.shape
        units, outputs = weight.shape[0], out_weight.shape[0]
        programs = triton.cdiv(samples, BLOCK)
        sizes = units * features, units, features, features, outputs * units, outputs
        partial = joined.new_empty(programs, sum(sizes))
        grad_joined = torch.empty_like(joined)
        kernels.head_backward[(programs,)](
            grad_outputs[0].contiguous(), joined, gamma, beta, weight, out_weight, hidden, grad_joined, partial,
            samples, features, ctx.epsilon, ctx.kept,
            FEATURES=triton.next_power_of_2(features), HIDDEN=units, OUTPUTS=outputs,
            BLOCK=BLOCK, PRECISION=convolution.precision(), num_warps=8,
        )  # fmt: skip
        sums = joined.new_empty(sum(sizes))
        kernels.sum_programs[(triton.cdiv(len(sums), 256),)](partial, sums, programs, len(sums), BLOCK=256)
        grad_weight, grad_bias, grad_gamma, grad_beta, grad_out_weight, grad_out_bias = sums.split(sizes)
        weights = grad_weight.view(units, features), grad_bias, grad_out_weight.view(outputs, units), grad_out_bias
        return grad_joined, grad_gamma, grad_beta, *weights, None, None, None


@dataclass(frozen=True)
class FusedLinear:
    """A dense layer and its ReLU: the ReLU in the product's kernel, its gradient and the bias' in one."""

    layer: nn.Linear

    def __call__(self, values: Tensor) -> Tensor:
        """[B, IN] -> [B, OUT]."""
        dtype = torch.get_autocast_dtype(values.device.type) if torch.is_autocast_enabled(values.device.type) else None
        weight, bias = (part.to(dtype) if dtype else part for part in (self.layer.weight, self.layer.bias))
        return _LinearRelu.apply(values.to(weight.dtype), weight, bias)


class _LinearRelu(torch.autograd.Function):
    @staticmethod
    def forward(*args: Any, **_: Any) -> Tensor:
        ctx, values, weight, bias = args
        parts = _parts(values, weight)
        if parts > 1:
            output = _split_linear(values, weight, bias, parts)
        else:
            output = torch._addmm_activation(bias, values, weight.t())  # noqa: SLF001 - ReLU by default
        ctx.save_for_backward(values, weight, output)
        return output

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        values, weight, output = ctx.saved_tensors
        samples, units = output.shape
        grad = torch.empty_like(output)
        grad_bias = output.new_empty(units)
        kernels.relu_bias_grad[(triton.cdiv(units, 16),)](
            grad_outputs[0].contiguous(), output, grad, grad_bias, samples, units, BLOCK_M=64, BLOCK_N=16
        )
        grad_values = grad @ weight if ctx.needs_input_grad[0] else None
        return grad_values, grad.t() @ values, grad_bias


def _parts(values: Tensor, weight: Tensor) -> int:
    """Parts into which the inner dimension is split for a product with few outputs, which would use few processors."""
    samples, inner = values.shape
    tiles = triton.cdiv(samples, 64) * triton.cdiv(len(weight), 64)
    fitting = [parts for parts in SPLITS if inner % (4 * parts) == 0 and inner // parts >= SPLIT_INNER]
    return max((parts for parts in fitting if parts * tiles <= SPLIT_TILES), default=1)


def _split_linear(values: Tensor, weight: Tensor, bias: Tensor, parts: int) -> Tensor:
    (samples, inner), units = values.shape, len(weight)
    left = values.reshape(samples, parts, inner // parts).transpose(0, 1)
    right = weight.view(units, parts, inner // parts).permute(1, 2, 0)
    partial, output = torch.bmm(left, right), values.new_empty(samples, units)
    kernels.sum_bias_relu[(triton.cdiv(output.numel(), 256),)](
        partial, bias, output, parts, output.numel(), units, BLOCK=256
    )
    return output


def binary_loss(
    logits: Tensor, targets: Tensor, positive_weight: Tensor, *, weight: float, smoothing: float
) -> tuple[Tensor, Tensor]:
    """The mean binary cross-entropy of logits [B] against targets [B], times `weight`, and its gradient [B].

    Args:
        logits: [B].
        targets: [B] float32, 0 to 1.
        positive_weight: the weight of positives, a scalar on the device.
        weight: a factor of loss and gradient.
        smoothing: moves targets this share of the way to one half.
    """
    loss, grad = torch.empty((), dtype=torch.float32, device=logits.device), torch.empty_like(logits)
    kernels.binary_loss[(1,)](
        logits, targets, loss, grad, positive_weight, len(logits), float(weight), float(smoothing), BLOCK=1024
    )
    return loss, grad
