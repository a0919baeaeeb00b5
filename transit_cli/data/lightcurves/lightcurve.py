"""A light curve as every reader returns it, and stitching of several into one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np

__all__ = ["LightCurve"]

#: A gap longer than this separates the segments that a file covers, in days.
COVERAGE_GAP = 0.75
#: A segment is left out if more than this fraction of its cadences is covered by other files.
COVERED = 0.5


class UnreadableError(ValueError):
    """A file that is not a light curve or is incomplete; the message is the reason, without the file's name."""


class Decision(NamedTuple):
    """What a reader decided about a file ("time", "BTJD"), and why ("header BJDREFI")."""

    topic: str
    value: str
    reason: str


@dataclass(frozen=True)
class LightCurve:
    """Fluxes over time, of one star.

    Attributes:
        time: [n] days since Julian Date `reference_jd`, ascending.
        flux: [n] finite, relative to the file's median.
        star: its name, as in "KIC 11442793"; "" if the file does not give it.
        mission: "kepler", "k2", "tess" or "".
        reference_jd: the Julian Date of time 0 (2454833 for BKJD, 2457000 for BTJD, 0 for BJD); None if unknown.
        segment: the quarter, campaign or sector, as in "Q3"; "" if the file does not give it.
        column: the flux column that was read.
        source: the file's name.
        cadences: rows in the file.
        finite: rows with finite time and flux, before the quality mask.
        notes: doubts: what had to be assumed, and what was left out.
        product: the name of the product, as in "QLP"; "" if it was not recognised.
        flagged: finite cadences that quality flags remove.
        decisions: what was decided, in the order of reading.
        centroid: [n, 2] position of the star's light on the detector in pixels, less the motion of the pointing if the
            file has it; NaN where it is missing; None without.
        file_number: [n] the file of each cadence, whose centroids have axes and an origin of their own; None for one.
    """

    time: np.ndarray
    flux: np.ndarray
    star: str = ""
    mission: str = ""
    reference_jd: float | None = 0.0
    segment: str = ""
    column: str = ""
    source: str = ""
    cadences: int = 0
    finite: int = 0
    notes: tuple[str, ...] = field(default=())
    product: str = ""
    flagged: int = 0
    decisions: tuple[Decision, ...] = field(default=())
    centroid: np.ndarray | None = None
    file_number: np.ndarray | None = None

    def where(self, chosen: np.ndarray) -> LightCurve:
        """The chosen cadences."""
        centroid = None if self.centroid is None else self.centroid[chosen]
        number = None if self.file_number is None else self.file_number[chosen]
        return replace(self, time=self.time[chosen], flux=self.flux[chosen], centroid=centroid, file_number=number)


def completed(curve: LightCurve) -> LightCurve:
    """A light curve that a plugin returns, as our own readers would: finite, ascending, with its counts.

    Raises:
        UnreadableError: times and fluxes are not two columns of numbers, or the fluxes not relative to their median.
    """
    try:
        time, flux = np.asarray(curve.time, dtype=np.float64), np.asarray(curve.flux, dtype=np.float64)
    except (TypeError, ValueError):
        raise UnreadableError("times and fluxes that are no numbers") from None
    if time.ndim != 1 or time.shape != flux.shape:
        raise UnreadableError(f"times of shape {list(time.shape)} with fluxes of shape {list(flux.shape)}")
    if curve.centroid is not None and np.shape(curve.centroid) != (len(time), 2):
        raise UnreadableError(f"centroids of shape {list(np.shape(curve.centroid))} with {len(time):,} times")
    finite = np.isfinite(time) & np.isfinite(flux)
    median = float(np.median(flux[finite])) if finite.any() else 1.0
    if not 0.5 < median < 2:
        raise UnreadableError(f"fluxes with a median of {median:.4g}, not relative to their median")
    order = np.flatnonzero(finite)[np.argsort(time[finite], kind="stable")]
    order = order[np.diff(time[order], prepend=-np.inf) > 0]
    curve = replace(curve, time=time, flux=flux, cadences=curve.cadences or len(time))
    return replace(curve.where(order), finite=curve.finite or int(finite.sum()))


