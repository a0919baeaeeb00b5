"""Measurements on a folded light curve: depth, S/N, the most significant secondary dip."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from transit_cli.data.views.binning import bin_medians, median

if TYPE_CHECKING:
    from transit_cli.data.views.folding import Folded

#: Trial ingress times in half durations, from nearly a box to a V; the first is used unless another fits better.
_INGRESSES = (0.2, 0.05, 0.5, 0.75, 1.0)


def measure(folded: Folded, cadence: float) -> dict[str, float]:
    """Depth and S/N of the signal in its folded light curve.

    The depth is that of the best-fitting trapezoid of the signal's duration, smoothed by the cadence; a shape other
    than a planet's must fit better by 3 sigma. The S/N is the mean depth divided by its standard error.

    Args:
        folded: the light curve.
        cadence: time between points, in days.

    Returns:
        measured_depth_ppm, measured_snr, transits (with at least one point), points_in_transit.
    """
    duration = folded.signal.duration
    reach = np.searchsorted(folded.phase, [-4 * duration, 4 * duration])
    near = folded.where(slice(*reach))
    distance = np.abs(near.phase)
    inside = distance < duration / 2
    found = {
        "measured_depth_ppm": np.nan,
        "measured_snr": np.nan,
        "transits": float(len(np.unique(near.cycle[inside]))),
        "points_in_transit": float(inside.sum()),
    }
    around = near.flux[distance > 0.75 * duration]
    around = around if len(around) >= 3 else folded.flux
    level = median(around)
    scatter = 1.4826 * median(np.abs(around - level))
    if not inside.any() or not level > 0:
        return found
    dip = level - near.flux
    close = slice(*np.searchsorted(near.phase, [-duration / 2 - cadence, duration / 2 + cadence]))
    distances = np.abs(near.phase[close] + (cadence * (np.arange(5) - 2) / 5)[:, None])
    fits = []
    for ingress in _INGRESSES:
        shape = np.clip((duration / 2 - distances) / (ingress * duration / 2), 0, 1).mean(axis=0)
        depth = float(shape @ dip[close] / (shape @ shape)) if shape.any() else np.nan
        fits.append((float(((dip[close] - depth * shape) ** 2).sum()), depth))
    least = min(fits)[0] * (1 + 1e-9)  # shapes that differ only where there are no points differ by rounding
    best = next(fit for fit in fits if fit[0] <= least) if fits[0][0] > least + 9 * scatter**2 else fits[0]
    found["measured_depth_ppm"] = 1e6 * best[1] / float(level)
    if scatter > 0:
        found["measured_snr"] = float(dip[inside].mean() / scatter * np.sqrt(inside.sum()))
    return found


@dataclass(frozen=True)
class Boxes:
    """Boxes of one duration outside the transit, every quarter duration.

    Attributes:
        centres: [K] days after the transit's centre, ascending.
        depths: [K] of the median flux in each box below the median of all flux; 0 in a box without points.
        counts: [K] points in each box.
        width: days.
    """

    centres: np.ndarray
    depths: np.ndarray
    counts: np.ndarray
    width: float


def boxes_outside(folded: Folded) -> Boxes:
    """The boxes from 1.5 durations after a transit to 1.5 durations before the next; none if there is no room."""
    signal = folded.signal
    low, high = signal.duration, signal.period - signal.duration
    boxes = int((high - low - signal.duration) / (0.25 * signal.duration)) + 1
    if boxes < 2:
        return Boxes(np.empty(0), np.empty(0), np.empty(0, np.intp), signal.duration)
    turn = np.searchsorted(folded.phase, 0.0)
    phase = np.concatenate([folded.phase[turn:], folded.phase[:turn] + signal.period])
    flux = np.concatenate([folded.flux[turn:], folded.flux[:turn]])
    medians, counts = bin_medians(phase, flux, bins=boxes, width=signal.duration, low=low, high=high)
    depths = np.where(counts > 0, np.median(flux) - medians, 0.0)
    step = (high - low - signal.duration) / (boxes - 1)
    return Boxes(low + step * np.arange(boxes) + signal.duration / 2, depths, counts, signal.duration)


def secondary_dip(folded: Folded, boxes: Boxes) -> tuple[float, float, int]:
    """The phase of the most significant dip outside the transit.

    The best box has the largest median depth times the square root of its number of points; the centre of the dip is
    the mean of the neighbouring boxes that score at least half as much.

    Returns:
        Its phase in days (half a period if nothing is covered), its depth below the median flux, its number of points.
    """
    scores = boxes.depths * np.sqrt(boxes.counts)
    if not len(scores) or scores.max() <= 0:
        return folded.signal.period / 2, 0.0, 0
    best = int(np.argmax(scores))
    near = np.arange(max(best - 4, 0), min(best + 5, len(scores)))
    centre = float(boxes.centres[near[scores[near] >= 0.5 * scores[best]]].mean())
    return centre, float(boxes.depths[best]), int(boxes.counts[best])
