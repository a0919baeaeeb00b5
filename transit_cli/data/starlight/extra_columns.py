"""Columns that only the classical tests read: centroids, further apertures, and the star's properties in the header."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from transit_cli.data.lightcurves import fits, flux, readers
from transit_cli.data.lightcurves.lightcurve import LightCurve, UnreadableError
from transit_cli.data.lightcurves.raw import TIME_COLUMNS, RawTable, find_time
from transit_cli.data.starlight.properties import StarProperties
from transit_cli.utils import machine_errors

if TYPE_CHECKING:
    from pathlib import Path

#: Arcseconds per pixel (Kepler Instrument Handbook; TESS Instrument Handbook).
PIXELS = {"kepler": 3.98, "k2": 3.98, "tess": 21.0}
#: Columns of the same flux in apertures of growing size, by product (the products' documentation, see `products`).
APERTURES = {
    "QLP": (
        ("DET_FLUX_SML", "DET_FLUX", "DET_FLUX_LAG"),
        ("KSPSAP_FLUX_SML", "KSPSAP_FLUX", "KSPSAP_FLUX_LAG"),
    ),
    "CDIPS": (("IFL1", "IFL2", "IFL3"), ("IRM1", "IRM2", "IRM3")),
    "PATHOS": (("AP1_FLUX_COR", "AP2_FLUX_COR", "AP3_FLUX_COR", "AP4_FLUX_COR"),),
    "DIAMANTE": (("LC1_AP1", "LC1_AP2", "LC1_AP3", "LC1_AP4"),),
}
#: Times of a file and of its light curve that agree within this are of one cadence, in days.
SAME = 2e-6


@dataclass(frozen=True)
class FoundColumns:
    """Like `ExtraColumns`, on the cadences of the stitched light curve, with segments and the star."""

    centroids: np.ndarray | None
    centroid_reason: str
    pixel: float
    apertures: Mapping[str, np.ndarray]
    aperture_reason: str
    segments: np.ndarray
    segment_names: tuple[str, ...]
    star: StarProperties


def read(curves: Mapping[Path, LightCurve], curve: LightCurve) -> FoundColumns:
    """Read the columns of all files that a stitched light curve is made of."""
    count = len(curve.time)
    centroids = np.full((2, count), np.nan)
    apertures: dict[str, np.ndarray] = {}
    segments = np.zeros(count, int)
    names: list[str] = []
    star = StarProperties()
    used: set[str] = set()
    for file, own in curves.items():
        places, rows = _same_cadences(curve, own)
        if not len(places):
            continue
        name = own.segment or own.source
        names += [name] if name not in names else []
        segments[places] = names.index(name)
        raw = _table(file)
        if raw is None:
            continue
        if np.isnan(star.radius) and np.isnan(star.tmag):
            star = properties(raw.header)
        at = _rows(raw, own)
        if at is None:
            continue
        for number in (1, 2):
            found = _centroid(raw, number)
            if found is not None:
                values, column = found
                used.add(column)
                centroids[number - 1, places] = (values - np.nanmedian(values[at]))[at[rows]]
        for column, values in _apertures(raw, at).items():
            apertures.setdefault(column, np.full(count, np.nan))[places] = values[rows]
    enough = np.isfinite(centroids).all(axis=0).mean() > 0.2
    reason = f"from {', '.join(sorted(used))}" if enough else "the files have no centroids (MOM_CENTR, PSF_CENTR)"
    return FoundColumns(
        centroids if enough else None,
        reason,
        PIXELS.get(curve.mission, np.nan),
        apertures,
        f"from {', '.join(apertures)}" if apertures else "the files have one aperture only",
        segments,
        tuple(names),
        star,
    )


def _same_cadences(curve: LightCurve, own: LightCurve) -> tuple[np.ndarray, np.ndarray]:
    """Places in the stitched light curve of the cadences of a file, and the file's cadences."""
    time = own.time + ((own.reference_jd or 0.0) - (curve.reference_jd or 0.0))
    if own.reference_jd is None or curve.reference_jd is None:
        time = own.time
    place = np.clip(np.searchsorted(curve.time, time - SAME), 0, len(curve.time) - 1)
    same = np.abs(curve.time[place] - time) <= SAME
    return place[same], np.flatnonzero(same)


def _table(file: Path) -> RawTable | None:
    if not file.name.lower().endswith(readers.FITS_SUFFIXES):
        return None
    try:
        return fits.open_fits(file)
    except (UnreadableError, ValueError, OSError) as error:
        machine_errors.raise_if_machine(error)
        return None


def _rows(raw: RawTable, own: LightCurve) -> np.ndarray | None:
    """The rows of a table that the cadences of its light curve come from; None if they cannot be told."""
    name = find_time(list(raw.units), raw.product.time if raw.product.name else TIME_COLUMNS)
    time = np.asarray(raw.load(name))
    if time.ndim != 1 or time.dtype.kind not in "fiu":
        return None
    time = time.astype(np.float64)
    order = np.argsort(np.where(np.isfinite(time), time, np.inf), kind="stable")
    place = order[np.clip(np.searchsorted(time[order], own.time - SAME), 0, len(time) - 1)]
    return place if (np.abs(time[place] - own.time) <= SAME).all() else None


def _column(raw: RawTable, name: str) -> np.ndarray | None:
    if name not in raw.units:
        return None
    values = np.asarray(raw.load(name))
    return values.astype(np.float64) if values.ndim == 1 and values.dtype.kind in "fiu" else None


def _centroid(raw: RawTable, number: int) -> tuple[np.ndarray, str] | None:
    """A centroid without the motion of the spacecraft, and the column."""
    for kind in ("MOM", "PSF"):
        values = _column(raw, f"{kind}_CENTR{number}")
        if values is None or np.isfinite(values).mean() < 0.1 or not np.nanstd(values) > 0:
            continue
        motion = _column(raw, f"POS_CORR{number}")
        if motion is not None and np.isfinite(motion).mean() > 0.5:
            return values - motion, f"{kind}_CENTR less POS_CORR"
        return values, f"{kind}_CENTR"
    return None


def _apertures(raw: RawTable, at: np.ndarray) -> dict[str, np.ndarray]:
    """Relative flux by aperture, on the cadences of the light curve."""
    for names in APERTURES.get(raw.product.name, ()):
        columns = {name: values for name in names if (values := _column(raw, name)) is not None}
        if len(columns) < 2:
            continue
        found = {}
        for name, values in columns.items():
            own = values[at]
            known = np.isfinite(own)
            if known.sum() < 50:
                continue
            relative = np.full(len(own), np.nan)
            relative[known] = flux.relative(own[known], raw.units[name].strip() or raw.product.unit(name)).flux
            found[name] = relative
        if len(found) > 1:
            return found
    return {}


def properties(header: Mapping[str, Any]) -> StarProperties:
    """The star's properties in the header of an archive file."""

    def number(*keywords: str) -> float:
        for keyword in keywords:
            try:
                value = float(header.get(keyword, np.nan))
            except (TypeError, ValueError):
                continue
            if np.isfinite(value):
                return value
        return np.nan

    radius, logg = number("RADIUS"), number("LOGG")
    source = "file header" if np.isfinite(radius) or np.isfinite(logg) else ""
    return StarProperties(radius, np.nan, logg, np.nan, number("TEFF"), number("TESSMAG", "KEPMAG"), source)
