"""All signals of a batch of stars: the strongest first, its transits masked before the next.

The grid is searched for all stars of the batch together, on the device, and what stands out on any of them is measured
together (`measurement`). A round masks what it found and searches again those stars on which it found something, until
nothing is left above the limits.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from transit_cli.search import engine, grid
from transit_cli.search.engine import NOISE_WIDTHS, Engine, SearchPlan
from transit_cli.search.signals import peaks
from transit_cli.search.signals.flags import detection_efficiency, notes_of, relation
from transit_cli.search.signals.measurement import Candidate, Measured, NoiseTable, measure_all

if TYPE_CHECKING:
    from transit_cli.search.cells import Curve

#: Transits are masked over this many durations, and two cells more.
MASK = 1.3
#: Rounds in which nothing is reported (something is masked that is no signal), besides one a signal.
SPARE = 3
#: Light curves whose noise is measured together.
NOISES = 64
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
    fitted_without: np.ndarray | None = None
    spare: int = SPARE

    def __post_init__(self) -> None:
        self.masked = np.zeros(len(self.curve.time), dtype=bool)

    def left(self) -> Curve:
        """The light curve without what was masked."""
        return self.curve.without(self.masked)

    def without_signals(self) -> Curve:
        """The light curve over a trend that is fitted without any of the signals."""
        masked = np.zeros(len(self.curve.time), dtype=bool)
        for found in self.found:
            signal = found.measured
            masked |= signal.inside(self.curve.time, MASK + 2 * self.curve.width / signal.duration)
        if self.refit is None or np.array_equal(masked, self.fitted_without):
            return self.curve
        return self.refit(masked)

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
    _finish(machine, stars)
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
    seen = _Seen.of(machine, plan, curves)
    found: list[Found | None] = []
    for curve, spectrum, best in zip(curves, seen.spectra, seen.best(range(len(curves))), strict=True):
        sde = detection_efficiency(spectrum, float(curve.weight.sum()))
        found.append(Found(best[0], float(sde[best[1]])) if best else None)
    return found


@dataclass(frozen=True)
class _Seen:
    """What one search of a batch has shown.

    Attributes:
        machine: the engine.
        plan: what was tried.
        curves: the light curves that were searched.
        spectra: [stars, periods] the best S/N at each.
        data: [cells, 2 x stars] on the device.
        noise: [stars, widths] of single events, on the device.
        tables: the same for each star, on the host.
    """

    machine: Engine
    plan: SearchPlan
    curves: Sequence[Curve]
    spectra: np.ndarray
    data: torch.Tensor
    noise: torch.Tensor
    tables: list[NoiseTable]

    @classmethod
    def of(cls, machine: Engine, plan: SearchPlan, curves: Sequence[Curve]) -> _Seen:
        spectra, data, noise = signal_to_noise(machine, plan, curves)
        return cls(machine, plan, curves, spectra, data, noise, _tables(noise, plan.width))

    def best(self, stars: Iterable[int]) -> list[tuple[Measured, int] | None]:
        """For each of some stars the best of its highest peaks, measured, and its place in the periodogram."""
        rows = list(stars)
        pairs = [(star, peak) for star in rows for peak in peaks.highest(self.spectra[star])]
        located = peaks.locate(self.machine, self.data, self.plan, self.noise, pairs)
        mean = math.sqrt(self.plan.densities[0] * self.plan.densities[1])
        candidates = []
        for (star, peak), epoch, duration in zip(pairs, located.epoch, located.duration, strict=True):
            period, curve = float(self.plan.periods[peak]), self.curves[star]
            slack = float(2 * grid.duration(period, mean) / (3 * period))  # two steps of the grid, over the span
            figures = (period, float(curve.time[0] + epoch), float(duration))
            candidates.append(Candidate(curve, *figures, self.tables[star], slack))
        best: dict[int, tuple[Measured, int]] = {}
        for (star, peak), found in zip(pairs, measure_all(candidates, self.machine.exact), strict=True):
            if found is not None and (star not in best or _is_better(found, best[star][0])):
                best[star] = found, peak
        return [best.get(star) for star in rows]


def _is_better(found: Measured, best: Measured) -> bool:
    """Whether a lower peak of the periodogram is to be preferred."""
    return found.snr > best.snr * (1.0 if best.single else 1.02)


def _round(machine: Engine, plan: SearchPlan, stars: list[_Star], limits: Limits) -> list[_Star]:
    """One search of all stars; returns those that are to be searched again."""
    seen = _Seen.of(machine, plan, [star.left() for star in stars])
    strong = np.flatnonzero(seen.spectra.max(1) >= NEAR * limits.snr).tolist()
    best = {star: found for star, found in zip(strong, seen.best(strong), strict=True) if found is not None}
    periodic: dict[int, Found] = {}
    for star, (signal, peak) in best.items():
        if not signal.single and signal.snr >= limits.snr:
            sde = float(detection_efficiency(seen.spectra[star], float(seen.curves[star].weight.sum()))[peak])
            if sde >= limits.sde:
                periodic[star] = Found(signal, sde)
    measured = _measure_lone(seen, {star: found[0] for star, found in best.items()}, periodic, limits)
    again = []
    for number, star in enumerate(stars):
        alone = measured.get(number)
        if number in periodic:
            _report(star, periodic[number])
        elif alone is not None and alone.snr >= limits.single:
            _report(star, Found(alone, np.nan))
        elif number in best and best[number][0].single:
            # A dip that only looks periodic: it is masked, and the search repeated.
            dip = best[number][0]
            star.mask(replace(dip, single=True, epoch=dip.strongest))
            star.spare -= 1
        else:
            continue
        again.append(star)
    return [star for star in again if len(star.found) < limits.signals and star.spare > 0]


def _measure_lone(
    seen: _Seen, best: Mapping[int, Measured], periodic: Container[int], limits: Limits
) -> dict[int, Measured | None]:
    """What stands out as one transit, of each star: the peak that rests on one, or the best single event."""
    singles = _singles(seen.data, seen.noise, seen.plan)
    lone: dict[int, Candidate] = {}
    for star, curve in enumerate(seen.curves):
        if star in best and best[star].single:
            centre, duration = best[star].strongest, best[star].duration
        elif star not in periodic and singles[star, 0] >= NEAR * limits.single:
            centre = float(curve.time[0] + singles[star, 1] * seen.plan.width)
            duration = float(singles[star, 2] * seen.plan.width)
        else:
            continue
        lone[star] = Candidate.of_transit(curve, centre, duration, seen.tables[star])
    return dict(zip(lone, measure_all(list(lone.values()), seen.machine.exact), strict=True))


def _tables(noise: torch.Tensor, width: float) -> list[NoiseTable]:
    """The noise of single events of each star, from `engine.noise_by_width`."""
    durations = NOISE_WIDTHS * width
    return [NoiseTable(durations, row) for row in noise.cpu().numpy().astype(float)]


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
        star.fitted_without = star.masked.copy()


def _finish(machine: Engine, stars: Sequence[_Star]) -> None:
    """Measure every signal again, over a trend fitted without any of them and with the others masked."""
    curves = [star.without_signals() if star.found else star.curve for star in stars]
    places = [(number, place) for number, star in enumerate(stars) for place in range(len(star.found))]
    alone = []
    for number, place in places:
        others = np.zeros(len(curves[number].time), dtype=bool)
        for other, found in enumerate(stars[number].found):
            if other != place:
                others |= found.measured.inside(curves[number].time, 1.0)
        alone.append(curves[number].without(others))
    signals = [stars[number].found[place].measured for number, place in places]
    candidates = []
    for signal, curve, noise in zip(signals, alone, _noises(machine, signals, alone), strict=True):
        if signal.single:
            candidates.append(Candidate.of_transit(curve, signal.epoch, signal.duration, noise))
        else:
            slack = 0.5 * signal.duration / signal.period
            candidates.append(Candidate(curve, signal.period, signal.epoch, signal.duration, noise, slack))
    for (number, place), signal, new in zip(places, signals, measure_all(candidates, machine.exact), strict=True):
        kept = new is not None and new.single == signal.single and new.snr >= 0.5 * signal.snr
        final = new if kept and new is not None else signal
        found = stars[number].found[place]
        stars[number].found[place] = Found(final, found.sde, (*found.flags, *notes_of(final, curves[number])))


def _noises(machine: Engine, signals: Sequence[Measured], curves: Sequence[Curve]) -> Iterator[NoiseTable]:
    """The noise of single events of each light curve without its signal."""
    for first in range(0, len(signals), NOISES):
        some = range(first, min(first + NOISES, len(signals)))
        left = [curves[place].without(signals[place].inside(curves[place].time)) for place in some]
        count = max(curve.cells for curve in left)
        grids = [curve.on_grid(count) for curve in left]
        data = machine.load(np.stack([item[0] for item in grids]), np.stack([item[1] for item in grids]))
        yield from _tables(engine.noise_by_width(data), left[0].width)
