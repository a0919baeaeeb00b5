"""Epochs of a table: the system of time that each row counts in.

Per row: a value above 2.4 million is a full Julian Date; else the system that is stated (in the cell, a column of time
systems, the unit or the name of the column), else the one that the archive documents, else the mission's. A value that
its system cannot have is a problem of the row.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from transit_cli.data.catalogs.quantities import Quantity, SourceColumn, numbers
from transit_cli.data.catalogs.vocabulary import TIME_UNITS, plain, reference_jd
from transit_cli.data.lightcurves.time_reference import name_of
from transit_cli.results import TransitError

#: Values from here on are full Julian Dates (1858), and none is later than 2050.
FIRST_JD, LAST_JD = 2.4e6, 2.47e6
#: 1950; an earlier epoch is not that of a transit.
FIRST_LIKELY_JD = 2433282.0
BKJD, BTJD = 2454833.0, 2457000.0
#: Days that a mission's own count reaches: BKJD 5000 is 2022, BTJD 5000 is 2028.
LAST_DAY = 5000.0
#: Days in which the missions observed, generously: what an epoch may be if only the mission is known.
MISSION_DAYS = {"kepler": (BKJD, 0.0, 1700.0), "k2": (BKJD, 1700.0, 3800.0), "tess": (BTJD, 1000.0, LAST_DAY)}
#: Columns named by Kepler's pipeline hold BTJD in tables of TESS (ExoMiner's): TESS has no BKJD before this day.
TESS_FIRST_BKJD = 3167.0


@dataclass
class Epochs(Quantity):
    """Epochs of a table.

    Attributes:
        values: [N] days since `references`.
        references: [N] Julian Date of time 0 of each row; NaN where the epoch is missing or a problem.
    """

    references: np.ndarray = None  # type: ignore[assignment]


def epochs(column: SourceColumn, missions: Sequence[str], systems: Sequence[object] | None = None) -> Epochs:
    """Decide the system of time of each epoch.

    Args:
        column: the epochs.
        missions: [N] "kepler", "k2", "tess" or "".
        systems: [N] the cells of a column of time systems, None if there is none.

    Raises:
        TransitError: the unit is no unit of time, or full Julian Dates were stored with 24 bits.
    """
    found, cell_units = numbers(column)
    result = Epochs(found.values, found.problems, [], np.full(len(found.values), np.nan))
    if column.float32 and (np.nan_to_num(result.values) > FIRST_JD).any():
        raise TransitError(
            f"{column.name} holds Julian Dates that were stored as float32, to a quarter of a day",
            wanted="float64, or days since a later date (BTJD, BKJD)",
            fix="write the table again with float64 epochs",
            code="catalog-epochs-rounded",
        )
    stated = _stated(column)
    archive = reference_jd(column.archive_unit) if column.archive_unit else None
    by_mission = dict.fromkeys(missions, archive)
    if stated is None and archive == BKJD and plain(column.name).startswith("tce"):
        by_mission = {mission: _kepler_or_tess(result.values, missions, mission) for mission in by_mission}
    decided: dict[tuple[float, str], list[int]] = defaultdict(list)
    for row, value in enumerate(result.values.tolist()):
        if row in result.problems or not np.isfinite(value) or value == 0:
            result.values[row] = np.nan
            continue
        system = "" if systems is None or systems[row] is None else str(systems[row]).strip()
        own = cell_units.get(row, "") or system
        row_stated = reference_jd(own) if own else None
        reference, why = _decide(
            value, stated if row_stated is None else row_stated, by_mission[missions[row]], missions[row]
        )
        if reference is None:
            result.refuse([row], f"epoch {{}} of {column.name}: {why}")
        else:
            result.references[row] = reference
            decided[reference, why].append(row)
    result.notes = _notes(column, decided, result)
    return result


def _stated(column: SourceColumn) -> float | None:
    """The reference that the column states, None if it states none or only days."""
    unit = column.stated
    if not unit or TIME_UNITS.get(unit) == 1.0:
        return None if column.unit == "" else _name_states(column)
    reference = reference_jd(unit)
    if reference is None:
        raise TransitError(
            f"the unit of the column {column.name} is {unit}",
            wanted="days in a system of time: BJD, BTJD, BKJD, MJD, BJD - 2450000",
            fix="convert the column, or correct its unit",
            code="catalog-unit",
        )
    return reference


def _name_states(column: SourceColumn) -> float | None:
    """What the name states beside a unit of days ("epoch_btjd" with the unit d)."""
    unit = SourceColumn(column.name, ()).stated
    return reference_jd(unit) if unit else None


def _kepler_or_tess(values: np.ndarray, missions: Sequence[str], mission: str) -> float:
    """What a column of Kepler's pipeline counts from for the stars of a mission; NaN if it may be BKJD or BTJD."""
    days = values[np.array([item == mission for item in missions]) & (values > 0) & (values < FIRST_JD)]
    if mission in {"kepler", "k2"} or not len(days) or days.min() < MISSION_DAYS["tess"][1]:
        return BKJD
    return BTJD if mission == "tess" and days.min() < TESS_FIRST_BKJD else np.nan


