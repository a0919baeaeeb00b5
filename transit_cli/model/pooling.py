"""Global average and maximum pooling, at the end of a branch."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class AverageAndMaximum(nn.Module):
    """Average and maximum of each channel over its bins.

    Shape: [B, C, L] -> [B, 2 x C].
    """

    def forward(self, features: Tensor) -> Tensor:
        """The averages, then the maxima."""
        return _reference(features)


def average_and_maximum(features: Tensor) -> Tensor:
    """`AverageAndMaximum` with a backward pass that writes each bin once; PyTorch's takes eight passes.

    If several bins share the maximum, the first gets the whole gradient, instead of each an equal part.
    """
    if torch.is_grad_enabled() and features.requires_grad:
        return _AverageAndMaximum.apply(features)
    return _reference(features)


def _reference(features: Tensor) -> Tensor:
    return torch.cat([features.mean(-1), features.amax(-1)], dim=1)


class _AverageAndMaximum(torch.autograd.Function):
    @staticmethod
    def forward(*args: Any, **_: Any) -> Tensor:
        ctx, features = args
        maximum, place = features.max(-1)
        ctx.save_for_backward(place)
        ctx.shape = features.shape
        return torch.cat([features.mean(-1), maximum], dim=1)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> Tensor:
        (gradient,) = grad_outputs
        (place,) = ctx.saved_tensors
        for_average, for_maximum = gradient.split(ctx.shape[1], dim=1)
        result = (for_average / ctx.shape[2]).unsqueeze(-1).expand(ctx.shape).contiguous()
        return result.scatter_add_(2, place.unsqueeze(-1), for_maximum.unsqueeze(-1))
