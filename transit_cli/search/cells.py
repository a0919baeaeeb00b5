"""Light curves on an even grid: what lets many stars be folded at the price of one."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

#: Cells of the shortest transit that is searched.
CELLS = 4.0
#: Brightening counts no more than this many standard deviations.
FLARE = 4.0
#: A gap of more days than this begins a stretch, which has a noise of its own if it holds this many cells.
STRETCH, FEWEST = 0.75, 50
#: A cell that is this many standard deviations low between two that are not (`CALM`) is no transit.
SPIKE, CALM = 6.0, 2.5


def width_for(cadence: float, shortest: float) -> float:
    """The length of a cell: a whole number of cadences, of which `CELLS` fit into the shortest transit, if one can."""
    return cadence * max(1, int(shortest / CELLS / cadence + 1e-6))


def average(time: np.ndarray, flux: np.ndarray, width: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Means of a light curve in cells of `width` days: times, fluxes and numbers of points of cells that hold any."""
    number = np.rint((time - time[0]) / width).astype(np.int64)
    begins = np.flatnonzero(np.diff(number, prepend=-1))
    points = np.diff(np.append(begins, len(time))).astype(float)
    return np.add.reduceat(time, begins) / points, np.add.reduceat(flux, begins) / points, points


def _noise(time: np.ndarray, flux: np.ndarray, points: np.ndarray, level: float) -> np.ndarray:
    """[n] the standard deviation of each cell: of its stretch between gaps, by its number of points."""
    begins = np.concatenate([[0], np.flatnonzero(np.diff(time) > STRETCH) + 1, [len(time)]])
    noise = np.empty(len(time))
    for first, last in itertools.pairwise(begins):
        some = flux[first:last] if last - first >= FEWEST else flux
        spread = 1.4826 * float(np.median(np.abs(np.diff(some)))) / np.sqrt(2) if len(some) > 1 else 0.0
        full = max(float(np.median(points[first:last])), 1.0)
        noise[first:last] = max(spread, 1e-9 * level) * np.sqrt(full / points[first:last])
    return noise


@dataclass(frozen=True)
class Curve:
    """A detrended light curve, averaged in cells, as the search takes it.

    Attributes:
        time: [n] days, ascending.
        deficit: [n] 1 - flux, in standard deviations of a point of weight 1; its mean, without outliers, is 0.
        weight: [n] inverse variances; 1 is a cell of median noise, 0 a masked one.
        sigma: the standard deviation of a point of weight 1, relative to the flux.
        width: of a cell, in days.
    """

    time: np.ndarray
    deficit: np.ndarray
    weight: np.ndarray
    sigma: float
    width: float

    @classmethod
    def of(cls, time: np.ndarray, flux: np.ndarray, points: np.ndarray, width: float) -> Curve:
        """From times, detrended fluxes (about 1) and numbers of points of the cells that hold any."""
        level = float(np.median(flux))
        noise = _noise(time, flux, points, level)
        sigma = float(np.median(noise))
        deficit = (level - flux) / sigma
        own = deficit * (sigma / noise)
        beside = np.maximum(np.append(own[1:], 0), np.append(0, own[:-1]))
        weight = np.where((own > SPIKE) & (beside < CALM), 0, (sigma / noise) ** 2)
        deficit = np.maximum(own, -FLARE) * (noise / sigma)
        deficit -= np.average(np.clip(deficit, -3, 3), weights=weight) if weight.any() else 0
        return cls(time, deficit, weight, sigma / level, width)

    def without(self, masked: np.ndarray) -> Curve:
        """A copy in which the masked points, [n] bool, do not count."""
        weight = np.where(masked, 0, self.weight)
        return Curve(self.time, self.deficit, weight, self.sigma, self.width)

    @property
    def cells(self) -> int:
        """Cells from the first point to the last."""
        return round(float(self.time[-1] - self.time[0]) / self.width) + 1 if len(self.time) else 0

    def on_grid(self, count: int) -> tuple[np.ndarray, np.ndarray]:
        """[count] weighted deficits, and weights, of each cell; 0 where there is no data."""
        number = np.minimum(np.rint((self.time - self.time[0]) / self.width).astype(np.int64), count - 1)
        weights = np.bincount(number, self.weight, count)[:count]
        deficits = np.bincount(number, self.weight * self.deficit, count)[:count]
        return deficits.astype(np.float32), weights.astype(np.float32)
