"""Light curves from FITS files: Kepler, K2 and TESS archives, QLP, and what lightkurve and others export again.

Nothing is taken for granted: flux, time and quality columns are recognised by name, the zero of the time axis comes
from the header (BJDREFI + BJDREFF), a column's unit ("bkjd", "BJD - 2457000, days") or the mission, and a file that
breaks off is refused rather than read as far as it goes.
"""

from __future__ import annotations

import gzip
import io
import re
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from transit_cli.data.lightcurves.lightcurve import LightCurve, UnreadableError
from transit_cli.data.lightcurves.target import mission_of, star_in_name, star_name, star_of_name
from transit_cli.data.lightcurves.time_reference import infer_reference_jd

if TYPE_CHECKING:
    from pathlib import Path

#: Flux columns in the order in which they are preferred: corrected for systematics, but not detrended, comes first.
FLUX_COLUMNS = ("PDCSAP_FLUX", "SYS_RM_FLUX", "PDC_FLUX", "FLUX", "SAP_FLUX", "FCOR", "KSPSAP_FLUX", "DET_FLUX")
TIME_COLUMNS = ("TIME", "BJD", "BTJD", "BKJD", "HJD", "JD", "MJD", "T", "BARYTIME")
QUALITY_COLUMNS = ("QUALITY", "SAP_QUALITY", "QUALITY_FLAG", "TESS_FLAGS", "FLAG", "FLAGS")

#: Quality bits that spoil a cadence. Kepler and K2: Kepler Archive Manual, table 2-3 (attitude tweak, safe mode, coarse
#: point, Earth point, desaturation, manual exclude, detector anomaly, no data, thruster firing). TESS: Science Data
#: Products Description, table 32 (the same, Argabrightening, impulsive outlier, bad calibration).
BAD_BITS = {"kepler": 1130799, "k2": 1130799, "tess": 17087}
#: QLP's own mark of a low-precision cadence (sectors 1-55, and from 56 on), besides TESS's.
QLP_BITS = (1 << 12) | (1 << 30)

#: What is read from the headers.
KEYWORDS = (
    "MISSION",
    "TELESCOP",
    "OBJECT",
    "TICID",
    "KEPLERID",
    "TARGETID",
    "TARGNAME",
    "QUARTER",
    "CAMPAIGN",
    "SECTOR",
    "TIMEUNIT",
    "BJDREFI",
    "BJDREFF",
    "ORIGIN",
    "AUTHOR",
)


def star_in(file: Path) -> str:
    """The star that a file's header gives, "" if none; `UnreadableError` where it cannot be opened."""
    with _open(file) as (tables, _):
        header = _merged(tables)
    return _star(header, _mission(header, file))


def read_fits(file: Path, column: str = "") -> LightCurve:
    """`lightcurve.read` for FITS files."""
    with _open(file) as (tables, content):
        header = _merged(tables)
        table = _table(tables)
        names = {name.upper(): name for name in table.columns.names}
        units = {key: str(table.columns[name].unit or "") for key, name in names.items() if _wanted(key, column)}
        rows = _rows(table, content)
        data = {key: _numbers(rows[names[key]]) for key in units}
    mission = _mission(header, file)
    notes: list[str] = []
    time_name = next((name for name in TIME_COLUMNS if name in data), "")
    if not time_name:
        raise UnreadableError(f"no time column among {', '.join(names)}")
    flux_name = _flux_column(data, column)
    time, flux = data[time_name], data[flux_name]
    time, reference_jd = _days(time, (time_name, units[time_name]), header, mission, notes)
    finite = np.isfinite(time) & np.isfinite(flux)
    good = finite & ~_spoiled(data, mission, header)
    if np.count_nonzero(flux[finite]) > 0.5 * finite.sum():
        good &= flux != 0  # a cadence without data may be zero instead of NaN
    time, flux = time[good], _relative(flux[good], units[flux_name], notes)
    order = np.argsort(time, kind="stable")
    time, flux = time[order], flux[order]
    once = np.diff(time, prepend=-np.inf) > 0
    return LightCurve(
        time[once],
        flux[once],
        star=_star(header, mission) or star_in_name(file),
        mission=mission,
        reference_jd=reference_jd,
        segment=_segment(header),
        column=flux_name,
        source=file.name,
        cadences=len(finite),
        finite=int(finite.sum()),
        notes=tuple(notes),
    )


