"""What is injected into a light curve: planets, binaries, variable stars; and what its noise alone yields.

Every kind takes the light curve of one star without its known signals, and returns a light curve with a signal and the
ephemeris that a search would report on it. All random numbers come from the generator that is passed in.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from transit_cli.data.simulation.signals import MAX_RESCALES, THRESHOLD, reported_signal, search_signal
from transit_cli.data.simulation.systems import (
    SOLAR_DENSITY_PERIOD,
    Orbit,
    binary,
    eclipse,
    limb_darkening,
    variability,
)
from transit_cli.data.views.detrend import flatten, in_transit
from transit_cli.data.views.folding import Signal

#: The kinds, the label of each, and their shares in a set of all kinds.
LABELS = {
    "planet": "PC",
    "binary": "EB",
    "background-binary": "EB",
    "variable": "O",
    "inverted": "J",
    "scrambled": "J",
}
SHARES = {
    "planet": 0.4,
    "binary": 0.15,
    "background-binary": 0.15,
    "variable": 0.1,
    "inverted": 0.1,
    "scrambled": 0.1,
}
#: Periods in days: log-uniform from the first to the second, or to this share of the span of the data.
PERIODS, SPAN_SHARE = (0.5, 400.0), 0.9
#: S/N of planets and of background binaries: log-uniform.
SNR = (4.0, 100.0)
#: Radii of planets, in radii of the star.
RADII = (0.003, 0.25)
#: Least number of cadences in transit.
LEAST_POINTS = 4
#: Distances of background binaries from the star, in pixels: uniform.
DISTANCES = (0.3, 3.0)
#: Blocks into which a light curve is cut to be scrambled, and the shortest block in days.
BLOCKS, SHORTEST_BLOCK = 12, 1.0
#: Trial periods of the search in inverted and scrambled light curves, and the least significance of what it reports.
TRIALS, LEAST_SIGNIFICANCE = 8, 4.0


class NotInjectedError(Exception):
    """The drawn signal is not covered by the data, or nothing was found; another is drawn."""


@dataclass(frozen=True)
class Star:
    """A light curve without its known signals.

    Attributes:
        time: [n] days, ascending.
        flux: [n] relative to the median.
        cadence: days between points.
        noise: robust scatter of a detrended point.
        flat: [m] detrended fluxes, at `flat_time` [m].
    """

    time: np.ndarray
    flux: np.ndarray
    cadence: float
    noise: float
    flat_time: np.ndarray
    flat: np.ndarray

    @property
    def span(self) -> float:
        """Days from the first to the last point."""
        return float(self.time[-1] - self.time[0])

    @property
    def longest(self) -> float:
        """The longest period that is injected."""
        return min(SPAN_SHARE * self.span, PERIODS[1])


@dataclass(frozen=True)
class Injection:
    """A light curve with a signal.

    Attributes:
        time: [n] days.
        flux: [n] relative, not detrended.
        signal: as a search would report it.
        columns: of tces.csv: what was injected.
        shift: [n, 2] of the centroid in pixels; None without.
    """

    time: np.ndarray
    flux: np.ndarray
    signal: Signal
    columns: dict[str, float] = field(default_factory=dict)
    shift: np.ndarray | None = None


def inject(rng: np.random.Generator, kind: str, star: Star) -> Injection:
    """A light curve with a signal of this kind.

    Raises:
        NotInjectedError: what was drawn is not covered by the data, or no signal was found.
    """
    make = {
        "planet": _planet,
        "binary": _binary,
        "background-binary": _background_binary,
        "variable": _variable,
        "inverted": _inverted,
        "scrambled": _scrambled,
    }[kind]
    return make(rng, star)


def _log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def _snr(star: Star, change: np.ndarray) -> float:
    """The S/N of a relative change of flux [n] for a filter of its shape and the scatter of a point."""
    return float(np.sqrt(change @ change) / star.noise)


def _check_covered(star: Star, signal: Signal) -> None:
    if in_transit(star.time, (signal,), 1.0).sum() < LEAST_POINTS:
        raise NotInjectedError


def _planet(rng: np.random.Generator, star: Star) -> Injection:
    period = _log_uniform(rng, PERIODS[0], star.longest)
    density = float(np.exp(rng.normal(0.0, 0.5)))  # in solar units
    a_over_rstar = max((period / SOLAR_DENSITY_PERIOD) ** (2 / 3) * density ** (1 / 3), 2.5)
    impact = float(rng.uniform(0, 0.95))
    eccentricity = float(rng.beta(0.9, 3.0)) * (period > 6) * 0.7
    epoch = float(star.time[0] + period * rng.random())
    orbit = Orbit(period, epoch, a_over_rstar, impact / a_over_rstar, eccentricity, float(rng.uniform(0, 2 * np.pi)))
    coefficients, wanted, ratio = limb_darkening(rng), _log_uniform(rng, *SNR), 0.05
    for _ in range(3):  # the S/N grows as the square of the radius, nearly
        change = eclipse(star.time, orbit, ratio, coefficients, star.cadence)
        if not change.any():
            raise NotInjectedError
        ratio = float(np.clip(ratio * np.sqrt(wanted / _snr(star, change)), *RADII))
    change = eclipse(star.time, orbit, ratio, coefficients, star.cadence)
    true = _existing(period, epoch, orbit.duration(1 + ratio))
    _check_covered(star, true)
    columns = _injected(true, _snr(star, change), -float(change.min())) | {"injected_radius_ratio": ratio}
    return Injection(star.time, star.flux * (1 + change), reported_signal(rng, true, star.span), columns)


def _existing(period: float, epoch: float, duration: float) -> Signal:
    """A signal whose transit exists.

    Raises:
        NotInjectedError: the discs do not touch.
    """
    if not 0 < duration < period:
        raise NotInjectedError
    return Signal(period, epoch, duration)


def _injected(true: Signal, snr: float, depth: float) -> dict[str, float]:
    return {
        "injected_period_days": true.period,
        "injected_epoch_days": true.epoch,
        "injected_duration_hours": 24 * true.duration,
        "injected_snr": snr,
        "injected_depth_ppm": 1e6 * depth,
    }


def _binary(rng: np.random.Generator, star: Star) -> Injection:
    system = binary(rng, star.time, star.cadence, min(star.longest, 30.0))
    _check_covered(star, system.signal)
    if system.depth < 3 * star.noise / np.sqrt(LEAST_POINTS):
        raise NotInjectedError
    columns = _injected(system.signal, _snr(star, system.flux), system.depth)
    return Injection(star.time, star.flux * (1 + system.flux), reported_signal(rng, system.signal, star.span), columns)


def _background_binary(rng: np.random.Generator, star: Star) -> Injection:
    """A binary diluted by the star's light, which pulls the centroid away from itself during its eclipses."""
    system = binary(rng, star.time, star.cadence, min(star.longest, 30.0))
    _check_covered(star, system.signal)
    share = min(_log_uniform(rng, *SNR) / max(_snr(star, system.flux), 1e-9), 0.5)
    change = share * system.flux
    distance, angle = float(rng.uniform(*DISTANCES)), float(rng.uniform(0, 2 * np.pi))
    shift = change[:, None] * distance * np.array([np.cos(angle), np.sin(angle)])
    columns = _injected(system.signal, _snr(star, change), share * system.depth)
    columns |= {"injected_source_pixels": distance}
    signal = reported_signal(rng, system.signal, star.span)
    return Injection(star.time, star.flux * (1 + change), signal, columns, shift)


