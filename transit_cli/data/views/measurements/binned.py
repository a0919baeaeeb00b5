"""Measurements on binned views, for sets without light curves: shape, secondary dips, odd-even difference.

Depths are in units of the view's own depth, since normalised views have lost it.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from transit_cli.data.views.binning import median
from transit_cli.data.views.measurements.trapezoid import BINS, SPAN, Trapezoids, centres, fit_trapezoids

#: Rows that are measured together.
_BLOCK = 256
#: Least number of bins outside the transit for a measurement of the noise.
_LEAST_BINS = 12


def view_scalars(
    views: Mapping[str, np.ndarray], period: np.ndarray, duration: np.ndarray, *, span: float, width: float
) -> dict[str, np.ndarray]:
    """Columns measured on the views of N signals.

    Args:
        views: "global" [N, G] and "local" [N, L]; optionally "odd" and "even" [N, L] in units of the same depth.
        period: [N] days; NaN where it is not known.
        duration: [N] days, likewise.
        span: half-width of the local view, in durations.
        width: of a local bin, in durations.

    Returns:
        [N] float64 by name, NaN where something cannot be measured: trapezoid_duration_hours and its error,
        ingress_share and its error, trapezoid_offset_durations, trapezoid_depth_ratio, trapezoid_snr,
        trapezoid_misfit, secondary_depth_ratio, secondary_significance, half_period_depth_ratio,
        half_period_significance, period_harmonic_ratio, half_period_harmonic_ratio; with odd and even views
        odd_even_difference and odd_even_significance.
    """
    count = len(period)
    blocks = [
        _block({name: view[begin : begin + _BLOCK] for name, view in views.items()}, *times, span, width)
        for begin in range(0, count, _BLOCK)
        for times in [(period[begin : begin + _BLOCK], duration[begin : begin + _BLOCK])]
    ]
    return {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]} if blocks else {}


def _block(
    views: Mapping[str, np.ndarray], period: np.ndarray, duration: np.ndarray, span: float, width: float
) -> dict[str, np.ndarray]:
    known = (period > 0) & (duration > 0) & (duration < period)
    cycle = np.where(known, period / np.where(known, duration, 1.0), np.nan)  # the period in durations
    reach = np.minimum(np.where(known, cycle, np.inf) / 2, span)
    correlated = max(1.0, width * BINS / (2 * SPAN))
    local, weights = _profiles(views["local"], reach, width)
    fit = fit_trapezoids(local, weights, width, correlated)
    found = {
        "trapezoid_duration_hours": 24 * duration * fit.duration,
        "trapezoid_duration_error_hours": 24 * duration * fit.duration_error,
        "ingress_share": fit.ingress_share,
        "ingress_share_error": fit.ingress_share_error,
        "trapezoid_offset_durations": fit.offset,
        "trapezoid_depth_ratio": fit.depth,
        "trapezoid_snr": fit.depth / fit.depth_error,
        "trapezoid_misfit": fit.misfit,
    }
    found |= _outside(np.asarray(views["global"], np.float64), np.where(known, 1 / cycle, np.nan))
    if "odd" in views and "even" in views:
        depths = [_depth_of_shape(*_profiles(views[name], reach, width), fit) for name in ("odd", "even")]
        kept = [np.abs(views[name].min(axis=1) + 1) > 1e-3 for name in ("odd", "even")]
        difference = np.where(kept[0] | kept[1], depths[0] - depths[1], np.nan)  # both at -1: each in its own depth
        found["odd_even_difference"] = difference / fit.depth
        found["odd_even_significance"] = np.abs(difference) / (2 * fit.depth_error)  # each has half of the points
    return found


def _profiles(view: np.ndarray, reach: np.ndarray, width: float) -> tuple[np.ndarray, np.ndarray]:
    """[R, BINS] values of the local view at the centres of the profile's bins; and weights, 0 beyond the view.

    Args:
        view: [R, L].
        reach: [R] half-width of the view, in durations.
        width: of a bin, in durations.
    """
    length = view.shape[1]
    half = reach - np.minimum(width / 2, reach / length)  # distance of the outermost bins' centres
    place = (centres() / half[:, None] + 1) * (length - 1) / 2
    inside = (place >= -0.5) & (place <= length - 0.5)
    place = np.clip(place, 0, length - 1)
    left = np.minimum(place.astype(np.intp), length - 2)
    share = place - left
    view = np.asarray(view, np.float64)
    row = np.arange(len(view))[:, None]
    values = (1 - share) * view[row, left] + share * view[row, left + 1]
    return values, inside.astype(np.float64)


def _depth_of_shape(profiles: np.ndarray, weights: np.ndarray, fit: Trapezoids) -> np.ndarray:
    """[R] depths of the fitted shapes in other profiles."""
    total = np.maximum(weights.sum(axis=1, keepdims=True), 1.0)
    shape = fit.shape - (weights * fit.shape).sum(axis=1, keepdims=True) / total
    power = (weights * shape**2).sum(axis=1)
    return -(weights * shape * profiles).sum(axis=1) / np.where(power > 1e-3, power, np.nan)


def _outside(view: np.ndarray, share: np.ndarray) -> dict[str, np.ndarray]:
    """Dips and variation outside the transit in the global view.

    Args:
        view: [R, G].
        share: [R] of the duration in the period.
    """
    names = (
        "secondary_depth_ratio",
        "secondary_significance",
        "half_period_depth_ratio",
        "half_period_significance",
        "period_harmonic_ratio",
        "half_period_harmonic_ratio",
    )
    rows = [
        _outside_one(one, float(q)) if q < 0.5 else (np.nan,) * len(names) for one, q in zip(view, share, strict=True)
    ]
    return dict(zip(names, np.array(rows, np.float64).reshape(-1, len(names)).T, strict=True))


def _outside_one(view: np.ndarray, share: float) -> tuple[float, ...]:
    """The values of `_outside` for one view [G]."""
    count = len(view)
    phase = (np.arange(count) + 0.5) / count - 0.5
    away = np.abs(phase) > 0.75 * share + 1 / count
    if away.sum() < _LEAST_BINS:
        return (np.nan,) * 6
    level = median(view[away])
    bin_noise = 1.4826 * median(np.abs(view[away] - level))
    width = max(1, round(share * count))
    sums = np.concatenate([[0.0], np.cumsum(np.concatenate([view, view[:width]]))])
    depth = level - (sums[width : width + count] - sums[:count]) / width
    middle = (phase + (width - 1) / (2 * count) + 0.5) % 1 - 0.5
    free = np.abs(middle) > share + (width / 2 + 1) / count
    noise = bin_noise / np.sqrt(width)
    if free.sum() >= _LEAST_BINS:  # correlated noise does not average out
        noise = max(noise, 1.4826 * median(np.abs(depth[free] - median(depth[free]))))
    noise = noise or np.nan
    secondary = float(depth[free].max()) if free.any() else np.nan
    opposite = float(depth[np.argmin(np.abs(np.abs(middle) - 0.5))])
    return (secondary, secondary / noise, opposite, opposite / noise, *harmonics(view, share))


def harmonics(view: np.ndarray, share: float) -> tuple[float, float]:
    """Amplitudes of sine waves of the period and of half of it, outside the transit of a global view [G].

    Args:
        view: [G], in units of its depth.
        share: of the duration in the period.
    """
    phase = (np.arange(len(view)) + 0.5) / len(view) - 0.5
    away = np.abs(phase) > 0.75 * share + 1 / len(view)
    if away.sum() < _LEAST_BINS:
        return np.nan, np.nan
    angle = 2 * np.pi * phase[away]
    terms = np.stack([np.ones_like(angle), np.cos(angle), np.sin(angle), np.cos(2 * angle), np.sin(2 * angle)], axis=1)
    wave = np.linalg.solve(terms.T @ terms + 1e-9 * np.eye(5), terms.T @ view[away])
    return float(np.hypot(wave[1], wave[2])), float(np.hypot(wave[3], wave[4]))
