"""Detrending: a light curve divided by a spline through all that is not a transit.

The recipe is AstroNet's (google-research/exoplanet-ml, `third_party/kepler_spline`): a cubic B-spline on evenly spaced
knots for each stretch between gaps, 20 spacings tried, the one of least BIC taken, outliers rejected at 3 sigma. It
differs where the science asks for it: transits of all known signals of the star are left out of the fit, which runs
straight across them, and every spacing is judged on the same points. All stretches are fitted at once, as blocks of
one banded system.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from transit_cli.data.views.binning import median
from transit_cli.data.views.make import Signal, phases

#: A stretch ends at a gap longer than this, in days.
GAP = 0.75
#: Knot spacings that are tried, in days.
SPACINGS = tuple(np.geomspace(0.5, 20, 20).tolist())
#: Points farther than this from the spline, in standard deviations, do not count.
OUTLIER = 3.0
#: Fits at most until no more points are rejected.
ITERATIONS = 5
#: Methods of wotan (an extra) that leave hidden points out, so that transits can be masked.
WOTAN_METHODS = ("biweight", "lowess", "hodges", "welsch", "median", "mean", "trim_mean", "winsorize")
#: The part of each transit that is left out of the fit, in durations.
TRANSIT_WIDTH = 1.5

# A cubic B-spline piece on evenly spaced knots: basis function a is sum_p BASIS[a, p] u^p for 0 <= u < 1.
_BASIS = np.array([[1, -3, 3, -1], [4, 0, -6, 3], [1, 3, 3, -3], [0, 0, 0, 1]]) / 6
# The pairs a <= b of basis functions, and the product of each as a polynomial in u: PRODUCTS[pair, k] belongs to u^k.
_LOWER = np.array([(a, b) for a in range(4) for b in range(a, 4)]).T
_PRODUCTS = np.array([np.convolve(_BASIS[a], _BASIS[b]) for a, b in _LOWER.T])
# Weight of the squared second differences of the coefficients, in points per interval: it decides only where there is
# no data, inside a masked transit say, and carries the spline straight across. A stretch with fewer than two points
# has no straight line either; there the squares of the coefficients themselves decide.
_STIFFNESS = 1e-9
_SMALLNESS = 1e-13


@dataclass(frozen=True)
class Trend:
    """A fitted trend.

    Attributes:
        values: [n] in the unit of the flux; NaN in stretches of fewer than four points to fit.
        kept: [n] whether the fit rests on the point: neither in a transit nor an outlier.
        spacing: between knots, in days.
    """

    values: np.ndarray
    kept: np.ndarray
    spacing: float


def stretches(time: np.ndarray, gap: float = GAP) -> np.ndarray:
    """Where each stretch without a gap begins: indices into `time`, which ascends. The first is 0."""
    return np.concatenate([[0], np.flatnonzero(np.diff(time) > gap) + 1])


def in_transit(time: np.ndarray, signals: Iterable[Signal], width: float = TRANSIT_WIDTH) -> np.ndarray:
    """Whether each time lies within `width` durations around a transit of any of the signals, [n] bool.

    Signals whose figures make no sense mask nothing, and none masks more than half of its period.
    """
    masked = np.zeros(len(time), dtype=bool)
    for signal in signals:
        figures = (signal.period, signal.epoch, signal.duration)
        if np.isfinite(figures).all() and signal.period > 0 and signal.duration > 0:
            phase, _ = phases(time, signal)
            masked |= np.abs(phase) <= min(width * signal.duration, 0.5 * signal.period) / 2
    return masked


def flatten(time: np.ndarray, flux: np.ndarray, signals: Iterable[Signal] = ()) -> tuple[np.ndarray, np.ndarray]:
    """The light curve divided by its trend.

    Args:
        time: [n] days, ascending.
        flux: [n] finite.
        signals: all known signals of the star; their transits do not count in the fit.

    Returns:
        Times and fluxes (about 1) of the points whose trend is known and positive.
    """
    trend = fit_trend(time, flux, in_transit(time, signals))
    good = trend.values > 0
    return time[good], flux[good] / trend.values[good]


def fit_trend(
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
        masked: [n] bool, points to leave out (in transit). Where they are all that a light curve has, they stay.
        spacings: between knots, ascending, in days.
        penalty: of a parameter in the BIC; 1 is the BIC itself.
    """
    free = np.ones(len(time), dtype=bool) if masked is None or masked.sum() > 0.9 * len(time) else ~masked
    kept = free
    if len(time) < 4:
        return Trend(np.full(len(time), np.nan), free, spacings[0])
    layout = _Layout.of(time)
    rounding = 1e-7 * float(np.abs(flux).max())  # photometry is float32
    spacing = spacings[0]
    if len(spacings) > 1:
        sigma = _sigma_of_differences(flux[free])
        kept = _within(flux - layout.fit(flux, kept, _Pieces.of(layout, spacing)), free, rounding)
        spacing = _least_bic(
            layout.averaged(flux, kept, spacings[0] / 5), spacings, sigma, penalty * np.log(kept.sum())
        )
    pieces = _Pieces.of(layout, spacing)
    values = layout.fit(flux, kept, pieces)
    for _ in range(ITERATIONS - 1):
        before, kept = kept, _within(flux - values, free, rounding)
        if np.count_nonzero(kept != before) <= 1e-4 * len(kept):
            break
        values = layout.fit(flux, kept, pieces)
    return Trend(values, kept, float(spacing))


