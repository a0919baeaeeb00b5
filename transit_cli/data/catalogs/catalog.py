"""Catalogs of signals: Kepler TCE and KOI tables, the TESS TOI table, or any CSV or ECSV with period, epoch, duration.

Columns are recognised by name, units and time systems by name, unit or value; `Catalog.notes` tells the user what was
recognised. A row is never refused here: one that cannot become a view is dropped, with the reason, when it is folded.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from transit_cli.convert import nearest
from transit_cli.data.catalogs.vocabulary import (
    COLUMNS,
    DEPTH_UNITS,
    MISSION_OF_COLUMN,
    TIME_UNITS,
    canonical_columns,
    canonical_label,
    plain,
    stated_unit,
)
from transit_cli.data.lightcurves.target import CATALOGS, star_name
from transit_cli.data.lightcurves.time_reference import REFERENCE_JD, infer_reference_jd, name_of
from transit_cli.results import TransitError

if TYPE_CHECKING:
    from pathlib import Path

#: Columns that a catalog must have.
REQUIRED = ("star", "period", "epoch", "duration")


@dataclass(frozen=True)
class Tce:
    """One row of a catalog.

    Attributes:
        star: its name, as in "KIC 11442793".
        signal: the catalog's name for it, else its number among the star's rows.
        mission: "kepler", "k2", "tess" or "".
        period: days.
        epoch: days since Julian Date `reference_jd`; the centre of a transit.
        reference_jd: the Julian Date of time 0 (FITS: BJDREF).
        duration: days.
        depth_ppm, snr, period_error, epoch_error: NaN where the catalog has none; errors in days.
        label: one of `viewset.LABELS`.
        file: the light curve that the catalog names for this row; "" for every light curve of the star.
    """

    star: str
    signal: str
    mission: str
    period: float
    epoch: float
    reference_jd: float
    duration: float
    depth_ppm: float
    snr: float
    period_error: float
    epoch_error: float
    label: str
    file: str


@dataclass(frozen=True)
class Catalog:
    """The rows of a catalog, and notes on what was recognised in it."""

    tces: tuple[Tce, ...]
    notes: tuple[str, ...]


def read(path: Path, mission: str = "") -> Catalog:
    """Read a catalog.

    Args:
        path: CSV (comment lines begin with #) or ECSV.
        mission: "kepler", "k2" or "tess", for a catalog that does not state it.

    Raises:
        TransitError: it cannot be read, or has no column for the star, period, epoch or duration.
    """
    columns, units = _columns_of(path)
    names = canonical_columns(columns, COLUMNS)
    _require(path, names, columns)
    notes = [f"{name} from {source}" for name, source in names.items() if name in {*REQUIRED, "label", "depth"}]
    values = {name: columns[source] for name, source in names.items()}
    count = len(values["period"])
    blank = [""] * count
    missions = _missions(names["star"], values, mission, count)
    references, epoch_notes = _reference_jds(names, values, units, missions)
    duration, duration_notes = _durations(names["duration"], _floats(values["duration"]), units)
    depth_unit = units.get(names.get("depth", ""), "") or stated_unit(names.get("depth", ""))
    depth, depth_notes = _depths(_floats(values.get("depth", blank)), depth_unit)
    labels, label_notes = _labels(values, count)
    notes += [*epoch_notes, *duration_notes, *depth_notes, *label_notes]
    numbers = {
        name: _floats(values[name]) if name in values else np.full(count, np.nan)
        for name in ("period", "epoch", "snr", "period_error", "epoch_error")
    }
    stars = [star_name(star, m) for star, m in zip(values["star"], missions, strict=True)]
    signals = _signals(stars, values.get("signal", blank))
    files = values.get("file", blank)
    if "file" in values:
        notes.append(f"light curves from {names['file']}, row by row")
    tces = tuple(
        Tce(
            star=stars[row],
            signal=signals[row],
            mission=missions[row],
            period=float(numbers["period"][row]),
            epoch=float(numbers["epoch"][row]),
            reference_jd=references[row],
            duration=float(duration[row]),
            depth_ppm=float(depth[row]),
            snr=float(numbers["snr"][row]),
            period_error=abs(float(numbers["period_error"][row])),
            epoch_error=abs(float(numbers["epoch_error"][row])),
            label=labels[row],
            file=files[row].strip(),
        )
        for row in range(count)
    )
    return Catalog(tces, tuple(notes))


def _require(path: Path, names: Mapping[str, str], columns: Mapping[str, Sequence[str]]) -> None:
    missing = [name for name in REQUIRED if name not in names]
    if missing:
        aliases = next(spec.aliases for spec in COLUMNS if spec.name == missing[0])
        like = nearest(missing[0], [plain(name) for name in columns])
        raise TransitError(
            f"{path} has no column for {', '.join(missing)}",
            wanted=f"columns as in {', '.join(aliases[:3])}; it has {', '.join(list(columns)[:12])}",
            fix=f"rename a column of {path}" + (f" ({like}?) to {missing[0]}" if like else f" to {missing[0]}"),
            code="catalog-columns",
        )


def _columns_of(path: Path) -> tuple[dict[str, list[str]], dict[str, str]]:
    """Columns of text by name, and the units that an ECSV file gives."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not text"
        raise TransitError(
            f"cannot read the catalog {path}: {reason}",
            wanted="a CSV or ECSV table of signals",
            fix="give the path of an existing table",
            code="catalog-unreadable",
        ) from None
    if text.startswith("# %ECSV"):
        return _ecsv(path, text)
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    delimiter = max(",;\t", key=lines[0].count) if lines else ","
    rows = list(csv.reader(lines, delimiter=delimiter, skipinitialspace=True))
    header = [name.strip() for name in rows[0]] if rows else []
    ragged = next((row for row in rows if len(row) != len(header)), None)
    if ragged is not None:
        raise TransitError(
            f"{path} has a row of {len(ragged)} cells under {len(header)} columns: {','.join(ragged)[:60]}",
            wanted="one cell per column",
            fix=f"correct that row of {path}",
            code="catalog-row",
        )
    return {name: [row[index] for row in rows[1:]] for index, name in enumerate(header)}, {}


def _ecsv(path: Path, text: str) -> tuple[dict[str, list[str]], dict[str, str]]:
    from astropy.io import ascii as tables

    try:
        table = tables.read(text.splitlines(), format="ecsv")
    except Exception as error:  # noqa: BLE001 - astropy raises many kinds for a broken table
        raise TransitError(
            f"{path} is not ECSV that can be read: {str(error).splitlines()[0]}",
            fix=f"correct {path}, or export it as CSV",
            code="catalog-unreadable",
        ) from None
    columns = {name: ["" if cell is np.ma.masked else str(cell) for cell in table[name]] for name in table.colnames}
    return columns, {name: str(table[name].unit or "") for name in table.colnames}


def _floats(cells: Sequence[str]) -> np.ndarray:
    """Numbers; NaN for a cell that is not a number."""
    return np.array([_float(cell) for cell in cells])


def _float(cell: str) -> float:
    try:
        return float(cell)
    except ValueError:
        return float("nan")


def _missions(star_column: str, values: Mapping[str, Sequence[str]], mission: str, count: int) -> list[str]:
    default = mission or MISSION_OF_COLUMN.get(plain(star_column), "")
    if "mission" not in values:
        return [default] * count
    return [cell.strip().lower() if cell.strip().lower() in CATALOGS else default for cell in values["mission"]]


def _reference_jds(
    names: Mapping[str, str],
    values: Mapping[str, Sequence[str]],
    units: Mapping[str, str],
    missions: Sequence[str],
) -> tuple[list[float], list[str]]:
    """The Julian Date from which each row's epoch counts, and notes."""
    epochs = _floats(values["epoch"])
    systems = values.get("time_system", [""] * len(epochs))
    words = f"{names['epoch']} {units.get(names['epoch'], '')}"
    references: list[float] = []
    notes: set[str] = set()
    typical = {
        mission: float(np.nanmedian(chosen)) if np.isfinite(chosen := _of(epochs, missions, mission)).any() else np.nan
        for mission in set(missions)
    }
    for system, mission in zip(systems, missions, strict=True):
        if system.strip().upper() in REFERENCE_JD:
            reference, note = REFERENCE_JD[system.strip().upper()], ""
        else:
            reference, note = infer_reference_jd(f"{system} {words}", typical[mission], mission)
        references.append(reference)
        notes.add(f"epochs in {name_of(reference)}" + (f" ({note})" if note else ""))
    return references, sorted(notes)


def _of(values: np.ndarray, missions: Sequence[str], mission: str) -> np.ndarray:
    return values[np.array([item == mission for item in missions], dtype=bool)]


def _durations(name: str, values: np.ndarray, units: Mapping[str, str]) -> tuple[np.ndarray, list[str]]:
    """Durations in days, and notes."""
    unit = units.get(name, "").lower() or stated_unit(name)
    factor = TIME_UNITS.get(unit)
    if factor is None and re.search("durh$|^koi|^tce", plain(name)):
        factor = TIME_UNITS["h"]
    if factor is None:  # transits last hours: a typical number below 0.8 can only be days
        days = np.isfinite(values).any() and float(np.nanmedian(values)) < 0.8
        factor = TIME_UNITS["d" if days else "h"]
    words = {TIME_UNITS["d"]: "days", TIME_UNITS["h"]: "hours", TIME_UNITS["min"]: "minutes"}
    return values / round(1 / factor), [f"durations in {words[factor]}"]


def _depths(values: np.ndarray, unit: str) -> tuple[np.ndarray, list[str]]:
    """Depths in ppm, and notes."""
    factor = DEPTH_UNITS.get(unit.lower(), 1.0)
    if factor == 1.0 and np.isfinite(values).any() and 0 < float(np.nanmax(values)) < 1:
        factor = 1e6
    return values * factor, [f"depths times {factor:g} to ppm"] if factor != 1.0 else []


def _signals(stars: Sequence[str], names: Sequence[str]) -> list[str]:
    """The catalog's names, or the number of the row among its star's."""
    seen: dict[str, int] = {}
    found = []
    for star, name in zip(stars, names, strict=True):
        seen[star] = seen.get(star, 0) + 1
        found.append(name.strip() or f"#{seen[star]}")
    return found


def _labels(values: Mapping[str, Sequence[str]], count: int) -> tuple[list[str], list[str]]:
    """Canonical labels, and notes; a row without a label in the first column has that of the second."""
    first, second = values.get("label", [""] * count), values.get("label_2", [""] * count)
    words = [(a.strip() or b.strip()) for a, b in zip(first, second, strict=True)]
    found = [canonical_label(word) for word in words]
    unknown = sorted({word for word, label in zip(words, found, strict=True) if label is None})
    notes = [f"labels {', '.join(unknown[:5])} are UNK"] if unknown else []
    return [label or "UNK" for label in found], notes