class _open:  # noqa: N801 - reads as what it does
    """The HDUs of a FITS file and its bytes; every failure and every sign of truncation is an `UnreadableError`."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def __enter__(self) -> Any:
        from astropy.io import fits
        from astropy.io.fits.verify import VerifyWarning

        self._caught = warnings.catch_warnings()
        self._caught.__enter__()
        warnings.simplefilter("ignore")
        warnings.filterwarnings("error", message=".*truncated.*")
        warnings.simplefilter("ignore", VerifyWarning)
        try:
            content = self._file.read_bytes()
            content = gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content
            self._tables = fits.open(io.BytesIO(content), memmap=False, lazy_load_hdus=False)
        except Exception as error:
            self._caught.__exit__(None, None, None)
            raise _unreadable(error) from error
        return self._tables, content

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self._tables.close()
        self._caught.__exit__(None, None, None)
        if isinstance(error, Exception) and not isinstance(error, UnreadableError):
            raise _unreadable(error) from error


def _unreadable(error: Exception) -> UnreadableError:
    if isinstance(error, FileNotFoundError | PermissionError | IsADirectoryError):
        return UnreadableError(error.strerror or str(error))
    text = re.split(r"[\n,]|\. ", str(error).strip())[0]
    if "truncated" in text or isinstance(error, EOFError) or "end of file" in text.lower():
        return UnreadableError("the file breaks off before its end")
    return UnreadableError(f"not a FITS file that can be read ({text or type(error).__name__})")


def _merged(tables: Any) -> Mapping[str, Any]:
    """What the headers say, the primary one first, of `KEYWORDS` alone: astropy parses a card when it is asked for."""
    merged: dict[str, Any] = {}
    for table in tables:
        for keyword in KEYWORDS:
            value = table.header.get(keyword)
            if value is not None and type(value).__name__ != "Undefined":
                merged.setdefault(keyword, value)
    return merged


def _table(tables: Any) -> Any:
    found = [table for table in tables if getattr(table, "columns", None) is not None and table.header["NAXIS"]]
    for table in found:
        if {name.upper() for name in table.columns.names} & set(TIME_COLUMNS):
            return table
    raise UnreadableError("no table with a time column" if found else "no table of cadences")


def _rows(table: Any, content: bytes) -> Any:
    """The table's rows: where its bytes are its numbers, as they lie in the file; else as astropy converts them."""
    columns, header = table.columns, table.header
    plain = all(c.bscale in {"", None, 1} and c.bzero in {"", None, 0} and c.format[-1] in "ABIJKED" for c in columns)
    if not plain or columns.dtype.itemsize != header["NAXIS1"]:
        return table.data
    return np.frombuffer(content, columns.dtype.newbyteorder(">"), header["NAXIS2"], table.fileinfo()["datLoc"])


def _wanted(name: str, column: str) -> bool:
    known = {*TIME_COLUMNS, *FLUX_COLUMNS, *QUALITY_COLUMNS, column.upper()}
    return name in known or ("FLUX" in name and not re.search("ERR|BKG|BACK|UNC", name))


def _numbers(values: Any) -> np.ndarray:
    """A column as native float64 (flags stay whole numbers), one value a row."""
    values = np.asarray(values)
    values = values[:, 0] if values.ndim == 2 and values.shape[1] == 1 else values
    if values.dtype.kind in "iub" and values.ndim == 1:
        return values.astype(np.int64)
    if values.dtype.kind == "f" and values.ndim == 1:
        return values.astype(np.float64)
    return np.full(len(values), np.nan)


