"""A light curve as every reader returns it, and stitching of several into one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

__all__ = ["LightCurve"]


class UnreadableError(ValueError):
    """A file that is no light curve, or not a whole one; the text says why, without the file's name."""


@dataclass(frozen=True)
class LightCurve:
    """Fluxes over time, of one star.

    Attributes:
        time: [n] days since Julian Date `reference_jd`, ascending.
        flux: [n] finite, relative to the file's median.
        star: its name, as in "KIC 11442793"; "" if the file does not say.
        mission: "kepler", "k2", "tess" or "".
        reference_jd: the Julian Date of time 0 (2454833 for BKJD, 2457000 for BTJD).
        segment: the quarter, campaign or sector, as in "Q3"; "" if the file does not say.
        column: the flux column that was read.
        source: the file's name.
        cadences: rows in the file.
        finite: rows with finite time and flux, before the quality mask.
        notes: what had to be assumed.
    """

    time: np.ndarray
    flux: np.ndarray
    star: str = ""
    mission: str = ""
    reference_jd: float = 0.0
    segment: str = ""
    column: str = ""
    source: str = ""
    cadences: int = 0
    finite: int = 0
    notes: tuple[str, ...] = field(default=())


def stitch(curves: Sequence[LightCurve]) -> LightCurve:
    """The light curves of one star as one, each relative to its own median, in the time of the first.

    Of files that cover the same days (long and short cadence, two pipelines) the one that covers more is kept.
    """
    reference_jd = curves[0].reference_jd
    moved = [
        replace(curve, time=curve.time + (curve.reference_jd - reference_jd), reference_jd=reference_jd)
        for curve in curves
    ]
    chosen: list[LightCurve] = []
    for curve in sorted((c for c in moved if len(c.time)), key=lambda c: (-np.ptp(c.time), len(c.time), c.source)):
        overlap = sum(max(0.0, min(c.time[-1], curve.time[-1]) - max(c.time[0], curve.time[0])) for c in chosen)
        if not chosen or overlap <= 0.5 * np.ptp(curve.time):
            chosen.append(curve)
    if not chosen:
        return moved[0]
    time = np.concatenate([curve.time for curve in chosen])
    flux = np.concatenate([curve.flux for curve in chosen])
    order = np.argsort(time, kind="stable")
    sources = sorted(curve.source for curve in chosen)
    more = f" (+{len(sources) - 1})" if len(sources) > 1 else ""
    return replace(
        chosen[0],
        time=time[order],
        flux=flux[order],
        segment=" ".join(sorted({curve.segment for curve in chosen})),
        source=sources[0] + more,
        cadences=sum(curve.cadences for curve in chosen),
        finite=sum(curve.finite for curve in chosen),
        notes=tuple(dict.fromkeys(note for curve in curves for note in curve.notes)),
    )