def _decide(value: float, stated: float | None, archive: float | None, mission: str) -> tuple[float | None, str]:
    """The reference of one epoch and why, or None and why not."""
    if value >= FIRST_JD:
        if value > LAST_JD:
            return None, "later than the year 2050"
        return 0.0, "full Julian Dates" if stated or archive else ""
    given = stated if stated is not None else archive
    if given:
        impossible = _why_impossible(value, given)
        if impossible or stated is not None:
            return (None, impossible) if impossible else (given, "")
        return (
            given,
            "named as Kepler's, but TESS's days" if given == BTJD and mission == "tess" else "as in the archive",
        )
    reference, why = _by_mission(value, mission)
    return reference, f"too small for the Julian Date that is stated, {why}" if reference and given == 0.0 else why


def _why_impossible(value: float, reference: float) -> str:
    """Why a value is no date in a system of time, "" if it may be one."""
    if np.isnan(reference):
        return "it may be a BKJD, as the column's name says, or a BTJD; name the column epoch_bkjd or epoch_btjd"
    if reference in {BKJD, BTJD} and not -LAST_DAY < value < LAST_DAY:
        return f"no {name_of(reference)}: these are below {LAST_DAY:.0f}"
    if not FIRST_LIKELY_JD < reference + value < LAST_JD:
        return f"no date between 1950 and 2050 in {name_of(reference)}"
    return ""


def _by_mission(value: float, mission: str) -> tuple[float | None, str]:
    if 40_000 < value < 70_000:
        return None, "it may be a modified or a reduced Julian Date; name the column epoch_mjd or epoch_rjd"
    if mission not in MISSION_DAYS:
        return None, (
            "nothing states since when its days count; name the column epoch_bjd, epoch_btjd or epoch_bkjd, "
            "or give the mission"
        )
    reference, first, last = MISSION_DAYS[mission]
    if not first < value < last:
        return None, f"no {name_of(reference)} of {mission}, and no other system is stated"
    return reference, f"taken by the mission {mission}"


def _notes(column: SourceColumn, decided: dict[tuple[float, str], list[int]], result: Epochs) -> list[str]:
    """One line on the column: each system, and the rows where it is not the same for all."""
    parts = []
    for (reference, why), rows in sorted(decided.items(), key=lambda item: -len(item[1])):
        where = f" in {len(rows)} rows (first: row {rows[0] + 1})" if len(decided) > 1 else ""
        parts.append(name_of(reference) + where + (f" ({why})" if why else ""))
    notes = [f"epoch from {column.name}: {'; '.join(parts) or 'none can be used'}"]
    full = result.values[result.references == 0.0]
    if len(full) > 2 and (full * 4 == np.round(full * 4)).all():
        notes.append(
            f"all Julian Dates in {column.name} are multiples of a quarter of a day: were they stored as float32?"
        )
    return notes
