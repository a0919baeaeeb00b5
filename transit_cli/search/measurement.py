"""One signal, measured: period, epoch, duration and depth with errors, S/N, and each of its transits.

All on the points of one star, in float64 on the host. The template is the search's, averaged over the exposure; its
depth and the level are linear and solved for, period, epoch and duration are found by the simplex method from where the
search saw the peak. Errors are those of the linearised fit, multiplied by the noise of single events.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from transit_cli.search import template
from transit_cli.search.cells import Curve

#: Instants in which an exposure is averaged.
EXPOSURE = 5
#: A transit counts as observed when at least this share of its points is there.
OBSERVED = 0.4
#: The share of the total chi-square of one transit, of a signal that is no more than it.
DOMINANT = 0.75


@dataclass(frozen=True)
class Measured:
    """A signal.

    Attributes:
        period: days; of a single transit, the shortest that would show no other one.
        epoch: day of the centre of the first transit in the data.
        duration: days from first to last contact.
        depth: of the template's centre, relative to the flux.
        period_error, epoch_error, duration_error, depth_error: one standard deviation; NaN where unknown.
        snr: signal-to-noise ratio over the noise of single events.
        cycles: [transits] number of each observed transit, 0 being the epoch's.
        depths: [transits] relative to the flux.
        depth_errors: [transits].
        single: whether it is one transit alone.
    """

    period: float
    epoch: float
    duration: float
    depth: float
    period_error: float
    epoch_error: float
    duration_error: float
    depth_error: float
    snr: float
    cycles: np.ndarray
    depths: np.ndarray
    depth_errors: np.ndarray
    single: bool = False

    def phases(self, time: np.ndarray) -> np.ndarray:
        """Days from the nearest transit's centre."""
        if self.single:
            return time - self.epoch
        return phase_of(time, self.period, self.epoch)

    def inside(self, time: np.ndarray, width: float = 1.0) -> np.ndarray:
        """Whether each time lies within `width` durations around a transit."""
        return np.abs(self.phases(time)) <= width * self.duration / 2

    def odd_even(self) -> tuple[float, float, float]:
        """Depths of the odd and of the even transits, counted from the epoch's as the first, and their difference.

        Returns:
            Two depths relative to the flux, and the difference in standard deviations; NaN where one kind is missing.
        """
        odd = self.cycles % 2 == 0
        if self.single or odd.all() or not odd.any():
            return np.nan, np.nan, np.nan
        (first, error), (second, other) = (_mean(self.depths[some], self.depth_errors[some]) for some in (odd, ~odd))
        return first, second, float(abs(first - second) / np.hypot(error, other))


def _mean(values: np.ndarray, errors: np.ndarray) -> tuple[float, float]:
    weights = errors**-2
    return float((values * weights).sum() / weights.sum()), float(weights.sum() ** -0.5)


def phase_of(time: np.ndarray, period: float, epoch: float) -> np.ndarray:
    """Days from the nearest transit's centre, in [-period/2, period/2)."""
    since = time - epoch
    return since - np.floor(since / period + 0.5) * period


def measure(
    curve: Curve, figures: tuple[float, float, float], noise: Callable[[float], float], cycles: float
) -> Measured | None:
    """Fit a signal that the search saw.

    Args:
        curve: the light curve.
        figures: period, day of the centre of a transit, and duration, in days.
        noise: what the noise of white single events is multiplied with, for a duration in days.
        cycles: by how much the number of periods in the light curve may be off.

    Returns:
        The signal; None where no dip is left that could be measured.
    """
    period, epoch, duration = figures
    time = curve.time
    middle = epoch + np.rint((0.5 * (time[0] + time[-1]) - epoch) / period) * period
    span = max(time[-1] - time[0], period)
    slack = cycles * period**2 / span
    fit = _Fit(time, curve.deficit, curve.weight, curve.width)

    def loss(place: np.ndarray) -> float:
        trial = (period + place[0] * slack, middle + place[1] * duration, duration * float(np.exp(place[2])))
        if abs(place[0]) > 1 or abs(place[1]) > 0.5 or abs(place[2]) > 1 or trial[2] > 0.5 * trial[0]:
            return 0.0
        return -fit.gain(*trial)

    place = _simplex(loss, np.zeros(3), np.array([0.25, 0.1, 0.15]))
    period, middle = float(period + place[0] * slack), float(middle + place[1] * duration)
    duration = float(duration * np.exp(place[2]))
    first = middle - np.floor((middle - time[0] + duration / 2) / period) * period
    return _describe(curve, fit, (period, first, duration), noise)


