"""Shares of signals that pass the threshold, in cells of two quantities, with binomial intervals."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

#: Edges of the cells by column; each holds its lower edge.
EDGES = {
    "period_days": (0.0, 1.0, 3.0, 10.0, 30.0, 100.0, np.inf),
    "injected_snr": (0.0, 7.0, 10.0, 15.0, 25.0, 50.0, np.inf),
    "injected_radius_ratio": (0.0, 0.01, 0.02, 0.03, 0.05, 0.1, np.inf),
    "measured_snr": (-np.inf, 5.0, 7.0, 10.0, 15.0, np.inf),
}
TITLES = {
    "period_days": "period, days",
    "injected_snr": "injected S/N",
    "injected_radius_ratio": "radius, in stellar radii",
    "measured_snr": "measured S/N",
}
#: Standard deviations of the intervals, 95 %.
_Z = 1.959964


@dataclass(frozen=True)
class Cell:
    """Signals of one cell.

    Attributes:
        low, high: edges of the cell by column; one or two columns.
        signals: in the cell.
        passed: at or above the threshold.
        share, share_low, share_high: passed / signals, with the 95 % interval of Wilson (1927).
    """

    low: Mapping[str, float]
    high: Mapping[str, float]
    signals: int
    passed: int
    share: float
    share_low: float
    share_high: float


def interval(passed: int, signals: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a binomial share; (0, 1) without signals."""
    if not signals:
        return 0.0, 1.0
    share, weight = passed / signals, _Z**2 / signals
    centre = (share + weight / 2) / (1 + weight)
    reach = np.sqrt(weight * (share * (1 - share) + weight / 4)) / (1 + weight)
    return float(centre - reach) if passed else 0.0, float(centre + reach) if passed < signals else 1.0


def cells_of(columns: Mapping[str, np.ndarray], passed: np.ndarray, by: tuple[str, ...]) -> list[Cell]:
    """The cells that hold signals, in ascending order of the first column, then of the second.

    Args:
        columns: [N] by name; rows where one of `by` is NaN are in no cell.
        passed: [N] bool.
        by: one or two columns of `EDGES`.
    """
    places = [np.searchsorted(EDGES[name], columns[name], side="right") - 1 for name in by]
    known = np.all([np.isfinite(columns[name]) for name in by], axis=0)
    found = []
    for key in sorted(set(zip(*(place[known].tolist() for place in places), strict=True))):
        inside = known & np.all([place == number for place, number in zip(places, key, strict=True)], axis=0)
        signals, through = int(inside.sum()), int((inside & passed).sum())
        low = {name: EDGES[name][number] for name, number in zip(by, key, strict=True)}
        high = {name: EDGES[name][number + 1] for name, number in zip(by, key, strict=True)}
        found.append(Cell(low, high, signals, through, through / signals, *interval(through, signals)))
    return found


def label_of(cell: Cell, name: str) -> str:
    """The range of a cell in one column: "3 to 10", "below 7", "from 100"."""
    low, high = cell.low[name], cell.high[name]
    if not np.isfinite(high):
        return f"from {low:g}"
    return f"below {high:g}" if low <= 0 else f"{low:g} to {high:g}"
