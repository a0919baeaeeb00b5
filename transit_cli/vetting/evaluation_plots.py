"""Figures of an evaluation and of a signal's folded views."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from transit_cli.plotting import figures
from transit_cli.plotting.figures import BLUE, GREY, ORANGE, single_axes
from transit_cli.plotting.panel import COLOURS
from transit_cli.utils.files import atomic_write

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from transit_cli.vetting.groups import Group

#: Lines that differ without colour.
LINE_STYLES = ("-", "--", "-.", ":")
#: Titles of the views.
VIEW_TITLES = {
    "global": "whole orbit",
    "local": "transit",
    "secondary": "secondary",
    "odd": "odd transits",
    "even": "even transits",
}


def precision_recall(truth: NDArray[np.bool_], scores: NDArray[np.float64], threshold: float) -> Figure:
    """Precision over recall, with the threshold in use and the share of positives, the precision of a random score."""
    from sklearn.metrics import precision_recall_curve

    figure, axes = single_axes(4.6, 3.6, "recall", "precision")
    precision, recall, _ = precision_recall_curve(truth, scores)
    axes.step(recall, precision, where="post", color=BLUE)
    axes.axhline(truth.mean(), color=GREY, linestyle=":", label="random scores")
    predicted = scores >= threshold
    if predicted.any():
        point = (truth & predicted).sum() / truth.sum(), (truth & predicted).sum() / predicted.sum()
        axes.plot(*point, "o", color=ORANGE, label=f"threshold {threshold:.3f}")
    axes.set(xlim=(0, 1.01), ylim=(0, 1.03))
    axes.legend(loc="lower left", frameon=False)
    return figure


def roc(truth: NDArray[np.bool_], scores: NDArray[np.float64]) -> Figure:
    """ROC curve: true over false positive rate."""
    from sklearn.metrics import roc_curve

    figure, axes = single_axes(4.6, 3.6, "false positive rate", "true positive rate")
    false, true, _ = roc_curve(truth, scores)
    axes.plot(false, true, color=BLUE)
    axes.plot([0, 1], [0, 1], color=GREY, linestyle=":")
    axes.set(xlim=(-0.01, 1), ylim=(0, 1.02))
    return figure


def calibration(truth: NDArray[np.bool_], scores: NDArray[np.float64]) -> Figure:
    """Fraction of positives over score, in ten equal bins of score, with 95 % intervals (Wilson 1927)."""
    figure, axes = single_axes(4.6, 3.6, "score", "fraction of positives")
    number = np.minimum((scores * 10).astype(int), 9)
    count = np.bincount(number, minlength=10)
    used = count > 0
    n, score = count[used], np.bincount(number, scores, 10)[used] / count[used]
    share = np.bincount(number, truth, 10)[used] / n
    z = 1.96
    middle = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    axes.plot([0, 1], [0, 1], color=GREY, linestyle=":", label="calibrated")
    axes.vlines(score, middle - half, middle + half, color=BLUE)
    axes.plot(score, share, "o", color=BLUE)
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    axes.legend(loc="upper left", frameon=False)
    return figure


def histogram(labels: NDArray[np.generic], scores: NDArray[np.float64], threshold: float) -> Figure:
    """For each label, the share of its signals in each of 20 bins of score."""
    figure, axes = single_axes(4.6, 3.6, "score", "share of the label's signals")
    for place, name in enumerate(np.unique(labels)):
        share, edges = np.histogram(scores[labels == name], bins=20, range=(0, 1))
        style = LINE_STYLES[place % len(LINE_STYLES)]
        colour = list(COLOURS.values())[place % len(COLOURS)]
        axes.stairs(share / share.sum(), edges, label=str(name), color=colour, linestyle=style, linewidth=1.6)
    axes.axvline(threshold, color=GREY, linestyle=":")
    axes.legend(frameon=False)
    return figure


def by_group(groups: Sequence[Group], title: str) -> Figure:
    """Average precision of each group with its interval."""
    figure, axes = single_axes(4.6, 0.45 * len(groups) + 1.2, "average precision", title)
    for row, group in enumerate(groups):
        found = group.metrics["average_precision"]
        axes.plot([found.low, found.high], [row, row], color=BLUE)
        axes.plot(found.value, row, "o", color=BLUE)
    axes.set_yticks(range(len(groups)), [group.range for group in groups])
    axes.set(xlim=(0, 1.01), ylim=(-0.6, len(groups) - 0.4))
    return figure


def folded(views: Mapping[str, NDArray[np.float32]], title: str, *, width: float = 7.2) -> Figure:
    """The views of one signal, [L] each: the whole orbit above, the others side by side below."""
    others = [name for name in views if name != "global"]
    figure = figures.figure(width, 3.6 if others else 2.0)
    top = 1 if "global" in views else 0
    grid = figure.add_gridspec(top + (1 if others else 0), max(len(others), 1))
    places = {"global": grid[0, :]} if top else {}
    places |= {name: grid[top, column] for column, name in enumerate(others)}
    low = min(-1.0, *(float(np.nanmin(view)) for view in views.values()))
    for name, place in places.items():
        axes = figure.add_subplot(place)
        view = np.asarray(views[name])
        phase = np.linspace(-0.5, 0.5, len(view)) if name == "global" else np.arange(len(view)) - len(view) // 2
        style = "." if len(view) > 400 else ".-"
        axes.plot(phase, view, style, color=BLUE, markersize=2, linewidth=0.6)
        axes.set_title(VIEW_TITLES.get(name, name), fontsize=9)
        axes.set_ylim(low - 0.1, max(0.5, min(1.5, float(np.nanmax(view)) + 0.1)))
        axes.tick_params(labelsize=7)
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_xlabel("phase (periods)" if name == "global" else "bin", fontsize=8)
    figure.suptitle(title, fontsize=10, parse_math=False)  # a star's name may hold $
    return figure


def save(figure: Figure, folder: Path, name: str, *, png: bool = True) -> str:
    """Write a figure as `name.svg` and, unless told otherwise, `name.png`; returns the SVG element."""
    element = figures.svg(figure, name)
    atomic_write(folder / f"{name}.svg", element)
    if png:
        figures.save(figure, folder / f"{name}.png", dpi=120)
    return element
