"""Global average and maximum pooling, at the end of a branch."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class AverageAndMaximum(nn.Module):
    """Average and maximum of each channel over its bins.

    Shape: [B, C, L] -> [B, 2 x C].
    """

    def forward(self, features: Tensor) -> Tensor:
        """The averages, then the maxima."""
        return torch.cat([features.mean(-1), features.amax(-1)], dim=1)
