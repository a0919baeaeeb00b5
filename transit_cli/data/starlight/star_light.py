"""The light of a star as it is vetted: all its files in cells, detrended, with centroids, apertures and properties."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from transit_cli.data.lightcurves import readers
from transit_cli.data.lightcurves.lightcurve import LightCurve, UnreadableError, stitch
from transit_cli.data.starlight import extra_columns
from transit_cli.data.starlight.properties import ExtraColumns, StarProperties
from transit_cli.data.views.detrend import flatten, in_transit
from transit_cli.data.views.folding import Signal, UnusableError

if TYPE_CHECKING:
    from pathlib import Path

#: Cells of the shortest transit.
CELLS = 10
#: Cells of fewer cadences than this share of a full cell are left out.
FULL = 0.3


@dataclass(frozen=True)
class StarLight:
    """The light of a star in cells; see `Candidate` for the arrays.

    Attributes:
        curve: stitched, as read.
        cadence: median distance of cadences, in days.
        time, flux, raw, weight, segments: [n].
        cell: in days.
        segment_names: by number.
        extra: centroids and apertures.
        star: properties.
        notes: doubts of the readers.
    """

    curve: LightCurve
    cadence: float
    time: np.ndarray
    flux: np.ndarray
    raw: np.ndarray
    weight: np.ndarray
    cell: float
    segments: np.ndarray
    segment_names: tuple[str, ...]
    extra: ExtraColumns
    star: StarProperties
    notes: tuple[str, ...]

    @property
    def span(self) -> float:
        """Days from the first cell to the last."""
        return float(self.time[-1] - self.time[0])

    def noise(self, outside: np.ndarray, duration: float) -> tuple[float, float]:
        """Standard deviation of a full cell out of transit, and the excess of its means over one duration.

        The excess is the ratio of the scatter of means over one duration to that of white noise (Pont et al. 2006,
        MNRAS 373, 231), at least 1.
        """
        flux, weight, time = self.flux[outside], self.weight[outside], self.time[outside]
        deviation = (flux - np.median(flux)) * np.sqrt(weight)
        sigma = max(1.4826 * float(np.median(np.abs(deviation))), 1e-9)
        number = np.floor((time - time[0]) / max(duration, self.cell)).astype(np.int64)
        _, begins = np.unique(number, return_index=True)
        total = np.add.reduceat(weight, begins)
        means = np.add.reduceat(weight * (flux - np.median(flux)), begins) / total
        full = total > 0.5 * total.max()
        if full.sum() < 8:
            return sigma, 1.0
        scores = means[full] * np.sqrt(total[full]) / sigma
        return sigma, max(1.0, 1.4826 * float(np.median(np.abs(scores - np.median(scores)))))


def read_star(files: Sequence[Path], column: str) -> tuple[LightCurve, dict[Path, LightCurve], list[str]]:
    """The stitched light curve, those of the single files, and why files cannot be read.

    Raises:
        UnusableError: there is no light in any of them.
    """
    curves: dict[Path, LightCurve] = {}
    notes: list[str] = []
    for file in files:
        try:
            curves[file] = readers.read(file, column)
        except UnreadableError as reason:
            notes.append(f"{file.name}: {reason}")
    if not curves:
        raise UnusableError("; ".join(notes) or "no light curve of this star")
    curve = stitch(list(curves.values()))
    if len(curve.time) < 50:
        raise UnusableError(f"only {len(curve.time)} cadences have flux of good quality")
    return curve, curves, notes


def light_of(
    curve: LightCurve, curves: Mapping[Path, LightCurve], signals: Sequence[Signal], notes: Sequence[str] = ()
) -> StarLight:
    """Average in cells and detrend with the transits of all signals masked.

    Args:
        curve: stitched.
        curves: by file.
        signals: all signals of the star, in the time system of `curve`.
        notes: doubts.

    Raises:
        UnusableError: there are too few cadences for a trend.
    """
    cadence = max(float(np.median(np.diff(curve.time))), 1e-5)
    shortest = min((signal.duration for signal in signals), default=0.1)
    together = max(1, int(shortest / CELLS / cadence))
    cells = _Cells.of(curve.time, together * cadence, together)
    found = extra_columns.read(curves, curve)
    time, raw = cells.mean(curve.time), cells.mean(curve.flux)
    flat = flatten(time, raw, signals)
    known = flat.trend.values > 0
    if known.sum() < 30:
        raise UnusableError("too few cadences for a trend")
    flux = raw[known] / flat.trend.values[known]
    # A cell that is far too bright is no part of a transit; a flare or cosmic ray would hide one.
    outside = ~in_transit(time[known], signals, 1.5)
    spread = 1.4826 * float(np.median(np.abs(flux[outside] - np.median(flux[outside])))) if outside.any() else 1.0
    usable = np.flatnonzero(known)[flux < 1 + 5 * spread]
    flux = flux[flux < 1 + 5 * spread]
    extra = ExtraColumns(
        None if found.centroids is None else np.stack([cells.mean(row)[usable] for row in found.centroids]),
        found.centroid_reason,
        found.pixel,
        {name: cells.mean(values)[usable] for name, values in found.apertures.items()},
        found.aperture_reason,
    )
    return StarLight(
        curve=curve,
        cadence=cadence,
        time=time[usable],
        flux=flux,
        raw=raw[usable],
        weight=cells.weight[usable],
        cell=together * cadence,
        segments=found.segments[cells.begins][usable],
        segment_names=found.segment_names,
        extra=extra,
        star=found.star,
        notes=(*curve.notes, *notes),
    )


@dataclass(frozen=True)
class _Cells:
    """Neighbouring cadences that are averaged.

    Attributes:
        begins: [m] first cadence of each cell.
        chosen: [m'] cells with enough cadences.
        weight: [m'] cadences relative to a full cell's.
    """

    begins: np.ndarray
    every: np.ndarray
    chosen: np.ndarray
    weight: np.ndarray

    @classmethod
    def of(cls, time: np.ndarray, width: float, full: int) -> _Cells:
        if full == 1:
            every = np.arange(len(time))
            return cls(every, every, np.ones(len(time), bool), np.ones(len(time)))
        number = np.rint((time - time[0]) / width).astype(np.int64)
        every = np.flatnonzero(np.diff(number, prepend=number[0] - 1))
        counts = np.diff(np.append(every, len(time))) / full
        chosen = counts >= FULL
        return cls(every[chosen], every, chosen, np.minimum(counts[chosen], 1.0))

    def mean(self, values: np.ndarray) -> np.ndarray:
        """[m'] means of the finite values; NaN where there are none."""
        if len(self.every) == len(values):
            return np.asarray(values, float)
        finite = np.isfinite(values)
        count = np.add.reduceat(finite.astype(float), self.every)[self.chosen]
        total = np.add.reduceat(np.where(finite, values, 0.0), self.every)[self.chosen]
        return np.where(count > 0, total / np.maximum(count, 1), np.nan)
