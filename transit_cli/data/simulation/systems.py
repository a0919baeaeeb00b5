"""Astrophysical signals: transiting planets, eclipsing binaries, spots and pulsations.

Eclipses are exact for a quadratically limb-darkened star (`exoplanet-core`, Agol, Luger & Foreman-Mackey 2020) on a
Keplerian orbit, averaged over each exposure. Fluxes are relative changes: 0 is the star's mean.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from exoplanet_core import kepler, quad_limbdark_light_curve

from transit_cli.data.simulation.instrument import harmonic_series
from transit_cli.data.views.folding import Signal

#: Period in days of an orbit at the surface of a star of solar density: a/R = (P / this)^(2/3).
SOLAR_DENSITY_PERIOD = 0.1159
#: Times at which an eclipse is evaluated before it is averaged over exposures.
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
    a_over_rstar: float
    cos_inclination: float
    eccentricity: float = 0.0
    omega: float = 0.0

    def _mean_anomaly(self, true_anomaly: float) -> float:
        e = self.eccentricity
        eccentric = 2 * np.arctan2(np.sqrt(1 - e) * np.sin(true_anomaly / 2), np.sqrt(1 + e) * np.cos(true_anomaly / 2))
        return float(eccentric - e * np.sin(eccentric))

    @property
    def secondary_phase(self) -> float:
        """Phase of the secondary conjunction, 0 to 1; 0.5 for a circular orbit."""
        first = self._mean_anomaly(np.pi / 2 - self.omega)
        return (self._mean_anomaly(1.5 * np.pi - self.omega) - first) / (2 * np.pi) % 1.0

    def separation(self, phase: np.ndarray) -> np.ndarray:
        """Sky-projected distance of the centres in stellar radii, at phases in cycles from the epoch."""
        mean = 2 * np.pi * phase + self._mean_anomaly(np.pi / 2 - self.omega)
        sin_f, cos_f = kepler(mean, np.full_like(mean, self.eccentricity))
        radius = self.a_over_rstar * (1 - self.eccentricity**2) / (1 + self.eccentricity * cos_f)
        along = np.sin(self.omega) * cos_f + np.cos(self.omega) * sin_f  # sin(omega + f)
        return radius * np.sqrt(np.maximum(1 - along**2 * (1 - self.cos_inclination**2), 0))

    def duration(self, reach: float, *, secondary: bool = False) -> float:
        """Days from first to last contact (Winn 2010, eq. 14), for discs that touch at `reach`; 0 if they never do."""
        e, sine = self.eccentricity, np.sin(self.omega) * (-1 if secondary else 1)
        scale = (1 - e**2) / (1 + e * sine)
        impact = self.a_over_rstar * self.cos_inclination * scale
        if impact >= reach:
            return 0.0
        across = np.sqrt(reach**2 - impact**2) / (self.a_over_rstar * np.sqrt(1 - self.cos_inclination**2))
        return float(self.period / np.pi * np.arcsin(min(across, 1.0)) * scale / np.sqrt(1 - e**2))


def eclipse(
    time: np.ndarray,
    orbit: Orbit,
    radius_ratio: float,
    limb_darkening: tuple[float, float],
    exposure: float,
    *,
    secondary: bool = False,
) -> np.ndarray:
    """[n] relative flux change (<= 0) during eclipses of the star, averaged over each exposure.

    Args:
        time: [n] days, middle of each exposure.
        orbit: of the companion.
        radius_ratio: radius of the companion, in radii of the star.
        limb_darkening: quadratic coefficients of the eclipsed body.
        exposure: days.
        secondary: the eclipse of the companion by the star, relative to the companion's flux.
    """
    lost = np.zeros(len(time))
    duration = orbit.duration(1 + radius_ratio, secondary=secondary)
    if duration == 0:
        return lost
    centre = orbit.secondary_phase if secondary else 0.0
    reach = 0.5 * duration * 1.02 + exposure
    offset = np.linspace(-reach, reach, POINTS)
    separation = orbit.separation(centre + offset / orbit.period)
    if secondary:
        depth = quad_limbdark_light_curve(*limb_darkening, separation / radius_ratio, 1 / radius_ratio)
    else:
        depth = quad_limbdark_light_curve(*limb_darkening, separation, radius_ratio)
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
    """A star with a transiting or eclipsing companion.

    Attributes:
        flux: [n] relative change at each cadence.
        signal: the true ephemeris, as a perfect search would report it.
        depth: of the deepest eclipse, a fraction.
    """

    flux: np.ndarray
    signal: Signal
    depth: float


def limb_darkening(rng: np.random.Generator) -> tuple[float, float]:
    """As in the TESS and Kepler bands for F to M dwarfs (Claret 2017); Kipping's (2013) q1, q2."""
    root, q2 = np.sqrt(rng.uniform(0.2, 0.5)), rng.uniform(0.2, 0.45)
    return float(2 * root * q2), float(root * (1 - 2 * q2))


