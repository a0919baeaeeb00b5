"""Simulated, detrended light curves and the signals that a pipeline would report on them.

Ephemerides of planets and binaries have the errors of a transit search. Junk is the result of a real search: the most
significant box in a light curve without eclipses.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from transit_cli.data.simulation import instrument, systems
from transit_cli.data.simulation.box_search import deepest_box
from transit_cli.data.views.detrend import flatten, in_transit
from transit_cli.data.views.folding import Signal

if TYPE_CHECKING:
    from transit_cli.data.simulation.instrument import Observation

#: Knot spacings of the detrending, in days: those of the mission's pipelines and of `transit data prepare`.
SPACINGS = {"tess": (0.3, 1.5), "kepler": (0.8, 4.0)}
#: Probabilities of the causes of junk (see `_systematics`).
JUNK = {
    "variable": 0.37,
    "dumps": 0.10,
    "edges": 0.10,
    "strays": 0.05,
    "jumps": 0.04,
    "scattered": 0.05,
    "cadence": 0.03,
    "missed": 0.07,
    "chance": 0.14,
    "sawtooth": 0.05,
}
#: Range of periods in days at which systematics repeat: the spacecraft's orbit, a month.
ORBIT = {"tess": (12.8, 14.8), "kepler": (30.0, 32.0)}
#: Shortest period of a search, in days.
SHORTEST = {"tess": 0.1, "kepler": 0.5}
#: Detection threshold.
THRESHOLD = 7.5
#: How often a signal below the threshold is amplified.
MAX_RESCALES = 4
#: Numbers of trial periods: log-uniform, uniform, and close to the best of these.
TRIALS = (30, 14, 13)
#: Numbers of trial periods, likewise, of a search for the highest of many peaks of noise; the faintest that is kept,
#: and how many light curves are searched for one.
CHANCE_TRIALS, CHANCE_THRESHOLD, CHANCE_TRIES = (900, 300, 13), 5.5, 4


class NothingFoundError(Exception):
    """A light curve in which a pipeline would detect nothing."""


@dataclass(frozen=True)
class SimulatedSignal:
    """A detrended light curve and a signal on it.

    Attributes:
        time: [n] days.
        flux: [n] detrended, about 1.
        signal: as the pipeline would report it.
        label: "PC", "EB" or "J".
        kind: the true cause, such as "planet" or "variable star".
    """

    time: np.ndarray
    flux: np.ndarray
    signal: Signal
    label: str
    kind: str


def simulate_signal(rng: np.random.Generator, label: str, mission: str) -> SimulatedSignal:
    """Simulate one light curve and the signal reported on it.

    Args:
        rng: source of all random numbers.
        label: "PC", "EB" or "J".
        mission: "tess" or "kepler".

    Raises:
        NothingFoundError: the signal is too weak, or not covered by the data.
    """
    observation = instrument.observe_tess(rng) if mission == "tess" else instrument.observe_kepler(rng)
    low, high = np.log(SPACINGS[mission])
    spacing = float(np.exp(rng.uniform(low, high)))
    if label == "J":
        return _junk(rng, observation, spacing, mission)
    return _eclipses(rng, label, observation, spacing, mission)


def _detrended(
    observation: Observation, flux: np.ndarray, spacing: float, signals: tuple[Signal, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """Detrended times and fluxes, by the same spline as for real light curves.

    The knot spacing is random instead of searched. TESS archive light curves are detrended by pipelines that do not
    mask transits, which leaves shoulders beside deep ones; so callers mask nothing for TESS.
    """
    flat = flatten(observation.time, flux, signals, spacings=(spacing,))
    return flat.time, flat.flux


def _eclipses(
    rng: np.random.Generator, label: str, observation: Observation, spacing: float, mission: str
) -> SimulatedSignal:
    """A planet or a binary. The noise follows from the S/N, log-normal as in Yu et al. (2019)."""
    time = observation.time
    span = float(time[-1] - time[0])
    make, typical, spread = (systems.planet, 55, 1.0) if label == "PC" else (systems.binary, 130, 1.7)
    system = make(rng, time, observation.cadence, min(0.8 * span, 30.0))
    inside = int(in_transit(time, (system.signal,), 1.0).sum())
    if label == "EB":  # short-period binaries are faint, or blended with a brighter star
        typical *= np.sqrt(min(system.signal.period, 3.0) / 2)
    snr = max(float(np.exp(rng.normal(np.log(typical), spread))), 11.0)
    sigma = system.depth * np.sqrt(inside) / snr
    if inside < 4 or system.depth < 1e-4 or sigma > 0.03:
        raise NothingFoundError
    sigma = max(sigma, 5e-5)
    flux = 1 + system.flux + sigma * _background(rng, observation)
    if rng.random() < 0.35:
        amplitude = min(sigma * float(np.exp(rng.normal(-0.5, 1.0))), 0.5 * system.depth)
        flux += amplitude * systems.variability(rng, time)[0]
    signal = reported_signal(rng, system.signal, span)
    flat = _detrended(observation, flux, spacing, () if mission == "tess" else (signal,))
    return SimulatedSignal(*flat, signal, label, "planet" if label == "PC" else "eclipsing binary")


def reported_signal(rng: np.random.Generator, true: Signal, span: float) -> Signal:
    """The ephemeris with the errors of a box search: a few per cent of a duration; 10 % in duration.

    One in ten durations and one in sixteen periods have large errors, as in published catalogs.
    """
    spread, shift = (0.7 if rng.random() < 0.1 else 0.1), (0.2 if rng.random() < 0.06 else 0.05)
    duration = min(true.duration * float(np.exp(rng.normal(0, spread))), 0.7 * true.period)
    drift = rng.normal(0, shift) * true.duration * true.period / span
    epoch = true.epoch + rng.normal(0, 0.025) * true.duration
    return Signal(float(true.period + drift), float(epoch), max(duration, 0.5 / 24))


def _background(rng: np.random.Generator, observation: Observation) -> np.ndarray:
    """[n] white noise of unit variance, red noise, and occasional systematics."""
    total = rng.standard_normal(len(observation.grid))
    total += rng.exponential(0.35) * instrument.red_noise(rng, len(observation.grid), observation.cadence)
    mild = (
        (0.5, 0.4, instrument.pointing_drift),
        (0.5, 1.0, instrument.edge_ramps),
        (0.2, 3.0, instrument.outlier_bursts),
        (0.15, 2.0, instrument.flux_jumps),
        (0.1, 3.0, instrument.flares),
    )
    for chance, scale, make in mild:
        if rng.random() < chance:
            total += rng.exponential(scale) * make(rng, observation)
    return total[observation.has_data]


def _systematics(
    rng: np.random.Generator, observation: Observation, kind: str, mission: str
) -> tuple[np.ndarray, tuple[float, ...]]:
    """[n] systematics of a junk light curve in units of its white noise, and trial periods at which they may repeat.

    Without trial periods, all periods are searched.
    """

    def strength(typical: float, spread: float) -> float:
        return float(np.exp(rng.normal(np.log(typical), spread)))

    if kind == "variable":
        shape, period = systems.variability(rng, observation.time)
        while period < SHORTEST[mission]:
            period *= int(rng.integers(2, 4))
        return strength(1.6, 1.1) * shape, (period,)
    if kind == "dumps":
        step = float(np.median(np.diff(observation.dumps)))
        wrong = strength(0.9, 0.5) * instrument.pointing_drift(rng, observation)
        wrong += rng.exponential(2.0) * instrument.momentum_dump_offsets(rng, observation)
        return wrong[observation.has_data], (step * float(rng.choice((0.5, 1, 2), p=(0.15, 0.7, 0.15))),)
    if kind == "sawtooth":
        period = float(np.exp(rng.uniform(np.log(2), np.log(14))))
        return strength(8, 0.7) * instrument.sawtooth_dips(rng, observation, period)[observation.has_data], (period,)
    make, typical, spread = {
        "edges": (instrument.edge_ramps, 5.0, 0.6),
        "strays": (instrument.outlier_bursts, 6.0, 0.7),
        "jumps": (instrument.flux_jumps, 4.0, 0.6),
        "scattered": (instrument.scattered_light, 5.0, 0.7),
    }[kind]
    return strength(typical, spread) * make(rng, observation)[observation.has_data], _orbits(rng, mission)


def _orbits(rng: np.random.Generator, mission: str) -> tuple[float, ...]:
    """Trial periods of about one or two orbits; empty for a search over all periods."""
    if rng.random() > 0.6:
        return ()
    return tuple((rng.uniform(*ORBIT[mission], 12) * (1 + (rng.random() < 0.2))).tolist())


def _junk(rng: np.random.Generator, observation: Observation, spacing: float, mission: str) -> SimulatedSignal:
    """A false alarm: the most significant box in a light curve without eclipses."""
    kind = str(rng.choice(list(JUNK), p=list(JUNK.values())))
    if kind == "missed":
        return _wrong_ephemeris(rng, observation, spacing)
    if kind == "cadence":
        return _cadence_alias(rng, observation, spacing, mission)
    if kind == "chance":
        return _chance_alignment(rng, observation, spacing, mission)
    wrong, periods = _systematics(rng, observation, kind, mission)
    background = _background(rng, observation)
    for _ in range(MAX_RESCALES):
        time, flux = _detrended(observation, 1 + 1e-3 * (background + wrong), spacing, ())
        signal, significance = search_signal(rng, time, flux, periods, SHORTEST[mission])
        if significance >= THRESHOLD:
            return SimulatedSignal(
                time, flux, signal, "J", "variable star" if kind == "variable" else f"instrument: {kind}"
            )
        wrong *= 1.6 * THRESHOLD / significance
    raise NothingFoundError


def _cadence_alias(rng: np.random.Generator, observation: Observation, spacing: float, mission: str) -> SimulatedSignal:
    """A signal at a multiple of the cadence, where cadences fold onto each other.

    The phase drifts only by the light travel time, so that an interval of time folds to a narrow dip.
    """
    wrong = float(np.exp(rng.normal(1.5, 0.6))) * instrument.edge_ramps(rng, observation)[observation.has_data]
    time, flux = _detrended(observation, 1 + 1e-3 * (_background(rng, observation) + wrong), spacing, ())
    steps = int(np.ceil(SHORTEST[mission] / observation.cadence)) + int(rng.choice(4, p=(0.3, 0.4, 0.15, 0.15)))
    signal = Signal(steps * observation.cadence, float(time[np.argmin(flux)]), float(rng.uniform(0.0015, 0.005)))
    return SimulatedSignal(time, flux, signal, "J", "multiple of the cadence")


def _chance_alignment(
    rng: np.random.Generator, observation: Observation, spacing: float, mission: str
) -> SimulatedSignal:
    """The highest of many peaks of noise: a search tries so many periods that dips line up by chance.

    They look like shallow transits, centred and of plausible duration, and are most of what lies near a survey's
    detection threshold.
    """
    for _ in range(CHANCE_TRIES):
        noise = _background(rng, observation)
        red = rng.exponential(1.5) * instrument.red_noise(rng, len(observation.grid), observation.cadence)
        time, flux = _detrended(observation, 1 + 1e-3 * (noise + red[observation.has_data]), spacing, ())
        signal, significance = search_signal(rng, time, flux, (), SHORTEST[mission], counts=CHANCE_TRIALS)
        if significance >= CHANCE_THRESHOLD:
            return SimulatedSignal(time, flux, signal, "J", "chance alignment")
    raise NothingFoundError


def _wrong_ephemeris(rng: np.random.Generator, observation: Observation, spacing: float) -> SimulatedSignal:
    """A wrong period or epoch of another signal, such as a harmonic or residuals of a masked signal."""
    time = observation.time
    span = float(time[-1] - time[0])
    wrong = _background(rng, observation)
    what = rng.choice(4, p=(0.35, 0.25, 0.25, 0.15))
    if what == 0:
        system = systems.binary(rng, time, observation.cadence, min(0.8 * span, 30.0))
        wrong += float(np.exp(rng.normal(2, 1))) * system.flux / max(system.depth, 1e-6)
    elif what == 1:
        wrong += rng.exponential(10) * instrument.outlier_bursts(rng, observation)[observation.has_data]
    elif what == 2:
        wrong += float(np.exp(rng.normal(0.3, 0.9))) * systems.variability(rng, time)[0]
    time, flux = _detrended(observation, 1 + 1e-3 * wrong, spacing, ())
    periods = np.exp(rng.uniform(np.log(0.1), np.log(0.85 * span), 5))
    signal, _ = deepest_box(*_downsample(time, flux), periods)
    duration = min(signal.duration * float(np.exp(rng.normal(0, 0.5))), 0.5 * signal.period)
    epoch = signal.epoch + rng.normal(0, 0.3) * duration
    return SimulatedSignal(time, flux, Signal(signal.period, epoch, max(duration, 0.002)), "J", "wrong ephemeris")


def search_signal(
    rng: np.random.Generator,
    time: np.ndarray,
    flux: np.ndarray,
    periods: tuple[float, ...],
    shortest: float,
    *,
    counts: tuple[int, int, int] = TRIALS,
) -> tuple[Signal, float]:
    """The most significant box: at the given or at random trial periods, refined close to the best.

    A full search has about 10,000 trial periods; a few suffice if it is known where the systematics repeat.
    """
    time, flux = _downsample(time, flux)
    span = float(time[-1] - time[0])
    longest = 0.95 * span
    if periods:
        trials = np.clip(np.repeat(periods, max(1, 5 // len(periods))), shortest, longest)
        trials *= 1 + 0.001 * rng.standard_normal(len(trials))
    else:
        short = np.exp(rng.uniform(np.log(shortest), np.log(longest), counts[0]))
        trials = np.concatenate([short, rng.uniform(min(5.0, longest / 2), longest, counts[1])])
    coarse, _ = deepest_box(time, flux, trials)
    step = 0.25 * max(coarse.duration, 0.02) * coarse.period / span
    near = np.maximum(coarse.period + step * np.linspace(-3, 3, counts[2]), shortest)
    signal, significance = deepest_box(time, flux, near)
    duration = signal.duration
    if duration > 0.1 * signal.period:  # pipelines limit the duration
        duration *= float(np.exp(rng.normal(-0.35, 0.55)))
    duration = float(np.clip(duration, 0.002, 0.7 * signal.period))
    return Signal(signal.period, signal.epoch, duration), significance


def _downsample(time: np.ndarray, flux: np.ndarray, most: int = 900) -> tuple[np.ndarray, np.ndarray]:
    """At most `most` points, by averaging neighbours."""
    group = -(-len(time) // most)
    if group == 1:
        return time, flux
    whole = len(time) // group * group
    return time[:whole].reshape(-1, group).mean(axis=1), flux[:whole].reshape(-1, group).mean(axis=1)
