"""A limb-darkened transit fitted to a folded light curve: period, epoch, duration, depth, radius ratio and impact.

The planet is taken to cross the star at constant speed, so that the shape depends on the radius ratio k, the impact
parameter b and the duration from first to last contact only (Seager & Mallen-Ornelas 2003, ApJ 585, 1038). The fit is
repeated for several b / (1 + k), which gives the uncertainty of the shape without assuming that it is Gaussian.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from exoplanet_core import quad_limbdark_light_curve

from transit_cli.data.views.folding import Signal, phases

#: Quadratic limb darkening of a solar-type star in the Kepler band (Claret & Bloemen 2011).
LIMB_DARKENING = (0.48, 0.19)
#: Trial values of b / (1 + k): 0 is a central transit, 1 touches the limb.
IMPACTS = (0.0, 0.3, 0.5, 0.65, 0.75, 0.83, 0.9, 0.95, 0.98)
#: Bins of the folded light curve, and its half-width in durations.
BINS, REACH = 160, 2.5
#: Instants over which the exposure is averaged.
EXPOSURE = 5
#: Sum of k and b above which a companion is grazing or large (Thompson et al. 2018).
GRAZING = 1.04
#: Steps of a fit at most.
ITERATIONS = 12
#: Points of the tabulated transit.
POINTS = 201


@lru_cache(maxsize=4096)
def _table(radius_ratio: float, impact: float) -> np.ndarray:
    """[POINTS] light lost from first contact to the centre."""
    reach = 1 + radius_ratio
    squared = max(reach**2 - impact**2, 0.0)
    offset = np.linspace(1, 0, POINTS)
    return -np.asarray(
        quad_limbdark_light_curve(*LIMB_DARKENING, np.sqrt(impact**2 + squared * offset**2), radius_ratio)
    )


def _lost(phase: np.ndarray, duration: float, radius_ratio: float, impact: float, exposure: float) -> np.ndarray:
    """Light lost at some phases in days, averaged over the exposure."""
    shifts = exposure * ((np.arange(EXPOSURE) + 0.5) / EXPOSURE - 0.5)
    offset = np.abs(phase[:, None] + shifts) * (2 / duration)
    table = _table(round(radius_ratio, 6), round(impact, 6))
    return np.interp(offset, np.linspace(0, 1, POINTS), table[::-1], right=0.0).mean(axis=1)


@dataclass(frozen=True)
class TransitFit:
    """The transit that fits best.

    Attributes:
        period, epoch, duration: days; the epoch is that of the transit nearest to the middle of the data.
        depth: light lost at the centre, a fraction, averaged over the exposure.
        radius_ratio, impact: of the companion.
        period_error, epoch_error, duration_error, depth_error, radius_ratio_error, impact_error: standard deviations.
        exposure: days.
        snr: depth over its error.
        grazing_gain: by how much chi-square is smaller than that of the best transit with k + b below `GRAZING`.
    """

    period: float
    epoch: float
    duration: float
    depth: float
    radius_ratio: float
    impact: float
    period_error: float
    epoch_error: float
    duration_error: float
    depth_error: float
    radius_ratio_error: float
    impact_error: float
    exposure: float
    snr: float
    grazing_gain: float

    def lost(self, phase: np.ndarray) -> np.ndarray:
        """Light lost at phases in days from the centre."""
        return _lost(phase, self.duration, self.radius_ratio, self.impact, self.exposure)

    def shape(self, phase: np.ndarray) -> np.ndarray:
        """The transit with a depth of 1."""
        return self.lost(phase) / self.depth if self.depth > 0 else np.zeros(len(phase))

    def power(self, cell: float) -> float:
        """The sum of the squared shape over one transit without gaps."""
        phase = np.arange(-0.5 * self.duration - cell, 0.5 * self.duration + 2 * cell, cell)
        return float((self.shape(phase) ** 2).sum())


def fit_transit(
    time: np.ndarray, flux: np.ndarray, weight: np.ndarray, signal: Signal, *, sigma: float, red: float, cell: float
) -> TransitFit | None:
    """Fit the shape on the folded light curve, then period and epoch on all points.

    Args:
        time: [n] days.
        flux: [n] detrended, about 1.
        weight: [n] relative inverse variances; 1 is a full cell.
        signal: first guess.
        sigma: standard deviation of a full cell.
        red: what errors are multiplied with for correlated noise.
        cell: exposure of a cell, in days.

    Returns:
        The fit; None where there is no dip.
    """
    best = _fit_shape(time, flux, weight, signal, sigma=sigma, red=red, cell=cell)
    if best is None:
        return None
    shifted = _fit_times(time, flux, weight, best, sigma=sigma, red=red)
    # A dip far off the catalog's phase, or of another length, was folded with too few points about it.
    moved = Signal(shifted.period, shifted.epoch, best.duration)
    again = _fit_shape(time, flux, weight, moved, sigma=sigma, red=red, cell=cell)
    return _fit_times(time, flux, weight, again or best, sigma=sigma, red=red)


def _fold(time: np.ndarray, flux: np.ndarray, weight: np.ndarray, signal: Signal) -> tuple[np.ndarray, ...]:
    """Mean phase, flux and total weight of the bins that hold points."""
    phase, _ = phases(time, signal)
    reach = min(REACH * signal.duration, signal.period / 2)
    near = np.abs(phase) < reach
    number = np.minimum(((phase[near] + reach) / (2 * reach) * BINS).astype(np.int64), BINS - 1)
    total = np.bincount(number, weight[near], BINS)
    held = total > 0
    x = np.bincount(number, weight[near] * phase[near], BINS)[held] / total[held]
    y = np.bincount(number, weight[near] * flux[near], BINS)[held] / total[held]
    return x, y, total[held]


def _fit_shape(
    time: np.ndarray, flux: np.ndarray, weight: np.ndarray, signal: Signal, *, sigma: float, red: float, cell: float
) -> TransitFit | None:
    x, y, w = _fold(time, flux, weight, signal)
    inside = np.abs(x) < 0.25 * signal.duration
    outside = np.abs(x) > 0.75 * signal.duration
    if inside.sum() < 1 or outside.sum() < 3:
        return None
    guess = float(np.average(y[outside], weights=w[outside]) - np.average(y[inside], weights=w[inside]))
    if not guess > 0:
        return None
    scale = np.sqrt(w) / sigma
    longest = min(0.9 * signal.period, 4 * signal.duration)
    shortest = min(max(0.25 * signal.duration, 0.5 * cell), 0.5 * longest)
    low = np.array([np.log(1e-3), np.log(shortest), -0.6 * signal.duration])
    high = np.array([0.0, np.log(longest), 0.6 * signal.duration])

    def model(place: np.ndarray, share: float) -> np.ndarray:
        ratio = float(np.exp(place[0]))
        return _lost(x - place[2], float(np.exp(place[1])), ratio, share * (1 + ratio), cell)

    def residuals(place: np.ndarray, share: float) -> np.ndarray:
        rest = y + model(place, share)
        return scale * (rest - np.average(rest, weights=w))

    fits = []
    start = np.array([0.5 * np.log(guess), np.log(signal.duration), 0.0])
    steps = np.array([1e-3, 1e-3, 1e-3 * signal.duration])
    for share in IMPACTS:
        found = _least_squares(lambda place, part=share: residuals(place, part), start, steps, (low, high))
        if found is not None:
            fits.append((found.chi_square, share, found))
            start = found.place
    if not fits:
        return None
    least, share, found = min(fits, key=lambda item: item[0])
    sums = [float(np.exp(item.place[0]) + part * (1 + np.exp(item.place[0]))) for _, part, item in fits]
    ordinary = [chi for (chi, _, _), total in zip(fits, sums, strict=True) if total <= GRAZING]
    ratio, duration = float(np.exp(found.place[0])), float(np.exp(found.place[1]))
    impact = share * (1 + ratio)
    likely = [
        (np.exp(item.place[0]), part * (1 + np.exp(item.place[0]))) for chi, part, item in fits if chi < least + red**2
    ]
    spread = np.ptp(np.array(likely), axis=0) / 2
    errors = red * np.sqrt(np.maximum(np.diag(np.linalg.pinv(found.normal, hermitian=True)), 0))
    lost = _lost(np.zeros(1), duration, ratio, impact, cell)[0]
    if not lost > 0:
        return None
    shape = model(found.place, share) / lost
    depth_error = red * sigma / float(np.sqrt((w * shape**2).sum())) if shape.any() else np.nan
    return TransitFit(
        period=signal.period,
        epoch=signal.epoch + float(found.place[2]),
        duration=duration,
        depth=float(lost),
        radius_ratio=ratio,
        impact=impact,
        period_error=np.nan,
        epoch_error=float(errors[2]),
        duration_error=duration * float(errors[1]),
        depth_error=depth_error,
        radius_ratio_error=float(np.hypot(ratio * errors[0], spread[0])),
        impact_error=max(float(spread[1]), 0.05),
        exposure=cell,
        snr=float(lost / depth_error),
        grazing_gain=(min(ordinary) - least) / red**2 if ordinary else np.inf,
    )


@dataclass(frozen=True)
class _Minimum:
    """Parameters [3] of the least chi-square, and the normal matrix there, [3, 3]."""

    chi_square: float
    place: np.ndarray
    normal: np.ndarray


def _least_squares(
    residuals: Callable[[np.ndarray], np.ndarray],
    start: np.ndarray,
    steps: np.ndarray,
    limits: tuple[np.ndarray, np.ndarray],
) -> _Minimum | None:
    """Levenberg-Marquardt for three parameters within limits; None if a residual is not finite."""
    place = np.clip(start, *limits)
    rest = residuals(place)
    best, damping, normal = float(rest @ rest), 1e-3, np.eye(len(place))
    if not np.isfinite(best):
        return None
    for _ in range(ITERATIONS):
        jacobian = np.stack(
            [(residuals(place + move) - rest) / step for move, step in zip(np.diag(steps), steps, strict=True)], 1
        )
        normal, slope = jacobian.T @ jacobian, jacobian.T @ rest
        for _ in range(5):
            damped = normal + damping * np.diag(np.diag(normal) + 1e-12)
            trial = np.clip(place - np.linalg.lstsq(damped, slope, rcond=None)[0], *limits)
            new = residuals(trial)
            value = float(new @ new)
            if value < best:
                break
            damping *= 8
        else:
            break
        gained, best, place, rest = best - value, value, trial, new
        damping = max(damping / 10, 1e-9)
        if gained < 1e-3 + 1e-5 * best:
            break
    return _Minimum(best, place, normal)


def _fit_times(
    time: np.ndarray, flux: np.ndarray, weight: np.ndarray, fit: TransitFit, *, sigma: float, red: float
) -> TransitFit:
    """Period and epoch by linear least squares about the folded fit (Gauss-Newton), twice."""
    middle = fit.epoch + np.rint((0.5 * (time[0] + time[-1]) - fit.epoch) / fit.period) * fit.period
    fit = replace(fit, epoch=float(middle))
    step = 0.02 * fit.duration
    for _ in range(2):
        phase, cycle = phases(time, Signal(fit.period, fit.epoch, fit.duration))
        near = np.flatnonzero(np.abs(phase) < 0.5 * fit.duration + 2 * fit.exposure)
        if not len(near):
            return fit
        slope = (fit.lost(phase[near] + step) - fit.lost(phase[near] - step)) / (2 * step)
        columns = slope[:, None] * np.stack([np.ones(len(near)), cycle[near]], 1)
        rest = flux[near] - 1 + fit.lost(phase[near])
        root = np.sqrt(weight[near])[:, None] / sigma
        several = len(np.unique(cycle[near])) > 1
        columns = columns if several else columns[:, :1]
        normal = (root * columns).T @ (root * columns)
        covariance = np.linalg.pinv(normal, hermitian=True)
        change = covariance @ ((root * columns).T @ (root[:, 0] * rest))
        errors = red * np.sqrt(np.maximum(np.diag(covariance), 0))
        if not np.isfinite(change).all():
            return fit
        change = np.clip(change, -0.3 * fit.duration, 0.3 * fit.duration)
        fit = replace(fit, epoch=fit.epoch + float(change[0]), epoch_error=float(errors[0]))
        if several and abs(change[1]) * np.ptp(cycle[near]) < fit.duration:
            fit = replace(fit, period=fit.period + float(change[1]), period_error=float(errors[1]))
    return fit