def _variable(rng: np.random.Generator, star: Star) -> Injection:
    shape, period = variability(rng, star.time)
    while period < PERIODS[0]:
        period *= int(rng.integers(2, 4))
    amplitude = star.noise * float(np.exp(rng.normal(np.log(1.6), 1.1)))
    for _ in range(MAX_RESCALES):
        flux = star.flux * (1 + amplitude * shape)
        flat = flatten(star.time, flux, spacings=(1.0,))
        signal, significance = search_signal(rng, flat.time, flat.flux, (period,), PERIODS[0])
        if significance >= THRESHOLD:
            return Injection(star.time, flux, signal)
        amplitude *= 1.6 * THRESHOLD / max(significance, 1.0)
    raise NotInjectedError


def _inverted(rng: np.random.Generator, star: Star) -> Injection:
    """The light curve upside down: its noise and systematics, and no planet (Coughlin 2017; Thompson et al. 2018)."""
    signal = _found(rng, star, star.flat_time, 2 - star.flat)
    return Injection(star.time, 2 - star.flux, signal)


def _scrambled(rng: np.random.Generator, star: Star) -> Injection:
    """Blocks of the detrended light curve in random order: no period of a real signal remains."""
    count = int(np.clip(star.span / SHORTEST_BLOCK, 2, BLOCKS))
    edges = np.linspace(0, len(star.flat), count + 1).astype(int)
    blocks = [star.flat[low:high] for low, high in pairwise(edges)]
    flux = np.concatenate([blocks[index] for index in rng.permutation(count)])
    return Injection(star.flat_time, flux, _found(rng, star, star.flat_time, flux))


def _found(rng: np.random.Generator, star: Star, time: np.ndarray, flux: np.ndarray) -> Signal:
    """The most significant of the boxes that several searches at random trial periods report."""
    found = [search_signal(rng, time, flux, (), PERIODS[0]) for _ in range(TRIALS)]
    signal, significance = max(found, key=lambda one: one[1])
    _check_covered(star, signal)
    if significance < LEAST_SIGNIFICANCE:
        raise NotInjectedError
    return signal
