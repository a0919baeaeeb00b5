"""Catalogs of signals: archive tables, or any table with columns for star, period, epoch and duration.

Columns are recognised by name; units, systems of time and stars are decided row by row (`quantities`, `epochs`,
`stars`). `Catalog.notes` tells the user what was decided, in one line per column; a row that cannot be used has its
`problem`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from transit_cli.data.catalogs import quantities
from transit_cli.data.catalogs.epochs import epochs
from transit_cli.data.catalogs.quantities import Quantity, SourceColumn
from transit_cli.data.catalogs.source_table import guesses, mapped
from transit_cli.data.catalogs.stars import stars
from transit_cli.data.catalogs.tables import read_table_file
from transit_cli.data.catalogs.vocabulary import (
    COLUMNS,
    STAR_IDS,
    canonical_columns,
    label_meanings,
    other_columns,
    plain,
)
from transit_cli.results import TransitError

if TYPE_CHECKING:
    from pathlib import Path

    from transit_cli.data.catalogs.source_table import SourceTable

#: Columns that a catalog must have, besides one that names stars.
REQUIRED = ("period", "epoch", "duration")
#: Columns of the archive's tables of TESS objects, whose `pl_trandep` is in ppm; it is in percent in the other tables.
_TOI_COLUMNS = frozenset({"toi", "tid", "pltrandurh", "tfopwgdisp"})


@dataclass(frozen=True)
class Tce:
    """One row of a catalog.

    Attributes:
        star: its name, as in "KIC 11442793"; "" if the row names no star.
        signal: the catalog's name for it, else its number among the star's rows.
        mission: "kepler", "k2", "tess" or "".
        period: days; like the other numbers NaN where it is missing or cannot be used.
        epoch: days since Julian Date `reference_jd`; the centre of a transit.
        reference_jd: the Julian Date of time 0 (FITS: BJDREF).
        duration: days.
        depth_ppm, snr, period_error, epoch_error: NaN where the catalog has none; errors in days.
        label: one of `viewset.LABELS`.
        file: the light curve that the catalog names for this row; "" for every light curve of the star.
        problem: why the row cannot be folded, "" if it can.
        other_names: what other columns call the star.
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
    problem: str = ""
    other_names: tuple[str, ...] = ()


@dataclass(frozen=True)
class Catalog:
    """The rows of a catalog, and notes on what was decided."""

    tces: tuple[Tce, ...]
    notes: tuple[str, ...]


def read(path: Path, mission: str = "", mapping: Sequence[str] = ()) -> Catalog:
    """Read a catalog.

    Args:
        path: CSV and other text tables, ECSV, VOTable, FITS or Parquet.
        mission: "kepler", "k2" or "tess", for rows that do not state it.
        mapping: columns that the user states, as in "period=P"; see `column_map`.

    Raises:
        TransitError: it cannot be read, has no column for the star, period, epoch or duration, or states something that
            is not understood.
    """
    stated, table = mapped(read_table_file(path), mapping)
    left = [name for name in table.columns if name not in stated.values()]
    names = stated | canonical_columns(left, [spec for spec in COLUMNS if spec.name not in stated])
    _require(path, names, table.columns)
    columns = {
        name: SourceColumn(source, table.columns[source], table.units.get(source, ""), source in table.float32)
        for name, source in names.items()
    }
    count = len(table)
    star_columns = {name: columns[name] for name in ("star", *STAR_IDS) if name in columns}
    cells = {name: column.cells for name, column in columns.items()}
    found = stars(star_columns, cells.get("mission"), mission, count)
    period = quantities.periods(columns["period"])
    duration = quantities.durations(columns["duration"], period.values)
    epoch = epochs(columns["epoch"], found.missions, cells.get("time_system"))
    depth = _depths(columns, table, count)
    labels, label_notes = _labels(columns, count)
    files = _texts(cells.get("file"), count)
    problems = _problems(found.problems, files, period, epoch, duration)
    signals = _signals(found.names, _texts(cells.get("signal"), count))
    snr = _plain_numbers(columns.get("snr"), count)
    errors = {name: _errors(columns.get(f"{name}_error"), columns[name], count) for name in ("period", "epoch")}
    tces = tuple(
        Tce(
            star=found.names[row],
            signal=signals[row],
            mission=found.missions[row],
            period=float(period.values[row]),
            epoch=float(epoch.values[row]),
            reference_jd=float(np.nan_to_num(epoch.references[row])),
            duration=float(duration.values[row]),
            depth_ppm=float(depth.values[row]),
            snr=float(snr[row]),
            period_error=float(errors["period"][row]),
            epoch_error=float(errors["epoch"][row]),
            label=labels[row],
            file=files[row],
            problem=problems.get(row, ""),
            other_names=found.other_names[row],
        )
        for row in range(count)
    )
    notes = [*table.notes, *found.notes, *period.notes, *epoch.notes, *duration.notes, *depth.notes, *label_notes]
    notes += [
        f"{name} is not read from {', '.join(others)}"
        for name in (*REQUIRED, "label")
        if name in names and (others := other_columns(table.columns, name, names[name]))
    ]
    if "file" in columns:
        notes.append(f"light curves from {names['file']}, row by row")
    return Catalog(tces, (*notes, *_problem_notes(problems, count)))


