"""The plots of a scored signal: its views as a network sees them, or its folded light curve in ppm."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from transit_cli.data.views.folding import Signal, phases
from transit_cli.plotting.panel import Kind, Panel, Series, limits_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from transit_cli.data.starlight.star_light import StarLight

#: Titles of the views.
TITLES = {
    "global": "whole orbit",
    "local": "transit",
    "secondary": "deepest other event",
    "odd": "odd transits",
    "even": "even transits",
}
#: Bins per duration of a folded transit, durations on either side of it, and bins over a whole orbit.
BINS, REACH, ORBIT = 8, 2.5, 200
#: Points drawn in a plot at most.
POINTS = 4000


def view_panels(
    views: Mapping[str, NDArray[np.float32]],
    span: float | None,
    duration: float,
    transits: Mapping[str, int] | None = None,
) -> list[Panel]:
    """Views [L] of one signal, in units of its depth.

    Args:
        views: by name.
        span: half-width of all views but the global one, in durations; None if it is not known.
        duration: in hours.
        transits: observed odd and even transits, if known; the view of none is a copy, and left out.
    """
    panels = []
    for name, view in views.items():
        if name not in TITLES or (transits or {}).get(name) == 0:
            continue
        y = np.asarray(view, float)
        wide = name == "global"
        if wide:
            x, label = (np.arange(len(y)) + 0.5) / len(y) - 0.5, "phase (periods)"
        elif span and duration > 0:
            x = ((np.arange(len(y)) + 0.5) / len(y) - 0.5) * 2 * span * duration
            label = "hours from the centre"
        else:
            x, label = np.arange(len(y)) - len(y) // 2.0, "bins from the centre"
        kind: Kind = "points" if wide else "line"
        low, high = limits_of(y)
        limits = (float(x[0]), float(x[-1]))
        alt = f"Folded flux, {TITLES[name]}: the lowest bin is at {low:.2f} of the depth."
        series = [Series(x, y, kind, "first", size=2 if wide else 1)]
        panels.append(Panel(TITLES[name], alt, label, "flux (depth = 1)", series, limits, (low, min(high, 2.0))))
    return panels


def light_panels(light: StarLight, signal: Signal, other: float) -> list[Panel]:
    """The folded light curve in ppm: whole orbit, transit, deepest other event, and odd and even transits if observed.

    Args:
        light: of the star.
        signal: by which it is folded.
        other: days from the transit to the deepest other event; NaN if there is none.
    """
    ppm = 1e6 * (light.flux / np.median(light.flux) - 1)
    phase, cycle = phases(light.time, signal)
    reach = min(REACH * signal.duration, signal.period / 2)
    bins = min(max(int(2 * BINS * reach / signal.duration), 10), 200)
    size = int(np.clip(BINS * signal.period / signal.duration / 2, 40, ORBIT))
    limits = _limits(phase, ppm, signal)
    whole = _panel(("whole orbit", "phase (periods)"), (phase / signal.period, ppm, light.weight), (0.5, size), limits)
    near = np.abs(phase) < reach
    hours = 24 * phase

    def folded(title: str, some: NDArray[np.bool_], x: NDArray[np.float64], colour: str = "first") -> Panel:
        texts, points = (title, "hours from the centre"), (x[some], ppm[some], light.weight[some])
        return _panel(texts, points, (24 * reach, bins), limits, colour)

    panels = [whole, folded("transit", near, hours)]
    if np.isfinite(other):
        moved, _ = phases(light.time, Signal(signal.period, signal.epoch + other, signal.duration))
        some = np.abs(moved) < reach
        if some.any():
            title = f"deepest other event (phase {other / signal.period % 1:.3f})"
            panels.append(replace(folded(title, some, 24 * moved), ylim=limits_of(ppm[some], 0.15)))
    inside = np.abs(phase) < signal.duration / 2
    parts = {name: inside & (cycle % 2 == rest) for name, rest in (("odd", 1), ("even", 0))}
    if all(some.any() for some in parts.values()):
        for (name, rest), colour in zip((("odd", 1), ("even", 0)), ("first", "second"), strict=True):
            count = len(np.unique(cycle[parts[name]]))
            panels.append(folded(f"{TITLES[name]} ({count})", near & (cycle % 2 == rest), hours, colour))
    return panels


def _limits(phase: NDArray[np.float64], ppm: NDArray[np.float64], signal: Signal) -> tuple[float, float]:
    """Limits that hold the transit and nearly all other points."""
    inside = ppm[np.abs(phase) < signal.duration / 2]
    low, high = np.percentile(ppm, [0.5, 99.5])
    low = min(float(low), float(np.percentile(inside, 10))) if len(inside) else float(low)
    margin = 0.15 * (high - low) or 1.0
    return float(low - margin), float(high + margin)


def _panel(
    texts: tuple[str, str],
    points: tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]],
    grid: tuple[float, int],
    limits: tuple[float, float],
    colour: str = "first",
) -> Panel:
    """Points in grey, and their weighted means in bins within +-grid[0], absent where there are no points.

    Args:
        texts: title, and label of the x axis.
        points: x, y and weight, each [n].
        grid: half-width, and number of bins.
        limits: of the y axis.
        colour: of the means.
    """
    (title, label), (x, y, weight), (reach, bins) = texts, points, grid
    number = np.clip(((x / reach + 1) / 2 * bins).astype(int), 0, bins - 1)
    total = np.bincount(number, weight, bins)
    sums = np.bincount(number, weight * y, bins)
    means = np.where(total > 0, sums / np.where(total > 0, total, 1), np.nan)
    centres = reach * (2 * (np.arange(bins) + 0.5) / bins - 1)
    thin = slice(None, None, max(1, -(-len(x) // POINTS)))
    series = [Series(x[thin], y[thin], "points", "data"), Series(centres, means, "points", colour, size=3)]
    wide = label.startswith("phase")
    if wide:
        series[1] = replace(series[1], label=f"means in {reach * 2 / bins:.2g} periods")
    lowest = np.nanmin(means) if np.isfinite(means).any() else np.nan
    alt = f"Folded flux, {title}: the lowest of {bins} bins is at {lowest:,.0f} ppm."
    return Panel(title, alt, label, "flux (ppm)", series, (-reach, reach), limits, wide=wide)
