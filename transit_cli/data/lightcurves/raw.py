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

_TIME_LIKE = re.compile(r"^(?:TIME|BJD|BTJD|BKJD|BMJD|HJD|JD|MJD|TBJD)(?:$|[^A-Z]|_(?:BJD|BTJD|BKJD|TDB|JD|MJD|DAYS?))")
_NOT_FLUX = re.compile(r"ERR|BKG|BACK|UNC|SIG|STD|FLAG|QUAL|CENT|MODEL|TREND|SKY")
_CORRECTED = re.compile(r"COR|CAL|PDC|CLEAN|DETREND|FLAT|NORM")


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


def flux_candidates(columns: Collection[str], product: Product) -> list[str]:
    """Flux columns in order of preference.

    Raises:
        ValueError: several columns of a file of no known product could be the flux.
    """
    if known := [name for name in (product.flux or FLUX_COLUMNS) if name in columns]:
        return known
    others = [name for name in columns if re.search("FLUX|^MAG|_MAG", name) and not _NOT_FLUX.search(name)]
    corrected = [name for name in others if _CORRECTED.search(name)]
    chosen = corrected if len(corrected) == 1 else others
    if len(chosen) > 1:
        raise ValueError(f"several flux columns ({', '.join(sorted(chosen))}): name one with --flux-column")
    return chosen
