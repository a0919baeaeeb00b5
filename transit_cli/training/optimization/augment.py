"""Augmentation that physics allows: what could as well have been observed.

A transit looks the same backwards in time; an epoch is known to a fraction of a bin; another realisation of the noise
was possible; and gaps could have emptied other bins. Everything is computed for a whole batch on the device.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from transit_cli.training.batch import Batch

if TYPE_CHECKING:
    from collections.abc import Mapping

    from transit_cli.training.settings import TrainSettings


@dataclass(frozen=True)
class Augmentation:
    """What is done to each batch before it trains.

    Attributes:
        reverse: whether half of the samples run backwards in time, all views of a sample together.
        shift: largest shift in bins, either way, drawn for each sample and view.
        noise: largest added noise, in units of the view's own level; drawn for each sample.
        drop: share of the bins set to 0, the median that empty bins have.
        levels: the noise of each view of the set, as `noise_level` measures it.
    """

    reverse: bool
    shift: float
    noise: float
    drop: float
    levels: Mapping[str, float]

    @classmethod
    def of(cls, settings: TrainSettings, inputs: Mapping[str, Tensor]) -> Augmentation:
        """The augmentation in the settings, with the noise levels of these training inputs' views ([N, L] each)."""
        views = {name: values for name, values in inputs.items() if name != "scalars"}
        levels = {name: noise_level(values) for name, values in views.items() if settings.noise}
        return cls(settings.time_reversal, settings.shift, settings.noise, settings.drop_bins, levels)

    def __call__(self, batch: Batch) -> Batch:
        """A changed copy of a batch; scalars and targets stay."""
        views = {name: values for name, values in batch.inputs.items() if name != "scalars"}
        if self.reverse:
            backwards = torch.rand(len(batch), 1, device=batch.targets.device) < 0.5
            views = {name: torch.where(backwards, values.flip(1), values) for name, values in views.items()}
        if self.shift:
            views = {name: shifted(values, self.shift, wrap=name == "global") for name, values in views.items()}
        if self.noise:
            size = torch.rand(len(batch), 1, device=batch.targets.device) * self.noise
            views = {n: values + torch.randn_like(values) * (size * self.levels[n]) for n, values in views.items()}
        if self.drop:
            views = {n: values.masked_fill(torch.rand_like(values) < self.drop, 0.0) for n, values in views.items()}
        return Batch(batch.inputs | views, batch.targets)


def shifted(values: Tensor, largest: float, *, wrap: bool) -> Tensor:
    """Each row of [B, L] moved by up to `largest` < 1 bins either way, linearly interpolated.

    The global view goes round (its ends are the same phase); the others repeat their last bin.
    """
    shift = (torch.rand(len(values), 1, device=values.device) * 2 - 1) * largest
    left, right = values.roll(1, 1), values.roll(-1, 1)
    if not wrap:
        left[:, 0], right[:, -1] = values[:, 0], values[:, -1]
    neighbour = torch.where(shift > 0, left, right)
    return values + shift.abs() * (neighbour - values)


def noise_level(values: Tensor) -> float:
    """The typical noise of a view's bins: the median over rows [N, L] of 1.4826 |difference of neighbours| / sqrt 2.

    Differences of neighbours do not see the slow shape of a light curve, and their median not the edges of a transit.
    """
    differences = values.diff(dim=1)
    return float((1.4826 * differences.abs().median(1).values / 2**0.5).median())


def mixup(batch: Batch, alpha: float) -> Batch:
    """Mix each sample with its neighbour in the batch (Zhang et al. 2018, arXiv:1710.09412).

    Each sample's weight is drawn from Beta(alpha, alpha), on the CPU if the batch is on MPS, which has no such
    generator. Batches arrive shuffled, so that the neighbour is a random partner.
    """
    device = batch.targets.device
    alphas = torch.full((len(batch),), alpha, device="cpu" if device.type == "mps" else device)
    # Unchecked, since a check would wait for the device.
    share = torch.distributions.Beta(alphas, alphas, validate_args=False).sample().to(device, non_blocking=True)

    def mix(values: Tensor) -> Tensor:
        weight = share.view(-1, *[1] * (values.ndim - 1))
        return values * weight + values.roll(1, 0) * (1 - weight)

    return Batch({name: mix(values) for name, values in batch.inputs.items()}, mix(batch.targets))
