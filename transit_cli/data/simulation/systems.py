"""What a star's light does: planets in transit, eclipsing binaries, spots and pulsations.

Eclipses are exact for a quadratically limb-darkened star (`exoplanet-core`, Agol, Luger & Foreman-Mackey 2020) on a
Keplerian orbit, averaged over each exposure. Fluxes are relative changes: 0 is the star's mean.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from exoplanet_core import kepler, quad_limbdark_light_curve

from transit_cli.data.simulation.instrument import harmonic_series
from transit_cli.data.views.make import Signal

#: Days in which a body circles a star of solar density just above its surface, over 2 pi: a/R = (P / this)^(2/3).
SOLAR_DENSITY_PERIOD = 0.1159
#: Instants at which an eclipse is computed before it is averaged over exposures.
POINTS = 129


@dataclass(frozen=True)
class Orbit:
    """A Keplerian orbit.

    Attributes:
        period: days.
        epoch: day of the conjunction at which the companion is in front.
        distance: semi-major axis, in radii of the star.
        cos_inclination: of the inclination.
        eccentricity: below 1.
        omega: argument of periastron of the star's orbit, in radians.
    """

    period: float
    epoch: float
    distance: float
    cos_inclination: float
    eccentricity: float = 0.0
    omega: float = 0.0

    def _mean_anomaly(self, true_anomaly: float) -> float:
        e = self.eccentricity
        eccentric = 2 * np.arctan2(np.sqrt(1 - e) * np.sin(true_anomaly / 2), np.sqrt(1 + e) * np.cos(true_anomaly / 2))
        return float(eccentric - e * np.sin(eccentric))

    @property
    def second(self) -> float:
        """Phase of the other conjunction, 0 to 1; 0.5 for a circular orbit."""
        first = self._mean_anomaly(np.pi / 2 - self.omega)
        return (self._mean_anomaly(1.5 * np.pi - self.omega) - first) / (2 * np.pi) % 1.0

    def separation(self, phase: np.ndarray) -> np.ndarray:
        """Distance of the two centres on the sky, in radii of the star, at phases in cycles from the epoch."""
        mean = 2 * np.pi * phase + self._mean_anomaly(np.pi / 2 - self.omega)
        sin_f, cos_f = kepler(mean, np.full_like(mean, self.eccentricity))
        radius = self.distance * (1 - self.eccentricity**2) / (1 + self.eccentricity * cos_f)
        along = np.sin(self.omega) * cos_f + np.cos(self.omega) * sin_f  # sin(omega + f)
        return radius * np.sqrt(np.maximum(1 - along**2 * (1 - self.cos_inclination**2), 0))

    def duration(self, reach: float, *, second: bool = False) -> float:
        """Days from first to last contact (Winn 2010, eq. 14), for discs that touch at `reach`; 0 if they never do."""
        e, sine = self.eccentricity, np.sin(self.omega) * (-1 if second else 1)
        scale = (1 - e**2) / (1 + e * sine)
        impact = self.distance * self.cos_inclination * scale
        if impact >= reach:
            return 0.0
        across = np.sqrt(reach**2 - impact**2) / (self.distance * np.sqrt(1 - self.cos_inclination**2))
        return float(self.period / np.pi * np.arcsin(min(across, 1.0)) * scale / np.sqrt(1 - e**2))


def eclipse(
    time: np.ndarray, orbit: Orbit, ratio: float, limb: tuple[float, float], exposure: float, *, second: bool = False
) -> np.ndarray:
    """[n] what the star loses while the companion is in front, at most 0, averaged over each exposure.

    Args:
        time: [n] days, middle of each exposure.
        orbit: of the companion.
        ratio: radius of the companion, in radii of the star.
        limb: quadratic limb-darkening coefficients of the star that is behind.
        exposure: days.
        second: the companion is behind: what *it* loses, relative to its own light.
    """
    lost = np.zeros(len(time))
    duration = orbit.duration(1 + ratio, second=second)
    if duration == 0:
        return lost
    centre = orbit.second if second else 0.0
    reach = 0.5 * duration * 1.02 + exposure
    offset = np.linspace(-reach, reach, POINTS)
    separation = orbit.separation(centre + offset / orbit.period)
    if second:
        depth = quad_limbdark_light_curve(*limb, separation / ratio, 1 / ratio)
    else:
        depth = quad_limbdark_light_curve(*limb, separation, ratio)
    step = offset[1] - offset[0]
    integral = np.concatenate([[0.0], np.cumsum(0.5 * step * (depth[1:] + depth[:-1]))])
    since = (time - orbit.epoch) / orbit.period - centre
    since = (since - np.floor(since + 0.5)) * orbit.period
    near = np.flatnonzero(np.abs(since) < reach)
    half = exposure / 2
    after, before = (np.interp(since[near] + shift, offset, integral) for shift in (half, -half))
    lost[near] = (after - before) / exposure
    return lost


@dataclass(frozen=True)
class System:
    """A star with something that dims it.

    Attributes:
        flux: [n] relative change at each cadence.
        signal: what a perfect search would report.
        depth: of the deepest eclipse, a fraction.
    """

    flux: np.ndarray
    signal: Signal
    depth: float


def _limb_darkening(rng: np.random.Generator) -> tuple[float, float]:
    """Coefficients as in the TESS and Kepler bands for F to M dwarfs (Claret 2017), by Kipping's (2013) q1, q2."""
    root, q2 = np.sqrt(rng.uniform(0.2, 0.5)), rng.uniform(0.2, 0.45)
    return float(2 * root * q2), float(root * (1 - 2 * q2))


