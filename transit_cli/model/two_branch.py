"""The two-branch network: a small 1-D CNN for each view, joined by a LayerNorm and one hidden layer.

It is the network of "M4 Mac mini best practices 2024-2025" (November 2024), which gives kernels 7/5/5 and 5/3/3,
width 32, joined features (4 x width), LayerNorm, 128 hidden units, ReLU, dropout 0.3 and one logit. It does not specify
the rest: here convolutions keep the length, the first two of a branch are followed by max-pooling over 2 bins, and a
branch ends in global average and maximum pooling, so that views of any length of at least 4 bins work. Further views
(secondary, odd, even) get a branch like that of the local view; scalars are concatenated to the features.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from transit_cli.model.pooling import AverageAndMaximum

if TYPE_CHECKING:
    from collections.abc import Mapping

GLOBAL_KERNELS = (7, 5, 5)
LOCAL_KERNELS = (5, 3, 3)


class Branch(nn.Module):
    """Convolutions over one view, then global average and maximum pooling.

    Args:
        kernels: kernel size of each convolution, odd.
        width: channels of every convolution.

    Shape: [B, L] -> [B, 2 x width], L >= 2^(len(kernels) - 1).
    """

    def __init__(self, kernels: tuple[int, ...], width: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for index, kernel in enumerate(kernels):
            layers.append(nn.Conv1d(width if index else 1, width, kernel, padding=kernel // 2))
            if index < len(kernels) - 1:
                layers.append(nn.MaxPool1d(2))  # before ReLU: same result, half the work
            layers.append(nn.ReLU())
        self.layers = nn.Sequential(*layers, AverageAndMaximum())

    def forward(self, view: Tensor) -> Tensor:
        """Features of a view."""
        return self.layers(view.unsqueeze(1))


class TwoBranch(nn.Module):
    """The two-branch network.

    Args:
        views: the length in bins of each view, by name; "global" gets the larger kernels.
        scalars: number of scalars.
        width: channels of every convolution.
        hidden: units of the hidden layer.
        dropout: dropout probability of the hidden units.
        outputs: 1 for a binary network, otherwise the number of classes.

    Shape: a mapping of name -> [B, L] float32 (and "scalars" -> [B, S]) -> logits [B], or [B, outputs].
    """

    def __init__(
        self,
        views: Mapping[str, int],
        scalars: int = 0,
        *,
        width: int = 32,
        hidden: int = 128,
        dropout: float = 0.3,
        outputs: int = 1,
    ) -> None:
        super().__init__()
        self.views = tuple(views)
        self.scalars = scalars
        self.branches = nn.ModuleList(
            Branch(GLOBAL_KERNELS if name == "global" else LOCAL_KERNELS, width) for name in views
        )
        joined = 2 * width * len(self.views) + scalars
        self.head = nn.Sequential(
            nn.LayerNorm(joined),
            nn.Linear(joined, hidden),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, outputs),
        )
        self.outputs = outputs

    def forward(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """One logit per sample, [B], or one per class, [B, outputs]."""
        features = [branch(inputs[name]) for name, branch in zip(self.views, self.branches, strict=True)]
        if self.scalars:
            features.append(inputs["scalars"])
        logits = self.head(torch.cat(features, dim=1))
        return logits.squeeze(1) if self.outputs == 1 else logits


def build(views: Mapping[str, int], scalars: int = 0, outputs: int = 1) -> TwoBranch:
    """Factory of `two-branch`, with the sizes of the guide."""
    return TwoBranch(views, scalars, outputs=outputs)
