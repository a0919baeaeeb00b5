"""matplotlib figures that need no display, saved atomically. matplotlib is the extra `report`."""

from __future__ import annotations

import io
import textwrap
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from transit_cli.plotting.panel import COLOURS
from transit_cli.utils.files import atomic_output, atomic_write
from transit_cli.utils.packages import check_installed, collector_paused

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from transit_cli.plotting.panel import Cell, Panel

#: Characters of a line of a title, two columns wide.
TITLE_WIDTH = 110
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


def save(drawn: Figure, file: Path, dpi: int = 150) -> None:
    """Write a figure atomically, in the format of the file's suffix (.png, .pdf, .svg)."""
    _arrange(drawn)
    with atomic_output(file) as temporary:
        drawn.savefig(temporary, dpi=dpi)


def save_formats(drawn: Figure, folder: Path, name: str) -> None:
    """Write a figure as `name.svg`, `name.pdf` and `name.png`; equal figures give equal files."""
    atomic_write(folder / f"{name}.svg", svg(drawn, name))
    with atomic_output(folder / f"{name}.pdf") as temporary:
        drawn.savefig(temporary, metadata={"CreationDate": None})
    with atomic_output(folder / f"{name}.png") as temporary:
        drawn.savefig(temporary, dpi=150)


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


def panel_figure(panel: Panel) -> Figure:
    """A panel as a figure of its own, for a paper: one column wide, or two if the panel is wide."""
    made = figure(7.1 if panel.wide else 3.5, 2.6)
    axes = made.add_subplot()
    _draw(axes, replace(panel, title=""), 8)
    names = [series for series in panel.series if series.label]
    if names:
        columns = min(len(names), 5)
        axes.legend(
            fontsize=7, frameon=False, handlelength=1.2, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=columns
        )
    return made


def panels_figure(panels: Sequence[Panel], title: str) -> Figure:
    """Panels as one figure, two columns wide, with a title: wide panels take a row of their own."""
    rows: list[list[Panel]] = []
    for panel in panels:
        if panel.wide or not rows or rows[-1][0].wide or len(rows[-1]) == 2:
            rows.append([])
        rows[-1].append(panel)
    made = figure(7.1, 0.6 + 2.1 * len(rows))
    grid = made.add_gridspec(len(rows), 2)
    for row, items in enumerate(rows):
        for column, panel in enumerate(items):
            axes = made.add_subplot(grid[row, :] if panel.wide else grid[row, column])
            _draw(axes, panel, 8)
            if any(series.label for series in panel.series):
                axes.legend(fontsize=7, frameon=False, loc="lower right", handlelength=1.2)
    lines = [part for line in title.splitlines() for part in textwrap.wrap(line, TITLE_WIDTH)]
    made.suptitle("\n".join(lines), fontsize=8, parse_math=False)
    return made


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


def _draw(axes: Axes, panel: Panel, size: int = 6) -> None:
    """A panel on matplotlib's axes, with text of `size` points."""
    for band in panel.bands:
        axes.axvspan(*band, color="0.9")
    for x in panel.lines:
        axes.axvline(x, color=GREY, linestyle=":", linewidth=0.6)
    for cell in panel.cells:
        _draw_cell(axes, cell)
    for series in panel.series:
        colour = COLOURS[series.colour]
        if series.kind in {"line", "dashed"}:
            style = "--" if series.kind == "dashed" else "-"
            axes.plot(series.x, series.y, style, color=colour, linewidth=0.8, label=series.label or None)
            continue
        axes.plot(series.x, series.y, ".", color=colour, markersize=1 + series.size, label=series.label or None)
        if series.errors is not None:
            errors = np.maximum(series.errors, 0)
            axes.errorbar(series.x, series.y, errors, fmt="none", ecolor=colour, elinewidth=0.6)
    if len(panel.marks):
        axes.plot(panel.marks, [panel.ylim[0]] * len(panel.marks), "^", color=COLOURS["second"], markersize=3)
    axes.set(xlim=panel.xlim, ylim=panel.ylim)
    for ticks, set_ticks in ((panel.xticks, axes.set_xticks), (panel.yticks, axes.set_yticks)):
        if ticks:
            set_ticks([place for place, _ in ticks], [label for _, label in ticks], parse_math=False)
    axes.set_title(panel.title, fontsize=size)
    axes.set_xlabel(panel.xlabel, fontsize=size)
    axes.set_ylabel(panel.ylabel, fontsize=size)
    axes.tick_params(labelsize=size - 1)


def _draw_cell(axes: Axes, cell: Cell) -> None:
    """A rectangle with its text; light enough for the text on it to be legible."""
    (x0, x1), (y0, y1) = cell.x, cell.y
    axes.fill_between([x0, x1], y0, y1, color=COLOURS["first"], alpha=0.06 + 0.44 * cell.shade, linewidth=0)
    place = (x1, (y0 + y1) / 2) if cell.beside else ((x0 + x1) / 2, (y0 + y1) / 2)
    side = "left" if cell.beside else "center"
    text = "\n".join(f" {line}" if cell.beside else line for line in cell.text)
    axes.text(*place, text, ha=side, va="center", fontsize=5, parse_math=False)