def planet(rng: np.random.Generator, time: np.ndarray, exposure: float, longest: float) -> System:
    """A star with a transiting planet, as transit surveys find them.

    Periods are log-normal about 4 days; stars are dwarfs and subgiants; radii are those of hot Jupiters or smaller.
    """
    for _ in range(20):
        period = float(np.exp(rng.normal(np.log(4.4), 1.1)))
        density = float(np.exp(rng.normal(np.log(0.8), 0.9)))  # in that of the Sun; subgiants are below
        distance = (period / SOLAR_DENSITY_PERIOD) ** (2 / 3) * density ** (1 / 3)
        if 0.3 < period < longest and distance > 2.2:
            break
    period = float(np.clip(period, 0.3, longest))
    ratio = float(np.exp(rng.normal(np.log(0.075), 0.45)))
    ratio = min(ratio, 0.2)
    eccentricity = float(rng.beta(0.9, 3.0)) * (period > 6) * 0.7
    impact = rng.random() * (1 + 0.5 * ratio)
    orbit = Orbit(
        period,
        float(time[0] + period * rng.random()),
        distance,
        min(impact / distance, 0.5),
        eccentricity,
        float(rng.uniform(0, 2 * np.pi)),
    )
    flux = eclipse(time, orbit, ratio, _limb_darkening(rng), exposure)
    if rng.random() < 0.15:  # the day side of a hot planet
        flux -= rng.uniform(0, 0.08) * ratio**2 * np.cos(2 * np.pi * (time - orbit.epoch) / period)
    return System(flux, Signal(period, orbit.epoch, orbit.duration(1 + ratio)), -float(flux.min()))


@dataclass(frozen=True)
class _Pair:
    """Two stars: their orbit in radii of the first, and what the second adds.

    Attributes:
        orbit: of the second star.
        ratio: radius of the second star, in radii of the first.
        light: of the second star, in units of the first's.
        tide: amplitude of the change twice an orbit, as both stars are drawn out towards each other.
        glow: amplitude of the change once an orbit, as each lights the other's near side.
    """

    orbit: Orbit
    ratio: float
    light: float
    tide: float
    glow: float

    @property
    def restless(self) -> bool:
        """Whether tides change the light by more than a quarter of what the eclipses do."""
        return 2 * self.tide > 0.25 * self.depth

    @property
    def depth(self) -> float:
        """What the deeper eclipse takes away, roughly: uniform discs, eclipsed at the centre of the conjunction."""
        orbit = self.orbit
        closest = (1 - orbit.eccentricity**2) / (1 + orbit.eccentricity * np.sin(orbit.omega))
        apart = orbit.distance * orbit.cos_inclination * closest
        overlap = np.clip((1 + self.ratio - apart) / (2 * min(self.ratio, 1.0)), 0.0, 1.0)
        area = overlap * min(self.ratio, 1.0) ** 2
        return float(area * max(1.0, self.light / self.ratio**2) / (1 + self.light))


def _pair(rng: np.random.Generator, start: float, period: float) -> _Pair:
    """Two main-sequence stars, or an evolved one and a dwarf; circular where the period is short."""
    mass = float(np.exp(rng.normal(0.15, 0.3))) * min(1.0, (period / 0.8) ** 0.4)
    share = float(0.08 + 0.92 * rng.random() ** 1.5)
    radius = mass**0.9 * float(np.exp(abs(rng.normal(0, 0.35))))
    ratio = (share * mass) ** 0.9 / radius
    distance = (period / SOLAR_DENSITY_PERIOD) ** (2 / 3) * (mass * (1 + share)) ** (1 / 3) / radius
    smallest = 1.05 * (1 + ratio)
    distance = max(distance, smallest * (1 + 0.6 * rng.random()))
    eccentricity = float(rng.beta(1.0, 3.0)) * 0.8 * (period > 2.5) * (rng.random() < 0.7)
    orbit = Orbit(
        period,
        float(start + period * rng.random()),
        distance,
        rng.random() * (1 + ratio) * 0.98 / distance,
        min(eccentricity, max(0.0, 1 - smallest / distance)),
        float(rng.uniform(0, 2 * np.pi)),
    )
    alike = min(1.0, period / 1.5)  # stars in contact share their surface's temperature
    light = share ** (float(rng.uniform(0.0, 4.5)) * alike) * ratio**2
    tide = 1.3 * share * distance**-3.0 * float(rng.uniform(0.6, 1.4))
    return _Pair(orbit, ratio, light, tide, 0.35 * (ratio / distance) ** 2 * float(rng.uniform(0, 2)))


