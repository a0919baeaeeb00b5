"""All signals of a batch of stars: the strongest first, its transits masked before the next.

The grid is searched for all stars of the batch together, on the device. What stands out is measured star by star on the
host (`measurement`), which few stars need. A round masks what it found and searches again those stars on which it found
something, until nothing is left above the limits.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from transit_cli.search import engine, grid
from transit_cli.search.engine import NOISE_WIDTHS, Engine, SearchPlan
from transit_cli.search.flags import detection_efficiency, notes_of, relation
from transit_cli.search.measurement import Measured, measure, measure_single, strongest

if TYPE_CHECKING:
    from transit_cli.search.cells import Curve

#: Peaks of the periodogram that are measured, of which the best is taken.
PEAKS = 3
#: Neighbouring trial periods that belong to one peak.
PEAK_WIDTH = 9
#: Transits are masked over this many durations, and two cells more.
MASK = 1.3
#: Rounds in which nothing is reported (something is masked that is no signal), besides one a signal.
SPARE = 3
#: A peak is measured from this share of the limit on, because the grid loses a little of its S/N.
NEAR = 0.9


@dataclass(frozen=True)
class Limits:
    """What is reported.

    Attributes:
        snr: the least S/N of a periodic signal.
        single: the least S/N of a single transit.
        sde: the least signal detection efficiency of a periodic signal.
        signals: the most per star.
    """

    snr: float = 7.0
    single: float = 10.0
    sde: float = 0.0
    signals: int = 8


@dataclass(frozen=True)
class Found:
    """A signal of a star.

    Attributes:
        measured: its figures.
        sde: signal detection efficiency of the periodogram's peak; NaN for a single transit.
        flags: what a user should know, in words.
    """

    measured: Measured
    sde: float
    flags: tuple[str, ...] = ()


@dataclass
class _Star:
    """One star of a batch, as the rounds go."""

    curve: Curve
    refit: Callable[[np.ndarray], Curve] | None
    found: list[Found] = field(default_factory=list)
    masked: np.ndarray = field(init=False)
    spare: int = SPARE

    def __post_init__(self) -> None:
        self.masked = np.zeros(len(self.curve.time), dtype=bool)

    def left(self) -> Curve:
        """The light curve without what was masked."""
        return self.curve.without(self.masked)

    def mask(self, signal: Measured, width: float = MASK) -> None:
        """Leave the transits of a signal out from now on."""
        margin = 2 * self.curve.width / signal.duration
        self.masked |= signal.inside(self.curve.time, width + margin)


def plan_for(
    cells: int, width: float, limits: tuple[float, float], densities: tuple[float, float], oversampling: float = 3.0
) -> SearchPlan:
    """What is tried on light curves of `cells` cells of `width` days.

    Args:
        cells: from the first to the last.
        width: of a cell, in days.
        limits: the shortest and the longest period, in days; a longest of 0 is the length of the light curve, in which
            a signal can just be seen twice.
        densities: of the stars, lowest and highest, in units of the Sun's.
        oversampling: of the periods (`grid.periods`).
    """
    span = cells * width
    high = min(limits[1] or span, span)
    low = min(limits[0], high / 2)
    mean = math.sqrt(densities[0] * densities[1])
    return SearchPlan(cells, width, grid.periods(span, low, high, mean, oversampling), densities)


def search(
    machine: Engine,
    plan: SearchPlan,
    curves: Sequence[Curve],
    limits: Limits,
    refits: Sequence[Callable[[np.ndarray], Curve]] | None = None,
) -> list[list[Found]]:
    """Find the signals of every star of a batch, each star's in the order in which they were found.

    Args:
        machine: the engine.
        plan: what is tried; its cells are as wide as the curves', and at least as many.
        curves: one per star.
        limits: what is reported.
        refits: for each star, the light curve over a trend fitted without some of its points, [n] bool.
    """
    stars = [_Star(curve, refits[number] if refits else None) for number, curve in enumerate(curves)]
    active = stars
    while active:
        active = _round(machine, plan, active, limits)
    for star in stars:
        _finish(star)
    return [star.found for star in stars]


def signal_to_noise(
    machine: Engine, plan: SearchPlan, curves: Sequence[Curve]
) -> tuple[np.ndarray, torch.Tensor, torch.Tensor]:
    """The periodograms of a batch: [stars, periods] the best S/N at each period; its data and noise on the device."""
    grids = [curve.on_grid(plan.count) for curve in curves]
    data = machine.load(np.stack([item[0] for item in grids]), np.stack([item[1] for item in grids]))
    noise = engine.noise_by_width(data)
    return machine.periodogram(data, plan, noise).cpu().numpy(), data, noise


def strongest_peaks(machine: Engine, plan: SearchPlan, curves: Sequence[Curve]) -> list[Found | None]:
    """The strongest periodic signal of each star, whatever its S/N; None where no peak can be measured."""
    spectra, _, noise = signal_to_noise(machine, plan, curves)
    found: list[Found | None] = []
    for curve, spectrum, table in zip(curves, spectra, noise.cpu().numpy(), strict=True):
        best, peak = best_peak(curve, plan, spectrum, _noise_of(table, plan.width))
        sde = detection_efficiency(spectrum, float(curve.weight.sum()))[peak]
        found.append(Found(best, float(sde)) if best else None)
    return found


def _round(machine: Engine, plan: SearchPlan, stars: list[_Star], limits: Limits) -> list[_Star]:
    """One search of all stars; returns those that are to be searched again."""
    left = [star.left() for star in stars]
    spectra, data, noise = signal_to_noise(machine, plan, left)
    singles = _singles(data, noise, plan)
    table = noise.cpu().numpy()
    again = []
    for number, star in enumerate(stars):
        red = _noise_of(table[number], plan.width)
        if _look(star, _Seen(left[number], plan, spectra[number], singles[number], red), limits):
            again.append(star)
    return [star for star in again if len(star.found) < limits.signals and star.spare > 0]


@dataclass(frozen=True)
class _Seen:
    """What one search of a star has shown.

    Attributes:
        curve: the light curve that was searched.
        plan: what was tried.
        spectrum: [periods] the best S/N at each.
        single: S/N, cell and width in cells of the best single transit.
        noise: of single events, by duration in days.
    """

    curve: Curve
    plan: SearchPlan
    spectrum: np.ndarray
    single: np.ndarray
    noise: Callable[[float], float]


def _look(star: _Star, seen: _Seen, limits: Limits) -> bool:
    """Measure what stands out on one star, report and mask it; whether there was something."""
    if seen.spectrum.max() >= NEAR * limits.snr:
        best, peak = best_peak(seen.curve, seen.plan, seen.spectrum, seen.noise)
        if best is not None and best.single:
            alone = measure_single(seen.curve, strongest(best), best.duration, seen.noise)
            if alone is not None and alone.snr >= limits.single:
                _report(star, Found(alone, np.nan))
            else:  # a dip that only looks periodic: it is masked, and the search repeated
                star.mask(replace(best, single=True, epoch=strongest(best)))
                star.spare -= 1
            return True
        if best is not None and best.snr >= limits.snr:
            sde = detection_efficiency(seen.spectrum, float(seen.curve.weight.sum()))[peak]
            if sde >= limits.sde:
                _report(star, Found(best, float(sde)))
                return True
    snr, cell, width = seen.single
    if snr >= NEAR * limits.single:
        centre = float(seen.curve.time[0] + cell * seen.plan.width)
        alone = measure_single(seen.curve, centre, float(width * seen.plan.width), seen.noise)
        if alone is not None and alone.snr >= limits.single:
            _report(star, Found(alone, np.nan))
            return True
    return False


def best_peak(
    curve: Curve, plan: SearchPlan, spectrum: np.ndarray, red: Callable[[float], float]
) -> tuple[Measured | None, int]:
    """The best of the strongest peaks, measured, and its place in the periodogram."""
    rest = spectrum.copy()
    best, place = None, int(spectrum.argmax())
    for _ in range(PEAKS):
        peak = int(rest.argmax())
        if rest[peak] < 0.85 * spectrum.max():
            break
        near = slice(max(peak - PEAK_WIDTH, 0), peak + PEAK_WIDTH + 1)
        rest[near] = -np.inf
        found = measure_peak(curve, plan, peak, red)
        if found is not None and (best is None or found.snr > best.snr * (1.02 if not best.single else 1.0)):
            best, place = found, peak
    return best, place


def measure_peak(curve: Curve, plan: SearchPlan, peak: int, red: Callable[[float], float]) -> Measured | None:
    """Measure the signal at a peak of the periodogram, on the host."""
    host = _host()
    near = slice(max(peak - 1, 0), peak + 2)
    deficits, weights = curve.on_grid(plan.count)
    data = host.load(deficits[None], weights[None])
    noise = torch.tensor([[red(width * plan.width) for width in NOISE_WIDTHS]], dtype=torch.float32)
    some = replace(plan, periods=plan.periods[near])
    scores, epochs, durations = host.locate(data, some, noise)
    at = int(scores.argmax())
    period = float(some.periods[at])
    epoch = float(curve.time[0] + epochs[at])
    mean = math.sqrt(plan.densities[0] * plan.densities[1])
    slack = float(2 * grid.duration(period, mean) / (3 * period))  # two steps of the grid, in cycles over the span
    return measure(curve, (period, epoch, float(durations[at])), red, slack)


def _host() -> Engine:
    """An engine for single stars on the CPU."""
    global _HOST  # noqa: PLW0603 - its matrices are made once
    if _HOST is None:
        _HOST = Engine(torch.device("cpu"), 16 << 20)
    return _HOST


_HOST: Engine | None = None


def _noise_of(table: np.ndarray, width: float) -> Callable[[float], float]:
    """The noise of single events as a function of a duration in days, from a row of `engine.noise_by_width`."""
    days = NOISE_WIDTHS * width
    return lambda duration: float(np.interp(np.log(max(duration, 1e-6)), np.log(days), table))


def _singles(data: torch.Tensor, noise: torch.Tensor, plan: SearchPlan) -> np.ndarray:
    """[stars, 3] the best S/N of a single transit, its cell and its width in cells."""
    longest = float(grid.duration(plan.count * plan.width * 4, plan.densities[0])) / plan.width
    best = torch.zeros((data.shape[1] // 2, 3), device=data.device)
    for number, width in enumerate(NOISE_WIDTHS):
        if 2 < width <= longest and number % 2 == 0:
            value, cell = (engine.single_events(data, float(width)).nan_to_num(-1.0) / noise[:, number, None]).max(1)
            new = torch.stack([value, cell.float(), torch.full_like(value, float(width))], 1)
            best = torch.where((value > best[:, 0])[:, None], new, best)
    return best.cpu().numpy()


def _report(star: _Star, found: Found) -> None:
    """Add a signal, unless it is what is left of one that was masked; mask it."""
    signal = found.measured
    for number, earlier in enumerate(star.found, 1):
        related = relation(signal, earlier.measured)
        if related is None:
            continue
        if related.endswith("in phase"):  # what a mask too narrow has left of it
            star.mask(earlier.measured, 2 * MASK)
            star.mask(signal)
            star.spare -= 1
            return
        found = replace(found, flags=(*found.flags, f"{related} of signal {number}"))
        break
    star.found.append(found)
    star.mask(signal)
    if star.refit is not None:
        star.curve = star.refit(star.masked)


def _finish(star: _Star) -> None:
    """Measure every signal again, over a trend fitted without any of them and with the others masked."""
    if not star.found:
        return
    everything = np.zeros(len(star.curve.time), dtype=bool)
    signals = [item.measured for item in star.found]
    for signal in signals:
        everything |= signal.inside(star.curve.time, MASK + 2 * star.curve.width / signal.duration)
    curve = star.refit(everything) if star.refit is not None else star.curve
    for number, found in enumerate(star.found):
        others = np.zeros(len(curve.time), dtype=bool)
        for other, signal in enumerate(signals):
            if other != number:
                others |= signal.inside(curve.time, 1.0)
        again = _again(found.measured, curve.without(others), curve)
        flags = [*found.flags, *notes_of(again, curve)]
        star.found[number] = Found(again, found.sde, tuple(flags))


def _again(signal: Measured, alone: Curve, curve: Curve) -> Measured:
    deficits, weights = alone.without(signal.inside(curve.time)).on_grid(curve.cells)
    noise = engine.noise_by_width(_host().load(deficits[None], weights[None])).numpy()[0]
    red = _noise_of(noise, curve.width)
    if signal.single:
        found = measure_single(alone, signal.epoch, signal.duration, red)
    else:
        figures = (signal.period, signal.epoch, signal.duration)
        found = measure(alone, figures, red, 0.5 * signal.duration / signal.period)
    if found is None or found.single != signal.single or found.snr < 0.5 * signal.snr:
        return signal
    return found
