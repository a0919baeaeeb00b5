"""The same figures for parts of a set: by signal-to-noise, period and depth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from transit_cli.vetting.metrics import Figure, measure

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

#: Columns of `tces.csv` by which a set is divided, with their names for a person.
COLUMNS = {"snr": "signal-to-noise", "period_days": "period (days)", "depth_ppm": "depth (ppm)"}
PARTS = 4
RESAMPLES = 300
FIGURES = ("average_precision", "roc_auc", "recall", "precision")


@dataclass(frozen=True)
class Group:
    """A part of a set: signals with `low <= column <= high`."""

    column: str
    low: float
    high: float
    signals: int
    positives: int
    figures: Mapping[str, Figure]

    @property
    def range(self) -> str:
        """Its values in words."""
        return f"{_short(self.low)} to {_short(self.high)}"


def _short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def by_column(
    columns: Mapping[str, NDArray[np.generic]],
    truth: NDArray[np.bool_],
    scores: NDArray[np.float64],
    stars: NDArray[np.generic],
    threshold: float,
) -> list[Group]:
    """Four groups a column, divided at the quartiles of the positives, so that each has positives to find.

    A column that is absent, or has fewer than two different finite values among the positives, gives no groups.
    """
    found = []
    for column in COLUMNS:
        if column not in columns:
            continue
        values = np.asarray(columns[column], float)
        known = np.isfinite(values)
        of_positives = values[known & truth]
        if len(np.unique(of_positives)) < 2:
            continue
        edges = np.unique(np.quantile(of_positives, np.linspace(0, 1, PARTS + 1)[1:-1]))
        part = np.searchsorted(edges, values, side="right")
        for index in range(len(edges) + 1):
            inside = known & (part == index)
            if not inside.any():
                continue
            figures = measure(truth[inside], scores[inside], stars[inside], threshold, resamples=RESAMPLES)
            low, high = float(values[inside].min()), float(values[inside].max())
            kept = {name: figures[name] for name in FIGURES}
            found.append(Group(column, low, high, int(inside.sum()), int((truth & inside).sum()), kept))
    return found
