"""Plots of an evaluation."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from transit_cli.plotting import figures
from transit_cli.plotting.panel import Cell, Panel, Series
from transit_cli.vetting.completeness.cells import interval
from transit_cli.vetting.groups import range_labels

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from transit_cli.vetting.groups import Group

#: Cells along a side of a map, at most.
CELLS = 6
#: Limits of a share's axis.
SHARE = (-0.03, 1.03)


def precision_recall(truth: NDArray[np.bool_], scores: NDArray[np.float64], threshold: float) -> Panel:
    """Precision over recall, with the threshold in use and the share of positives, the precision of a random score."""
    from sklearn.metrics import precision_recall_curve

    precision, recall, _ = precision_recall_curve(truth, scores)
    share = float(truth.mean())
    series = [
        Series(np.repeat(recall, 2)[1:], np.repeat(precision, 2)[:-1], "line", "first", size=2),
        Series(np.array([0.0, 1.0]), np.full(2, share), "dashed", "data", label="random scores"),
    ]
    predicted = scores >= threshold
    if predicted.any():
        hits = float((truth & predicted).sum())
        place = np.array([hits / truth.sum()]), np.array([hits / predicted.sum()])
        series.append(Series(*place, "points", "second", label=f"threshold {threshold:.3f}", size=3))
    alt = f"Precision over recall; the precision of random scores is {share:.3f}."
    return Panel("Precision and recall", alt, "recall", "precision", series, SHARE, SHARE)


def roc(truth: NDArray[np.bool_], scores: NDArray[np.float64]) -> Panel:
    """ROC curve: true over false positive rate."""
    from sklearn.metrics import roc_curve

    false, true, _ = roc_curve(truth, scores)
    diagonal = np.array([0.0, 1.0])
    series = [
        Series(false, true, "line", "first", size=2),
        Series(diagonal, diagonal, "dashed", "data", label="random scores"),
    ]
    alt = "True positive rate over false positive rate."
    return Panel("ROC curve", alt, "false positive rate", "true positive rate", series, SHARE, SHARE)


def calibration(truth: NDArray[np.bool_], scores: NDArray[np.float64]) -> Panel:
    """Fraction of positives over score, in ten equal bins of score, with 95 % intervals (Wilson 1927)."""
    number = np.minimum((scores * 10).astype(int), 9)
    count = np.bincount(number, minlength=10)
    used = count > 0
    score = np.bincount(number, scores, 10)[used] / count[used]
    positives = np.bincount(number, truth, 10)[used].astype(int)
    share = positives / count[used]
    edges = np.array([interval(int(k), int(n)) for k, n in zip(positives, count[used], strict=True)]).T
    errors = np.abs(edges - share)
    diagonal = np.array([0.0, 1.0])
    series = [
        Series(diagonal, diagonal, "dashed", "data", label="calibrated"),
        Series(score, share, "errors", "first", errors, size=3),
    ]
    alt = "; ".join(f"score {x:.2f}: {y:.2f}" for x, y in zip(score, share, strict=True))
    title = "Calibration in ten equal bins of score, with 95 % intervals"
    return Panel(
        title, f"Fraction of positives over score. {alt}.", "score", "fraction of positives", series, SHARE, SHARE
    )


def histogram(labels: NDArray[np.generic], scores: NDArray[np.float64], threshold: float) -> Panel:
    """For each label, the share of its signals in each of 20 bins of score."""
    series = []
    colours = ("first", "second", "model", "mark", "data")
    names = sorted(np.unique(labels).tolist(), key=lambda name: -scores[labels == name].mean())
    for place, name in enumerate(names):
        share, edges = np.histogram(scores[labels == name], bins=20, range=(0, 1))
        y = np.concatenate([[0.0], np.repeat(share / share.sum(), 2), [0.0]])
        kind = "line" if place < len(colours) else "dashed"
        series.append(Series(np.repeat(edges, 2), y, kind, colours[place % len(colours)], label=str(name), size=2))
    highest = max(float(one.y.max()) for one in series)
    title = "Scores of each label; dotted: the threshold"
    alt = f"Share of each label's signals in twenty bins of score, for {', '.join(one.label for one in series)}."
    limits = (0.0, 1.05 * highest)
    return Panel(title, alt, "score", "share of the label", series, SHARE, limits, lines=[threshold])


def by_group(groups: Sequence[Group], title: str) -> Panel:
    """Average precision of each group with its interval, and the share of positives."""
    found = [group.metrics["average_precision"] for group in groups]
    x = np.arange(len(groups), dtype=float)
    y = np.array([one.value for one in found])
    errors = np.abs(np.array([[one.low for one in found], [one.high for one in found]]) - y)
    share = np.array([group.positives / group.signals for group in groups])
    ranges = range_labels(groups)
    alt = "; ".join(f"{name}: {one.value:.2f}" for name, one in zip(ranges, found, strict=True))
    series = [
        Series(x, share, "points", "data", label="random scores", size=3),
        Series(x, y, "errors", "first", np.nan_to_num(errors), label="average precision", size=3),
    ]
    ticks = [(place, _short(name)) for place, name in zip(x.tolist(), ranges, strict=True)]
    limits = (-0.5, len(groups) - 0.5)
    return Panel(
        f"By {title}",
        f"Average precision by {title}: {alt}.",
        title,
        "average precision",
        series,
        limits,
        SHARE,
        xticks=ticks,
    )


def _short(text: str) -> str:
    """A range as the label of a tick: "3,132 to 6,033" as "3.1k\u20136k"."""
    numbers = [float(word.replace(",", "")) for word in re.findall(r"-?[\d.,]+(?:e[+-]\d+)?", text)]
    shown = [
        f"{number / 1000:.2g}k" if abs(number) >= 1000 and abs(number) < 1e5 else f"{number:.3g}" for number in numbers
    ]
    shown = [
        f"{number / 1000:,.0f}k" if abs(number) >= 1e5 else item for number, item in zip(numbers, shown, strict=True)
    ]
    sign = "\u2264" if text.startswith("up") else "\u2265" if text.startswith("from") else ""
    return sign + "\u2013".join(shown)


def maps(
    period: NDArray[np.float64], depth: NDArray[np.float64], truth: NDArray[np.bool_], passed: NDArray[np.bool_]
) -> dict[str, Panel]:
    """Recall, and the false positive rate, in cells of period and depth, by name; none without known depths.

    Args:
        period: [N] days.
        depth: [N] ppm, NaN where unknown.
        truth: [N] whether a signal is positive.
        passed: [N] whether its score is at or above the threshold.
    """
    known = np.isfinite(period) & np.isfinite(depth) & (period > 0) & (depth > 0)
    if known.sum() < 2:
        return {}
    x, y = np.log10(period[known]), np.log10(depth[known])
    across, up = _edges(x), _edges(y)
    found = {}
    for name, title, some in (
        ("map_recall", "Recall of the positives", truth[known]),
        ("map_false_positives", "False positive rate of the negatives", ~truth[known]),
    ):
        cells = []
        for x0, x1 in pairwise(across):
            for y0, y1 in pairwise(up):
                inside = some & (x >= x0) & (x < x1) & (y >= y0) & (y < y1)
                signals, above = int(inside.sum()), int((inside & passed[known]).sum())
                if signals:
                    text = (f"{above / signals:.2f}", f"n {signals}")
                    cells.append(Cell((x0, x1), (y0, y1), above / signals, text))
        limits, heights = (across[0], across[-1]), (up[0], up[-1])
        found[name] = Panel(
            f"{title}, and the number of signals",
            f"{title} in cells of period and depth, of {int(some.sum())} signals.",
            "period (days)",
            "depth (ppm)",
            [],
            limits,
            heights,
            cells=cells,
            xticks=[(edge, _label(edge)) for edge in across],
            yticks=[(edge, _label(edge)) for edge in up],
        )
    return found


def _edges(values: NDArray[np.float64]) -> list[float]:
    """Edges of at most `CELLS` cells in common logarithms: half decades, or whole ones where there are more."""
    for step in (0.5, 1.0, 2.0):
        low, high = np.floor(values.min() / step), np.floor(values.max() / step) + 1
        if high - low <= CELLS:
            break
    return (step * np.arange(low, high + 1)).tolist()


def _label(edge: float) -> str:
    value = round(10**edge, 1 - int(np.floor(edge))) if edge % 1 == 0 else float(f"{10**edge:.1g}")
    return f"{value / 1000:g}k" if value >= 10000 else f"{value:g}"


def save(panel: Panel, folder: Path, name: str) -> None:
    """Write a panel as `name.svg`, `name.pdf` and `name.png`."""
    figures.save_formats(figures.panel_figure(panel), folder, name)
