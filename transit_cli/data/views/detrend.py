"""Detrending: dividing a light curve by a spline fitted to its out-of-transit points.

The recipe is AstroNet's (google-research/exoplanet-ml, `third_party/kepler_spline`): a cubic B-spline on evenly spaced
knots per segment between gaps, 20 knot spacings tried, the one of least BIC chosen, outliers rejected at 3 sigma. It
differs from AstroNet in two ways: transits of all known signals of the star are masked during the fit, which is
interpolated linearly across them, and every spacing is compared on the same points.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from transit_cli.data.views.binning import median
from transit_cli.data.views.folding import Signal, phases
from transit_cli.data.views.spline import GAP, Layout, Pieces, least_bic

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
    layout = Layout.of(time)
    rounding = 1e-7 * float(np.abs(flux).max())  # photometry is float32
    spacing = spacings[0]
    if len(spacings) > 1:
        sigma = _sigma_of_differences(flux[unmasked])
        used_in_fit = _within(flux - layout.fit(flux, used_in_fit, Pieces.of(layout, spacing)), unmasked, rounding)
        spacing = least_bic(
            layout.averaged(flux, used_in_fit, spacings[0] / 5), spacings, sigma, penalty * np.log(used_in_fit.sum())
        )
    pieces = Pieces.of(layout, spacing)
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
