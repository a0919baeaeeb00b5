"""Small plots as data, drawn as SVG (`svg`) or by matplotlib (`figures`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
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
        errors: [n] half-lengths of the error bars.
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
