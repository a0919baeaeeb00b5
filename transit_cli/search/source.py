"""From the files of a star to what is searched: the one module of the search that knows how light curves are read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from transit_cli import console
from transit_cli.data import bulk
from transit_cli.data.lightcurves import readers
from transit_cli.data.lightcurves.lightcurve import UnreadableError, stitch
from transit_cli.data.views.detrend import fit_spline
from transit_cli.search import cells, grid
from transit_cli.search.cells import Curve

if TYPE_CHECKING:
    from pathlib import Path

    from transit_cli.data.lightcurves.file_index import FileIndex
    from transit_cli.data.lightcurves.lightcurve import LightCurve
    from transit_cli.search.settings import SearchSettings

#: Spacings of the trend's knots, in days: none as short as the transits that are searched.
SPACINGS = tuple(np.geomspace(0.8, 20, 16).tolist())
#: Points in a row that lie this many standard deviations below the trend are left out of the next fit of it.
DIP = 4.0
#: A light curve of fewer cells than this is not searched.
FEWEST = 100


@dataclass(frozen=True)
class StarTask:
    """A star to be read.

    Attributes:
        star: its name.
        files: its light curves.
        column: the flux column, or "" for the preferred one.
        shortest: the shortest transit that is searched, in days.
    """

    star: str
    files: tuple[Path, ...]
    column: str
    shortest: float


@dataclass(frozen=True)
class Light:
    """The light of a star in cells, before and after detrending.

    Attributes:
        star: its name.
        mission: "kepler", "k2", "tess" or "".
        reference_jd: the Julian Date of time 0; None if unknown.
        segment: quarters, campaigns or sectors.
        source: the files.
        time: [n] days.
        flux: [n] relative, as read.
        points: [n] cadences of each cell.
        width: of a cell, in days.
        curve: the light curve that is searched.
        notes: what had to be assumed, and what could not be read.
    """

    star: str
    mission: str
    reference_jd: float | None
    segment: str
    source: str
    time: np.ndarray
    flux: np.ndarray
    points: np.ndarray
    width: float
    curve: Curve
    notes: tuple[str, ...]

    def detrended(self, hidden: np.ndarray) -> Curve:
        """The light curve over a trend that is fitted without the hidden points, [n] bool."""
        return detrend(self.time, self.flux, self.points, self.width, hidden)


@dataclass(frozen=True)
class Unsearched:
    """A star that cannot be searched, and why."""

    star: str
    reason: str


def read_star(task: StarTask) -> Light | Unsearched:
    """Read, stitch, average and detrend a star. Nothing that its files hold can make it fail."""
    curves: list[LightCurve] = []
    notes: list[str] = []
    for file in task.files:
        try:
            curves.append(readers.read(file, task.column))
        except UnreadableError as reason:
            notes.append(f"{file.name}: {reason}")
    if not curves:
        return Unsearched(task.star, "; ".join(notes))
    curve = stitch(curves)
    if len(curve.time) < 2:
        return Unsearched(task.star, "no cadence with finite flux and good quality")
    cadence = round(float(np.median(np.diff(curve.time))) * 86400) / 86400  # the same for all stars of a mission
    width = cells.width_for(max(cadence, 1 / 86400), task.shortest)
    time, flux, points = cells.average(curve.time, curve.flux, width)
    if len(time) < FEWEST:
        return Unsearched(task.star, f"only {len(time)} cells of {width * 1440:.3g} minutes hold data")
    searched = detrend(time, flux, points, width)
    return Light(
        star=task.star,
        mission=curve.mission,
        reference_jd=curve.reference_jd,
        segment=curve.segment,
        source=curve.source,
        time=time,
        flux=flux,
        points=points,
        width=width,
        curve=searched,
        notes=(*curve.notes, *notes),
    )


def detrend(
    time: np.ndarray, flux: np.ndarray, points: np.ndarray, width: float, hidden: np.ndarray | None = None
) -> Curve:
    """Divide by a spline that follows nothing as short as a transit.

    Without `hidden` points the fit is done twice: what lies far below the first trend for two cells or more is hidden
    from the second, so that a deep transit does not pull it down.
    """
    trend = fit_spline(time, flux, hidden, SPACINGS)
    if hidden is None:
        flat = np.where(trend.values > 0, flux / trend.values, 1.0)
        noise = 1.4826 * float(np.median(np.abs(np.diff(flat)))) / np.sqrt(2)
        low = flat < 1 - DIP * noise
        run = low & (np.append(low[1:], False) | np.append(False, low[:-1]))
        if run.any():
            trend = fit_spline(time, flux, _widened(run, 2), SPACINGS)
    known = trend.values > 0
    level = np.where(known, trend.values, 1.0)
    found = Curve.of(time, np.where(known, flux / level, 1.0), points, width)
    return found if known.all() else found.without(~known)


def _widened(chosen: np.ndarray, by: int) -> np.ndarray:
    """Also the `by` neighbours on either side."""
    return np.convolve(chosen, np.ones(2 * by + 1), mode="same") > 0.5


def shortest_transit(settings: SearchSettings) -> float:
    """The shortest transit that is searched, in days."""
    return float(grid.shortest(settings.min_period, settings.max_density))


def star_tasks(index: FileIndex, settings: SearchSettings) -> list[StarTask]:
    """One task per star, in the order of their names; of rows of Parquet files, in the order of the rows."""
    shortest = shortest_transit(settings)
    stars = sorted(star for star in index.by_star if star)
    tasks = [StarTask(star, tuple(sorted(index.by_star[star])), settings.flux_column, shortest) for star in stars]
    nameless = len(index.files) - sum(len(task.files) for task in tasks)
    if nameless:
        console.warn(f"{nameless:,} files do not say which star they are of, and are left out")
    return sorted(tasks, key=lambda task: bulk.order(task.files[0])) if index.has_rows else tasks
