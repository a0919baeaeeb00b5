"""Measurements on a folded light curve beyond depth and S/N: shape, secondary dips, odd-even difference, scatter.

The columns of `measure_views.view_scalars`, and depths in ppm, which only the light curve has.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from transit_cli.data.views.binning import bin_medians, median
from transit_cli.data.views.measure import boxes_outside, secondary_dip
from transit_cli.data.views.measurements.binned import harmonics
from transit_cli.data.views.measurements.trapezoid import BINS, SPAN, Trapezoids, centres, fit_trapezoids

if TYPE_CHECKING:
    from transit_cli.data.views.folding import Folded
    from transit_cli.data.views.measure import Boxes

#: Points farther than this from the trapezoid, in standard deviations, are not part of the odd-even difference.
_OUTLIER = 5.0
#: Least number of boxes outside the transit whose scatter is measured.
_LEAST_BOXES = 12


def folded_scalars(folded: Folded, global_view: np.ndarray) -> dict[str, float]:
    """Columns measured on one folded light curve.

    Args:
        folded: the light curve, detrended.
        global_view: [G] normalised.

    Returns:
        The columns of `view_scalars`, trapezoid_depth_ppm and its error, secondary_phase_days, secondary_depth_ppm,
        scatter_ppm (of a point outside the transit), duration_scatter_ppm (of the median flux in one duration),
        odd_transits and even_transits. NaN where something cannot be measured.
    """
    duration, level = folded.signal.duration, median(folded.flux)
    profile, counts = bin_medians(
        folded.phase / duration, folded.flux, bins=BINS, width=2 * SPAN / BINS, low=-SPAN, high=SPAN
    )
    fit = fit_trapezoids(profile[None] / level, counts[None].astype(float), 2 * SPAN / BINS)
    depth, error = float(fit.depth[0]), float(fit.depth_error[0])
    boxes = boxes_outside(folded)
    white = _scatter(folded.flux[np.abs(folded.phase) > 0.75 * duration]) / level
    secondary, opposite, red = _dips(boxes, white, folded.signal.period, level)
    phase, secondary_depth, _ = secondary_dip(folded, boxes)
    waves = harmonics(global_view, duration / folded.signal.period)
    return {
        "trapezoid_duration_hours": 24 * duration * float(fit.duration[0]),
        "trapezoid_duration_error_hours": 24 * duration * float(fit.duration_error[0]),
        "ingress_share": float(fit.ingress_share[0]),
        "ingress_share_error": float(fit.ingress_share_error[0]),
        "trapezoid_offset_durations": float(fit.offset[0]),
        "trapezoid_depth_ratio": depth * level / _positive(level - float(np.nanmin(profile))),
        "trapezoid_snr": depth / _positive(error),
        "trapezoid_misfit": float(fit.misfit[0]),
        "trapezoid_depth_ppm": 1e6 * depth,
        "trapezoid_depth_error_ppm": 1e6 * error,
        "secondary_phase_days": phase,
        "secondary_depth_ppm": 1e6 * secondary_depth / level,
        "secondary_depth_ratio": secondary[0] / _positive(depth),
        "secondary_significance": secondary[1],
        "half_period_depth_ratio": opposite[0] / _positive(depth),
        "half_period_significance": opposite[1],
        "period_harmonic_ratio": waves[0],
        "half_period_harmonic_ratio": waves[1],
        "scatter_ppm": 1e6 * white,
        "duration_scatter_ppm": 1e6 * _scatter(boxes.depths[boxes.counts > 0]) / level,
        **_odd_even(folded, fit, level, white * red),
    }


def _positive(value: float) -> float:
    return value if value > 0 else np.nan


def _scatter(values: np.ndarray) -> float:
    """1.4826 times the median absolute deviation; NaN for fewer than 5 values."""
    return 1.4826 * median(np.abs(values - median(values))) if len(values) >= 5 else np.nan


def _dips(
    boxes: Boxes, white: float, period: float, level: float
) -> tuple[tuple[float, float], tuple[float, float], float]:
    """Depth and significance of the deepest box and of that half a period after the transit; the factor of red noise.

    Depths are below the median of the boxes. The noise of a box is that of all boxes, weighted by their points, or
    white noise if that is larger.
    """
    missing = (np.nan, np.nan)
    covered = np.flatnonzero(boxes.counts > 0)
    if not len(covered):
        return missing, missing, 1.0
    depths = (boxes.depths[covered] - median(boxes.depths[covered])) / level
    scores = depths * np.sqrt(boxes.counts[covered])
    red = 1.0
    if len(covered) >= _LEAST_BOXES and white > 0:
        red = max(1.0, _scatter(scores) / white)
    noise = _positive(white * red)
    deepest, opposite = int(scores.argmax()), int(np.abs(boxes.centres[covered] - period / 2).argmin())
    near = abs(boxes.centres[covered[opposite]] - period / 2) < 0.5 * boxes.width
    found = [(float(depths[i]), float(scores[i] / noise)) for i in (deepest, opposite)]
    return found[0], found[1] if near else missing, red


def _odd_even(folded: Folded, fit: Trapezoids, level: float, noise: float) -> dict[str, float]:
    """The difference of the depths of odd and even transits, for the shape fitted to all, and the number of each."""
    near = folded.where(slice(*np.searchsorted(folded.phase / folded.signal.duration, [-SPAN, SPAN])))
    parity = near.cycle % 2
    inside = np.abs(near.phase) < folded.signal.duration / 2
    transits = [len(np.unique(near.cycle[inside & (parity == value)])) for value in (1, 0)]
    found = {
        "odd_transits": float(transits[0]),
        "even_transits": float(transits[1]),
        "odd_even_difference": np.nan,
        "odd_even_significance": np.nan,
    }
    depth = float(fit.depth[0])
    if not (min(transits) > 0 and depth > 0 and noise > 0):
        return found
    shape = np.interp(near.phase / folded.signal.duration, centres(), fit.shape[0])
    deviation = near.flux / level - 1 + depth * shape
    regular = np.abs(deviation - median(deviation)) < _OUTLIER * noise + 0.5 * depth
    depths: list[float] = []
    variances: list[float] = []
    for value in (1, 0):
        chosen = regular & (parity == value)
        own = shape[chosen] - shape[chosen].mean() if chosen.any() else shape[:0]
        power = float(own @ own)
        depths.append(-float(own @ near.flux[chosen]) / level / _positive(power - 1e-6))
        variances.append(noise**2 / _positive(power))
    difference = depths[0] - depths[1]
    return found | {
        "odd_even_difference": difference / depth,
        "odd_even_significance": abs(difference) / float(np.sqrt(sum(variances))),
    }
