"""Light curves with and without a planet, for benchmarks/search.py: simulated, or real ones with transits added."""

from __future__ import annotations

import csv
import importlib.util
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from transit_cli.search import star_batch, template
from transit_cli.search.engine import Engine
from transit_cli.search.signals.measurement import phase_of
from transit_cli.search.star_batch import Limits

if TYPE_CHECKING:
    from pathlib import Path

    from transit_cli.search.cells import Curve

CADENCE = {"tess": 10 / 1440, "kepler": 0.02043361}
DAYS = {"tess": 27.0, "kepler": 90.0}
KINDS = ("tess", "kepler", "real")
DENSITIES = (0.1, 10.0)
#: The shortest period of the grid of TLS, for the Sun.
SHORTEST = 0.6


def transits(rng: np.random.Generator, when: np.ndarray) -> np.ndarray:
    """Depths over time of a planet with a period of its own, of S/N 8 to 20 in white noise of 1e-3."""
    period = float(np.exp(rng.uniform(np.log(0.8), np.log(9))))
    dip = template.shape(phase_of(when, period, rng.random() * period) / (0.036 * period ** (1 / 3)))
    return dip * (1e-3 * rng.uniform(8, 20) / np.sqrt((dip**2).sum()))


@dataclass(frozen=True)
class Case:
    """A light curve before detrending, and the period that is in it (0 for none), at which S/N over white noise."""

    time: np.ndarray
    flux: np.ndarray
    width: float
    period: float
    snr: float

    def curve(self) -> Curve:
        """Detrended as `transit search` does."""
        from transit_cli.search.source import detrend

        return detrend(self.time, self.flux, np.ones(len(self.time)), self.width)


def case(kind: str, number: int, base: list[tuple[np.ndarray, np.ndarray, float]]) -> Case:
    """Case `number` of a kind: with a planet of S/N 5 to 20 if the number is even, without one if it is odd."""
    rng = np.random.default_rng([KINDS.index(kind), number])
    snr = float(np.exp(rng.uniform(np.log(5), np.log(20)))) if number % 2 == 0 else 0.0
    return into_real(rng, base, snr) if kind == "real" else simulated(rng, kind, snr)


def simulated(rng: np.random.Generator, mission: str, snr: float, red: float = 1.0) -> Case:
    """A sector of TESS at 10-minute cadence, or a quarter of Kepler; red noise of up to about the white noise."""
    from transit_cli.data.simulation.instrument import red_noise

    cadence, length = CADENCE[mission], DAYS[mission]
    grid = cadence * np.arange(int(length / cadence))
    orbit, observed = (13.5, 12.9) if mission == "tess" else (31.0, 29.7)
    kept = (grid % orbit < observed) & (rng.random(len(grid)) > 0.01)
    when = grid[kept] + 1400.0
    noise = 10 ** rng.uniform(-3.7, -2.7)
    flux = rng.standard_normal(len(grid)) + red * rng.exponential(0.35) * red_noise(rng, len(grid), cadence)
    return _with_planet(rng, Case(when, 1 + noise * flux[kept], cadence, 0.0, 0.0), snr, noise)


def into_real(rng: np.random.Generator, base: list[tuple[np.ndarray, np.ndarray, float]], snr: float) -> Case:
    """A planet in one of the real light curves, rotated in time by a random amount: other noise under each transit."""
    when, flux, cadence = base[int(rng.integers(len(base)))]
    flux = np.roll(flux, int(rng.integers(len(flux))))
    noise = 1.4826 * float(np.median(np.abs(np.diff(flux)))) / np.sqrt(2)
    return _with_planet(rng, Case(when, flux, cadence, 0.0, 0.0), snr, noise)


def _with_planet(rng: np.random.Generator, bare: Case, snr: float, noise: float) -> Case:
    if not snr:
        return bare
    when = bare.time
    while True:
        dip, period = planet(rng, when, bare.width, 0.48 * float(when[-1] - when[0]))
        strength = float(np.sqrt((dip**2).sum()))
        if period > 1.05 * SHORTEST and strength > 0 and _transits(when, dip, period) > 2:
            return Case(when, bare.flux + dip * (snr * noise / strength), bare.width, period, snr)


def _transits(when: np.ndarray, dip: np.ndarray, period: float) -> int:
    inside = when[dip < 0.5 * dip.min()]
    return len(np.unique(np.rint((inside - inside[0]) / period)))


def planet(rng: np.random.Generator, when: np.ndarray, cadence: float, longest: float) -> tuple[np.ndarray, float]:
    """[n] the light that a planet takes, at most 0, and its period."""
    if importlib.util.find_spec("exoplanet_core") is None:
        period = float(np.exp(rng.uniform(np.log(0.7), np.log(longest))))
        duration = 0.0757 * period ** (1 / 3) * rng.uniform(0.5, 1.4)
        phase = phase_of(when, period, when[0] + rng.random() * period)
        return -template.shape(phase / (duration / 2)), period
    from transit_cli.data.simulation import systems

    system = systems.planet(rng, when, cadence, longest)
    return system.flux, system.signal.period


def real_base(folder: Path, saved: Path) -> list[tuple[np.ndarray, np.ndarray, float]]:
    """Each file of a folder, detrended: times, fluxes and cell widths, without the signals that are known or found.

    They are computed once and kept in `saved`, so that a run that is resumed injects into the same light curves.
    """
    if not saved.exists():
        found = _without_signals(folder)
        with saved.open("wb") as stream:
            np.savez_compressed(stream, **{f"{k}{n}": v for n, one in enumerate(found) for k, v in zip("tfw", one)})  # type: ignore[arg-type]  # noqa: B905
    stored = np.load(saved)
    count = len(stored.files) // 3
    return [(stored[f"t{n}"], stored[f"f{n}"], float(stored[f"w{n}"])) for n in range(count)]


def _without_signals(folder: Path) -> list[tuple[np.ndarray, np.ndarray, float]]:
    from transit_cli.data.lightcurves.file_index import FileIndex
    from transit_cli.search.source import Light, StarTask, read_star

    known = list(csv.DictReader((folder / "tces.csv").open())) if (folder / "tces.csv").exists() else []
    engine = Engine(torch.device("cpu"), 16 << 20)
    found = []
    for star, files in sorted(FileIndex.of(folder).by_star.items()):
        for file in sorted(files):
            light = read_star(StarTask(star, (file,), "", 40 / 1440))
            if not isinstance(light, Light):
                continue
            masked = np.zeros(len(light.time), dtype=bool)
            for row in known:
                if row["file"] == file.name:
                    phase = phase_of(light.time, float(row["period_days"]), float(row["epoch_days"]))
                    masked |= np.abs(phase) < 2 * float(row["duration_hours"]) / 24  # Kepler-90 keeps no exact time
            plan = star_batch.plan_for(light.curve.cells, light.width, (0.5, 0.0), DENSITIES)
            searched = light.detrended(masked).without(masked)
            for signal in star_batch.search(engine, plan, [searched], Limits(signals=4))[0]:
                masked |= signal.measured.inside(light.time, 1.5)
            curve = light.detrended(masked)
            kept = ~masked & (curve.weight > 0)
            found.append((curve.time[kept], 1 - curve.deficit[kept] * curve.sigma, light.width))
            print(f"{file.name}: {kept.sum()} of {len(kept)} cells of {light.width * 1440:.3g} minutes", flush=True)
    return found