def _describe(
    curve: Curve, fit: _Fit, figures: tuple[float, float, float], noise: Callable[[float], float]
) -> Measured | None:
    period, epoch, duration = figures
    red = noise(duration)
    model = fit.model(*figures)
    depth, error = fit.depth(model)
    if not depth > 0 or not np.isfinite(error):
        return None
    cycles, depths, errors = _transits(curve, model, figures)
    if not len(cycles):
        return None
    if len(cycles) > 1 and (times := int(np.gcd.reduce(np.diff(cycles)))) > 1:
        # No transit between was observed: the spacing of those that were is all that is known of the period.
        epoch += float(cycles[0]) * period
        return _describe(curve, fit, (times * period, epoch, duration), noise)
    gains = (np.maximum(depths, 0) / errors) ** 2
    single = len(cycles) == 1 or gains.max() > DOMINANT * gains.sum()
    spread = fit.errors(figures, depth) * red
    scale = curve.sigma
    return Measured(
        period=period,
        epoch=epoch + float(cycles[0]) * period,
        duration=duration,
        depth=depth * scale,
        period_error=float(spread[0]) if len(cycles) > 1 else np.nan,
        epoch_error=float(spread[1]),
        duration_error=float(spread[2]),
        depth_error=error * red * scale,
        snr=depth / (error * red),
        cycles=(cycles - cycles[0]).astype(np.int64),
        depths=depths * scale,
        depth_errors=errors * red * scale,
        single=bool(single),
    )


def measure_single(curve: Curve, centre: float, duration: float, noise: Callable[[float], float]) -> Measured | None:
    """Fit one transit about `centre`, of about `duration` days: `measure` for a signal that does not repeat."""
    time = curve.time
    reach = float(max(centre - time[0], time[-1] - centre)) + duration
    near = np.abs(time - centre) < 4 * duration
    part = Curve(time[near], curve.deficit[near], curve.weight[near], curve.sigma, curve.width)
    if part.weight.sum() < 3:
        return None
    fit = _Fit(part.time, part.deficit, part.weight, part.width)

    def loss(place: np.ndarray) -> float:
        if abs(place[0]) > 0.7 or abs(place[1]) > 1:
            return 0.0
        return -fit.gain(reach, centre + place[0] * duration, duration * float(np.exp(place[1])))

    place = _simplex(loss, np.zeros(2), np.array([0.1, 0.15]))
    figures = (reach, float(centre + place[0] * duration), float(duration * np.exp(place[1])))
    found = _describe(part, fit, figures, noise)
    if found is None:
        return None
    values = vars(found) | {"single": True, "period_error": np.nan, "period": reach}
    return Measured(**values)


def strongest(found: Measured) -> float:
    """The day of the transit that stands out most."""
    best = int(np.argmax(np.maximum(found.depths, 0) / found.depth_errors))
    return float(found.epoch + found.cycles[best] * found.period)


