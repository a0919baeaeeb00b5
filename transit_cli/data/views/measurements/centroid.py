"""The shift of a star's light on the detector during transits: a background binary pulls it away from the source.

The offset of each light-curve file is measured along both axes of its detector; Kepler rolls between quarters, so that
directions of different files cannot be added, and only the sizes of the offsets are combined (Bryson et al. 2013).
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING

import numpy as np

from transit_cli.data.views.binning import bin_medians, median
from transit_cli.data.views.detrend import fit_spline, in_transit
from transit_cli.data.views.folding import fold

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transit_cli.data.lightcurves.lightcurve import LightCurve
    from transit_cli.data.views.folding import Signal

#: Knot spacing of the trend of centroids, in days; wider for long transits.
SPACING = 1.0
#: Centroids farther than this from the median, in standard deviations, are not used.
_OUTLIER = 6.0
#: Least number of points in transit, and of boxes outside, for a measurement.
_LEAST_POINTS, _LEAST_BOXES = 3, 8
#: Share of the duration, about the centre, in which the offset is measured.
_CORE = 0.8


@dataclass(frozen=True)
class Centroids:
    """Detrended centroids.

    Attributes:
        time: [n] days, ascending.
        shift: [n, 2] pixels from the trend.
        file_number: [n] the file of each cadence.
    """

    time: np.ndarray
    shift: np.ndarray
    file_number: np.ndarray


def detrend_centroids(curve: LightCurve, signals: Sequence[Signal]) -> Centroids | None:
    """The centroids of a light curve less their trend, with the transits of all signals masked; None without."""
    if curve.centroid is None:
        return None
    known = np.isfinite(curve.centroid).all(axis=1)
    number = np.zeros(len(curve.time), np.intp) if curve.file_number is None else curve.file_number
    spacing = max([SPACING, *(4 * signal.duration for signal in signals)])
    times, shifts, numbers = [curve.time[:0]], [np.empty((0, 2))], [number[:0]]
    for one in np.unique(number[known]):
        chosen = np.flatnonzero(known & (number == one))
        time, position = curve.time[chosen], curve.centroid[chosen]
        masked = in_transit(time, signals)
        shift = np.stack(
            [
                axis - fit_spline(time, axis, masked, (spacing,)).values
                for axis in (position - np.median(position, axis=0)).T
            ],
            axis=1,
        )
        good = np.isfinite(shift).all(axis=1)
        scatter = 1.4826 * np.median(np.abs(shift[good]), axis=0) if good.any() else np.zeros(2)
        good &= (np.abs(shift) <= _OUTLIER * scatter + 1e-12).all(axis=1) | masked
        times.append(time[good])
        shifts.append(shift[good])
        numbers.append(number[chosen][good])
    time = np.concatenate(times)
    order = np.argsort(time, kind="stable")
    return Centroids(time[order], np.concatenate(shifts)[order], np.concatenate(numbers)[order])


def centroid_scalars(centroids: Centroids | None, signal: Signal, depth: float) -> dict[str, float]:
    """The offset of the centroid in transit.

    Args:
        centroids: of the star; None if the files have none.
        signal: in the time system of the centroids.
        depth: of the transit, a fraction.

    Returns:
        centroid_offset_pixels and its error; centroid_offset_significance, in standard deviations, of the offsets of
        all files (0 on average without an offset); centroid_source_pixels, the distance from the centroid to the
        source that would cause the offset, offset / depth. NaN where there is nothing to measure.
    """
    names = ("offset_pixels", "offset_error_pixels", "offset_significance", "source_pixels")
    missing = {f"centroid_{name}": np.nan for name in names}
    offsets = [] if centroids is None else [offset for _, offset in _offsets(centroids, signal)]
    if not offsets:
        return missing
    value, error = (np.array([offset[part] for offset in offsets]) for part in (0, 1))  # [files, 2]
    square = float((value**2 / error**2).sum())
    weight = 1 / (error**2).sum(axis=1)
    size = float(np.sqrt(max((weight * ((value**2).sum(axis=1) - (error**2).sum(axis=1))).sum() / weight.sum(), 0)))
    return {
        "centroid_offset_pixels": size,
        "centroid_offset_error_pixels": float(np.sqrt(1 / weight.sum())),
        "centroid_offset_significance": significance(square, len(offsets)),
        "centroid_source_pixels": size / depth if depth > 0 else np.nan,
    }


def centroid_view(centroids: Centroids | None, signal: Signal, *, bins: int, span: float, width: float) -> np.ndarray:
    """[bins] the shift along the direction of each file's offset, in its error, as a local view; 0 without centroids.

    Args:
        centroids: of the star.
        signal: in the time system of the centroids.
        bins: number of bins.
        span: half-width of the view, in durations.
        width: of a bin, in durations.
    """
    parts = [] if centroids is None else _offsets(centroids, signal)
    if centroids is None or not parts:
        return np.zeros(bins)
    times, values = [], []
    for number, (value, error) in parts:
        chosen = centroids.file_number == number
        direction = value / error**2
        times.append(centroids.time[chosen])
        values.append(centroids.shift[chosen] @ direction / np.sqrt(((direction * error) ** 2).sum()))
    folded = fold(np.concatenate(times), np.concatenate(values), signal)
    half = min(signal.period / 2, span * signal.duration)
    medians, _ = bin_medians(folded.phase, folded.flux, bins=bins, width=width * signal.duration, low=-half, high=half)
    return np.nan_to_num(medians)


def _offsets(centroids: Centroids, signal: Signal) -> list[tuple[int, tuple[np.ndarray, np.ndarray]]]:
    """For each file with transits its number, and [2] the offset along both axes with its error, in pixels.

    The error is the scatter of boxes of the same width outside the transit, weighted by their points, so that
    correlated noise is in it; or white noise, if that is larger.
    """
    found = []
    for number in np.unique(centroids.file_number).tolist():
        chosen = centroids.file_number == number
        value, error = np.full(2, np.nan), np.full(2, np.nan)
        for axis in range(2):
            folded = fold(centroids.time[chosen], centroids.shift[chosen, axis], signal)
            inside = np.abs(folded.phase) < _CORE * signal.duration / 2
            outside = np.abs(folded.phase) > 0.75 * signal.duration
            if inside.sum() < _LEAST_POINTS or outside.sum() < _LEAST_POINTS:
                break
            level = median(folded.flux[outside])
            white = 1.4826 * median(np.abs(folded.flux[outside] - level))
            width = min(_CORE * signal.duration, signal.period / 4)
            room = signal.period / 2 - 0.75 * signal.duration
            boxes = max(int(2 * room / width), 2)
            turned = (folded.phase + signal.period) % signal.period
            order = np.argsort(turned, kind="stable")
            low = 0.75 * signal.duration
            medians, counts = bin_medians(
                turned[order],
                folded.flux[order],
                bins=boxes,
                width=width,
                low=low,
                high=max(signal.period - low, low + width),
            )
            scores = (medians - level)[counts > 0] * np.sqrt(counts[counts > 0])
            noise = white
            if len(scores) >= _LEAST_BOXES:
                noise = max(noise, 1.4826 * median(np.abs(scores - median(scores))))
            value[axis] = float(folded.flux[inside].mean()) - level
            error[axis] = noise / np.sqrt(inside.sum())
        if np.isfinite(value).all() and (error > 0).all():
            found.append((number, (value, error)))
    return found


def significance(square: float, pairs: int) -> float:
    """Standard deviations of a normal distribution that are as improbable as a chi-square of 2 x `pairs` degrees."""
    half = square / 2
    terms = np.cumsum(np.concatenate([[0.0], np.log(half / np.arange(1, pairs))])) if half > 0 else np.zeros(1)
    log_chance = -half + float(np.logaddexp.reduce(terms))
    if log_chance > -600:
        return -NormalDist().inv_cdf(min(float(np.exp(log_chance)), 1 - 1e-16))
    value = np.sqrt(-2 * log_chance)
    for _ in range(3):  # the tail of the normal distribution: exp(-x^2 / 2) / (x sqrt(2 pi))
        value = np.sqrt(-2 * log_chance - np.log(2 * np.pi) - 2 * np.log(value))
    return float(value)
