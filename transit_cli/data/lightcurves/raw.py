"""A light-curve file before anything is decided: header, columns and units, whatever its format."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from transit_cli.data.lightcurves.products import OTHER, Product

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np

#: Flux columns of files of no known product, in order of preference: corrected, but not detrended, comes first.
FLUX_COLUMNS = (
    *("PDCSAP_FLUX", "SYS_RM_FLUX", "PDC_FLUX", "CAL_APER_FLUX", "CAL_PSF_FLUX", "CORR_FLUX", "FLUX_CORR"),
    *("PSF_FLUX_COR", "FLUX", "SAP_FLUX", "FCOR", "KSPSAP_FLUX", "DET_FLUX", "TFA1", "PCA1", "IRM1"),
)
#: Names of time columns, in order of preference.
TIME_COLUMNS = (
    "TIME",
    "BJD",
    "BTJD",
    "BKJD",
    "TMID_BJD",
    "BJD_TIME",
    "BJD_TDB",
    "TIME_BJD",
    "TBJD",
    "HJD",
    "JD",
    "MJD",
)
TIME_COLUMNS += ("T", "BARYTIME", "TIMES", "TIME_BTJD", "TIME_BKJD", "BJD_TT", "BJD_UTC", "JD_TDB", "BMJD", "DATE")

#: Columns of the centroid of the star's light on the detector, in pixels; and of the motion of the pointing.
CENTROID_COLUMNS = (
    ("MOM_CENTR1", "MOM_CENTR2"),  # Kepler, K2, SPOC, TASOC
    ("CENTROID_COL", "CENTROID_ROW"),  # lightkurve
    ("CENTROID_X", "CENTROID_Y"),  # CHEOPS
    ("X_CENTROID", "Y_CENTROID"),  # eleanor
    ("SAP_X", "SAP_Y"),  # QLP
    ("XIC", "YIC"),  # CDIPS
)
POINTING_COLUMNS = ("POS_CORR1", "POS_CORR2")

_TIME_LIKE = re.compile(r"^(?:TIME|BJD|BTJD|BKJD|BMJD|HJD|JD|MJD|TBJD)(?:$|[^A-Z]|_(?:BJD|BTJD|BKJD|TDB|JD|MJD|DAYS?))")
_NOT_FLUX = re.compile(r"ERR|BKG|BACK|UNC|SIG|STD|FLAG|QUAL|CENT|MODEL|TREND|SKY")
#: Names of corrected fluxes, and of tables that hold them.
CORRECTED = re.compile(r"COR|CAL|PDC|CLEAN|DETREND|FLAT|NORM|BEST|FINAL")


@dataclass(frozen=True)
class RawTable:
    """The columns and header of a light-curve file.

    Attributes:
        file: the file.
        header: values by upper-case keyword.
        units: unit by upper-case column name, "" if not stated.
        load: the values of a column in native byte order; missing values are NaN.
        count: number of cadences.
        product: as recognised, `OTHER` if not.
        recognised_by: why.
        table: name of the table, if the file has several.
        others: names of tables that could be the light curve as well.
    """

    file: Path
    header: Mapping[str, Any]
    units: Mapping[str, str]
    load: Callable[[str], np.ndarray]
    count: int
    product: Product = OTHER
    recognised_by: str = ""
    table: str = ""
    others: tuple[str, ...] = ()


def find_time(columns: Collection[str], preferred: Collection[str] = TIME_COLUMNS) -> str:
    """The name of the time column among upper-case column names, "" if none."""
    named = next((name for name in preferred if name in columns), "")
    return named or next((name for name in columns if _TIME_LIKE.match(name) and "ERR" not in name), "")


def find_centroid(raw: RawTable) -> np.ndarray | None:
    """[n, 2] position of the star's light in pixels, less the motion of the pointing if the file has it; None without.

    NaN where it is missing.
    """
    import numpy as np

    for pair in CENTROID_COLUMNS:
        if not set(pair) <= set(raw.units):
            continue
        columns = [raw.load(name) for name in pair]
        if any(column.ndim != 1 or column.dtype.kind not in "fiu" for column in columns):
            continue
        position = np.stack(columns, axis=1).astype(np.float64)
        if set(POINTING_COLUMNS) <= set(raw.units):
            moved = np.stack([raw.load(name) for name in POINTING_COLUMNS], axis=1).astype(np.float64)
            if np.isfinite(moved).all(axis=1).mean() > 0.5 * np.isfinite(position).all(axis=1).mean():
                position -= moved
        position[(position == 0).all(axis=1)] = np.nan  # cadences without data
        return position if np.isfinite(position).any() else None
    return None


def flux_candidates(columns: Collection[str], product: Product) -> list[str]:
    """Flux columns in order of preference.

    Raises:
        ValueError: several columns of a file of no known product could be the flux.
    """
    if known := [name for name in (product.flux or FLUX_COLUMNS) if name in columns]:
        return known
    others = [name for name in columns if re.search("FLUX|^MAG|_MAG", name) and not _NOT_FLUX.search(name)]
    corrected = [name for name in others if CORRECTED.search(name)]
    chosen = corrected if len(corrected) == 1 else others
    if len(chosen) > 1:
        raise ValueError(f"several flux columns ({', '.join(sorted(chosen))}): name one with --flux-column")
    return chosen