def binary(rng: np.random.Generator, time: np.ndarray, exposure: float, longest: float) -> System:
    """An eclipsing binary, as a search reports it.

    It folds at half the period where both eclipses look alike. A pair whose light never rests is taken by people for a
    variable star, and is among those here.
    """
    period = 0.0
    while not 0.22 < period < longest:
        period = float(np.exp(rng.normal(np.log(2.0), 1.25)))
    for _ in range(12):
        pair = _pair(rng, float(time[0]), period)
        if not pair.restless:
            break
    orbit, ratio, light = pair.orbit, pair.ratio, pair.light
    first = eclipse(time, orbit, ratio, _limb_darkening(rng), exposure) / (1 + light)
    other = eclipse(time, orbit, ratio, _limb_darkening(rng), exposure, second=True) * light / (1 + light)
    angle = 2 * np.pi * (time - orbit.epoch) / orbit.period
    flux = first + other - pair.tide * np.cos(2 * angle) - pair.glow * np.cos(angle)
    depths = (-float(first.min()), -float(other.min()))
    if rng.random() < 0.3:  # spots that turn with the orbit
        flux += max(depths) * 10 ** rng.uniform(-2, -0.6) * harmonic_series(rng, (time - orbit.epoch) / orbit.period, 2)
    return System(flux, _as_found(rng, pair, depths), max(depths))


def _as_found(rng: np.random.Generator, pair: _Pair, depths: tuple[float, float]) -> Signal:
    """The deeper eclipse, at half the period where a search would fold the two onto each other."""
    orbit, ratio = pair.orbit, pair.ratio
    durations = (orbit.duration(1 + ratio), orbit.duration(1 + ratio, second=True))
    deeper = int(depths[1] > depths[0])
    epoch = orbit.epoch + deeper * orbit.second * orbit.period
    alike = min(depths) / max(*depths, 1e-9)
    centred = abs(orbit.second - 0.5) * orbit.period < 0.3 * durations[deeper]
    halved = centred and (pair.restless or rng.random() < 0.9 * alike**2)
    period = orbit.period / 2 if halved else orbit.period
    return Signal(period, epoch, min(durations[deeper] or max(durations), 0.6 * period))


#: Multiples of its period at which a search reports a variable star, with their shares, in the order of `variability`.
FOLDS = (
    ((1, 2), (0.8, 0.2)),
    ((1, 2, 3), (0.55, 0.35, 0.1)),
    ((1, 0.5, 2), (0.75, 0.2, 0.05)),
    ((1, 2), (0.8, 0.2)),
)


def variability(rng: np.random.Generator, time: np.ndarray) -> tuple[np.ndarray, float]:
    """[n] a variable star of unit variance: spots, pulsations or tides; and the period at which it is reported."""
    kind = int(rng.choice(4, p=(0.25, 0.28, 0.37, 0.10)))
    if kind == 0:  # spots, which come and go
        period = float(np.exp(rng.uniform(np.log(0.25), np.log(4))))
        cycles = (time - time[0]) / period
        slow = 1 + 0.4 * np.sin(2 * np.pi * (cycles / rng.uniform(4, 20) + rng.random()))
        flux = slow * harmonic_series(rng, cycles + 0.02 * np.sin(cycles / 3), 3)
    elif kind == 1:  # pulsations: one strong mode and weaker ones
        period = float(np.exp(rng.uniform(np.log(0.035), np.log(0.8))))
        modes = 1 + int(rng.poisson(1.0))
        flux = np.zeros(len(time))
        for mode in range(modes):
            own = period if mode == 0 else period * float(rng.uniform(0.6, 1.6))
            flux += (1 if mode == 0 else rng.uniform(0.05, 0.7)) * np.sin(2 * np.pi * (time / own + rng.random()))
    elif kind == 2:  # tides and near-contact binaries: two humps a cycle, the minima or maxima unequal
        period = float(np.exp(rng.uniform(np.log(0.2), np.log(1.8))))
        angle = 2 * np.pi * (time / period + rng.random())
        apart = np.abs(angle / np.pi - np.floor(angle / np.pi + 0.5))  # from the nearest minimum, in half cycles
        deeper = np.maximum(0, 1 - apart / rng.uniform(0.12, 0.3)) * rng.uniform(0, 1.8) * (rng.random() < 0.6)
        flux = -np.cos(2 * angle) - deeper - rng.uniform(0, 0.3) * np.cos(4 * angle)
        flux += rng.normal(0, 0.25) * np.cos(angle) + rng.normal(0, 0.15) * np.sin(angle)
    else:  # fast rise, slow fall: RR Lyrae and their like
        period = float(np.exp(rng.uniform(np.log(0.25), np.log(3))))
        angle = 2 * np.pi * (time / period + rng.random())
        tilt = rng.uniform(0.2, 0.6)
        flux = np.sum([tilt ** (k - 1) / k * np.sin(k * angle) for k in range(1, 6)], axis=0)
    folds, shares = FOLDS[kind]
    return flux / max(float(np.std(flux)), 1e-12), period * float(rng.choice(folds, p=shares))