@dataclass(frozen=True)
class _Fit:
    """Weighted points, and how well a template fits them."""

    time: np.ndarray
    deficit: np.ndarray
    weight: np.ndarray
    exposure: float

    def model(self, period: float, epoch: float, duration: float) -> np.ndarray:
        """[n] the template of depth 1, averaged over each exposure."""
        phase = phase_of(self.time, period, epoch)
        model = np.zeros(len(phase))
        near = np.flatnonzero(np.abs(phase) < (duration + self.exposure) / 2)
        shifts = ((np.arange(EXPOSURE) + 0.5) / EXPOSURE - 0.5) * self.exposure
        model[near] = template.shape((phase[near, None] + shifts) / (duration / 2)).mean(1)
        return model

    def _sums(self, model: np.ndarray) -> tuple[float, float]:
        """The numerator and the denominator of the depth, with the level free."""
        near = np.flatnonzero(model)
        weighted = self.weight[near] * model[near]
        total, level = float(self.weight.sum()), float(self.weight @ self.deficit)
        inside = float(weighted.sum())
        numerator = float(weighted @ self.deficit[near]) - inside * level / total
        return numerator, float(weighted @ model[near]) - inside**2 / total

    def gain(self, period: float, epoch: float, duration: float) -> float:
        """By how much the chi-square falls with the best depth; 0 where that is not positive."""
        numerator, power = self._sums(self.model(period, epoch, duration))
        return numerator**2 / power if power > 0.5 and numerator > 0 else 0.0

    def depth(self, model: np.ndarray) -> tuple[float, float]:
        """The best depth and its error, in standard deviations of a point."""
        numerator, power = self._sums(model)
        return (numerator / power, power**-0.5) if power > 0 else (np.nan, np.nan)

    def errors(self, figures: tuple[float, float, float], depth: float) -> np.ndarray:
        """[3] standard deviations of period, epoch and duration; NaN where the points do not fix them."""
        period, _, duration = figures
        span = max(self.time[-1] - self.time[0], period)
        steps = np.array([0.02 * duration * period / span, 0.02 * duration, 0.02 * duration])
        columns = [self.model(*figures)]
        for number, step in enumerate(steps):
            change = np.eye(3)[number] * step
            up, down = (self.model(*(np.array(figures) + sign * change)) for sign in (1, -1))
            columns.append(depth * (up - down) / (2 * step))
        jacobian = np.stack([*columns, np.ones(len(self.time))], 1)
        normal = jacobian.T @ (self.weight[:, None] * jacobian)
        scale = np.sqrt(np.maximum(np.diag(normal), 1e-300))
        covariance = np.linalg.pinv(normal / np.outer(scale, scale), rcond=1e-9) / np.outer(scale, scale)
        variance = np.diag(covariance)[1:4]
        return np.sqrt(np.where(variance > 0, variance, np.nan))


def _transits(
    curve: Curve, model: np.ndarray, figures: tuple[float, float, float]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Numbers of the observed transits, and the depth and error of each, in standard deviations of a point."""
    period, epoch, duration = figures
    near = np.flatnonzero((model > 0) & (curve.weight > 0))
    number = np.rint((curve.time[near] - epoch) / period).astype(np.int64)
    cycles, index = np.unique(number, return_inverse=True)
    weighted = curve.weight[near] * model[near]
    power = np.bincount(index, weighted * model[near])
    depths = np.bincount(index, weighted * curve.deficit[near])
    expected = duration / curve.width * float(np.mean(template.shape(np.linspace(-1, 1, 101)) ** 2))
    seen = power > OBSERVED * min(expected, float(power.max(initial=0)))
    return cycles[seen], depths[seen] / power[seen], power[seen] ** -0.5


def _simplex(loss: Callable[[np.ndarray], float], start: np.ndarray, size: np.ndarray) -> np.ndarray:
    """Where `loss` is least, by Nelder and Mead's method."""
    from scipy.optimize import minimize

    corners = np.vstack([start, start + np.diag(size)])
    options = {"initial_simplex": corners, "xatol": 2e-4, "fatol": 1e-4, "maxfev": 200}
    return np.asarray(minimize(loss, start, method="Nelder-Mead", options=options).x)