def stitch(curves: Sequence[LightCurve]) -> LightCurve:
    """Combine the light curves of one star, each relative to its own median, in the time system of the first.

    Where files cover the same days (long and short cadence, two pipelines), the one that covers more is used: the other
    contributes only its segments that are mostly uncovered. A file whose time reference is unknown cannot be combined
    with one whose reference is known, and is left out with a note.
    """
    known = [curve for curve in curves if curve.reference_jd is not None]
    combined = known or list(curves)
    unknown = [curve for curve in curves if known and curve.reference_jd is None]
    notes = [f"{curve.source}: time reference unknown, left out" for curve in unknown]
    reference = combined[0].reference_jd
    moved = [
        curve if reference is None else replace(curve, time=curve.time + ((curve.reference_jd or 0.0) - reference))
        for curve in combined
    ]
    order = sorted((c for c in moved if len(c.time)), key=lambda c: (-_coverage(c.time), len(c.time), c.source))
    chosen: list[LightCurve] = []
    for curve in order:
        uncovered = _uncovered(curve.time, [other.time for other in chosen])
        if uncovered.all():
            chosen.append(curve)
        elif uncovered.any():
            chosen.append(curve.where(uncovered))
    if not chosen:
        return moved[0]
    time = np.concatenate([curve.time for curve in chosen])
    flux = np.concatenate([curve.flux for curve in chosen])
    order_of_time = np.argsort(time, kind="stable")
    centroid, number = _centroids(chosen)
    sources = sorted(curve.source for curve in chosen)
    more = f" (+{len(sources) - 1})" if len(sources) > 1 else ""
    notes += [note for curve in combined for note in curve.notes]
    return replace(
        chosen[0],
        time=time[order_of_time],
        flux=flux[order_of_time],
        reference_jd=reference,
        segment=" ".join(sorted({curve.segment for curve in chosen})),
        source=sources[0] + more,
        cadences=sum(curve.cadences for curve in chosen),
        finite=sum(curve.finite for curve in chosen),
        flagged=sum(curve.flagged for curve in chosen),
        notes=tuple(dict.fromkeys(notes)),
        centroid=None if centroid is None else centroid[order_of_time],
        file_number=None if number is None else number[order_of_time],
    )


def _centroids(curves: Sequence[LightCurve]) -> tuple[np.ndarray | None, np.ndarray | None]:
    """The centroids of all curves, NaN for a curve without any, and the curve's number; None if no curve has any."""
    if all(curve.centroid is None for curve in curves):
        return None, None
    missing = [np.full((len(curve.time), 2), np.nan) if curve.centroid is None else curve.centroid for curve in curves]
    return np.concatenate(missing), np.repeat(np.arange(len(curves)), [len(curve.time) for curve in curves])


def _segments(time: np.ndarray) -> list[slice]:
    """The segments between gaps of ascending times."""
    begins = np.concatenate([[0], np.flatnonzero(np.diff(time) > COVERAGE_GAP) + 1])
    return [slice(begin, end) for begin, end in zip(begins, [*begins[1:], len(time)], strict=True)]


def _coverage(time: np.ndarray) -> float:
    """Days covered, without gaps."""
    return float(sum(time[part][-1] - time[part][0] for part in _segments(time)))


def _uncovered(time: np.ndarray, others: Sequence[np.ndarray]) -> np.ndarray:
    """[n] the cadences to use: those that no other file covers, in segments that are mostly uncovered."""
    covered = np.zeros(len(time), dtype=bool)
    for other in others:
        for part in _segments(other):
            covered[time.searchsorted(other[part][0]) : time.searchsorted(other[part][-1], side="right")] = True
    used = ~covered
    for part in _segments(time):
        if covered[part].mean() > COVERED:
            used[part] = False
    return used
