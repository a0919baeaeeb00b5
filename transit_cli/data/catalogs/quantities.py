"""Numbers of a table with their units: periods, durations, depths and epochs, decided and checked row by row.

The unit of a value is the one stated for it (in the cell, the column's unit, its name, a `# COLUMN` comment), else the
one that the archive documents for the column's name, else what the mission uses, else what the values can be. A value
that cannot be what it is stated to be, or that may be several things, is a problem of its row, never a guess.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from transit_cli.data.catalogs.vocabulary import (
    ARCHIVE_UNITS,
    DEPTH_UNITS,
    TIME_UNITS,
    is_unit,
    plain,
    split_unit,
    stated_unit,
)
from transit_cli.results import TransitError

_NUMBER = re.compile(r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$")
_NUMBER_AND_UNIT = re.compile(r"^([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*([a-zA-Z%].*)$")
_COMMAS = re.compile(r"^[+-]?(\d+,\d+|\d{1,3}(,\d{3})+(\.\d+)?|\d{1,3}(\.\d{3})+,\d+)([eE][+-]?\d+)?$")
_MISSING = frozenset(
    (
        *("", "nan", "null", "none", "n/a", "na", "<na>", "--", "-", "...", "masked", "nodata", "no data", "nat", "?"),
        *("inf", "+inf", "-inf", "infinity", "+infinity", "-infinity", "undefined", "missing", "*"),
    )
)
#: Numbers that stand for missing values.
_SENTINELS = frozenset({-99.0, -999.0, -9999.0, -99999.0, -999999.0})
#: Longer periods are those of no signal that is folded.
MAX_PERIOD = 1e6
#: Rows whose duration looks like one of another unit are taken as they are up to this share: real tables hold a few.
RARE = 0.02


@dataclass(frozen=True)
class SourceColumn:
    """A column of a table.

    Attributes:
        name: its name in the file.
        cells: [N] text or numbers.
        unit: the unit that the file states besides the name, "" if none.
        float32: whether its numbers were stored with 24 bits.
    """

    name: str
    cells: Sequence[Any]
    unit: str = ""
    float32: bool = False

    @property
    def stated(self) -> str:
        """The unit that the file or the name states, in lower case, "" if none."""
        return (self.unit or stated_unit(self.name)).strip().lower()

    @property
    def archive_unit(self) -> str:
        """The unit that the archive documents for a column of this name, "" for other columns."""
        return ARCHIVE_UNITS.get(plain(self.name), "") or ARCHIVE_UNITS.get(plain(split_unit(self.name)[0]), "")


@dataclass
class Quantity:
    """Values of a column in canonical units.

    Attributes:
        values: [N] float64, NaN where a value is missing or a problem.
        problems: row -> why its value cannot be used.
        notes: what was decided about the column.
    """

    values: np.ndarray
    problems: dict[int, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def refuse(self, rows: Sequence[int] | np.ndarray, reason: str) -> None:
        """Make values problems of their rows; `{}` in the reason is the value."""
        for row in map(int, rows):
            self.problems.setdefault(row, reason.replace("{}", f"{self.values[row]:.9g}"))
            self.values[row] = np.nan


def numbers(column: SourceColumn) -> tuple[Quantity, dict[int, str]]:
    """The numbers of a column, and the units that cells state themselves ("2.4 h").

    Raises:
        TransitError: cells hold decimal commas or thousands separators.
    """
    found = Quantity(np.full(len(column.cells), np.nan))
    units: dict[int, str] = {}
    for row, cell in enumerate(column.cells):
        if isinstance(cell, int | float | np.integer | np.floating):
            found.values[row] = cell if np.isfinite(cell) else np.nan
            continue
        text = "" if cell is None else str(cell).strip().replace("\u2212", "-").replace("\xa0", " ")
        if _NUMBER.match(text):
            value = float(text)
            found.values[row] = value if np.isfinite(value) else np.nan
        elif text.lower() in _MISSING:
            pass
        elif (both := _NUMBER_AND_UNIT.match(text)) and is_unit(both[2]):
            found.values[row], units[row] = float(both[1]), both[2].strip().lower()
        elif _COMMAS.match(text):
            raise TransitError(
                f"{column.name} holds {text}: a decimal comma or a separator of thousands",
                wanted="numbers with a decimal point and no other separators, as in 2458327.3",
                fix="export the table with decimal points and without separators of thousands",
                code="catalog-numbers",
            )
        else:
            found.problems[row] = f"{column.name} is {text[:30]!r}, not a number"
    found.values[np.isin(found.values, list(_SENTINELS))] = np.nan
    return found, units


def in_days(values: np.ndarray, factor: float) -> np.ndarray:
    """Values times the days of their unit; divided where the unit is a part of a day, which rounds only once."""
    return values / round(1 / factor) if factor < 1 else values * factor


def _apply_cell_units(found: Quantity, raw: np.ndarray, units: dict[int, str], name: str) -> None:
    for row, unit in units.items():
        if unit in TIME_UNITS:
            found.values[row] = in_days(raw[row : row + 1], TIME_UNITS[unit])[0]
        else:
            found.values[row] = np.nan
            found.problems[row] = f"{name} is in {unit}, which is no unit of it"


def _unknown_unit(column: SourceColumn, what: str, known: Sequence[str]) -> TransitError:
    return TransitError(
        f"the unit of the column {column.name} is {column.unit or stated_unit(column.name)}",
        wanted=f"a unit of {what}: {', '.join(known)}",
        fix="convert the column, or correct its unit",
        code="catalog-unit",
    )


def periods(column: SourceColumn) -> Quantity:
    """Periods in days; in days unless another unit is stated."""
    found, units = numbers(column)
    stated = column.stated or column.archive_unit
    if stated and stated not in TIME_UNITS:
        raise _unknown_unit(column, "a period", ("d", "h", "min", "s", "yr"))
    raw = found.values.copy()
    found.values = in_days(raw, TIME_UNITS.get(stated, 1.0))
    _apply_cell_units(found, raw, units, column.name)
    _require_positive(found, "period")
    found.refuse(np.flatnonzero(found.values > MAX_PERIOD), "period of {} d")
    words = f"{stated} to days" if TIME_UNITS.get(stated, 1.0) != 1 else "days"
    found.notes.append(f"period from {column.name}: {words}{'' if stated else ' (no unit is stated)'}")
    return found


def _require_positive(found: Quantity, what: str) -> None:
    found.values[found.values == 0] = np.nan
    found.refuse(np.flatnonzero(found.values < 0), f"{what} is {{}}, not positive")


def expected_hours(period: np.ndarray) -> np.ndarray:
    """Hours of a central transit of a star like the Sun: 13 h (P / 1 yr)^(1/3) (Winn 2010, eq. 19)."""
    return 13.0 * np.cbrt(period / 365.25)


def _looks_short(hours: np.ndarray, ratio: np.ndarray) -> np.ndarray:
    """Durations that would be common if they were 24 times as long, and hardly exist as they are."""
    return (ratio < 0.19) | ((hours < 0.5) & (ratio < 0.2))


def durations(column: SourceColumn, period: np.ndarray) -> Quantity:
    """Durations in days.

    Args:
        column: the durations.
        period: [N] days; a duration is shorter, and the two together tell hours from days where no unit is stated.

    Raises:
        TransitError: the unit is no unit of time, or nothing tells hours from days.
    """
    found, units = numbers(column)
    raw = found.values.copy()
    found.values[raw == 0] = np.nan
    found.refuse(np.flatnonzero(raw < 0), "duration is {}, not positive")
    usual = found.values.copy()
    stated = column.stated
    if stated and stated not in TIME_UNITS:
        raise _unknown_unit(column, "a duration", ("h", "d", "min", "s"))
    unit, basis = stated, ""
    if not stated:
        unit, basis = _unit_by_value(usual, period, column.archive_unit)
    if not unit:
        raise TransitError(
            f"the durations in {column.name} may be hours or days: their median is {np.nanmedian(usual):.3g}",
            wanted="a unit",
            fix=f"rename the column {column.name} to duration_hours or duration_days",
            code="catalog-unit",
        )
    factor = TIME_UNITS[unit]
    found.values = in_days(usual, factor)
    _apply_cell_units(found, raw, units, column.name)
    found.refuse(np.flatnonzero(found.values >= period), "duration is longer than period")
    _refuse_other_units(found, period, factor)
    words = {1.0: "days", 1 / 24: "hours", 1 / 1440: "minutes", 1 / 86400: "seconds", 365.25: "years"}
    found.notes.insert(0, f"duration from {column.name}: {words[factor]}{basis}")
    return found


def _unit_by_value(values: np.ndarray, period: np.ndarray, archive_unit: str) -> tuple[str, str]:
    """The unit of durations that state none, and the reason; "" if they may be hours or days."""
    use = np.isfinite(values) & np.isfinite(period)
    if not use.any():
        return archive_unit or "h", ""
    ratio = values[use] / expected_hours(period[use])
    typical = float(np.exp(np.median(np.log(ratio))))
    if archive_unit == "h":
        days = typical < 0.1 and 0.3 < 24 * typical < 6 and bool((values[use] < period[use]).all())
        return ("d", " (hours in the archive, but too short for that)") if days else ("h", " (as in the archive)")
    if archive_unit:
        return archive_unit, " (as in the archive)"
    if (values[use] >= period[use]).mean() > 0.1:  # no days, then
        return "h", " (longer than the periods if they were days)"
    if 0.1 < typical < 0.42:  # halfway between the two
        return "", ""
    return ("d", " (too short for hours)") if typical < 0.2 else ("h", " (of the length of transits)")


def _refuse_other_units(found: Quantity, period: np.ndarray, factor: float) -> None:
    """Rows whose duration is far from that of a transit, and would be one in the other of hours and days.

    A single row has no others to differ from, and is taken as it is stated.
    """
    hours = found.values * 24
    usable = int(np.isfinite(hours).sum())
    if factor not in {1.0, 1 / 24} or usable < 2:
        return
    with np.errstate(invalid="ignore"):
        ratio = hours / expected_hours(period)
        odd = (ratio > 10) | (_looks_short(hours, ratio) if factor == 1 / 24 else False)
        impossible = (ratio < 0.06) & (hours < 0.25) & odd
    rows = np.flatnonzero(odd if odd.sum() / usable >= RARE else impossible)
    reason = "duration of {} d: hardly that of a transit; is the row in another unit (state minutes if not)?"
    found.refuse(rows, reason)
    if left := int(odd.sum()) - len(rows):
        found.notes.append(f"{left:,} durations are unusually short or long (first: row {np.flatnonzero(odd)[0] + 1})")


def depths(column: SourceColumn, *, percent_by_default: bool = False) -> Quantity:
    """Depths in ppm; a depth that is not positive, or more than all light, is missing.

    Args:
        column: the depths.
        percent_by_default: whether the table is the archive's of planetary systems, whose depths are in percent.
    """
    found, units = numbers(column)
    raw = found.values.copy()
    stated = column.stated or column.archive_unit
    if not stated and plain(column.name) == "pltrandep":
        stated = "%" if percent_by_default else "ppm"
    if stated and stated not in DEPTH_UNITS:
        found.values[:] = np.nan
        found.notes.append(f"depth from {column.name}: left out, since its unit {stated!r} is not known")
        return found
    unit, basis = (stated, "") if stated else _depth_unit_by_value(raw)
    if not unit:
        found.values[:] = np.nan
        found.notes.append(
            f"depth from {column.name}: left out, since it may be percent, ppt or ppm; "
            f"name it {column.name}_ppm, {column.name}_percent or {column.name}_fraction"
        )
        return found
    found.values = _in_ppm(raw, unit)
    for row, cell_unit in units.items():
        found.values[row] = _in_ppm(raw[row : row + 1], cell_unit)[0] if cell_unit in DEPTH_UNITS else np.nan
    found.notes.append(f"depth from {column.name}: {unit}{'' if unit == 'ppm' else ' to ppm'}{basis}")
    with np.errstate(invalid="ignore"):
        impossible = np.flatnonzero((found.values < 0) | (found.values > 1e6))
        mixed = np.flatnonzero(found.values < 1) if not stated and unit == "ppm" else np.array([], int)
    for rows, why in ((impossible, "negative or deeper than the star's light"), (mixed, "below 1 ppm")):
        if len(rows):
            found.values[rows] = np.nan
            found.notes.append(f"{len(rows)} depths of {column.name} are left out: {why} (first: row {rows[0] + 1})")
    found.values[found.values == 0] = np.nan
    found.problems.clear()  # a signal needs no depth
    return found


def _in_ppm(values: np.ndarray, unit: str) -> np.ndarray:
    factor = DEPTH_UNITS[unit]
    if factor:
        return values * factor
    magnitudes = values / 1000 if unit.startswith("mm") else values
    return 1e6 * (1 - 10 ** (-0.4 * magnitudes))


def _depth_unit_by_value(values: np.ndarray) -> tuple[str, str]:
    use = values[np.isfinite(values) & (values > 0)]
    if not len(use):
        return "ppm", ""
    if use.max() <= 1:
        return ("fraction", " (none is above 1)") if np.median(use) <= 0.2 else ("", "")
    return ("ppm", " (no unit is stated)") if np.median(use) >= 30 else ("", "")
