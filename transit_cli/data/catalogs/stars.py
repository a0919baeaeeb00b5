"""The star of each row: from every column that names stars, in the way that the column states."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import numpy as np

from transit_cli.data.catalogs.vocabulary import MISSION_OF_CATALOG, MISSIONS, STAR_IDS
from transit_cli.data.lightcurves.target import star_name
from transit_cli.results import TransitError

if TYPE_CHECKING:
    from transit_cli.data.catalogs.quantities import SourceColumn

#: Names of planetary systems, with or without the letter or number of a planet. They are no numbers of a star catalog:
#: Kepler-90 is KIC 11442793. Numbers of six or more digits are.
_SYSTEM = re.compile(r"^(Kepler|K2|TOI|KOI|K(?=\d{5}))[\s_-]*0*(\d{1,5})(?:\.\d\d|[\s_-]*[a-z])?$", re.IGNORECASE)
_SYSTEM_NAMES = {"KEPLER": "Kepler", "K": "KOI"}
_SIGNAL_OF_STAR = re.compile(r"^(KIC|EPIC|TIC)[\s_-]*(\d+)\.\d\d$", re.IGNORECASE)
_GAIA = re.compile(
    r"^gaia[\s_-]*(?:e?dr[\s_-]*([123]))?[\s_-]*(?:source)?[\s_-]*(?:id)?[\s_:-]*(\d{6,19})$", re.IGNORECASE
)
_NUMBER = re.compile(r"^\d+(\.0*)?$")
_SCIENTIFIC = re.compile(r"^\d(\.\d+)?[eE]\+?\d{1,2}$")
_MISSING = frozenset({"", "nan", "none", "null", "n/a", "na", "<na>", "--", "-", "masked", "inf", "0", "0.0", "-1"})


@dataclass(frozen=True)
class Stars:
    """The stars of a table.

    Attributes:
        names: [N] "" where a row names no star.
        missions: [N] "kepler", "k2", "tess" or "".
        other_names: [N] what other columns call the star.
        problems: row -> why its star cannot be used.
        notes: what was decided.
    """

    names: list[str]
    missions: list[str]
    other_names: list[tuple[str, ...]]
    problems: dict[int, str]
    notes: list[str]


def name_in_cell(cell: Any, catalog: str = "", mission: str = "") -> str:
    """The star that a cell names, "" for a missing value.

    Args:
        cell: text or a number.
        catalog: "KIC", "TIC", "EPIC", "Gaia DR3"...: what the column numbers its stars in.
        mission: for a number in a column that states no catalog.

    Raises:
        ValueError: the number was rounded; the text says so.
    """
    if isinstance(cell, float | np.floating):
        cell = f"{cell:.1f}" if np.isfinite(cell) and cell == np.round(cell) else ""
    text = re.sub(r"\s+", " ", "" if cell is None else str(cell).strip().strip("\"'").strip())
    if text.lower() in _MISSING:
        return ""
    number = _whole_number(text)
    if number is not None:
        return "" if not number else f"{catalog} {number}" if catalog else star_name(str(number), mission)
    return _system_or_number(text, catalog, mission)


def _whole_number(text: str) -> int | None:
    """The number that a text writes, as an integer, a float or in scientific notation; None for other text."""
    if _SCIENTIFIC.match(text):
        value = Decimal(text)
        if value != value.to_integral_value() or len(value.as_tuple().digits) <= value.adjusted():
            raise ValueError(f"the star's number {text} was rounded")
        return int(value)
    if not _NUMBER.match(text):
        return None
    number = int(text.partition(".")[0])
    if "." in text and number > 2**53:
        raise ValueError(f"the star's number {text} was rounded to 53 bits")
    return number


def _system_or_number(text: str, catalog: str, mission: str) -> str:
    if found := _SIGNAL_OF_STAR.match(text):
        return star_name(f"{found[1]} {found[2]}")
    if found := _SYSTEM.match(text):
        return f"{_SYSTEM_NAMES.get(found[1].upper(), found[1].upper())}-{found[2]}"
    if found := _GAIA.match(text):
        release = f"Gaia DR{found[1]}" if found[1] else catalog if catalog.startswith("Gaia") else "Gaia"
        return f"{release} {found[2]}"
    return star_name(text, mission)


def stars(columns: Mapping[str, SourceColumn], mission_cells: Sequence[Any] | None, mission: str, count: int) -> Stars:
    """The star of each row.

    Where a row names its star in several columns, the number in the catalog of the row's mission is its name; else KIC,
    TIC and EPIC numbers come before Gaia's, and numbers before names.

    Args:
        columns: of stars, by canonical name ("star", and the keys of `STAR_IDS`).
        mission_cells: [N] of a column of missions, None if there is none.
        mission: of rows that state none, "" if it is not known.
        count: N.

    Raises:
        TransitError: the numbers were stored with too few bits, so that stars are no longer told apart.
    """
    damaged = [column for column in columns.values() if _is_damaged(column)]
    if damaged and len(damaged) == len(columns):
        raise TransitError(
            f"the star numbers in {damaged[0].name} were rounded to float32: different stars have one number",
            wanted="star numbers as integers or text",
            fix="write the table again with integer star numbers",
            code="catalog-stars-rounded",
        )
    used = {key: column for key, column in columns.items() if column not in damaged}
    notes = [f"{column.name} is left out: its star numbers were rounded to float32" for column in damaged]
    result = Stars([], [], [], {}, notes)
    for row in range(count):
        cell = "" if mission_cells is None else str(mission_cells[row] or "")
        row_mission = MISSIONS.get(" ".join(re.split(r"[\s_/-]+", cell.strip().lower())), "") or mission
        found: list[str] = []
        for key, column in used.items():
            try:
                found.append(name_in_cell(column.cells[row], key if key in STAR_IDS else "", row_mission))
            except ValueError as problem:
                result.problems[row] = str(problem)
        found = sorted(dict.fromkeys(filter(None, found)), key=lambda name: _rank(name, row_mission))
        name = found[0] if found else ""
        if name.partition(" ")[0] in MISSION_OF_CATALOG:
            result.problems.pop(row, None)
        result.names.append(name)
        result.missions.append(row_mission or MISSION_OF_CATALOG.get(name.partition(" ")[0], ""))
        result.other_names.append(tuple(found[1:]))
        if not name:
            result.problems.setdefault(row, "the row names no star")
    notes.append("star from " + ", ".join(column.name for column in used.values()) + _of_catalogs(result.names))
    return result


def _rank(name: str, mission: str) -> int:
    catalog = name.partition(" ")[0]
    if catalog in MISSION_OF_CATALOG:
        return 0 if MISSION_OF_CATALOG[catalog] == mission else 1
    return 2 if catalog.isdecimal() else 3 if catalog == "Gaia" else 4


def _of_catalogs(names: Sequence[str]) -> str:
    catalogs = sorted({name.partition(" ")[0] for name in names if name.partition(" ")[0] in MISSION_OF_CATALOG})
    return f" ({', '.join(catalogs)})" if catalogs else ""


def _is_damaged(column: SourceColumn) -> bool:
    """Whether numbers beyond 24 bits were stored as float32: then all are multiples of a power of 2."""
    values = []
    for cell in column.cells:
        text = "" if cell is None else str(cell).strip()
        if _NUMBER.match(text):
            values.append(int(text.partition(".")[0]))
        elif isinstance(cell, float) and np.isfinite(cell):
            values.append(int(cell))
    large = {value for value in values if value >= 2**24}
    if column.float32 and large:
        return True
    steps = [1 << (value.bit_length() - 24) for value in large]
    multiples = all(value % step == 0 for value, step in zip(large, steps, strict=True))
    return multiples and len(large) > 2 and sum(step.bit_length() - 1 for step in steps) >= 16  # 1 in 65,536 by chance