def _sigma_of_differences(flux: np.ndarray) -> float:
    """The noise of one point, from the differences of neighbours, so that a trend does not count."""
    sigma = 1.48 * median(np.abs(np.diff(flux))) / np.sqrt(2) if len(flux) > 1 else 0.0
    return sigma or float(np.finfo(float).eps * np.abs(flux).max(initial=1.0))


def _within(residuals: np.ndarray, free: np.ndarray, rounding: float) -> np.ndarray:
    """The free points whose residual is within `OUTLIER` standard deviations of the median, by a robust measure.

    `rounding` is allowed for besides, so that an exact fit rejects nothing.
    """
    known = residuals[free]
    if np.isnan(known).any():
        known = known[~np.isnan(known)]
    if not len(known):
        return free
    centre = median(known)
    sigma = 1.4826 * median(np.abs(known - centre))
    return free & ~(np.abs(residuals - centre) > OUTLIER * sigma + rounding)


@dataclass(frozen=True)
class _Layout:
    """Points in stretches, ready to be fitted with any knot spacing.

    Attributes:
        time: [n] days since the beginning of the point's stretch.
        counts: [stretches] the number of points in each stretch.
        spans: [stretches] the length of each stretch, in days.
    """

    time: np.ndarray
    counts: np.ndarray
    spans: np.ndarray

    @classmethod
    def of(cls, time: np.ndarray) -> _Layout:
        begins = stretches(time)
        counts = np.diff(np.append(begins, len(time)))
        spans = time[begins + counts - 1] - time[begins]
        return cls(time - np.repeat(time[begins], counts), counts, spans)

    def intervals(self, spacing: float) -> np.ndarray:
        """The number of spline pieces in each stretch."""
        return np.maximum((self.spans / spacing).astype(int), 1)

    def fit(self, flux: np.ndarray, kept: np.ndarray, pieces: _Pieces) -> np.ndarray:
        """The spline through the kept points, at all points; NaN in stretches with fewer than four to keep.

        Before the first point of a stretch that is kept and after the last, where a transit at its end is masked, the
        trend stays level: a spline that runs on freely would take the transit with it.
        """
        values = pieces.evaluate(pieces.solve(flux, kept.astype(float)))
        ends = np.cumsum(self.counts)
        for begin, end in zip(ends - self.counts, ends, strict=True):
            where = kept[begin:end]
            if where[0] and where[-1] and where[:4].sum() == 4:
                continue
            places = begin + np.flatnonzero(where)
            if len(places) < 4:
                values[begin:end] = np.nan
            else:
                values[begin : places[0]] = values[places[0]]
                values[places[-1] + 1 : end] = values[places[-1]]
        return values

    def averaged(self, flux: np.ndarray, kept: np.ndarray, cell: float) -> tuple[_Layout, np.ndarray, np.ndarray]:
        """Means of the kept points in cells of `cell` days: their layout, fluxes and numbers of points."""
        stretch = np.repeat(np.arange(len(self.counts)), self.counts)[kept]
        time, flux = self.time[kept], flux[kept]
        number = (time / cell).astype(int)
        begins = np.flatnonzero(np.diff(number, prepend=-1) | np.diff(stretch, prepend=-1))
        counts = np.diff(np.append(begins, len(time))).astype(float)
        means = (np.add.reduceat(values, begins) / counts for values in (time, flux))
        cells = np.bincount(stretch[begins], minlength=len(self.counts))
        return _Layout(next(means), cells, self.spans), next(means), counts


