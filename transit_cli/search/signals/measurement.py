"""Signals, measured: period, epoch, duration and depth with errors, S/N, and each of their transits.

Many signals of many stars are fitted at once in float64, on the device where it has it. Errors are those of the
linearised fit, multiplied by the noise of single events.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from transit_cli.search import template
from transit_cli.search.signals import least_squares
from transit_cli.search.signals.least_squares import Fitted, Problem

if TYPE_CHECKING:
    import torch

    from transit_cli.search.cells import Curve

#: A transit counts as observed when at least this share of its points is there.
OBSERVED = 0.4
#: The share of the total chi-square of one transit, of a signal that is no more than it.
DOMINANT = 0.75
#: By how much a fit may change: the epoch, in durations, and the duration's logarithm; of a single transit likewise.
REACH, REACH_SINGLE = (0.35, 0.6), (0.7, 1.0)
#: Points on either side of a single transit from which its level is taken, in durations.
AROUND = 4.0
#: Points that are fitted together, padding included: what stays in a CPU's cache, what keeps a GPU busy.
TOGETHER = {"cpu": 1 << 16, "cuda": 1 << 22}
#: Signals are fitted together whose points differ by less than this factor: padding costs time on a CPU only.
ALIKE = {"cpu": 2.0, "cuda": 1e9}
#: The sum of the squares of a template of one cell per duration.
_SQUARES = float(np.mean(template.shape(np.linspace(-1, 1, 101)) ** 2))


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

    @property
    def strongest(self) -> float:
        """The day of the transit that stands out most."""
        best = int(np.argmax(np.maximum(self.depths, 0) / self.depth_errors))
        return float(self.epoch + self.cycles[best] * self.period)


def _mean(values: np.ndarray, errors: np.ndarray) -> tuple[float, float]:
    weights = errors**-2
    return float((values * weights).sum() / weights.sum()), float(weights.sum() ** -0.5)


def phase_of(time: np.ndarray, period: float, epoch: float) -> np.ndarray:
    """Days from the nearest transit's centre, in [-period/2, period/2)."""
    since = time - epoch
    return since - np.floor(since / period + 0.5) * period


@dataclass(frozen=True)
class NoiseTable:
    """What the noise of white single events is multiplied with, by duration.

    Attributes:
        durations: [n] days, ascending.
        factors: [n] at least 1.
    """

    durations: np.ndarray
    factors: np.ndarray

    def at(self, duration: float) -> float:
        """The factor at a duration in days."""
        return float(np.interp(np.log(max(duration, 1e-6)), np.log(self.durations), self.factors))


@dataclass(frozen=True)
class Candidate:
    """A signal to be measured.

    Attributes:
        curve: the light curve.
        period: days; of a single transit, the length of the light curve.
        epoch: day of the centre of a transit.
        duration: days.
        noise: of single events of the star.
        slack: by how many periods the number of them in the light curve may be off.
        single: whether it is one transit, about which a few durations of the light curve are taken.
    """

    curve: Curve
    period: float
    epoch: float
    duration: float
    noise: NoiseTable
    slack: float = 0.0
    single: bool = False

    @classmethod
    def of_transit(cls, curve: Curve, centre: float, duration: float, noise: NoiseTable) -> Candidate:
        """One transit about `centre`; its period is the shortest that would show no other one."""
        reach = float(max(centre - curve.time[0], curve.time[-1] - centre)) + duration
        return cls(curve, reach, centre, duration, noise, single=True)


@dataclass(frozen=True)
class _Window:
    """A candidate and the points near its transits: days from `middle`, the transit in the middle of the data."""

    candidate: Candidate
    middle: float
    near: np.ndarray
    cycle: np.ndarray
    total: float
    level: float
    bounds: tuple[float, float, float]


def measure_all(candidates: Sequence[Candidate], device: torch.device) -> list[Measured | None]:
    """Fit signals of any number of stars.

    Args:
        candidates: the signals, as a search has seen them.
        device: has float64.

    Returns:
        For each the signal; None where no dip is left that could be measured.
    """
    return _measure(candidates, device, least_squares.ITERATIONS)


def _measure(candidates: Sequence[Candidate], device: torch.device, iterations: int) -> list[Measured | None]:
    windows = [_window(candidate) for candidate in candidates]
    found: list[Measured | None] = [None] * len(candidates)
    longer: dict[int, Candidate] = {}
    for places in _portions([len(window.near) if window else 0 for window in windows], device.type):
        some = [window for place in places if (window := windows[place])]
        problem = _problem(some)
        fitted = least_squares.fit(problem, device, iterations)
        for row, place in enumerate(places):
            described = _describe(some[row], fitted, row, problem.weight[row], problem.deficit[row])
            if isinstance(described, Candidate):
                longer[place] = described
            else:
                found[place] = described
    if longer:
        again = _measure(list(longer.values()), device, 0)
        for place, signal in zip(longer, again, strict=True):
            found[place] = signal
    return found


def _portions(sizes: Sequence[int], kind: str) -> Iterator[list[int]]:
    """Places of sizes above 0, those of about the same size together, in lists of limited size, padding included."""
    some: list[int] = []
    for place in sorted((place for place, size in enumerate(sizes) if size), key=lambda place: (sizes[place], place)):
        large = sizes[place] * (len(some) + 1) > TOGETHER[kind]
        if some and (large or sizes[place] > ALIKE[kind] * sizes[some[0]] + 64):
            yield some
            some = []
        some.append(place)
    if some:
        yield some


