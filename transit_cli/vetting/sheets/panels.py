"""The plots of a signal's sheet, as data."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from transit_cli.data.lightcurves.time_reference import name_of
from transit_cli.data.views.binning import bin_medians
from transit_cli.plotting.panel import Panel, Series, decade_ticks

if TYPE_CHECKING:
    from transit_cli.data.starlight.star_light import StarLight
    from transit_cli.vetting.candidate_tests.candidate import Candidate
    from transit_cli.vetting.candidate_tests.model_shift import ModelShift

#: Points of a plot at most; more are averaged in bins or thinned.
POINTS = 450
#: Transits that are drawn one by one.
TRANSITS = 10


def panels_of(light: StarLight, candidate: Candidate, found: ModelShift | None) -> list[Panel]:
    """All plots of one signal."""
    made = [
        light_curve(light, candidate),
        *map(_in_ppm, (folded(candidate), local(candidate), odd_even(candidate), secondary(candidate, found))),
        transits(candidate),
        depths(candidate),
        periodogram(candidate),
    ]
    if found is not None:
        made.append(phase_depths(found))
    if candidate.extra.centroids is not None:
        made.append(centroid(candidate))
    return made


def _in_ppm(panel: Panel) -> Panel:
    """A panel of flux about 1 as one of the deviation from 1 in ppm."""
    series = [replace(item, y=1e6 * (item.y - 1)) for item in panel.series]
    low, high = (1e6 * (limit - 1) for limit in panel.ylim)
    return replace(panel, series=series, ylim=(low, high), ylabel="flux (ppm)")


def light_curve(light: StarLight, candidate: Candidate) -> Panel:
    """The light curve before detrending, averaged to what can be seen, with the transits marked."""
    time, flux = light.time, light.raw
    bins = 4 * POINTS
    if len(time) > bins:
        edges = np.linspace(time[0], time[-1] + 1e-9, bins + 1)
        first = np.searchsorted(time, edges)
        held = np.diff(first) > 0
        low, high = first[:-1][held], first[1:][held]
        sums = np.concatenate([[0.0], np.cumsum(flux)])
        flux = (sums[high] - sums[low]) / (high - low)
        lowest = np.minimum.reduceat(light.raw, low)
        flux = np.where(lowest < flux - 0.5 * candidate.fit.depth, lowest, flux)  # a transit must not be averaged away
        time = time[(low + high) // 2]
    signal = candidate.signal
    cycles = np.arange(
        np.ceil((time[0] - signal.epoch) / signal.period), 1 + (time[-1] - signal.epoch) // signal.period
    )
    centres = signal.epoch + cycles * signal.period
    system = name_of(light.curve.reference_jd)
    return Panel(
        "Light curve",
        f"Light curve over {light.span:.0f} days with {len(centres)} expected transits marked.",
        f"days ({system})",
        "flux",
        [Series(time, flux)],
        _limits(time, 0.01),
        _robust(flux, 1.5 * candidate.fit.depth),
        marks=centres[:: max(1, len(centres) // 300)].tolist(),
        wide=True,
    )


def _binned(phase: np.ndarray, flux: np.ndarray, reach: float, bins: int, low: float | None = None) -> Series:
    order = np.argsort(phase, kind="stable")
    begin = -reach if low is None else low
    width = (reach - begin) / bins
    medians, _ = bin_medians(phase[order], flux[order], bins=bins, width=width, low=begin, high=reach)
    return Series(begin + width * (np.arange(bins) + 0.5), medians, "points", "first", size=3, label="binned")


def _thinned(x: np.ndarray, y: np.ndarray, count: int = 2 * POINTS) -> Series:
    step = max(1, -(-len(x) // count))
    return Series(x[::step], y[::step])


def folded(candidate: Candidate) -> Panel:
    """The detrended light curve over one period."""
    phase = (candidate.phase / candidate.signal.period + 0.25) % 1 - 0.25
    bins = int(np.clip(8 * candidate.signal.period / candidate.signal.duration / 2, 40, 200))
    return Panel(
        "Folded",
        f"Detrended flux over the period of {candidate.signal.period:.5g} days; the transit is at phase 0.",
        "phase (periods)",
        "flux",
        [_thinned(phase, candidate.flux), _binned(phase, candidate.flux, 0.75, bins, -0.25)],
        (-0.25, 0.75),
        _robust(candidate.flux, 1.3 * candidate.fit.depth),
        lines=[0.0, 0.5],
    )


def _model(candidate: Candidate, reach: float) -> Series:
    x = np.linspace(-reach, reach, 121)
    return Series(24 * x, candidate.level - candidate.fit.lost(x), "line", "second", label="transit fit")


def _reach(candidate: Candidate, durations: float = 2.5) -> float:
    return min(durations * candidate.signal.duration, candidate.signal.period / 2)


def local(candidate: Candidate) -> Panel:
    """The folded transit with its fit."""
    reach = _reach(candidate)
    near = np.abs(candidate.phase) < reach
    fit = candidate.fit
    x, y = candidate.phase[near], candidate.flux[near]
    binned = _binned(x, y, reach, 41)
    return Panel(
        "Transit",
        f"Folded transit with its fit: depth {1e6 * fit.depth:.0f} ppm, {24 * fit.duration:.2f} hours.",
        "hours from the centre",
        "flux",
        [
            _thinned(24 * x, y),
            Series(24 * binned.x, binned.y, "points", "first", size=3, label="binned"),
            _model(candidate, reach),
        ],
        (-24 * reach, 24 * reach),
        _around(candidate, y),
    )


def _around(candidate: Candidate, y: np.ndarray) -> tuple[float, float]:
    """Limits that show the transit and the scatter about it."""
    spread = 1.4826 * float(np.median(np.abs(y - np.median(y)))) if len(y) else 0.0
    low = candidate.level - 1.25 * candidate.fit.depth - 2 * spread
    return low, candidate.level + max(0.5 * candidate.fit.depth, 4 * spread)


def odd_even(candidate: Candidate) -> Panel:
    """Odd and even transits, side by side."""
    reach = _reach(candidate, 1.5)
    series: list[Series] = []
    for name, rest, colour, shift in (("odd", 1, "first", 0.0), ("even", 0, "second", 2.1 * reach)):
        some = (candidate.cycle % 2 == rest) & (np.abs(candidate.phase) < reach)
        if not some.any():
            continue
        x, y = candidate.phase[some], candidate.flux[some]
        dots, binned = _thinned(24 * (x + shift), y, POINTS), _binned(x, y, reach, 25)
        series += [dots, Series(24 * (binned.x + shift), binned.y, "points", colour, size=3, label=name)]
    depth = candidate.level - candidate.fit.depth
    edge = 24 * np.array([-reach, 3.1 * reach])
    return Panel(
        "Odd and even transits",
        "Folded odd transits on the left and even transits on the right; the line is the mean depth.",
        "hours (even shifted)",
        "flux",
        [*series, Series(edge, np.full(2, depth), "dashed", "model")],
        (edge[0], edge[1]),
        _around(candidate, candidate.flux[np.abs(candidate.phase) < reach]),
        lines=[0.0, 24 * 2.1 * reach],
    )


def secondary(candidate: Candidate, found: ModelShift | None) -> Panel:
    """The deepest event outside of the transit."""
    centre = found.secondary_phase if found is not None else 0.5
    signal = candidate.signal
    phase = ((candidate.phase / signal.period - centre + 0.5) % 1 - 0.5) * signal.period
    reach = _reach(candidate)
    near = np.abs(phase) < reach
    y = candidate.flux[near]
    binned = _binned(phase[near], y, reach, 41) if near.any() else Series(np.zeros(0), np.zeros(0))
    depth = found.at(centre)[0] if found is not None else 0.0
    x = np.linspace(-reach, reach, 121)
    spread = 1.4826 * float(np.median(np.abs(binned.y - np.nanmedian(binned.y)))) if near.any() else 1e-4
    size = max(1.6 * abs(np.nan_to_num(depth)), 6 * np.nan_to_num(spread, nan=1e-4), 1e-6)
    return Panel(
        f"Deepest other event (phase {centre:.3f})",
        f"Folded flux about phase {centre:.3f}, where the deepest other event is {1e6 * depth:.0f} ppm deep.",
        "hours from its centre",
        "flux",
        [
            _thinned(24 * phase[near], y),
            Series(24 * binned.x, binned.y, "points", "first", size=3, label="binned"),
            Series(24 * x, candidate.level - depth * candidate.fit.shape(x), "line", "second", label="scaled fit"),
        ],
        (-24 * reach, 24 * reach),
        (candidate.level - size, candidate.level + size),
    )


def transits(candidate: Candidate) -> Panel:
    """Single transits, one above the other."""
    reach = _reach(candidate, 2.0)
    every = candidate.transits.cycles
    chosen = every[np.linspace(0, len(every) - 1, min(TRANSITS, len(every))).astype(int)] if len(every) else every
    step = max(1.3 * candidate.fit.depth, 5 * candidate.sigma)
    series: list[Series] = []
    x = np.linspace(-reach, reach, 61)
    for row, cycle in enumerate(chosen):
        some = (candidate.cycle == cycle) & (np.abs(candidate.phase) < reach)
        lift = row * step
        series.append(Series(24 * candidate.phase[some], candidate.flux[some] + lift, "points", "first", size=2))
        series.append(Series(24 * x, candidate.level - candidate.fit.lost(x) + lift, "line", "second"))
    top = candidate.level + (len(chosen) - 1) * step + 0.8 * step
    return Panel(
        f"Single transits ({len(chosen)} of {len(every)})",
        f"{len(chosen)} single transits with the mean fit, from the first at the bottom to the last at the top.",
        "hours from the expected centre",
        "flux (shifted)",
        series,
        (-24 * reach, 24 * reach),
        (candidate.level - 1.2 * step, max(top, candidate.level + step)),
        lines=[0.0],
    )


def depths(candidate: Candidate) -> Panel:
    """The depth of every transit with its error."""
    found = candidate.transits
    centres = candidate.signal.epoch + found.cycles * candidate.signal.period
    step = max(1, len(centres) // 150)
    y, errors = 1e6 * found.depths[::step], 1e6 * found.errors[::step]
    odd = found.cycles[::step] % 2 == 1
    x = centres[::step]
    low, high = (float(np.min(y - errors)), float(np.max(y + errors))) if len(y) else (0.0, 1.0)
    pad = 0.1 * (high - low) or 1.0
    edge = np.array(_limits(candidate.time, 0.02))
    return Panel(
        "Depth of each transit",
        f"Depths of {len(found.cycles)} transits with their errors, odd and even ones in different colours.",
        "days",
        "depth (ppm)",
        [
            Series(x[odd], y[odd], "errors", "first", errors[odd], "odd", 3),
            Series(x[~odd], y[~odd], "errors", "second", errors[~odd], "even", 3),
            Series(edge, np.full(2, 1e6 * candidate.fit.depth), "dashed", "model"),
        ],
        (edge[0], edge[1]),
        (low - pad, high + 3.5 * pad),
    )


def phase_depths(found: ModelShift) -> Panel:
    """The model-shift diagram: the fitted depth at every phase."""
    phase = (found.phase + 0.25) % 1 - 0.25
    order = np.argsort(phase)
    step = max(1, len(order) // (2 * POINTS))
    score = (found.depth / found.error)[order][::step]
    high = max(1.15 * found.primary, found.fa1 + 1)
    return Panel(
        "Depth at every phase (model-shift)",
        f"Significance of the transit at every phase: {found.primary:.1f} sigma at the transit, the next dip has "
        f"{found.secondary:.1f}.",
        "phase (periods)",
        "significance",
        [
            Series(phase[order][::step], score, "line", "first"),
            Series(np.array([-0.25, 0.75]), np.full(2, found.fa1), "dashed", "second", label="FA1"),
            Series(np.array([-0.25, 0.75]), np.full(2, -found.fa1), "dashed", "second"),
        ],
        (-0.25, 0.75),
        (min(-found.fa1 - 1, 1.1 * float(np.nanmin(score))), high),
        lines=[0.0, (found.secondary_phase + 0.25) % 1 - 0.25],
    )


def centroid(candidate: Candidate) -> Panel:
    """Column and row of the centroid about the transit."""
    reach = _reach(candidate, 2.5)
    series: list[Series] = []
    size = 1e-3
    for name, colour, values in zip(("column", "row"), ("first", "second"), candidate.extra.centroids, strict=True):  # type: ignore[arg-type]
        near = (np.abs(candidate.phase) < reach) & np.isfinite(values)
        if near.sum() < 5:
            continue
        outside = near & ~candidate.inside(1.2)
        rest = values - np.median(values[outside if outside.any() else near])
        binned = _binned(candidate.phase[near], 1e3 * rest[near], reach, 31)
        series.append(Series(24 * binned.x, binned.y, "points", colour, size=3, label=name))
        size = max(size, 1.5 * float(np.nanmax(np.abs(binned.y))))
    return Panel(
        "Centroid",
        "Column and row of the flux-weighted centroid about the transit, in thousandths of a pixel.",
        "hours from the centre",
        "millipixels",
        series,
        (-24 * reach, 24 * reach),
        (-size, size),
        bands=[(-12 * candidate.signal.duration, 12 * candidate.signal.duration)],
    )


def periodogram(candidate: Candidate) -> Panel:
    """S/N of a box of the transit's duration at trial periods about the period and its simple multiples."""
    from transit_cli.vetting.sheets.box_periods import box_spectrum

    periods, score, complete = box_spectrum(candidate)
    own = candidate.signal.period
    note = "" if complete else " (near simple multiples)"
    limits = _limits(np.log10(periods), 0.02)
    return Panel(
        f"Periodogram{note}",
        f"Signal-to-noise of a box of {24 * candidate.signal.duration:.1f} hours at trial periods; the signal's period "
        f"is {own:.5g} days.",
        "period (days)",
        "S/N",
        [Series(np.log10(periods), score, "line", "first")],
        limits,
        (0.0, 1.1 * float(score.max(initial=1.0))),
        xticks=decade_ticks(*limits),
        lines=[float(np.log10(own * factor)) for factor in (0.5, 1.0, 2.0)],
    )


def _limits(values: np.ndarray, pad: float) -> tuple[float, float]:
    low, high = float(values.min()), float(values.max())
    margin = pad * (high - low) or 1.0
    return low - margin, high + margin


def _robust(flux: np.ndarray, below: float) -> tuple[float, float]:
    """Limits that hold nearly all points, and a transit."""
    low, middle, high = np.percentile(flux, [0.5, 50, 99.5])
    low = min(float(low), float(middle) - below)
    margin = 0.15 * (high - low) or 1e-3
    return low - margin, float(high) + margin