def _least_bic(
    cells: tuple[_Layout, np.ndarray, np.ndarray], spacings: Sequence[float], sigma: float, cost: float
) -> float:
    """The knot spacing of least BIC, up to what is the same for all: squared residuals and cost per parameter.

    Cells of a fifth of the finest spacing stand for their points, whose scatter about the cells' means is the same for
    every spacing.
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
    """Points as places in the pieces of splines, one spline a stretch, all coefficients in one row.

    Attributes:
        counts: [pieces] the number of points in each piece, through all stretches in order.
        place: [n] of each point in its piece, 0 <= u <= 1.
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
        """Where each piece's figures go: its right side [4, pieces]; its lower triangle, in the band, [10, pieces]."""
        diagonal, column = _LOWER[1] - _LOWER[0], _LOWER[0]
        return np.arange(4)[:, None] + self.first, (diagonal * self.parameters + column)[:, None] + self.first

    @cached_property
    def _stiffness(self) -> np.ndarray:
        """[4, parameters] the squared second differences of the coefficients of each stretch, as a band."""
        last = np.flatnonzero(np.diff(self.first, append=-1) != 1)
        begins = np.zeros(self.parameters + 2)  # a one where a second difference begins
        begins[2:-2][self.first] = begins[2:-2][self.first[last] + 1] = 1
        here, before, twice = begins[2:], begins[1:-1], begins[:-2]
        band = np.zeros((4, self.parameters))
        band[0], band[1], band[2] = here + 4 * before + twice, -2 * (here + before), here
        return band

    def solve(self, flux: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """The coefficients of the weighted least-squares splines, [parameters].

        The sums of each piece's powers of u give its 4 x 4 block of the normal equations, and these one band.
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
        # What solveh_banded calls, in two thirds of its time.
        _, coefficients, failed = dpbsv(band, target, lower=1, overwrite_ab=1, overwrite_b=1)
        if failed:
            raise np.linalg.LinAlgError(f"the normal equations are not positive definite (dpbsv: {failed})")
        return np.asarray(coefficients)

    def _moments(self, values: np.ndarray, count: int) -> np.ndarray:
        """[count, pieces] sums over each piece's points of values u^0, values u^1, ...; `values` are used up.

        One power at a time: a light curve of some thousand points then stays in the processor's cache.
        """
        fill_empty = self.counts > 0
        begins = (np.cumsum(self.counts) - self.counts)[fill_empty]
        moments = np.zeros((count, len(self.counts)))
        for power in range(count):
            if power:
                values *= self.place
            moments[power, fill_empty] = np.add.reduceat(values, begins)
        return moments

    def evaluate(self, coefficients: np.ndarray) -> np.ndarray:
        """The splines at the points, [n]."""
        polynomials = _BASIS.T @ coefficients[self._places[0]]
        values = np.repeat(polynomials[3], self.counts)  # a tenth of the time of an index for each point
        for lower in polynomials[2::-1]:
            values *= self.place
            values += np.repeat(lower, self.counts)
        return values


def flatten_by_method(
    method: str, time: np.ndarray, flux: np.ndarray, signals: Sequence[Signal], window: float = 1.5
) -> tuple[np.ndarray, np.ndarray, float]:
    """The light curve divided by its trend, by the spline or by a method of wotan.

    Args:
        method: "spline", or the name of a method of `wotan.flatten` ("biweight", "rspline", ...).
        time: [n] days, ascending.
        flux: [n] finite.
        signals: all known signals of the star.
        window: of wotan's method, in days; at least three times the longest transit.

    Returns:
        Times, fluxes, and the knot spacing or window in days.
    """
    masked = in_transit(time, signals)
    if method == "spline":
        trend = fit_trend(time, flux, masked)
        values, width = trend.values, trend.spacing
    else:
        import wotan  # type: ignore[import-not-found]  # an extra, checked for before this starts

        width = max([window, *(3 * signal.duration for signal in signals if np.isfinite(signal.duration))])
        hidden = np.where(masked, np.nan, flux)
        _, values = wotan.flatten(
            time, hidden, method=method, window_length=width, break_tolerance=GAP, edge_cutoff=0, return_trend=True
        )
        known = np.isfinite(values)
        if not known.any():
            return time[:0], flux[:0], width
        values = np.interp(time, time[known], values[known])
    good = values > 0
    return time[good], flux[good] / values[good], width
