"""Catalogs of signals: Kepler TCE and KOI tables, the TESS TOI table, or any CSV or ECSV with period, epoch, duration.

Columns are recognised by name, units and time systems by name, unit or value; what was recognised is in `Catalog.said`
for the user to read. A row is never refused here: what cannot become a view says so when it is tried.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from transit_cli.convert import nearest
from transit_cli.data.lightcurves.target import CATALOGS, star_name
from transit_cli.data.lightcurves.time_reference import REFERENCE_JD, infer_reference_jd, name_of
from transit_cli.results import TransitError

if TYPE_CHECKING:
    from pathlib import Path

#: Our names, and the columns that may hold them, in order of preference (compared without case and signs).
KNOWN = {
    "star": (
        "star",
        "kepid",
        "tid",
        "ticid",
        "tic",
        "epic",
        "epicid",
        "kic",
        "kicid",
        "targetid",
        "target",
        "hostname",
    ),
    "signal": ("kepoiname", "toi", "signal", "tceplntnum", "planetnumber", "plname", "planet", "name"),
    "mission": ("mission", "survey"),
    "period": ("koiperiod", "tceperiod", "plorbper", "perioddays", "period", "orbitalperiod", "per", "p"),
    "epoch": (
        *("koitime0bk", "tcetime0bk", "koitime0", "tcetime0", "pltranmid", "epochdays", "epoch", "epoc", "t0"),
        *("transitepoch", "time0", "tranmid", "epochbjd", "epochbtjd", "epochbkjd", "t0bjd", "t0btjd", "t0bkjd", "tc"),
    ),
    "time_system": ("timesystem", "epochsystem"),
    "duration": (
        *("koiduration", "tceduration", "pltrandurh", "durationhours", "durationdays", "durationhrs", "durationh"),
        *("duration", "transitduration", "dur", "t14", "durationd", "pltrandur"),
    ),
    "depth": ("koidepth", "tcedepth", "pltrandep", "depthppm", "depth", "transitdepth"),
    "snr": ("koimodelsnr", "tcemodelsnr", "measuredsnr", "snr", "mes", "tcemaxmultev", "sde"),
    "label": ("label", "avtrainingset", "koidisposition", "tfopwgdisp", "disposition", "exofopdisposition"),
    "label_2": ("koipdisposition", "disposition"),
    "period_error": ("koiperioderr1", "tceperioderr", "plorbpererr1", "perioderror", "perioderr", "perioderr1"),
    "epoch_error": ("koitime0bkerr1", "tcetime0bkerr", "koitime0err1", "pltranmiderr1", "epocherror", "epocherr"),
    "file": ("file", "filename", "lightcurve"),
}
#: Columns that must be there.
REQUIRED = ("star", "period", "epoch", "duration")

#: What catalogs call the labels of the house. A confirmed planet is a planet candidate to a classifier.
LABELS = {
    "PC": ("pc", "confirmed", "candidate", "cp", "kp", "planet", "1"),
    "EB": ("eb", "eclipsing binary"),
    "J": ("j", "junk"),
    "O": ("o", "other"),
    "AFP": ("afp", "false positive", "fp"),
    "NTP": ("ntp", "fa", "false alarm"),
}
_LABELS = {word: label for label, words in LABELS.items() for word in words}


@dataclass(frozen=True)
class Tce:
    """One row of a catalog.

    Attributes:
        star: its name, as in "KIC 11442793".
        signal: the catalog's name for it, else its number among the star's rows.
        mission: "kepler", "k2", "tess" or "".
        period: days.
        epoch: days since Julian Date `zero`; the centre of a transit.
        zero: Julian Date.
        duration: days.
        depth_ppm, snr, period_error, epoch_error: NaN where the catalog has none; errors in days.
        label: one of `viewset.LABELS`.
        file: the light curve that the catalog names for this row; "" for all of the star's.
    """

    star: str
    signal: str
    mission: str
    period: float
    epoch: float
    zero: float
    duration: float
    depth_ppm: float
    snr: float
    period_error: float
    epoch_error: float
    label: str
    file: str


@dataclass(frozen=True)
class Catalog:
    """The rows of a catalog, and what was recognised in it, in words."""

    tces: tuple[Tce, ...]
    said: tuple[str, ...]


def read(path: Path, mission: str = "") -> Catalog:
    """Read a catalog.

    Args:
        path: CSV (comment lines begin with #) or ECSV.
        mission: "kepler", "k2" or "tess", where the catalog does not say it.

    Raises:
        TransitError: it cannot be read, or has no column for the star, period, epoch or duration.
    """
    columns, units = _columns_of(path)
    names = _recognise(columns)
    missing = [name for name in REQUIRED if name not in names]
    if missing:
        raise TransitError(
            f"{path} has no column for {', '.join(missing)}",
            wanted=f"columns as in {', '.join(KNOWN[missing[0]][:3])}; it has {', '.join(list(columns)[:12])}",
            fix=f"rename a column of {path}" + _guess(missing[0], columns),
            code="catalog-columns",
        )
    said = [f"{ours} from {name}" for ours, name in names.items() if ours in {*REQUIRED, "label", "depth"}]
    values = {ours: columns[name] for ours, name in names.items()}
    count = len(values["period"])
    missions = _missions(names["star"], values, mission, count)
    zeros = _zeros(names, values, units, missions, said)
    duration = _durations(names["duration"], _floats(values["duration"]), units, said)
    depth = _depths(_floats(values.get("depth", [""] * count)), units.get(names.get("depth", ""), ""), said)
    numbers = {
        name: _floats(values[name]) if name in values else np.full(count, np.nan)
        for name in ("period", "epoch", "snr", "period_error", "epoch_error")
    }
    stars = [star_name(star, m) for star, m in zip(values["star"], missions, strict=True)]
    signals = _signals(stars, values.get("signal", [""] * count))
    labels = _labels(values, count, said)
    files = values.get("file", [""] * count)
    if "file" in values:
        said.append(f"light curves from {names['file']}, row by row")
    tces = tuple(
        Tce(
            star=stars[row],
            signal=signals[row],
            mission=missions[row],
            period=float(numbers["period"][row]),
            epoch=float(numbers["epoch"][row]),
            zero=zeros[row],
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
    return Catalog(tces, tuple(said))


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


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _recognise(columns: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Our names and the columns that hold them."""
    plain: dict[str, str] = {}
    for name in columns:
        plain.setdefault(_plain(name), name)
    found = {}
    for ours, words in KNOWN.items():
        word = next((word for word in words if word in plain and plain[word] not in found.values()), None)
        if word is not None:
            found[ours] = plain[word]
    return found


def _guess(missing: str, columns: Mapping[str, Sequence[str]]) -> str:
    like = nearest(missing, [_plain(name) for name in columns])
    return f" ({like}?) to {missing}" if like else f" to {missing}"


def _floats(cells: Sequence[str]) -> np.ndarray:
    """Numbers, NaN for a cell that holds none."""
    return np.array([_float(cell) for cell in cells])


def _float(cell: str) -> float:
    try:
        return float(cell)
    except ValueError:
        return float("nan")


def _missions(star_column: str, values: Mapping[str, Sequence[str]], mission: str, count: int) -> list[str]:
    plain = _plain(star_column)
    by_name = {"kepid": "kepler", "kic": "kepler", "kicid": "kepler", "epic": "k2", "epicid": "k2"}
    by_name |= {"tid": "tess", "tic": "tess", "ticid": "tess"}
    default = mission or by_name.get(plain, "")
    if "mission" not in values:
        return [default] * count
    return [cell.strip().lower() if cell.strip().lower() in CATALOGS else default for cell in values["mission"]]


def _zeros(
    names: Mapping[str, str],
    values: Mapping[str, Sequence[str]],
    units: Mapping[str, str],
    missions: Sequence[str],
    said: list[str],
) -> list[float]:
    """The Julian Date from which each row's epoch counts."""
    epochs = _floats(values["epoch"])
    systems = values.get("time_system", [""] * len(epochs))
    words = f"{_plain(names['epoch'])} {units.get(names['epoch'], '')}"
    zeros: list[float] = []
    notes: set[str] = set()
    typical = {
        mission: float(np.nanmedian(chosen)) if np.isfinite(chosen := _of(epochs, missions, mission)).any() else np.nan
        for mission in set(missions)
    }
    for system, mission in zip(systems, missions, strict=True):
        if system.strip().upper() in REFERENCE_JD:
            zero, note = REFERENCE_JD[system.strip().upper()], ""
        else:
            zero, note = infer_reference_jd(f"{system} {words}", typical[mission], mission)
        zeros.append(zero)
        notes.add(f"epochs in {name_of(zero)}" + (f" ({note})" if note else ""))
    said.extend(sorted(notes))
    return zeros


def _of(values: np.ndarray, missions: Sequence[str], mission: str) -> np.ndarray:
    return values[np.array([item == mission for item in missions], dtype=bool)]


def _durations(name: str, values: np.ndarray, units: Mapping[str, str], said: list[str]) -> np.ndarray:
    """Durations in days."""
    unit, plain = units.get(name, "").lower(), _plain(name)
    if unit in {"d", "day", "days"} or plain in {"durationdays", "durationd"}:
        hours = False
    elif unit in {"min", "minute", "minutes"}:
        said.append("durations in minutes")
        return values / 1440.0
    elif unit in {"h", "hr", "hour", "hours"} or re.search("hours|hrs|durh$|durationh$|^koi|^tce", plain):
        hours = True
    else:  # transits last hours: a typical number below 0.8 can only be days
        hours = not float(np.nanmedian(values)) < 0.8 if np.isfinite(values).any() else True
    said.append(f"durations in {'hours' if hours else 'days'}")
    return values / 24.0 if hours else values


def _depths(values: np.ndarray, unit: str, said: list[str]) -> np.ndarray:
    """Depths in ppm."""
    factor = {"%": 1e4, "percent": 1e4, "ppt": 1e3, "mmag": 1e6 * np.log(10) / 2500}.get(unit.lower(), 1.0)
    if factor == 1.0 and np.isfinite(values).any() and 0 < float(np.nanmax(values)) < 1:
        factor = 1e6
    if factor != 1.0:
        said.append(f"depths times {factor:g} to ppm")
    return values * factor


def _signals(stars: Sequence[str], names: Sequence[str]) -> list[str]:
    """The catalog's names, or the number of the row among its star's."""
    seen: dict[str, int] = {}
    found = []
    for star, name in zip(stars, names, strict=True):
        seen[star] = seen.get(star, 0) + 1
        found.append(name.strip() or f"#{seen[star]}")
    return found


def _labels(values: Mapping[str, Sequence[str]], count: int, said: list[str]) -> list[str]:
    """Labels of the house; the second label column speaks where the first is silent."""
    first, second = values.get("label", [""] * count), values.get("label_2", [""] * count)
    words = [(a.strip() or b.strip()) for a, b in zip(first, second, strict=True)]
    found = [_LABELS.get(word.lower(), "UNK") for word in words]
    unknown = sorted({word for word, label in zip(words, found, strict=True) if label == "UNK" and word} - {"UNK"})
    if unknown:
        said.append(f"labels {', '.join(unknown[:5])} are UNK")
    return found
