"""Metrics of subsets by signal-to-noise, period and depth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from transit_cli.vetting.metrics import Estimate, estimate

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

#: Columns of `tces.csv` by which a set is divided, with their titles.
GROUP_COLUMNS = {"snr": "signal-to-noise", "period_days": "period (days)", "depth_ppm": "depth (ppm)"}
GROUPS_PER_COLUMN = 4
GROUP_RESAMPLES = 300
GROUP_METRICS = ("average_precision", "roc_auc", "recall", "precision", "calibration_error")


@dataclass(frozen=True)
class Group:
    """Metrics of the signals with `low <= column <= high`."""

    column: str
    low: float
    high: float
    signals: int
    positives: int
    metrics: Mapping[str, Estimate]


def _short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def range_labels(groups: Sequence[Group]) -> list[str]:
    """The ranges of a column's groups as text; the outer ones are open."""
    if len(groups) < 2:
        return [f"{_short(group.low)} to {_short(group.high)}" for group in groups]
    inner = [f"{_short(group.low)} to {_short(group.high)}" for group in groups[1:-1]]
    return [f"up to {_short(groups[0].high)}", *inner, f"from {_short(groups[-1].low)}"]


def by_column(
    columns: Mapping[str, NDArray[np.generic]],
    truth: NDArray[np.bool_],
    scores: NDArray[np.float64],
    stars: NDArray[np.generic],
    threshold: float,
) -> list[Group]:
    """Four groups per column, divided at the quartiles of the positives so that each group has positives.

    A column that is absent or has fewer than two different finite values among the positives gives no groups.
    """
    found = []
    for column in GROUP_COLUMNS:
        if column not in columns:
            continue
        values = np.asarray(columns[column], float)
        known = np.isfinite(values)
        of_positives = values[known & truth]
        if len(np.unique(of_positives)) < 2:
            continue
        edges = np.unique(np.quantile(of_positives, np.linspace(0, 1, GROUPS_PER_COLUMN + 1)[1:-1]))
        group = np.searchsorted(edges, values, side="right")
        for index in range(len(edges) + 1):
            inside = known & (group == index)
            if not inside.any():
                continue
            metrics = estimate(truth[inside], scores[inside], stars[inside], threshold, resamples=GROUP_RESAMPLES)
            low, high = float(values[inside].min()), float(values[inside].max())
            kept = {name: metrics[name] for name in GROUP_METRICS}
            found.append(Group(column, low, high, int(inside.sum()), int((truth & inside).sum()), kept))
    return found
