"""Read a light curve of any product and format, and record every decision.

FITS and plain tables are read here; other formats by plugins (entry points `transit.readers`). The order of decisions:
product, star, time system, flux column, quality flags, flux scale.
"""

from __future__ import annotations

import functools
import re
import warnings
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from transit_cli.data.lightcurves import fits, flux, text_tables
from transit_cli.data.lightcurves.lightcurve import Decision, LightCurve, UnreadableError, completed
from transit_cli.data.lightcurves.products import OTHER
from transit_cli.data.lightcurves.quality import bad_cadences
from transit_cli.data.lightcurves.raw import TIME_COLUMNS, RawTable, find_centroid, find_time, flux_candidates
from transit_cli.data.lightcurves.target import mission_of, star_in_name, star_name, star_of_name
from transit_cli.data.lightcurves.time_reference import (
    TimeReference,
    check_precision,
    days_per,
    name_of,
    possible_times,
    time_reference,
)
from transit_cli.discovery import READERS, discover
from transit_cli.utils import machine_errors

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from transit_cli.data.lightcurves.products import Product
    from transit_cli.discovery import Plugin

#: Endings of FITS files.
FITS_SUFFIXES = (".fits", ".fits.gz", ".fit", ".fit.gz", ".fts")
#: Keywords that name the star, in order of preference, and the catalog of their numbers ("" if the mission decides).
_STAR_KEYWORDS = (
    *(("TICID", "TIC"), ("TIC_ID", "TIC"), ("TIC", "TIC"), ("EPICID", "EPIC"), ("EPIC", "EPIC"), ("KEPLERID", "KIC")),
    *(("TARGETID", ""), ("OBJECT", ""), ("TARGNAME", ""), ("GAIADR3", "Gaia DR3"), ("STAR", ""), ("TARGET", "")),
)
_PLACEHOLDERS = {"", "none", "nan", "unknown", "null", "n/a", "-", "--", "undefined", "target", "0"}


@functools.cache
def readers() -> dict[str, Plugin]:
    """Installed readers of other formats (entry points `transit.readers`) by the ending of the files they read.

    The name of an entry point is the ending without its dot; its function takes a path and returns a `LightCurve`.
    """
    return {f".{name.lower()}": plugin for name, plugin in discover(READERS).used.items()}


def suffixes() -> tuple[str, ...]:
    """Endings of the names of light-curve files."""
    return (*FITS_SUFFIXES, *text_tables.SUFFIXES, *readers())


def star_of_file(file: Path) -> str:
    """The star that a file's header gives, or else its name ("kic10811496.fits"); "" if neither does.

    Raises:
        UnreadableError: the file cannot be opened.
    """
    if plugin := readers().get(file.suffix.lower()):
        return _read_with(plugin, file).star
    with _guarded():
        header = text_tables.open_table(file).header if text_tables.is_table(file) else fits.star_header(file)
        return _star(header, _mission(header, file, OTHER), file, OTHER)[0]


def star_of_cells(cells: Mapping[str, Any]) -> str:
    """The star that the cells of a row of light curves name, "" if none; see `bulk.headers`."""
    header, no_file = text_tables.keywords(cells), Path()
    return _star(header, _mission(header, no_file, OTHER), no_file, OTHER)[0]


def verify(file: Path) -> None:
    """Raise `UnreadableError` if a file is incomplete or not of the format that its name says."""
    if plugin := readers().get(file.suffix.lower()):
        _read_with(plugin, file)
        return
    with _guarded():
        if text_tables.is_table(file):
            text_tables.open_table(file)
        else:
            fits.verify(file)


def read(file: Path, column: str = "") -> LightCurve:
    """Read a light curve.

    Args:
        file: FITS (also compressed with gzip), CSV, ECSV or Parquet; or a format of an installed reader.
        column: the flux column; by default the product's first column with a finite number.

    Raises:
        UnreadableError: the file cannot be read, ends early, is not a light curve, or contradicts itself.
    """
    if plugin := readers().get(file.suffix.lower()):
        return _read_with(plugin, file, column)
    with _guarded():
        raw = text_tables.open_table(file) if text_tables.is_table(file) else fits.open_fits(file)
        return _assemble(raw, column)


