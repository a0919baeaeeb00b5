"""Least-squares cubic B-splines on evenly spaced knots, one per segment between gaps, solved as one banded system."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

import numpy as np

#: A gap longer than this splits the light curve into segments, in days.
GAP = 0.75

# A cubic B-spline piece on evenly spaced knots: basis function a is sum_p BASIS[a, p] u^p for 0 <= u < 1.
_BASIS = np.array([[1, -3, 3, -1], [4, 0, -6, 3], [1, 3, 3, -3], [0, 0, 0, 1]]) / 6
# The pairs a <= b of basis functions, and the product of each as a polynomial in u: PRODUCTS[pair, k] belongs to u^k.
_LOWER = np.array([(a, b) for a in range(4) for b in range(a, 4)]).T
_PRODUCTS = np.array([np.convolve(_BASIS[a], _BASIS[b]) for a, b in _LOWER.T])
# Weight of the squared second differences of the coefficients, in points per interval: it matters only where there are
# no data, as inside a masked transit, and makes the spline linear there. A segment with fewer than two points does not
# determine a line either; there the squares of the coefficients are minimised.
_STIFFNESS = 1e-9
_SMALLNESS = 1e-13


def gap_splits(time: np.ndarray, gap: float = GAP) -> np.ndarray:
    """Indices into ascending `time` at which the segments between gaps begin. The first is 0."""
    return np.concatenate([[0], np.flatnonzero(np.diff(time) > gap) + 1])


@dataclass(frozen=True)
class Layout:
    """Points grouped into segments, ready to be fitted with any knot spacing.

    Attributes:
        time: [n] days since the beginning of the point's segment.
        counts: [segments] the number of points in each segment.
        spans: [segments] the length of each segment, in days.
    """

    time: np.ndarray
    counts: np.ndarray
    spans: np.ndarray

    @classmethod
    def of(cls, time: np.ndarray) -> Layout:
        """The layout of ascending times, in days."""
        begins = gap_splits(time)
        counts = np.diff(np.append(begins, len(time)))
        spans = time[begins + counts - 1] - time[begins]
        return cls(time - np.repeat(time[begins], counts), counts, spans)

    def intervals(self, spacing: float) -> np.ndarray:
        """The number of spline pieces in each segment."""
        return np.maximum((self.spans / spacing).astype(int), 1)

    def fit(self, flux: np.ndarray, used_in_fit: np.ndarray, pieces: Pieces) -> np.ndarray:
        """The spline fitted to the points in use, at all points; NaN in segments with fewer than four of them.

        Before a segment's first point in use and after its last, where a transit at its edge is masked, the trend is
        constant: an extrapolated spline would follow the transit.
        """
        values = pieces.evaluate(pieces.solve(flux, used_in_fit.astype(float)))
        ends = np.cumsum(self.counts)
        for begin, end in zip(ends - self.counts, ends, strict=True):
            where = used_in_fit[begin:end]
            if where[0] and where[-1] and where[:4].sum() == 4:
                continue
            places = begin + np.flatnonzero(where)
            if len(places) < 4:
                values[begin:end] = np.nan
            else:
                values[begin : places[0]] = values[places[0]]
                values[places[-1] + 1 : end] = values[places[-1]]
        return values

    def averaged(self, flux: np.ndarray, used_in_fit: np.ndarray, cell: float) -> tuple[Layout, np.ndarray, np.ndarray]:
        """Means of the points in use in cells of `cell` days: their layout, fluxes and numbers of points."""
        segment = np.repeat(np.arange(len(self.counts)), self.counts)[used_in_fit]
        time, flux = self.time[used_in_fit], flux[used_in_fit]
        number = (time / cell).astype(int)
        begins = np.flatnonzero(np.diff(number, prepend=-1) | np.diff(segment, prepend=-1))
        counts = np.diff(np.append(begins, len(time))).astype(float)
        means = (np.add.reduceat(values, begins) / counts for values in (time, flux))
        cells = np.bincount(segment[begins], minlength=len(self.counts))
        return Layout(next(means), cells, self.spans), next(means), counts


def least_bic(
    cells: tuple[Layout, np.ndarray, np.ndarray], spacings: Sequence[float], sigma: float, cost: float
) -> float:
    """The knot spacing of least BIC: squared residuals plus `cost` per parameter, without terms common to all.

    Points are represented by means in cells of a fifth of the finest spacing; their scatter about those means is the
    same for every spacing.
    """
    layout, flux, counts = cells
    best, least = spacings[0], np.inf
    for spacing in spacings:
        pieces = Pieces.of(layout, spacing)
        residuals = flux - pieces.evaluate(pieces.solve(flux, counts))
        bic = (counts * residuals**2).sum() / sigma**2 + cost * pieces.parameters
        if bic < least:
            best, least = spacing, bic
    return best


@dataclass(frozen=True)
class Pieces:
    """Points as positions within spline pieces, one spline per segment, all coefficients in one row.

    Attributes:
        counts: [pieces] the number of points in each piece, over all segments in order.
        place: [n] position of each point in its piece, 0 <= u <= 1.
        first: [pieces] the first of each piece's four coefficients.
        parameters: the number of coefficients.
    """

    counts: np.ndarray
    place: np.ndarray
    first: np.ndarray
    parameters: int

    @classmethod
    def of(cls, layout: Layout, spacing: float) -> Pieces:
        """The pieces of splines with knots about `spacing` days apart."""
        intervals = layout.intervals(spacing)
        place = layout.time * np.repeat(intervals / np.maximum(layout.spans, 1e-9), layout.counts)
        within = np.minimum(place.astype(int), np.repeat(intervals - 1, layout.counts))
        pieces, parameters = int(intervals.sum()), int(intervals.sum() + 3 * len(intervals))
        before = np.cumsum(intervals) - intervals
        counts = np.bincount(within + np.repeat(before, layout.counts), minlength=pieces)
        first = np.arange(pieces) + 3 * np.repeat(np.arange(len(intervals)), intervals)
        return cls(counts, place - within, first, parameters)

    @cached_property
    def _places(self) -> tuple[np.ndarray, np.ndarray]:
        """Indices of each piece's entries: right-hand side [4, pieces]; lower triangle in the band, [10, pieces]."""
        diagonal, column = _LOWER[1] - _LOWER[0], _LOWER[0]
        return np.arange(4)[:, None] + self.first, (diagonal * self.parameters + column)[:, None] + self.first

    @cached_property
    def _stiffness(self) -> np.ndarray:
        """[4, parameters] the squared second differences of the coefficients of each segment, as a band."""
        last = np.flatnonzero(np.diff(self.first, append=-1) != 1)
        begins = np.zeros(self.parameters + 2)  # a one where a second difference begins
        begins[2:-2][self.first] = begins[2:-2][self.first[last] + 1] = 1
        here, before, twice = begins[2:], begins[1:-1], begins[:-2]
        band = np.zeros((4, self.parameters))
        band[0], band[1], band[2] = here + 4 * before + twice, -2 * (here + before), here
        return band

    def solve(self, flux: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """The coefficients of the weighted least-squares splines, [parameters].

        Sums of powers of u over each piece give its 4 x 4 block of the normal equations; the blocks form one band.
        """
        moments = self._moments(weights.copy(), 7)
        right = _BASIS @ self._moments(weights * flux, 4)
        rows, cells = self._places
        target = np.bincount(rows.ravel(), right.ravel(), self.parameters)
        band = np.bincount(cells.ravel(), (_PRODUCTS @ moments).ravel(), 4 * self.parameters).reshape(4, -1)
        points = max(moments[0].mean(), 1.0)
        band += _STIFFNESS * points * self._stiffness
        band[0] += _SMALLNESS * points
        # The routine that solveh_banded calls, without its overhead (two thirds of its time).
        _, coefficients, failed = _lapack().dpbsv(band, target, lower=1, overwrite_ab=1, overwrite_b=1)
        if failed:
            raise np.linalg.LinAlgError(f"the normal equations are not positive definite (dpbsv: {failed})")
        return np.asarray(coefficients)

    def _moments(self, values: np.ndarray, count: int) -> np.ndarray:
        """[count, pieces] sums over each piece's points of values u^0, values u^1, ...; overwrites `values`.

        One power at a time, so that a light curve of some thousand points stays in the processor's cache.
        """
        occupied = self.counts > 0
        begins = (np.cumsum(self.counts) - self.counts)[occupied]
        moments = np.zeros((count, len(self.counts)))
        for power in range(count):
            if power:
                values *= self.place
            moments[power, occupied] = np.add.reduceat(values, begins)
        return moments

    def evaluate(self, coefficients: np.ndarray) -> np.ndarray:
        """The splines at the points, [n]."""
        polynomials = _BASIS.T @ coefficients[self._places[0]]
        values = np.repeat(polynomials[3], self.counts)  # ten times as fast as indexing per point
        for lower in polynomials[2::-1]:
            values *= self.place
            values += np.repeat(lower, self.counts)
        return values


@cache
def _lapack() -> Any:
    """The routines of `scipy.linalg.lapack`.

    They are in an extension module that needs 5 ms to import, where the package around it needs a quarter of a second,
    a tenth of all that `transit predict` does with one light curve. A scipy without that module is imported as usual.
    """
    import scipy

    found = PathFinder.find_spec("_flapack", [str(Path(scipy.__file__).with_name("linalg"))])
    if found is None or found.loader is None:
        from scipy.linalg import lapack

        return lapack
    routines = importlib.util.module_from_spec(found)
    found.loader.exec_module(routines)
    return routines
