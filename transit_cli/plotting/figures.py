"""matplotlib figures that need no display, saved atomically. matplotlib is the extra `report`."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from transit_cli.utils.files import atomic_output
from transit_cli.utils.packages import check_installed

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE, ORANGE, GREY = "#2563a8", "#c2550c", "#6b7280"


def require_matplotlib(purpose: str) -> None:
    """Raise the error for a missing matplotlib, before any work starts.

    Args:
        purpose: the option that needs it.
    """
    check_installed("matplotlib", "report", purpose)


def figure(width: float, height: float) -> Figure:
    """An empty figure, in inches."""
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
        drawn.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
    text = file.getvalue()
    return text[text.index("<svg") :]
