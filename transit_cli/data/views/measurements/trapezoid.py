"""Trapezoids fitted to transits: depth, duration, share of the transit spent in ingress, with errors.

Every shape of a grid is fitted with free depth and level, which is linear, so that all shapes of many transits are
three matrix products. Values and errors are mean and standard deviation of the likelihood over the grid.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np

#: The profile that is fitted: so many bins within so many durations of the centre.
BINS, SPAN = 61, 2.0
#: Trial durations from first to last contact and offsets, in units of the stated duration; and shares of the ingress in
#: the duration, from a box to a V.
DURATIONS = tuple(np.geomspace(0.15, 3.2, 19).tolist())
SHARES = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5)
OFFSETS = tuple(np.linspace(-0.3, 0.3, 5).tolist())
#: Error of a trapezoid as the shape of a transit, in depths: limb darkening, and the steps of the grid.
MODEL_ERROR = 0.08
#: Steps of the smoothing in a bin.
_STEPS = 7


@dataclass(frozen=True)
class Trapezoids:
    """The best trapezoid of each of R transits; NaN where none dips. Times are in units of the stated duration.

    Attributes:
        depth: [R] below the level, in the unit of the profile.
        depth_error: [R] for a known shape.
        duration, duration_error: [R] from first to last contact: mean and standard deviation of the likelihood.
        ingress_share, ingress_share_error: [R] likewise; 0 for a box, 0.5 for a V.
        offset: [R] of the centre.
        noise: [R] standard deviation of a bin of mean weight.
        misfit: [R] rms of the residuals in transit, in units of the noise with `MODEL_ERROR`.
        shape: [R, BINS] of unit depth.
    """

    depth: np.ndarray
    depth_error: np.ndarray
    duration: np.ndarray
    duration_error: np.ndarray
    ingress_share: np.ndarray
    ingress_share_error: np.ndarray
    offset: np.ndarray
    noise: np.ndarray
    misfit: np.ndarray
    shape: np.ndarray


def centres() -> np.ndarray:
    """[BINS] the centres of the profile's bins, in durations."""
    return SPAN * ((np.arange(BINS) + 0.5) * 2 / BINS - 1)


@functools.lru_cache(maxsize=32)
def _shapes(width: float) -> tuple[np.ndarray, np.ndarray]:
    """[K, BINS] shapes of unit depth, averaged over `width` durations, and [K, 3] duration, share and offset."""
    duration, share, offset = (a.ravel() for a in np.meshgrid(DURATIONS, SHARES, OFFSETS, indexing="ij"))
    steps = width * (np.arange(_STEPS) - _STEPS // 2) / _STEPS
    distance = np.abs(centres()[:, None] + steps - offset[:, None, None])
    ingress = np.maximum(share * duration, 1e-6)[:, None, None]
    shapes = np.clip((duration[:, None, None] / 2 - distance) / ingress, 0, 1).mean(axis=2)
    return shapes, np.stack([duration, share, offset], axis=1)


def fit_trapezoids(profiles: np.ndarray, weights: np.ndarray, width: float, correlated: float = 1.0) -> Trapezoids:
    """Fit a trapezoid to each profile.

    Args:
        profiles: [R, BINS] flux in bins within `SPAN` durations of the centre.
        weights: [R, BINS] numbers of points, or any weights proportional to them; 0 for a bin without a value.
        width: of the smoothing, in durations: that of a bin, or of an exposure if it is longer.
        correlated: neighbouring bins that share their points, as in overlapping bins; errors grow with its root.
    """
    width = _rounded(width)
    shapes, parameters = _shapes(width)
    rows = np.arange(len(profiles))
    weights = weights / np.maximum(weights.mean(axis=1, keepdims=True), 1e-300)
    total = np.maximum(weights.sum(axis=1, keepdims=True), 1e-300)
    values = np.where(weights > 0, profiles, 0.0)
    values = values - (weights * values).sum(axis=1, keepdims=True) / total
    mean_shape = weights @ shapes.T / total
    power = weights @ (shapes**2).T - total * mean_shape**2
    dip = -(weights * values) @ shapes.T
    usable = (power > 1e-3) & (dip > 0)
    gain = np.where(usable, dip**2 / np.where(usable, power, 1.0), 0.0)
    # shapes that differ only where there are no points differ by rounding: the first of them is taken
    best = (gain >= gain.max(axis=1, keepdims=True) * (1 - 1e-9)).argmax(axis=1)
    depth = dip[rows, best] / np.where(usable[rows, best], power[rows, best], np.nan)
    shape = shapes[best]
    level = mean_shape[rows, best] * depth
    residuals = np.where(weights > 0, (values - (level[:, None] - depth[:, None] * shape)) * np.sqrt(weights), np.nan)
    noise = _robust_deviation(residuals)
    variance = correlated * np.maximum(noise, 1e-9 * np.abs(depth)) ** 2
    spread = variance + (MODEL_ERROR * depth) ** 2
    likelihood = np.exp(np.maximum(0.5 * (gain - gain[rows, best][:, None]) / spread[:, None], -700.0))
    likelihood /= likelihood.sum(axis=1, keepdims=True)
    mean = likelihood @ parameters
    steps = np.array([DURATIONS[1] / DURATIONS[0] - 1, SHARES[1] - SHARES[0], 0.0]) / np.sqrt(12)
    steps = np.where([True, False, False], mean, 1.0) * steps  # the error of a value known to a step of the grid
    error = np.sqrt(np.maximum(likelihood @ parameters**2 - mean**2, 0) + steps**2)
    missing = np.where(np.isfinite(depth), 1.0, np.nan)
    inside = (shape > 0) & np.isfinite(residuals)
    squares = np.where(inside, residuals, 0.0) ** 2
    return Trapezoids(
        depth=depth,
        depth_error=np.sqrt(variance / np.where(usable[rows, best], power[rows, best], np.nan)),
        duration=mean[:, 0] * missing,
        duration_error=error[:, 0] * missing,
        ingress_share=mean[:, 1] * missing,
        ingress_share_error=error[:, 1] * missing,
        offset=mean[:, 2] * missing,
        noise=noise,
        misfit=np.sqrt(squares.sum(axis=1) / np.maximum(inside.sum(axis=1), 1) / (spread - variance + noise**2)),
        shape=shape,
    )


def _rounded(width: float) -> float:
    """The width to 10 %, so that few sets of shapes are made; at least that of a bin."""
    bin_width = 2 * SPAN / BINS
    return float(bin_width * 1.1 ** round(np.log(max(width / bin_width, 1.0)) / np.log(1.1)))


def _robust_deviation(values: np.ndarray) -> np.ndarray:
    """[R] 1.4826 times the median absolute deviation of each row, without NaN; NaN for a row of fewer than 5 values."""
    count = np.isfinite(values).sum(axis=1)
    deviation = 1.4826 * _row_medians(np.abs(values - _row_medians(values, count)[:, None]), count)
    return np.where(count < 5, np.nan, deviation)


def _row_medians(values: np.ndarray, count: np.ndarray) -> np.ndarray:
    """[R] median of the `count` numbers of each row, whose other values are NaN; NaN for a row without numbers."""
    ordered = np.sort(values, axis=1)  # NaN last
    row = np.arange(len(values))
    return 0.5 * (
        ordered[row, np.maximum(count - 1, 0) // 2] + ordered[row, np.minimum(count // 2, values.shape[1] - 1)]
    )