def planet(rng: np.random.Generator, time: np.ndarray, exposure: float, longest: float) -> System:
    """A star with a transiting planet, from the distribution that transit surveys detect.

    Periods are log-normal about 4 days; stars are dwarfs and subgiants; radii are those of hot Jupiters or smaller.
    """
    for _ in range(20):
        period = float(np.exp(rng.normal(np.log(4.4), 1.1)))
        density = float(np.exp(rng.normal(np.log(0.8), 0.9)))  # in solar units; subgiants are below
        a_over_rstar = (period / SOLAR_DENSITY_PERIOD) ** (2 / 3) * density ** (1 / 3)
        if 0.3 < period < longest and a_over_rstar > 2.2:
            break
    period = float(np.clip(period, 0.3, longest))
    radius_ratio = float(np.exp(rng.normal(np.log(0.075), 0.45)))
    radius_ratio = min(radius_ratio, 0.2)
    eccentricity = float(rng.beta(0.9, 3.0)) * (period > 6) * 0.7
    impact = rng.random() * (1 + 0.5 * radius_ratio)
    orbit = Orbit(
        period,
        float(time[0] + period * rng.random()),
        a_over_rstar,
        min(impact / a_over_rstar, 0.5),
        eccentricity,
        float(rng.uniform(0, 2 * np.pi)),
    )
    flux = eclipse(time, orbit, radius_ratio, limb_darkening(rng), exposure)
    if rng.random() < 0.15:  # day side of a hot planet
        flux -= rng.uniform(0, 0.08) * radius_ratio**2 * np.cos(2 * np.pi * (time - orbit.epoch) / period)
    return System(flux, Signal(period, orbit.epoch, orbit.duration(1 + radius_ratio)), -float(flux.min()))


@dataclass(frozen=True)
class _Pair:
    """Two stars.

    Attributes:
        orbit: of the secondary star, in radii of the primary.
        radius_ratio: radius of the secondary, in radii of the primary.
        flux_ratio: flux of the secondary, in units of the primary's.
        ellipsoidal_amplitude: of the variation at half the orbital period, by tidal distortion.
        reflection_amplitude: of the variation at the orbital period, by mutual irradiation.
    """

    orbit: Orbit
    radius_ratio: float
    flux_ratio: float
    ellipsoidal_amplitude: float
    reflection_amplitude: float

    @property
    def ellipsoidal_dominated(self) -> bool:
        """Whether the ellipsoidal variation exceeds a quarter of the eclipse depth."""
        return 2 * self.ellipsoidal_amplitude > 0.25 * self.depth

    @property
    def depth(self) -> float:
        """Approximate depth of the deeper eclipse, for uniform discs at conjunction."""
        orbit = self.orbit
        closest = (1 - orbit.eccentricity**2) / (1 + orbit.eccentricity * np.sin(orbit.omega))
        apart = orbit.a_over_rstar * orbit.cos_inclination * closest
        overlap = np.clip((1 + self.radius_ratio - apart) / (2 * min(self.radius_ratio, 1.0)), 0.0, 1.0)
        area = overlap * min(self.radius_ratio, 1.0) ** 2
        return float(area * max(1.0, self.flux_ratio / self.radius_ratio**2) / (1 + self.flux_ratio))


def _pair(rng: np.random.Generator, start: float, period: float) -> _Pair:
    """Two main-sequence stars, or an evolved one and a dwarf; circular where the period is short."""
    mass = float(np.exp(rng.normal(0.15, 0.3))) * min(1.0, (period / 0.8) ** 0.4)
    share = float(0.08 + 0.92 * rng.random() ** 1.5)
    radius = mass**0.9 * float(np.exp(abs(rng.normal(0, 0.35))))
    radius_ratio = (share * mass) ** 0.9 / radius
    a_over_rstar = (period / SOLAR_DENSITY_PERIOD) ** (2 / 3) * (mass * (1 + share)) ** (1 / 3) / radius
    smallest = 1.05 * (1 + radius_ratio)
    a_over_rstar = max(a_over_rstar, smallest * (1 + 0.6 * rng.random()))
    eccentricity = float(rng.beta(1.0, 3.0)) * 0.8 * (period > 2.5) * (rng.random() < 0.7)
    orbit = Orbit(
        period,
        float(start + period * rng.random()),
        a_over_rstar,
        rng.random() * (1 + radius_ratio) * 0.98 / a_over_rstar,
        min(eccentricity, max(0.0, 1 - smallest / a_over_rstar)),
        float(rng.uniform(0, 2 * np.pi)),
    )
    alike = min(1.0, period / 1.5)  # stars in contact have equal surface temperatures
    flux_ratio = share ** (float(rng.uniform(0.0, 4.5)) * alike) * radius_ratio**2
    ellipsoidal_amplitude = 1.3 * share * a_over_rstar**-3.0 * float(rng.uniform(0.6, 1.4))
    return _Pair(
        orbit,
        radius_ratio,
        flux_ratio,
        ellipsoidal_amplitude,
        0.35 * (radius_ratio / a_over_rstar) ** 2 * float(rng.uniform(0, 2)),
    )


