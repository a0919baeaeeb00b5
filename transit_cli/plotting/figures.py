"""matplotlib figures that need no display, saved atomically. matplotlib is the extra `report`."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from transit_cli.plotting.panel import COLOURS
from transit_cli.utils.files import atomic_output
from transit_cli.utils.packages import check_installed, collector_paused

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from transit_cli.plotting.panel import Panel

BLUE, ORANGE, GREY = "#2563a8", "#c2550c", "#6b7280"


def require_matplotlib(purpose: str) -> None:
    """Raise the error for a missing matplotlib, before any work starts.

    Args:
        purpose: the option that needs it.
    """
    check_installed("matplotlib", "report", purpose)


def figure(width: float, height: float) -> Figure:
    """An empty figure, in inches."""
    with collector_paused():
        from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def single_axes(width: float, height: float, xlabel: str, ylabel: str) -> tuple[Figure, Axes]:
    """A figure in inches with one pair of axes, without the upper and the right frame line."""
    made = figure(width, height)
    axes = made.add_subplot()
    axes.set(xlabel=xlabel, ylabel=ylabel)
    axes.spines[["top", "right"]].set_visible(False)
    return made, axes


def save(drawn: Figure, file: Path, dpi: int = 150) -> None:
    """Write a figure atomically, in the format of the file's suffix (.png, .pdf, .svg)."""
    _arrange(drawn)
    with atomic_output(file) as temporary:
        drawn.savefig(temporary, dpi=dpi)


def svg(drawn: Figure, name: str) -> str:
    """A figure as an SVG element to embed in a page, with selectable text; equal figures give equal elements.

    Args:
        drawn: the figure.
        name: makes its ids differ from those of the other figures on the page.
    """
    import matplotlib as mpl

    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": name, "font.family": "sans-serif"}):
        file = io.StringIO()
        _arrange(drawn)
        drawn.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
    text = file.getvalue()
    return text[text.index("<svg") :]


def _arrange(drawn: Figure) -> None:
    """Let the layout engine place the axes, once for all formats: `savefig` would draw all twice to do it each time."""
    engine = drawn.get_layout_engine()
    if engine is not None:
        engine.execute(drawn)
        drawn.set_layout_engine(None)


def panel_page(
    panels: Sequence[Panel], title: str, lines: Sequence[str], tests: Sequence[tuple[str, str, str]]
) -> Figure:
    """An A4 page of panels with a title, lines of text and a table below.

    Args:
        panels: wide ones take a row of their own.
        title: of the page.
        lines: below the title.
        tests: rows of the table: name, verdict, what was found.
    """
    made = figure(8.27, 11.69)
    wide, small = [item for item in panels if item.wide], [item for item in panels if not item.wide]
    rows = -(-len(small) // 3)
    heights = [1.0] * (len(wide) + rows) + [0.24 * (len(tests) + 1)]
    grid = made.add_gridspec(len(wide) + rows + 1, 3, height_ratios=heights)
    for row, panel in enumerate(wide):
        _draw(made.add_subplot(grid[row, :]), panel)
    for number, panel in enumerate(small):
        _draw(made.add_subplot(grid[len(wide) + number // 3, number % 3]), panel)
    axes = made.add_subplot(grid[-1, :])
    axes.axis("off")
    text = "\n".join(f"{name:<26} {verdict:<9} {found}" for name, verdict, found in tests)
    axes.text(0, 1, text, family="monospace", fontsize=5, va="top", parse_math=False)
    made.suptitle("\n".join([title, *(line[:130] for line in lines[:4])]), fontsize=8, parse_math=False)
    return made


def _draw(axes: Axes, panel: Panel) -> None:
    """A panel on matplotlib's axes."""
    for band in panel.bands:
        axes.axvspan(*band, color="0.9")
    for x in panel.lines:
        axes.axvline(x, color=GREY, linestyle=":", linewidth=0.6)
    for series in panel.series:
        colour = COLOURS[series.colour]
        if series.kind in {"line", "dashed"}:
            style = "--" if series.kind == "dashed" else "-"
            axes.plot(series.x, series.y, style, color=colour, linewidth=0.8, label=series.label or None)
            continue
        axes.plot(series.x, series.y, ".", color=colour, markersize=1 + series.size, label=series.label or None)
        if series.errors is not None:
            axes.errorbar(series.x, series.y, series.errors, fmt="none", ecolor=colour, elinewidth=0.6)
    if len(panel.marks):
        axes.plot(panel.marks, [panel.ylim[0]] * len(panel.marks), "^", color=COLOURS["second"], markersize=3)
    axes.set(xlim=panel.xlim, ylim=panel.ylim)
    axes.set_title(panel.title, fontsize=6)
    axes.set_xlabel(panel.xlabel, fontsize=6)
    axes.set_ylabel(panel.ylabel, fontsize=6)
    axes.tick_params(labelsize=5)
