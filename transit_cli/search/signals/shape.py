"""The template averaged over an exposure, and its derivatives, at many points at once."""

from __future__ import annotations

import functools

import numpy as np
import torch

from transit_cli.search import template

#: Points of the tabulated integral.
FINE = 1 << 15


@functools.cache
def _tables(device: torch.device) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The shape at evenly spaced offsets from -1 to 1, its step to the next, and its integral up to there."""
    offsets = np.linspace(-1, 1, template.POINTS)
    values = template.shape(offsets)
    step = np.append(np.diff(values), 0.0)
    integral = np.concatenate([[0.0], np.cumsum(0.5 * (values[1:] + values[:-1]) * (offsets[1] - offsets[0]))])
    found = [torch.from_numpy(item).to(device) for item in (values, step, integral)]
    return found[0], found[1], found[2]


def _value_and_integral(offset: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The shape, linear between tabulated points, and its integral from -1, at offsets in half durations."""
    values, steps, integrals = _tables(offset.device)
    spacing = 2 / (template.POINTS - 1)
    place = (offset.clamp(-1, 1) + 1) / spacing
    below = place.to(torch.int64).clamp_(max=template.POINTS - 2)
    share = place - below
    value, step = values[below], steps[below]
    integral = integrals[below] + spacing * share * (value + 0.5 * share * step)
    return value + share * step, integral


@functools.cache
def _integral(device: torch.device) -> torch.Tensor:
    """The shape's integral from -1 to evenly spaced offsets, so many that steps between them are as good as linear."""
    fine = np.linspace(-1, 1, FINE)
    values = template.shape(fine)
    return torch.from_numpy(np.append(0.0, np.cumsum(0.5 * (values[1:] + values[:-1]) * (2 / (FINE - 1))))).to(device)


def averaged_only(phase: torch.Tensor, duration: torch.Tensor, exposure: torch.Tensor) -> torch.Tensor:
    """What `averaged` returns first, to 1e-4 of the depth, at a fraction of the time."""
    table, half = _integral(phase.device), exposure / duration
    middle = (phase * (FINE - 1) / duration) + (FINE - 1) / 2
    reach = half * (FINE - 1) / 2
    after = (middle + (reach + 0.5)).clamp_(0, FINE - 1).to(torch.int64)
    before = (middle - (reach - 0.5)).clamp_(0, FINE - 1).to(torch.int64)
    return (table[after] - table[before]) / (2 * half)


def averaged(
    phase: torch.Tensor, duration: torch.Tensor, exposure: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """A transit of depth 1, averaged over the exposure.

    Args:
        phase: [m, points] days from the centre.
        duration: [m, 1] days from first to last contact.
        exposure: [m, 1] days.

    Returns:
        [m, points] the light that is lost, and its derivatives by phase and by duration.
    """
    offset, half = 2 * phase / duration, exposure / duration
    (after, to_after), (before, to_before) = _value_and_integral(offset + half), _value_and_integral(offset - half)
    lost = (to_after - to_before) / (2 * half)
    by_phase = (after - before) / (half * duration)
    by_duration = (lost - ((offset + half) * after - (offset - half) * before) / (2 * half)) / duration
    return lost, by_phase, by_duration