def binary(rng: np.random.Generator, time: np.ndarray, exposure: float, longest: float) -> System:
    """An eclipsing binary, as a search reports it.

    It is folded at half the period if both eclipses look alike. Binaries dominated by ellipsoidal variation are rare
    here, because vetters label them variable stars; they are part of `variability`.
    """
    period = 0.0
    while not 0.22 < period < longest:
        period = float(np.exp(rng.normal(np.log(2.0), 1.25)))
    for _ in range(12):
        pair = _pair(rng, float(time[0]), period)
        if not pair.ellipsoidal_dominated:
            break
    orbit, radius_ratio, flux_ratio = pair.orbit, pair.radius_ratio, pair.flux_ratio
    first = eclipse(time, orbit, radius_ratio, limb_darkening(rng), exposure) / (1 + flux_ratio)
    other = (
        eclipse(time, orbit, radius_ratio, limb_darkening(rng), exposure, secondary=True)
        * flux_ratio
        / (1 + flux_ratio)
    )
    angle = 2 * np.pi * (time - orbit.epoch) / orbit.period
    flux = first + other - pair.ellipsoidal_amplitude * np.cos(2 * angle) - pair.reflection_amplitude * np.cos(angle)
    depths = (-float(first.min()), -float(other.min()))
    if rng.random() < 0.3:  # spots, synchronous with the orbit
        flux += max(depths) * 10 ** rng.uniform(-2, -0.6) * harmonic_series(rng, (time - orbit.epoch) / orbit.period, 2)
    return System(flux, _as_found(rng, pair, depths), max(depths))


def _as_found(rng: np.random.Generator, pair: _Pair, depths: tuple[float, float]) -> Signal:
    """The ephemeris of the deeper eclipse, at half the period if a search would fold both onto each other."""
    orbit, radius_ratio = pair.orbit, pair.radius_ratio
    durations = (orbit.duration(1 + radius_ratio), orbit.duration(1 + radius_ratio, secondary=True))
    deeper = int(depths[1] > depths[0])
    epoch = orbit.epoch + deeper * orbit.secondary_phase * orbit.period
    alike = min(depths) / max(*depths, 1e-9)
    centred = abs(orbit.secondary_phase - 0.5) * orbit.period < 0.3 * durations[deeper]
    halved = centred and (pair.ellipsoidal_dominated or rng.random() < 0.9 * alike**2)
    period = orbit.period / 2 if halved else orbit.period
    return Signal(period, epoch, min(durations[deeper] or max(durations), 0.6 * period))


#: Multiples of the period at which a search reports a variable star, with probabilities, by kind of `variability`.
FOLDS = (
    ((1, 2), (0.8, 0.2)),
    ((1, 2, 3), (0.55, 0.35, 0.1)),
    ((1, 0.5, 2), (0.75, 0.2, 0.05)),
    ((1, 2), (0.8, 0.2)),
)


def variability(rng: np.random.Generator, time: np.ndarray) -> tuple[np.ndarray, float]:
    """[n] flux of a variable star, unit variance (spots, pulsations, ellipsoidal), and its reported period."""
    kind = int(rng.choice(4, p=(0.25, 0.28, 0.37, 0.10)))
    if kind == 0:  # evolving spots
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
    elif kind == 2:  # ellipsoidal and near-contact binaries: two maxima per cycle, unequal minima or maxima
        period = float(np.exp(rng.uniform(np.log(0.2), np.log(1.8))))
        angle = 2 * np.pi * (time / period + rng.random())
        apart = np.abs(angle / np.pi - np.floor(angle / np.pi + 0.5))  # from the nearest minimum, in half cycles
        deeper = np.maximum(0, 1 - apart / rng.uniform(0.12, 0.3)) * rng.uniform(0, 1.8) * (rng.random() < 0.6)
        flux = -np.cos(2 * angle) - deeper - rng.uniform(0, 0.3) * np.cos(4 * angle)
        flux += rng.normal(0, 0.25) * np.cos(angle) + rng.normal(0, 0.15) * np.sin(angle)
    else:  # fast rise, slow fall: RR Lyrae and similar
        period = float(np.exp(rng.uniform(np.log(0.25), np.log(3))))
        angle = 2 * np.pi * (time / period + rng.random())
        tilt = rng.uniform(0.2, 0.6)
        flux = np.sum([tilt ** (k - 1) / k * np.sin(k * angle) for k in range(1, 6)], axis=0)
    folds, shares = FOLDS[kind]
    return flux / max(float(np.std(flux)), 1e-12), period * float(rng.choice(folds, p=shares))