def _require(path: Path, names: Mapping[str, str], columns: Mapping[str, Sequence[Any]]) -> None:
    has_star = any(name in names for name in ("star", *STAR_IDS))
    missing = ([] if has_star else ["star"]) + [name for name in REQUIRED if name not in names]
    if missing:
        raise TransitError(
            f"{path} has no column for {', '.join(missing)}",
            wanted=f"star, period, epoch and duration, by their usual names; it has {', '.join(list(columns)[:12])}",
            fix=guesses(missing, columns, list(names.values())),
            code="catalog-columns",
        )


def _texts(cells: Sequence[Any] | None, count: int) -> list[str]:
    """Cells as text, "" where one is missing."""
    if cells is None:
        return [""] * count
    missing = {"nan", "none", "null", "--", "n/a", "<na>"}
    texts = ["" if cell is None else str(cell).strip() for cell in cells]
    return ["" if text.lower() in missing else text for text in texts]


def _depths(columns: Mapping[str, SourceColumn], table: SourceTable, count: int) -> Quantity:
    if "depth" not in columns:
        return Quantity(np.full(count, np.nan))
    is_toi = not _TOI_COLUMNS.isdisjoint(map(plain, table.columns))
    return quantities.depths(columns["depth"], percent_by_default=not is_toi)


def _plain_numbers(column: SourceColumn | None, count: int) -> np.ndarray:
    return np.full(count, np.nan) if column is None else quantities.numbers(column)[0].values


def _errors(column: SourceColumn | None, of: SourceColumn, count: int) -> np.ndarray:
    """Errors in days: in the unit that their own column states, else in that of the value's."""
    values = np.abs(_plain_numbers(column, count))
    units = [column.stated, of.stated] if column is not None else []
    factor = next((quantities.TIME_UNITS[unit] for unit in units if unit in quantities.TIME_UNITS), 1.0)
    return quantities.in_days(values, factor)


def _problems(
    star_problems: Mapping[int, str], files: Sequence[str], period: Quantity, epoch: Quantity, duration: Quantity
) -> dict[int, str]:
    """Row -> the first reason why it cannot be folded."""
    problems = {row: reason for row, reason in star_problems.items() if not files[row]}
    for name, quantity in (("period", period), ("epoch", epoch), ("duration", duration)):
        for row in np.flatnonzero(np.isnan(quantity.values)).tolist():
            problems.setdefault(row, quantity.problems.get(row, f"{name} is not a finite number"))
    return dict(sorted(problems.items()))


def _problem_notes(problems: Mapping[int, str], count: int) -> list[str]:
    if not problems:
        return []
    rows = ", ".join(str(row + 1) for row in list(problems)[:10]) + (", ..." if len(problems) > 10 else "")
    kinds = Counter(re.sub(r"-?\d[\d.e+-]*", "N", reason) for reason in problems.values())
    first = {re.sub(r"-?\d[\d.e+-]*", "N", reason): reason for reason in reversed([*problems.values()])}
    most = "; ".join(
        first[kind] + (f" (and {times - 1:,} more)" if times > 1 else "") for kind, times in kinds.most_common(3)
    )
    return [f"{len(problems):,} of {count:,} rows cannot be used (row {rows}): {most}"]


def _signals(stars_of_rows: Sequence[str], names: Sequence[str]) -> list[str]:
    """The catalog's names, or the number of the row among its star's."""
    seen: dict[str, int] = {}
    found = []
    for star, name in zip(stars_of_rows, names, strict=True):
        seen[star] = seen.get(star, 0) + 1
        found.append(name or f"#{seen[star]}")
    return found


def _labels(columns: Mapping[str, SourceColumn], count: int) -> tuple[list[str], list[str]]:
    """Canonical labels, and notes; a row without a label in the first column has that of the second."""
    found = ["UNK"] * count
    silent = set(range(count))
    notes = []
    for name in ("label", "label_2"):
        if name not in columns or not silent:
            continue
        words = _texts(columns[name].cells, count)
        meanings = label_meanings(set(words))
        used = Counter(words[row] for row in silent if words[row])
        for row in silent:
            found[row] = meanings[words[row]] or "UNK"
        silent = {row for row in silent if not words[row]}
        if used:
            known = [f"{word} -> {meanings[word]} ({n:,})" for word, n in used.most_common() if meanings[word]]
            unknown = [f"{word} ({n:,})" for word, n in used.most_common() if not meanings[word]]
            notes.append(f"label from {columns[name].name}: {', '.join(known[:12]) or 'none is recognised'}")
            if unknown:
                more = f" and {len(unknown) - 8} more" if len(unknown) > 8 else ""
                notes.append(f"labels that are not recognised are UNK: {', '.join(unknown[:8])}{more}")
    if "label" in columns and silent:
        notes.append(f"no label, so UNK: {len(silent):,}")
    return found, notes
