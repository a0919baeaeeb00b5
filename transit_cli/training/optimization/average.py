"""An exponential moving average of a network's weights, which is what is validated and kept."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import nn


class WeightAverage:
    """The average of a network's weights over optimizer steps; later ones count more.

    Early steps would weigh too much in it, so the decay begins lower and rises to its value with the steps taken:
    min(decay, (1 + steps) / (10 + steps)), as TensorFlow's ExponentialMovingAverage does.

    Args:
        network: its weights begin the average.
        decay: the weight of the previous average per step; 0 disables averaging.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.decay = decay
        self._weights = list(network.parameters()) if decay else []
        self.values = [weight.detach().clone() for weight in self._weights]

    def update(self, steps: int) -> None:
        """Take the weights after optimizer step `steps` in. It does not wait for the device."""
        if self.values:
            decay = min(self.decay, (1 + steps) / (10 + steps))
            weights = [weight.detach() for weight in self._weights]  # where they lie now: an executor may move them
            torch._foreach_lerp_(self.values, weights, 1 - decay)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The network has the averaged weights within, its own again after."""
        own = [weight.detach().clone() for weight in self._weights]
        self._copy(self.values)
        try:
            yield
        finally:
            self._copy(own)

    def load(self, values: list[Tensor]) -> None:
        """Go on from averages that were saved."""
        self.values = [value.to(weight.device) for value, weight in zip(values, self._weights, strict=True)]

    def _copy(self, values: list[Tensor]) -> None:
        for weight, value in zip(self._weights, values, strict=True):
            weight.detach().copy_(value)
