"""Small plots as data, drawn as SVG (`svg`) or by matplotlib (`figures`)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

#: Colours of Okabe & Ito (2008), which people with any colour vision can tell apart, by what is drawn.
COLOURS = {"data": "#8a94a3", "first": "#0072b2", "second": "#d55e00", "model": "#009e73", "mark": "#cc79a7"}

Kind = Literal["points", "line", "dashed", "errors"]


@dataclass(frozen=True)
class Series:
    """Points or a line.

    Attributes:
        x, y: [n].
        kind: "points", "line", "dashed", or "errors" (points with error bars).
        colour: a key of `COLOURS`.
        errors: half-lengths of the error bars: [n], or [2, n] below and above the points.
        label: for the legend; "" for none.
        size: of points, 1 to 3.
    """

    x: np.ndarray
    y: np.ndarray
    kind: Kind = "points"
    colour: str = "data"
    errors: np.ndarray | None = None
    label: str = ""
    size: int = 1


@dataclass(frozen=True)
class Cell:
    """A filled rectangle: a bar, or a cell of a map.

    Attributes:
        x, y: its sides.
        shade: from 0, nearly the colour of the page, to 1.
        text: lines in its middle, or to the right of it if `beside`.
        beside: whether the text is beside the rectangle.
    """

    x: tuple[float, float]
    y: tuple[float, float]
    shade: float = 1.0
    text: Sequence[str] = ()
    beside: bool = False


@dataclass(frozen=True)
class Panel:
    """A plot.

    Attributes:
        title: above the plot.
        alt: what the plot shows, for those who do not see it.
        xlabel, ylabel: with units.
        series: from the back to the front.
        xlim, ylim: limits of the axes.
        marks: x positions of marked events, drawn as small triangles at the lower edge.
        lines: x positions of dotted vertical lines.
        bands: shaded ranges of x.
        wide: over the whole width of the page.
        cells: bars, or the cells of a map, behind the series.
        xticks, yticks: places and labels of ticks; round numbers by default.
    """

    title: str
    alt: str
    xlabel: str
    ylabel: str
    series: Sequence[Series]
    xlim: tuple[float, float]
    ylim: tuple[float, float]
    marks: Sequence[float] = field(default_factory=tuple)
    lines: Sequence[float] = field(default_factory=tuple)
    bands: Sequence[tuple[float, float]] = field(default_factory=tuple)
    wide: bool = False
    cells: Sequence[Cell] = field(default_factory=tuple)
    xticks: Sequence[tuple[float, str]] = field(default_factory=tuple)
    yticks: Sequence[tuple[float, str]] = field(default_factory=tuple)


def decade_ticks(low: float, high: float) -> list[tuple[float, str]]:
    """Ticks of an axis of common logarithms: powers of ten, and 2 and 5 times these where there are few."""
    factors = (1,) if high - low > 2.2 else (1, 2, 5) if high - low > 0.8 else (1, 1.5, 2, 3, 4, 5, 6, 7, 8, 9)
    ticks: list[tuple[float, str]] = []
    for power in range(math.floor(low), math.ceil(high) + 1):
        for factor in factors:
            place = power + math.log10(factor)
            if low <= place <= high:
                value = factor * 10.0**power
                ticks.append((place, f"{value:,.0f}" if value >= 1000 else f"{value:g}"))
    return ticks


def limits_of(values: np.ndarray, margin: float = 0.05) -> tuple[float, float]:
    """The range of finite values, widened at both ends by a share of itself; (0, 1) without finite values."""
    finite = values[np.isfinite(values)]
    if not len(finite):
        return 0.0, 1.0
    low, high = float(finite.min()), float(finite.max())
    pad = margin * (high - low) or 0.05 * abs(high) or 0.5
    return low - pad, high + pad