def _window(candidate: Candidate) -> _Window | None:
    curve, period, duration = candidate.curve, candidate.period, candidate.duration
    time, weight = curve.time, curve.weight
    if candidate.single:
        used = (np.abs(time - candidate.epoch) < AROUND * duration) & (weight > 0)
        if weight[used].sum() < 3:
            return None
        reach, slack, middle = REACH_SINGLE, 0.0, candidate.epoch
        cycle, phase = np.zeros(len(time)), time - candidate.epoch
    else:
        used, reach = weight > 0, REACH
        span = max(float(time[-1] - time[0]), period)
        slack = candidate.slack * period**2 / span
        middle = candidate.epoch + np.rint((0.5 * (time[0] + time[-1]) - candidate.epoch) / period) * period
        cycle = np.floor((time - middle) / period + 0.5)
        phase = time - middle - cycle * period
    drift = slack * np.abs(cycle).max(initial=0)
    half = (np.exp(reach[1]) / 2 + reach[0]) * duration + drift + curve.width
    near = np.flatnonzero(used & (np.abs(phase) < half))
    if not len(near):
        return None
    total, level = float(weight[used].sum()), float(weight[used] @ curve.deficit[used])
    bounds = (slack, reach[0] * duration, reach[1])
    return _Window(candidate, float(middle), near, cycle[near], total, level, bounds)


def _problem(windows: Sequence[_Window]) -> Problem:
    size = max(len(window.near) for window in windows)
    padded = np.zeros((4, len(windows), size))
    for row, window in enumerate(windows):
        curve, near = window.candidate.curve, window.near
        place = slice(len(near))
        padded[0, row, place] = curve.time[near] - window.middle
        padded[1, row, place] = window.cycle
        padded[2, row, place] = curve.deficit[near]
        padded[3, row, place] = curve.weight[near]
    of = [window.candidate for window in windows]
    return Problem(
        time=padded[0],
        cycle=padded[1],
        deficit=padded[2],
        weight=padded[3],
        period=np.array([one.period for one in of]),
        duration=np.array([one.duration for one in of]),
        exposure=np.array([one.curve.width for one in of]),
        total=np.array([window.total for window in windows]),
        level=np.array([window.level for window in windows]),
        bounds=np.array([window.bounds for window in windows]),
    )


def _describe(
    window: _Window, fitted: Fitted, row: int, weight: np.ndarray, deficit: np.ndarray
) -> Measured | Candidate | None:
    """The signal; a candidate of a longer period, if the data show no transit between its own."""
    candidate, curve = window.candidate, window.candidate.curve
    period, duration = float(fitted.period[row]), float(fitted.duration[row])
    epoch, depth, error = window.middle + fitted.epoch[row], float(fitted.depth[row]), float(fitted.depth_error[row])
    if not depth > 0 or not np.isfinite(error):
        return None
    model = fitted.model[row]
    cycles, depths, errors = _transits(window, model, weight, deficit, duration)
    if not len(cycles):
        return None
    epoch += float(cycles[0]) * period
    cycles -= cycles[0]
    if len(cycles) > 1 and (times := int(np.gcd.reduce(cycles))) > 1:
        # No transit between was observed: the spacing of those that were is all that is known of the period.
        return replace(candidate, period=times * period, epoch=epoch, duration=duration)
    gains = (np.maximum(depths, 0) / errors) ** 2
    red, scale = candidate.noise.at(duration), curve.sigma
    covariance, since = fitted.covariance[row], float(np.rint((epoch - window.middle) / period))
    change = np.array([[1, 0, 0], [since, 1, 0], [0, 0, 1]])  # from the transit in the middle to the first
    spread = np.sqrt(np.diag(change @ covariance @ change.T)) * red
    known = len(cycles) > 1 and not candidate.single
    return Measured(
        period=period,
        epoch=float(epoch),
        duration=duration,
        depth=depth * scale,
        period_error=float(spread[0]) if known else np.nan,
        epoch_error=float(spread[1]),
        duration_error=float(spread[2]),
        depth_error=error * red * scale,
        snr=depth / (error * red),
        cycles=cycles,
        depths=depths * scale,
        depth_errors=errors * red * scale,
        single=bool(candidate.single or len(cycles) == 1 or gains.max() > DOMINANT * gains.sum()),
    )


def _transits(
    window: _Window, model: np.ndarray, weight: np.ndarray, deficit: np.ndarray, duration: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Numbers of the observed transits, and the depth and error of each, in standard deviations of a point."""
    places = np.flatnonzero((model[: len(window.near)] > 0) & (weight[: len(window.near)] > 0))
    number = window.cycle[places].astype(np.int64)
    if not len(number):
        return number, np.empty(0), np.empty(0)
    first = int(number.min())
    weighted = weight[places] * model[places]
    power = np.bincount(number - first, weighted * model[places])
    depths = np.bincount(number - first, weighted * deficit[places])
    expected = duration / window.candidate.curve.width * _SQUARES
    cycles = np.flatnonzero(power > OBSERVED * min(expected, float(power.max())))
    return cycles + first, depths[cycles] / power[cycles], power[cycles] ** -0.5
