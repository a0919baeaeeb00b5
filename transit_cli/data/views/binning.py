"""Medians in bins, which may overlap, without a Python loop over bins.

The recipe is AstroNet's (google-research/exoplanet-ml, `light_curve/binning.py`).
"""

from __future__ import annotations

import numpy as np


def median(values: np.ndarray) -> float:
    """The median of [n] numbers without NaN, n >= 1; twice as fast as `np.median`."""
    half = len(values) // 2
    parted = np.partition(values, half)
    return float(parted[half] if len(values) % 2 else 0.5 * (parted[:half].max() + parted[half]))


def bin_medians(
    x: np.ndarray, y: np.ndarray, *, bins: int, width: float, low: float, high: float
) -> tuple[np.ndarray, np.ndarray]:
    """The median of `y` in evenly spaced bins of `x`, which may overlap.

    Bin i holds low + i*s <= x < low + i*s + width with s = (high - low - width) / (bins - 1).

    Args:
        x: [n] ascending.
        y: [n] finite.
        bins: number of bins, at least 2.
        width: of each bin, in the unit of `x`.
        low: left edge of the first bin.
        high: right edge of the last bin.

    Returns:
        [bins] medians, NaN for an empty bin; and [bins] numbers of points.
    """
    step = (high - low - width) / (bins - 1)
    begins = low + step * np.arange(bins)
    first = np.searchsorted(x, begins)
    if abs(step - width) <= 1e-9 * width:  # adjacent bins share their edge exactly
        ends = np.append(first[1:], np.searchsorted(x, high))
    else:
        upper = begins + width
        upper[-1] = high
        ends = np.searchsorted(x, upper)
    counts = ends - first
    return _medians_of_runs(y, first, counts), counts


def _medians_of_runs(y: np.ndarray, first: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """The median of each run y[first : first + count], NaN where the count is 0.

    Runs of similar length are sorted together as rows of one array, padded by at most a factor of two.
    """
    medians = np.full(len(first), np.nan)
    few = np.flatnonzero((counts == 1) | (counts == 2))
    medians[few] = 0.5 * (y[first[few]] + y[first[few] + counts[few] - 1])
    doublings = np.frexp(np.where(counts > 2, counts, 0))[1]
    for doubling in np.flatnonzero(np.bincount(doublings)[1:]) + 1:
        rows = np.flatnonzero(doublings == doubling)
        count = counts[rows]
        column = np.arange(count.max())
        block = np.take(y, first[rows, None] + column, mode="clip")
        block[column >= count[:, None]] = np.inf
        block.sort(axis=1)
        row = np.arange(len(rows))
        medians[rows] = 0.5 * (block[row, (count - 1) // 2] + block[row, count // 2])
    return medians


def fill_empty(medians: np.ndarray, flux: np.ndarray) -> np.ndarray:
    """`medians` with empty bins set to the median of all `flux`."""
    empty = np.isnan(medians)
    if empty.any():
        medians = np.where(empty, median(flux), medians)
    return medians


def interpolate_empty(medians: np.ndarray, flux: np.ndarray) -> np.ndarray:
    """`medians` with empty bins interpolated linearly between their neighbours, and constant at either end.

    If all bins are empty, they are set to the median of `flux`.
    """
    known = np.flatnonzero(~np.isnan(medians))
    if len(known) == len(medians):
        return medians
    if len(known) == 0:
        return fill_empty(medians, flux)
    return np.interp(np.arange(len(medians)), known, medians[known])
