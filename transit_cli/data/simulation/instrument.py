"""Observing windows and instrumental systematics of TESS and Kepler.

TESS-like light curves have 30-minute cadences in the spans of sectors 1 to 5 as the data release notes give them, with
the downlink gaps, the sector 4 anomaly, momentum dumps and scattered light; Kepler-like ones 29.4-minute cadences in
quarters with monthly downlinks and safe modes. Fluxes are relative: 1 is the star's mean.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Observation:
    """When a star was observed.

    Attributes:
        grid: [m] days, every cadence from the first to the last of the light curve, evenly spaced.
        has_data: [m] bool, cadences with data.
        edges: days of the begin and end of each orbit or month, where pointing or temperature settles.
        dumps: days of the momentum dumps.
        cadence: days between cadences, which is also the exposure.
    """

    grid: np.ndarray
    has_data: np.ndarray
    edges: np.ndarray
    dumps: np.ndarray
    cadence: float

    @property
    def time(self) -> np.ndarray:
        """[n] days of the cadences with data."""
        return self.grid[self.has_data]


#: Sectors 1-5: begin and end of both orbits (BTJD), and the days between momentum dumps (TESS data release notes).
SECTORS = (
    ((1325.30, 1338.52), (1339.66, 1353.18), 2.5),
    ((1354.11, 1367.15), (1368.60, 1381.51), 2.5),
    ((1385.95, 1395.48), (1396.64, 1406.22), 2.5),
    ((1410.91, 1423.51), (1424.56, 1436.83), 3.0),
    ((1438.00, 1450.15), (1451.58, 1464.26), 3.0),
)
#: Sector 4: the instrument was off, and drifted while warming up.
ANOMALY = (1418.54, 1421.21)
#: Share of signals of Yu et al. (2019, table 1) found in the data up to each sector.
SECTOR_SHARES = (0.11, 0.34, 0.03, 0.50, 0.02)
TESS_CADENCE = 30 / 1440
#: Light travel time from the Sun to the Earth in days: times are barycentric, cadences are the spacecraft's.
LIGHT_TIME = 0.00577
KEPLER_CADENCE = 0.02043361
#: Exponential decays are cut off after this many time scales (at 1e-17 of their amplitude).
DECAY_CUTOFF = 40


def observe_tess(rng: np.random.Generator) -> Observation:
    """A star observed in one sector or in several consecutive ones."""
    last = int(rng.choice(len(SECTORS), p=SECTOR_SHARES))
    first = last - min(last, int(rng.choice(4, p=(0.6, 0.16, 0.12, 0.12))))
    orbits = [orbit for sector in SECTORS[first : last + 1] for orbit in sector[:2]]
    begin, end = orbits[0][0], orbits[-1][1]
    grid = begin + rng.random() * TESS_CADENCE + TESS_CADENCE * np.arange(int((end - begin) / TESS_CADENCE))
    grid += LIGHT_TIME * rng.random() * np.sin(2 * np.pi * (grid / 365.25 + rng.random()))
    has_data = np.zeros(len(grid), bool)
    for low, high in orbits:
        cut = rng.exponential(0.35, 2) * (rng.random(2) < 0.5)  # scattered light, flagged
        has_data |= (grid > low + cut[0]) & (grid < high - cut[1])
    has_data &= (grid < ANOMALY[0]) | (grid > ANOMALY[1])
    dumps = [np.arange(s[0][0] + 0.3 * rng.random(), s[1][1], s[2]) for s in SECTORS[first : last + 1]]
    has_data &= rng.random(len(grid)) > 0.01
    edges = np.array([edge for orbit in orbits for edge in orbit] + list(ANOMALY) * (last >= 3))
    return Observation(grid, has_data, edges, np.concatenate(dumps), TESS_CADENCE)


def observe_kepler(rng: np.random.Generator) -> Observation:
    """A star observed in one to four consecutive quarters: 30-day months with one-day gaps, and safe modes."""
    quarters = int(rng.choice((1, 2, 4), p=(0.8, 0.15, 0.05)))
    length = 93.0 * quarters - 3
    begin = 131.5 + 93 * int(rng.integers(0, 13))
    grid = begin + KEPLER_CADENCE * np.arange(int(length / KEPLER_CADENCE))
    months = begin + 31.0 * np.arange(3 * quarters + 1)
    has_data = np.ones(len(grid), bool)
    for month in months[1:-1]:
        has_data &= (grid < month - 1.0 - 2.0 * ((month - begin) % 93 == 0)) | (grid > month)
    for _ in range(int(rng.poisson(0.25 * quarters))):  # a safe mode
        at = begin + length * rng.random()
        has_data &= (grid < at) | (grid > at + 1 + rng.exponential(1.5))
    has_data &= rng.random(len(grid)) > 0.015
    edges = np.concatenate([months[:-1], months[1:] - 1])
    return Observation(grid, has_data, edges, begin + 3.0 * np.arange(int(length / 3)), KEPLER_CADENCE)


def red_noise(rng: np.random.Generator, count: int, cadence: float) -> np.ndarray:
    """[count] correlated noise of unit variance: a power law in frequency, flat beyond a time scale of days."""
    size = -(-count // 1024) * 1024  # a length for which the FFT is fast
    frequency = np.fft.rfftfreq(size, cadence)
    corner, slope = 10 ** rng.uniform(-0.5, 0.8), rng.uniform(0.5, 1.5)  # per day
    spectrum = (1 + (frequency / corner) ** 2) ** (-0.5 * slope)
    noise = np.fft.irfft(np.fft.rfft(rng.standard_normal(size)) * spectrum, size)[:count]
    return noise / noise.std()


def harmonic_series(rng: np.random.Generator, phase: np.ndarray, terms: int) -> np.ndarray:
    """A random smooth function of phase (in cycles), of unit variance: `terms` harmonics of falling amplitude."""
    order = np.arange(1, terms + 1)
    weights = rng.normal(size=(2, terms)) / order
    weights /= np.sqrt(0.5 * (weights**2).sum())
    angle = 2 * np.pi * phase
    turn, total = np.zeros((2, len(phase)), complex)
    np.cos(angle, out=turn.real)
    np.sin(angle, out=turn.imag)
    for cosine, sine in weights.T[::-1]:  # a polynomial in exp(i angle), so that sine and cosine are computed once
        total += complex(cosine, -sine)
        total *= turn
    return total.real


def _since_dump(observation: Observation) -> tuple[np.ndarray, np.ndarray]:
    """[m] the number of the momentum dump before each cadence, -1 before the first; [m] days since, or to the first."""
    passed = np.diff(
        observation.grid.searchsorted(observation.dumps, side="right"), prepend=0, append=len(observation.grid)
    )
    dumps = np.concatenate([observation.dumps[:1], observation.dumps])
    return np.repeat(np.arange(-1, len(observation.dumps)), passed), observation.grid - np.repeat(dumps, passed)


def pointing_drift(rng: np.random.Generator, observation: Observation) -> np.ndarray:
    """[m] pointing drift between momentum dumps, of unit variance, similar after each dump."""
    number, since = _since_dump(observation)
    length = np.median(np.diff(observation.dumps))
    strength = 1 + 0.4 * rng.standard_normal(len(observation.dumps) + 1)
    return strength[number] * harmonic_series(rng, since / length, int(rng.integers(2, 9)))


def momentum_dump_offsets(rng: np.random.Generator, observation: Observation) -> np.ndarray:
    """[m] an offset after each momentum dump, of unit height, that decays within hours."""
    number, since = _since_dump(observation)
    height = rng.choice((-1, 1), p=(0.7, 0.3)) * (1 + 0.5 * rng.standard_normal(len(observation.dumps) + 1))
    return height[number] * np.exp(-np.maximum(since, 0) / 10 ** rng.uniform(-1.7, -0.6)) * (since >= 0)


def edge_ramps(rng: np.random.Generator, observation: Observation) -> np.ndarray:
    """[m] ramps at the begin and end of orbits, of about unit height: thermal settling, scattered light.

    In half of the light curves the ramps of all begins are similar, and those of all ends.
    """
    total = np.zeros(len(observation.grid))
    alike = rng.random() < 0.5
    heights, scales = rng.normal(size=2), 10 ** rng.uniform(-1.4, -0.2, 2)
    for index, edge in enumerate(observation.edges):
        if rng.random() < (0.8 if alike else 0.6):
            side = index % 2
            height = heights[side] * (1 + 0.3 * rng.normal()) if alike else rng.normal()
            scale = scales[side] if alike else 10 ** rng.uniform(-1.4, -0.2)
            near = slice(
                observation.grid.searchsorted(edge - side * DECAY_CUTOFF * scale),
                observation.grid.searchsorted(edge + (1 - side) * DECAY_CUTOFF * scale, side="right"),
            )
            total[near] += height * np.exp(-np.abs(observation.grid[near] - edge) / scale)
    return total


def flux_jumps(rng: np.random.Generator, observation: Observation) -> np.ndarray:
    """[m] sudden changes of sensitivity, of about unit height; some recover within a day or two."""
    total = np.zeros(len(observation.grid))
    for _ in range(1 + int(rng.poisson(0.5))):
        since = observation.grid - rng.choice(observation.grid)
        recovery = np.exp(-np.maximum(since, 0) / 10 ** rng.uniform(-1.0, 0.3)) if rng.random() < 0.7 else 1.0
        total += (since >= 0) * rng.normal() * recovery
    return total


def outlier_bursts(rng: np.random.Generator, observation: Observation) -> np.ndarray:
    """[m] short runs of low (or high) cadences, of about unit depth: asteroids, hot pixels, guiding errors."""
    total = np.zeros(len(observation.grid))
    for _ in range(1 + int(rng.poisson(1.0))):
        at = int(rng.integers(0, len(observation.grid)))
        width = 1 + int(rng.exponential(3))
        depth = rng.choice((-1, 1), p=(0.75, 0.25)) * (0.3 + rng.exponential(0.7))
        total[at : at + width] += depth * rng.uniform(0.2, 1, len(total[at : at + width]))
    return total


def sawtooth_dips(rng: np.random.Generator, observation: Observation, period: float) -> np.ndarray:
    """[m] dips of about unit depth, a period apart, that begin suddenly and recover slowly, or the reverse.

    Guiding and temperature do this after events at equal intervals; the fold has one deep, lopsided dip.
    """
    cycles = (observation.grid - observation.grid[0]) / period + rng.random()
    part = cycles % 1 * period / 10 ** rng.uniform(-1.5, -0.5)
    recovery, bend, backwards = rng.uniform(0.3, 1.0), 10 ** rng.uniform(-0.3, 0.4), rng.random() < 0.5
    heights = 1 + 0.15 * rng.standard_normal(int(cycles[-1]) + 1)
    done = np.clip(1 - part if backwards else part, 0, 1)
    return np.where(part < 1, -heights[cycles.astype(int)] * (1 - recovery * done**bend), 0.0)


def scattered_light(rng: np.random.Generator, observation: Observation) -> np.ndarray:
    """[m] scattered Earthlight at the end of each orbit, modulated by the Earth's rotation, of about unit height."""
    total = np.zeros(len(observation.grid))
    profile = 1 + 0.5 * harmonic_series(rng, observation.grid, 3)
    for edge in observation.edges[1::2]:
        before = edge - observation.grid
        total += (before >= 0) * np.exp(-np.abs(before) / 10 ** rng.uniform(-1.0, 0.4)) * profile
    return total * rng.choice((-1, 1))


def flares(rng: np.random.Generator, observation: Observation) -> np.ndarray:
    """[m] flares of about unit height: a sudden rise and an exponential fall (Davenport et al. 2014, simplified)."""
    total = np.zeros(len(observation.grid))
    for _ in range(1 + int(rng.poisson(2.0))):
        since = observation.grid - rng.uniform(observation.grid[0], observation.grid[-1])
        total += rng.exponential() * np.exp(-np.maximum(since, 0) / 10 ** rng.uniform(-2, -0.8)) * (since >= 0)
    return total