def _flux_column(data: Mapping[str, np.ndarray], column: str) -> str:
    if column:
        if column.upper() not in data:
            raise UnreadableError(f"no column {column}")
        return column.upper()
    other = sorted(name for name in data if "FLUX" in name and name not in FLUX_COLUMNS)
    present = [name for name in (*FLUX_COLUMNS, *other) if name in data]
    if not present:
        raise UnreadableError("no flux column")
    for name in present:
        if np.isfinite(data[name]).any():
            return name
    raise UnreadableError(f"{present[0]} holds no finite number")


def _spoiled(data: Mapping[str, np.ndarray], mission: str, header: Mapping[str, Any]) -> np.ndarray:
    """Cadences that a quality column speaks against. Without a known mission, those with any flag."""
    name = next((name for name in QUALITY_COLUMNS if name in data and data[name].dtype.kind == "i"), "")
    if not name:
        return np.zeros(len(next(iter(data.values()))), dtype=bool)
    bits = BAD_BITS.get(mission)
    if bits is None:
        return data[name] != 0
    if "QLP" in f"{header.get('ORIGIN', '')} {header.get('AUTHOR', '')}".upper() or "KSPSAP_FLUX" in data:
        bits |= QLP_BITS
    return (data[name] & bits) != 0


def _days(
    time: np.ndarray, words: tuple[str, str], header: Mapping[str, Any], mission: str, notes: list[str]
) -> tuple[np.ndarray, float]:
    """The time axis in days and the Julian Date of its zero; `words` are the column's name and unit."""
    name, unit = words
    plain = unit.strip().lower() or str(header.get("TIMEUNIT", "d")).strip().lower()
    if plain in {"s", "sec", "second", "seconds"}:
        time = time / 86400.0
    elif plain in {"min", "minute", "minutes"}:
        time = time / 1440.0
    elif plain in {"h", "hr", "hour", "hours"}:
        time = time / 24.0
    if "BJDREFI" in header:
        return time, float(header["BJDREFI"]) + float(header.get("BJDREFF", 0.0))
    middle = float(np.nanmedian(time)) if np.isfinite(time).any() else np.nan
    reference_jd, note = infer_reference_jd(f"{name} {unit}", middle, mission)
    if note:
        notes.append(f"time: {note}")
    return time, reference_jd


def _relative(flux: np.ndarray, unit: str, notes: list[str]) -> np.ndarray:
    """Flux relative to its median, from counts, relative units or magnitudes.

    Raises:
        UnreadableError: the median flux is not positive, so that nothing can be relative to it.
    """
    unit = unit.strip().lower()
    if not len(flux):
        return flux
    if unit in {"mag", "mags", "magnitude"}:
        flux = 10 ** (-0.4 * (flux - np.median(flux)))
    elif unit in {"ppm", "ppt", "%", "percent"}:
        flux = 1 + flux * {"ppm": 1e-6, "ppt": 1e-3}.get(unit, 1e-2)
    level = float(np.median(flux))
    if abs(level) < 0.1 and np.abs(flux - level).max() < 2:
        notes.append("flux: about 0, taken as relative to 1")
        flux, level = flux + 1, level + 1
    if not level > 0:
        raise UnreadableError("the median flux is not positive")
    return flux / level


def _mission(header: Mapping[str, Any], file: Path) -> str:
    words = f"{header.get('MISSION', '')} {header.get('TELESCOP', '')}".lower()
    if "k2" in words or "CAMPAIGN" in header or file.name.lower().startswith("ktwo"):
        return "k2"
    for mission in ("kepler", "tess"):
        if mission in words:
            return mission
    return mission_of(star_of_name(file))


def _star(header: Mapping[str, Any], mission: str) -> str:
    for key in ("OBJECT", "TICID", "KEPLERID", "TARGETID", "TARGNAME"):
        value = header.get(key)
        if value is not None and str(value).strip():
            name = star_name(value, mission)
            if mission_of(name):
                return name
    return str(header.get("OBJECT", "")).strip()


def _segment(header: Mapping[str, Any]) -> str:
    for key, letter in (("QUARTER", "Q"), ("CAMPAIGN", "C"), ("SECTOR", "S")):
        if key in header:
            return f"{letter}{header[key]}"
    return ""
