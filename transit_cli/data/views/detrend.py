"""Detrending: dividing a light curve by a spline fitted to its out-of-transit points.

The recipe is AstroNet's (google-research/exoplanet-ml, `third_party/kepler_spline`): a cubic B-spline on evenly spaced
knots per segment between gaps, 20 knot spacings tried, the one of least BIC chosen, outliers rejected at 3 sigma. It
differs from AstroNet in two ways: transits of all known signals of the star are masked during the fit, which is
interpolated linearly across them, and every spacing is compared on the same points. All segments are fitted at once, as
blocks of one banded system.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from transit_cli.data.views.binning import median
from transit_cli.data.views.folding import Signal, phases

#: A gap longer than this splits the light curve into segments, in days.
GAP = 0.75
#: Trial knot spacings, in days.
SPACINGS = tuple(np.geomspace(0.5, 20, 20).tolist())
#: Points farther than this from the spline, in standard deviations, are rejected.
OUTLIER = 3.0
#: Maximum number of fits while outliers are rejected.
ITERATIONS = 5
#: Methods of wotan (an extra) that ignore NaN, so that transits can be masked.
WOTAN_METHODS = ("biweight", "lowess", "hodges", "welsch", "median", "mean", "trim_mean", "winsorize")
#: Width of the mask around each transit, in durations.
TRANSIT_WIDTH = 1.5

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


@dataclass(frozen=True)
class Trend:
    """A fitted trend.

    Attributes:
        values: [n] in the unit of the flux; NaN in segments with fewer than four points to fit.
        used_in_fit: [n] bool, False for masked points and outliers.
        spacing: between knots, or the window of wotan's methods, in days.
    """

    values: np.ndarray
    used_in_fit: np.ndarray
    spacing: float


@dataclass(frozen=True)
class Flattened:
    """A light curve divided by its trend.

    Attributes:
        time: [m] days, the points whose trend is finite and positive.
        flux: [m] about 1.
        trend: of all n points.
    """

    time: np.ndarray
    flux: np.ndarray
    trend: Trend


def gap_splits(time: np.ndarray, gap: float = GAP) -> np.ndarray:
    """Indices into ascending `time` at which the segments between gaps begin. The first is 0."""
    return np.concatenate([[0], np.flatnonzero(np.diff(time) > gap) + 1])


def in_transit(time: np.ndarray, signals: Iterable[Signal], width: float = TRANSIT_WIDTH) -> np.ndarray:
    """Whether each time lies within `width` durations around a transit of any of the signals, [n] bool.

    Signals with invalid parameters mask nothing; no signal masks more than half of its period.
    """
    masked = np.zeros(len(time), dtype=bool)
    for signal in signals:
        parameters = (signal.period, signal.epoch, signal.duration)
        if np.isfinite(parameters).all() and signal.period > 0 and signal.duration > 0:
            phase, _ = phases(time, signal)
            masked |= np.abs(phase) <= min(width * signal.duration, 0.5 * signal.period) / 2
    return masked


def flatten(
    time: np.ndarray,
    flux: np.ndarray,
    signals: Sequence[Signal] = (),
    *,
    method: str = "spline",
    window: float = 1.5,
    spacings: Sequence[float] = SPACINGS,
) -> Flattened:
    """Divide a light curve by its trend.

    Args:
        time: [n] days, ascending.
        flux: [n] finite.
        signals: all known signals of the star; their transits are masked in the fit.
        method: "spline", or one of `WOTAN_METHODS`.
        window: of wotan's methods, in days; widened to three times the longest transit.
        spacings: trial knot spacings of the spline, ascending, in days.
    """
    masked = in_transit(time, signals)
    if method == "spline":
        trend = fit_spline(time, flux, masked, spacings)
    else:
        trend = _fit_wotan(time, flux, masked, method, _window(window, signals))
    good = trend.values > 0
    return Flattened(time[good], flux[good] / trend.values[good], trend)


def _window(window: float, signals: Iterable[Signal]) -> float:
    return max([window, *(3 * signal.duration for signal in signals if np.isfinite(signal.duration))])


def _fit_wotan(time: np.ndarray, flux: np.ndarray, masked: np.ndarray, method: str, window: float) -> Trend:
    import wotan  # type: ignore[import-not-found]  # an extra, checked for before this starts

    _, values = wotan.flatten(
        time,
        np.where(masked, np.nan, flux),
        method=method,
        window_length=window,
        break_tolerance=GAP,
        edge_cutoff=0,
        return_trend=True,
    )
    known = np.isfinite(values)
    values = np.interp(time, time[known], values[known]) if known.any() else np.full(len(time), np.nan)
    return Trend(values, ~masked, window)


def fit_spline(
    time: np.ndarray,
    flux: np.ndarray,
    masked: np.ndarray | None = None,
    spacings: Sequence[float] = SPACINGS,
    penalty: float = 1.0,
) -> Trend:
    """Fit the spline of least BIC.

    Args:
        time: [n] days, ascending.
        flux: [n] finite.
        masked: [n] bool, points in transit. Ignored if more than 90 % of the points are masked.
        spacings: trial knot spacings, ascending, in days.
        penalty: weight of a parameter in the BIC; 1 is the BIC itself.
    """
    unmasked = np.ones(len(time), dtype=bool) if masked is None or masked.sum() > 0.9 * len(time) else ~masked
    used_in_fit = unmasked
    if len(time) < 4:
        return Trend(np.full(len(time), np.nan), unmasked, spacings[0])
    layout = _Layout.of(time)
    rounding = 1e-7 * float(np.abs(flux).max())  # photometry is float32
    spacing = spacings[0]
    if len(spacings) > 1:
        sigma = _sigma_of_differences(flux[unmasked])
        used_in_fit = _within(flux - layout.fit(flux, used_in_fit, _Pieces.of(layout, spacing)), unmasked, rounding)
        spacing = _least_bic(
            layout.averaged(flux, used_in_fit, spacings[0] / 5), spacings, sigma, penalty * np.log(used_in_fit.sum())
        )
    pieces = _Pieces.of(layout, spacing)
    values = layout.fit(flux, used_in_fit, pieces)
    for _ in range(ITERATIONS - 1):
        before, used_in_fit = used_in_fit, _within(flux - values, unmasked, rounding)
        if np.count_nonzero(used_in_fit != before) <= 1e-4 * len(used_in_fit):
            break
        values = layout.fit(flux, used_in_fit, pieces)
    return Trend(values, used_in_fit, float(spacing))


def _sigma_of_differences(flux: np.ndarray) -> float:
    """The noise of one point from the differences of neighbours, which a slow trend does not affect."""
    sigma = 1.48 * median(np.abs(np.diff(flux))) / np.sqrt(2) if len(flux) > 1 else 0.0
    return sigma or float(np.finfo(float).eps * np.abs(flux).max(initial=1.0))


def _within(residuals: np.ndarray, unmasked: np.ndarray, rounding: float) -> np.ndarray:
    """The unmasked points whose residual is within `OUTLIER` robust standard deviations of the median.

    `rounding` is added to the tolerance, so that an exact fit rejects nothing.
    """
    known = residuals[unmasked]
    if np.isnan(known).any():
        known = known[~np.isnan(known)]
    if not len(known):
        return unmasked
    centre = median(known)
    sigma = 1.4826 * median(np.abs(known - centre))
    return unmasked & ~(np.abs(residuals - centre) > OUTLIER * sigma + rounding)


@dataclass(frozen=True)
class _Layout:
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
    def of(cls, time: np.ndarray) -> _Layout:
        begins = gap_splits(time)
        counts = np.diff(np.append(begins, len(time)))
        spans = time[begins + counts - 1] - time[begins]
        return cls(time - np.repeat(time[begins], counts), counts, spans)

    def intervals(self, spacing: float) -> np.ndarray:
        """The number of spline pieces in each segment."""
        return np.maximum((self.spans / spacing).astype(int), 1)

    def fit(self, flux: np.ndarray, used_in_fit: np.ndarray, pieces: _Pieces) -> np.ndarray:
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

    def averaged(
        self, flux: np.ndarray, used_in_fit: np.ndarray, cell: float
    ) -> tuple[_Layout, np.ndarray, np.ndarray]:
        """Means of the points in use in cells of `cell` days: their layout, fluxes and numbers of points."""
        segment = np.repeat(np.arange(len(self.counts)), self.counts)[used_in_fit]
        time, flux = self.time[used_in_fit], flux[used_in_fit]
        number = (time / cell).astype(int)
        begins = np.flatnonzero(np.diff(number, prepend=-1) | np.diff(segment, prepend=-1))
        counts = np.diff(np.append(begins, len(time))).astype(float)
        means = (np.add.reduceat(values, begins) / counts for values in (time, flux))
        cells = np.bincount(segment[begins], minlength=len(self.counts))
        return _Layout(next(means), cells, self.spans), next(means), counts


def _least_bic(
    cells: tuple[_Layout, np.ndarray, np.ndarray], spacings: Sequence[float], sigma: float, cost: float
) -> float:
    """The knot spacing of least BIC: squared residuals plus `cost` per parameter, without terms common to all.

    Points are represented by means in cells of a fifth of the finest spacing; their scatter about those means is the
    same for every spacing.
    """
    layout, flux, counts = cells
    best, least = spacings[0], np.inf
    for spacing in spacings:
        pieces = _Pieces.of(layout, spacing)
        residuals = flux - pieces.evaluate(pieces.solve(flux, counts))
        bic = (counts * residuals**2).sum() / sigma**2 + cost * pieces.parameters
        if bic < least:
            best, least = spacing, bic
    return best


@dataclass(frozen=True)
class _Pieces:
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
    def of(cls, layout: _Layout, spacing: float) -> _Pieces:
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
        from scipy.linalg.lapack import dpbsv  # type: ignore[attr-defined]  # made when the module is imported

        moments = self._moments(weights.copy(), 7)
        right = _BASIS @ self._moments(weights * flux, 4)
        rows, cells = self._places
        target = np.bincount(rows.ravel(), right.ravel(), self.parameters)
        band = np.bincount(cells.ravel(), (_PRODUCTS @ moments).ravel(), 4 * self.parameters).reshape(4, -1)
        points = max(moments[0].mean(), 1.0)
        band += _STIFFNESS * points * self._stiffness
        band[0] += _SMALLNESS * points
        # The routine that solveh_banded calls, without its overhead (two thirds of its time).
        _, coefficients, failed = dpbsv(band, target, lower=1, overwrite_ab=1, overwrite_b=1)
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