@contextmanager
def _guarded() -> Iterator[None]:
    """Turn every failure of reading a file into `UnreadableError`, and silence the warnings of libraries."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except UnreadableError:
        raise
    except ValueError as reason:
        raise UnreadableError(str(reason)) from reason
    except Exception as error:
        machine_errors.raise_if_machine(error)
        raise UnreadableError(f"it cannot be read: {type(error).__name__}: {str(error)[:200]}") from error


def _read_with(plugin: Plugin, file: Path, column: str = "") -> LightCurve:
    name = f"the reader of {plugin.distribution}"
    reader = plugin.load()
    try:
        curve = reader(file)
    except Exception as error:
        machine_errors.raise_if_machine(error)
        raise UnreadableError(f"{name} fails: {type(error).__name__}: {error}") from error
    if not isinstance(curve, LightCurve):
        raise UnreadableError(f"{name} returns {type(curve).__name__}, not LightCurve")
    try:
        curve = completed(curve)
    except UnreadableError as reason:
        raise UnreadableError(f"{name} returns {reason}") from None
    notes = curve.notes
    if column and curve.column != column:
        notes += (f"flux: {name} chooses the flux itself, not {column}",)
    decided = (("star", curve.star or "?"), ("time", name_of(curve.reference_jd)), ("flux", curve.column or "flux"))
    return replace(
        curve,
        mission=curve.mission or mission_of(curve.star),
        column=curve.column or "flux",
        source=curve.source or file.name,
        notes=notes,
        decisions=curve.decisions or tuple(Decision(topic, value, name) for topic, value in decided),
    )


def _assemble(raw: RawTable, column: str) -> LightCurve:
    """The light curve in a raw table; `ValueError` if it cannot be decided what the table holds."""
    header, product = raw.header, raw.product
    _refuse_folded(header, list(raw.units))
    decisions: list[Decision] = []
    notes: list[str] = []
    if product.name:
        decisions.append(Decision("product", product.name, raw.recognised_by))
    if raw.others:
        notes.append(f"table: {raw.table} is read, {', '.join(raw.others)} has the same columns")
    mission = _mission(header, raw.file, product)
    star, why = _star(header, mission, raw.file, product)
    decisions.append(Decision("star", star or "?", why))
    mission = mission or mission_of(star)
    notes += _contradicting_name(star, raw.file)

    time_name = find_time(list(raw.units), product.time if product.name else TIME_COLUMNS)
    if not time_name:
        raise UnreadableError(f"no time column among {', '.join(list(raw.units)[:12])}")
    time, reference = _time(raw, time_name, mission, notes)
    decisions.append(Decision("time", name_of(reference.reference_jd), f"{reference.reason} (column {time_name})"))

    name, values = _flux(raw, column, notes)
    decisions.append(Decision("flux", name, "as given" if column else _why_flux(product, name)))
    unit = raw.units[name].strip() or product.unit(name) or ("mag" if re.search("(?:^|_)MAG", name) else "")
    finite = np.isfinite(time) & np.isfinite(values)
    lacking = np.zeros(len(values), dtype=bool)
    lacking[finite] = flux.missing(values[finite], unit)
    if lacking.any():
        notes.append(f"flux: {int(lacking.sum()):,} fill values such as {values[lacking][0]:g} are missing values")
        finite &= ~lacking
    quality = bad_cadences(raw.load, list(raw.units), product=product, mission=mission, flux=name, count=len(time))
    notes += quality.notes
    decisions.append(Decision("flags", "; ".join(quality.applied) or "none", product.source or "by name of the column"))
    good = finite & ~quality.bad
    if np.count_nonzero(values[finite]) > 0.5 * finite.sum():
        good &= values != 0  # cadences without data may be 0 instead of NaN
    if finite.any() and not good.any():
        raise UnreadableError(f"all {int(finite.sum()):,} cadences are flagged ({'; '.join(quality.applied)})")
    scaled = flux.relative(values[good], unit)
    notes += scaled.notes
    decisions.append(
        Decision("scale", scaled.scale, "unit" if raw.units[name].strip() else "product" if unit else "values")
    )
    time, values = time[good], scaled.flux
    centroid = find_centroid(raw)
    centroid = None if centroid is None else centroid[good]
    order = np.argsort(time, kind="stable")
    order = order[~np.isnan(values[order])]
    time, values = time[order], values[order]
    once = np.diff(time, prepend=-np.inf) > 0
    if len(time) - int(once.sum()) > 0.01 * len(time):
        notes.append(f"time: {len(time) - int(once.sum()):,} cadences repeat a time and are left out")
    return LightCurve(
        time[once],
        values[once],
        star=star,
        mission=mission,
        reference_jd=reference.reference_jd,
        segment=_segment(header),
        column=name,
        source=raw.file.name,
        cadences=len(finite),
        finite=int(finite.sum()),
        notes=tuple(notes),
        product=product.name,
        flagged=int((finite & quality.bad).sum()),
        decisions=tuple(decisions),
        centroid=None if centroid is None else centroid[order][once],
    )


def _refuse_folded(header: Mapping[str, Any], columns: list[str]) -> None:
    if "folded" in str(header.get("CREATOR", "")).lower() or "PHEPOCH" in header or "PHNORM" in header:
        raise UnreadableError("a folded light curve: its times are phases; give the light curve before folding")
    if not find_time(columns) and any(name.startswith("PHASE") for name in columns):
        raise UnreadableError("a folded light curve: it has phases, but no times")


def _time(raw: RawTable, name: str, mission: str, notes: list[str]) -> tuple[np.ndarray, TimeReference]:
    """Times in days and their reference."""
    stored = raw.load(name)
    if stored.dtype.kind not in "fiu":
        raise UnreadableError(f"the time column {name} holds no numbers ({stored.dtype})")
    if stored.ndim == 2 and stored.shape[1] == 2:
        time = stored.astype(np.float64).sum(axis=1)  # astropy's Time writes Julian Dates as two numbers
    elif stored.ndim == 1:
        time = stored.astype(np.float64)
    else:
        raise UnreadableError(f"the time column {name} holds {stored.shape[1:]} numbers per row")
    unit = raw.units[name].strip() or str(raw.header.get("TIMEUNIT", "d"))
    time = time * days_per(unit)
    time = possible_times(time, name, notes)
    known = time[np.isfinite(time)]
    span = (float(known.min()), float(known.max()))
    words = {f"unit of {name}": raw.units[name], f"name of {name}": name.replace("_", " ")}
    header = raw.header if raw.product.name != "CHEOPS" else {}  # BJD_TIME; the header's MJDREF is that of MJD_TIME
    reference = time_reference(
        header, words, span, mission=mission, product=(raw.product.name, raw.product.reference_jd)
    )
    if reference.reference_jd is None and span[0] < -0.01 and span[1] > 0:
        raise UnreadableError(f"the times run from {span[0]:.3g} to {span[1]:.3g} without a reference: phases?")
    if reference.note:
        notes.append(f"time: {reference.note}")
    if str(raw.header.get("TIMESYS", "")).upper() == "UTC" and name not in {"BJD", "BJD_TIME"} and stored.ndim == 1:
        notes.append("time: UTC, up to 69 s behind TDB")
    check_precision(stored, known, notes)
    return time, reference


def _flux(raw: RawTable, column: str, notes: list[str]) -> tuple[str, np.ndarray]:
    """The flux column and its values, NaN where missing."""
    if column:
        if column.upper() not in raw.units:
            raise UnreadableError(f"no column {column} among {', '.join(list(raw.units)[:12])}")
        names = [column.upper()]
    else:
        names = flux_candidates(list(raw.units), raw.product)
    if not names:
        raise UnreadableError(f"no flux column among {', '.join(list(raw.units)[:12])}")
    for name in names:
        values = raw.load(name)
        if values.ndim != 1:
            raise UnreadableError(f"{name} holds an image per cadence: a target pixel file, not a light curve")
        if values.dtype.kind not in "fiu":
            continue
        values = values.astype(np.float64)
        if np.isfinite(values).any():
            if name != names[0]:
                notes.append(f"flux: {names[0]} holds no finite number, {name} is used")
            return name, values
    raise UnreadableError(f"{names[0]} holds no finite number")


def _why_flux(product: Product, name: str) -> str:
    if product.flux:
        return f"default of {product.name}" if name == product.flux[0] else f"of {', '.join(product.flux)}"
    return "name"


def _mission(header: Mapping[str, Any], file: Path, product: Product) -> str:
    words = f"{header.get('MISSION', '')} {header.get('TELESCOP', '')}".lower()
    if "k2" in words or "CAMPAIGN" in header or file.name.lower().startswith("ktwo"):
        return "k2"
    for mission in ("kepler", "tess"):
        if mission in words:
            return product.mission if product.mission == "k2" else mission
    return product.mission or mission_of(star_of_name(file))


def _star(header: Mapping[str, Any], mission: str, file: Path, product: Product) -> tuple[str, str]:
    """The star and where it was found: the product's keywords, catalog numbers in the header, a name, the file name."""
    names = []
    for keyword, catalog in (*product.star, *_STAR_KEYWORDS):
        value = str(header.get(keyword, "")).strip()
        if value.lower() in _PLACEHOLDERS:
            continue
        numbered = catalog and re.fullmatch(r"\d+(\.0+)?", value)
        name = star_name(f"{catalog} {value}" if numbered else value, mission)
        if keyword == "KEPLERID" and mission == "k2":
            name = name.replace("KIC ", "EPIC ")
        if mission_of(name):
            return name, f"header {keyword}"
        names.append((name, f"header {keyword}"))
    named = next((item for item in names if not item[0].isdigit()), None)
    if named and not named[0].startswith("Gaia"):
        return named
    from_file = star_in_name(file)
    if from_file and (mission_of(from_file) or not named):
        return from_file, "file name"
    return named or (names[0] if names else ("", "not stated"))


def _contradicting_name(star: str, file: Path) -> list[str]:
    from_file = star_in_name(file)
    catalog = star.partition(" ")[0]
    if mission_of(star) and from_file.startswith(f"{catalog} ") and from_file != star:
        return [f"star: {star} in the header, {from_file} in the file name"]
    return []


def _segment(header: Mapping[str, Any]) -> str:
    for key, letter in (("QUARTER", "Q"), ("CAMPAIGN", "C"), ("SECTOR", "S")):
        if key in header:
            return f"{letter}{header[key]}"
    return ""
