"""Plots of an evaluation and of a signal's folded views, as matplotlib figures. Needs `transit-cli[report]`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from transit_cli.files import atomic_output, atomic_write
from transit_cli.packages import check_installed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from transit_cli.vetting.groups import Group

BLUE, ORANGE, GREY = "#2563a8", "#c2550c", "#6b7280"
#: What a view shows, in words; its unit is the transit's depth (median 0, minimum -1).
VIEW_TITLES = {
    "global": "whole orbit",
    "local": "transit",
    "secondary": "secondary",
    "odd": "odd transits",
    "even": "even transits",
}


def require_matplotlib(otherwise: str) -> None:
    """Raise the error where matplotlib is not installed, before any work begins.

    Args:
        otherwise: the option that does without pictures.
    """
    check_installed("matplotlib", "report", f"plots; {otherwise} does without")


def figure(width: float, height: float) -> Figure:
    """An empty figure (inches) that needs no window."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def _axes(width: float, height: float, xlabel: str, ylabel: str) -> tuple[Figure, Axes]:
    picture = figure(width, height)
    axes = picture.add_subplot()
    axes.set(xlabel=xlabel, ylabel=ylabel)
    axes.spines[["top", "right"]].set_visible(False)
    return picture, axes


def precision_recall(truth: NDArray[np.bool_], scores: NDArray[np.float64], threshold: float) -> Figure:
    """Precision over recall, the share of positives as the line of a coin, and the threshold in use."""
    from sklearn.metrics import precision_recall_curve

    picture, axes = _axes(4.6, 3.6, "recall", "precision")
    precision, recall, _ = precision_recall_curve(truth, scores)
    axes.step(recall, precision, where="post", color=BLUE)
    axes.axhline(truth.mean(), color=GREY, linestyle=":", label="a guess")
    called = scores >= threshold
    if called.any():
        point = (truth & called).sum() / truth.sum(), (truth & called).sum() / called.sum()
        axes.plot(*point, "o", color=ORANGE, label=f"threshold {threshold:.3f}")
    axes.set(xlim=(0, 1.01), ylim=(0, 1.03))
    axes.legend(loc="lower left", frameon=False)
    return picture


def roc(truth: NDArray[np.bool_], scores: NDArray[np.float64]) -> Figure:
    """True over false positive rate."""
    from sklearn.metrics import roc_curve

    picture, axes = _axes(4.6, 3.6, "false positive rate", "true positive rate")
    false, true, _ = roc_curve(truth, scores)
    axes.plot(false, true, color=BLUE)
    axes.plot([0, 1], [0, 1], color=GREY, linestyle=":")
    axes.set(xlim=(-0.01, 1), ylim=(0, 1.02))
    return picture


def calibration(truth: NDArray[np.bool_], scores: NDArray[np.float64]) -> Figure:
    """Share of positives over score, in ten bins of equally many signals."""
    from sklearn.calibration import calibration_curve

    picture, axes = _axes(4.6, 3.6, "score", "share of positives")
    share, score = calibration_curve(truth, scores, n_bins=10, strategy="quantile")
    axes.plot([0, 1], [0, 1], color=GREY, linestyle=":", label="calibrated")
    axes.plot(score, share, "o-", color=BLUE)
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    axes.legend(loc="upper left", frameon=False)
    return picture


def histogram(labels: NDArray[np.generic], scores: NDArray[np.float64], threshold: float) -> Figure:
    """How the scores of each label are spread."""
    picture, axes = _axes(4.6, 3.6, "score", "signals (log)")
    names = np.unique(labels)
    axes.hist([scores[labels == name] for name in names], bins=20, range=(0, 1), stacked=True, label=list(names))
    axes.axvline(threshold, color=GREY, linestyle=":")
    axes.set_yscale("log")
    axes.legend(frameon=False)
    return picture


def by_group(groups: Sequence[Group], title: str) -> Figure:
    """Average precision of each group with its interval."""
    picture, axes = _axes(4.6, 0.45 * len(groups) + 1.2, "average precision", title)
    for row, group in enumerate(groups):
        found = group.figures["average_precision"]
        axes.plot([found.low, found.high], [row, row], color=BLUE)
        axes.plot(found.value, row, "o", color=BLUE)
    axes.set_yticks(range(len(groups)), [group.range for group in groups])
    axes.set(xlim=(0, 1.01), ylim=(-0.6, len(groups) - 0.4))
    return picture


def folded(views: Mapping[str, NDArray[np.float32]], title: str, *, width: float = 7.2) -> Figure:
    """The views of one signal, [L] each: the whole orbit above, the others side by side below."""
    others = [name for name in views if name != "global"]
    picture = figure(width, 3.6 if others else 2.0)
    top = 1 if "global" in views else 0
    grid = picture.add_gridspec(top + (1 if others else 0), max(len(others), 1))
    places = {"global": grid[0, :]} if top else {}
    places |= {name: grid[top, column] for column, name in enumerate(others)}
    low = min(-1.0, *(float(np.nanmin(view)) for view in views.values()))
    for name, place in places.items():
        axes = picture.add_subplot(place)
        view = np.asarray(views[name])
        phase = np.linspace(-0.5, 0.5, len(view)) if name == "global" else np.arange(len(view)) - len(view) // 2
        style = "." if len(view) > 400 else ".-"
        axes.plot(phase, view, style, color=BLUE, markersize=2, linewidth=0.6)
        axes.set_title(VIEW_TITLES.get(name, name), fontsize=9)
        axes.set_ylim(low - 0.1, max(0.5, min(1.5, float(np.nanmax(view)) + 0.1)))
        axes.tick_params(labelsize=7)
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_xlabel("phase (periods)" if name == "global" else "bin", fontsize=8)
    picture.suptitle(title, fontsize=10)
    return picture


def svg(picture: Figure, name: str) -> str:
    """A figure as an SVG element that can stand in a page: text stays text, and its ids are its own.

    Args:
        picture: the figure.
        name: what makes its ids unlike those of the page's other figures.
    """
    import io

    import matplotlib as mpl

    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": name, "font.family": "sans-serif"}):
        file = io.StringIO()
        picture.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
    text = file.getvalue()
    return text[text.index("<svg") :]


def save(picture: Figure, folder: Path, name: str, *, png: bool = True) -> str:
    """Write a figure as `name.svg`, and as `name.png` too; returns the SVG element."""
    element = svg(picture, name)
    atomic_write(folder / f"{name}.svg", element)
    if png:
        with atomic_output(folder / f"{name}.png") as file:
            picture.savefig(file, dpi=120)
    return element
