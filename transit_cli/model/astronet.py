"""AstroNet, the network of Shallue & Vanderburg 2018 (AJ 155, 94), with its published configuration.

The global view has 5 blocks of two convolutions (16, 32, 64, 128, 256 filters, kernel 5) with max-pooling over 5
bins, stride 2; the local view 2 blocks (16, 32) with max-pooling over 7 bins, stride 2; then 4 dense layers of 512.
Further views get a column like that of the local view; scalars are concatenated to the features.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Mapping

KERNEL = 5
STRIDE = 2
GLOBAL_FILTERS, GLOBAL_POOL = (16, 32, 64, 128, 256), 5
LOCAL_FILTERS, LOCAL_POOL = (16, 32), 7
DENSE_LAYERS, DENSE_UNITS = 4, 512


class Column(nn.Module):
    """Blocks of two convolutions and a max-pooling over one view, flattened.

    Args:
        filters: channels of each block.
        pool: kernel size of the pooling, with stride `STRIDE`.

    Shape: [B, L] -> [B, filters[-1] x pooled_length(L)].
    """

    def __init__(self, filters: tuple[int, ...], pool: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, after in zip((1, *filters), filters, strict=False):
            layers += [
                nn.Conv1d(before, after, KERNEL, padding=KERNEL // 2),
                nn.ReLU(),
                nn.Conv1d(after, after, KERNEL, padding=KERNEL // 2),
                nn.MaxPool1d(pool, STRIDE),  # before ReLU: same result, half the work
                nn.ReLU(),
            ]
        self.layers = nn.Sequential(*layers)

    def forward(self, view: Tensor) -> Tensor:
        """Features of a view."""
        return self.layers(view.unsqueeze(1)).flatten(1)


def pooled_length(length: int, blocks: int, pool: int) -> int:
    """Number of bins after the poolings of `blocks` blocks; 0 if the view is too short."""
    for _ in range(blocks):
        length = (length - pool) // STRIDE + 1 if length >= pool else 0
    return length


class AstroNet(nn.Module):
    """AstroNet.

    Args:
        views: the length in bins of each view, by name; "global" gets the deeper column.
        scalars: number of scalars.
        outputs: 1 for a binary network, otherwise the number of classes.

    Raises:
        ValueError: a view is too short for its poolings (global 125 bins, others 19).

    Shape: a mapping of name -> [B, L] float32 (and "scalars" -> [B, S]) -> logits [B], or [B, outputs].
    """

    def __init__(self, views: Mapping[str, int], scalars: int = 0, outputs: int = 1) -> None:
        super().__init__()
        self.views = tuple(views)
        self.scalars = scalars
        columns: list[Column] = []
        joined = scalars
        for name, length in views.items():
            filters, pool = (GLOBAL_FILTERS, GLOBAL_POOL) if name == "global" else (LOCAL_FILTERS, LOCAL_POOL)
            left = pooled_length(length, len(filters), pool)
            if left == 0:
                raise ValueError(f"the {name} view's {length} bins are too few for {len(filters)} poolings over {pool}")
            columns.append(Column(filters, pool))
            joined += filters[-1] * left
        self.columns = nn.ModuleList(columns)
        dense: list[nn.Module] = []
        for index in range(DENSE_LAYERS):
            dense += [nn.Linear(DENSE_UNITS if index else joined, DENSE_UNITS), nn.ReLU()]
        self.head = nn.Sequential(*dense, nn.Linear(DENSE_UNITS, outputs))
        self.outputs = outputs

    def forward(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """One logit per sample, [B], or one per class, [B, outputs]."""
        features = [column(inputs[name]) for name, column in zip(self.views, self.columns, strict=True)]
        if self.scalars:
            features.append(inputs["scalars"])
        logits = self.head(torch.cat(features, dim=1))
        return logits.squeeze(1) if self.outputs == 1 else logits


def build(views: Mapping[str, int], scalars: int = 0, outputs: int = 1) -> AstroNet:
    """Factory of `astronet`, with the sizes of the paper."""
    return AstroNet(views, scalars, outputs)
