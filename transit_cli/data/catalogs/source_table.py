"""A catalog's table as its file holds it, before anything is recognised, and the columns that `--map` states."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from transit_cli.data.catalogs.vocabulary import COLUMNS, is_unit, split_unit, stated_unit
from transit_cli.parsing.convert import nearest
from transit_cli.results import ExitCode, TransitError

if TYPE_CHECKING:
    from pathlib import Path

#: What `--map` takes on its left.
KEYS = tuple(spec.name for spec in COLUMNS)


@dataclass(frozen=True)
class SourceTable:
    """A table as its file holds it.

    Attributes:
        columns: name -> [N] cells: text, or numbers of a typed file (NaN or None where a value is missing).
        units: name -> the unit that the file states besides the name.
        float32: names of columns whose numbers were stored with 24 bits.
        notes: what had to be assumed in order to read the file.
    """

    columns: dict[str, Sequence[Any]]
    units: dict[str, str] = field(default_factory=dict)
    float32: frozenset[str] = frozenset()
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()), ()))


def unreadable(path: Path, found: str, fix: str = "give the path of an existing table") -> TransitError:
    """The error for a file that cannot be read as a catalog."""
    wanted = "a table of signals: CSV, ECSV, VOTable, FITS or Parquet"
    return TransitError(f"cannot read the catalog {path}: {found}", wanted=wanted, fix=fix, code="catalog-unreadable")


def mapped(table: SourceTable, mapping: Sequence[str]) -> tuple[dict[str, str], SourceTable]:
    """Canonical names and the columns that the user states for them, and the table with the units that are stated.

    Args:
        table: as read.
        mapping: as in "period=P" or, with a unit or time system, "epoch_mjd=T0".

    Raises:
        TransitError: a key is not known, there is no such column, or its unit is another.
    """
    names: dict[str, str] = {}
    units = dict(table.units)
    for item in mapping:
        stated, _, source = item.partition("=")
        key, unit = (stated, "") if stated in KEYS else split_unit(stated)
        if not source or key not in KEYS or (unit and not is_unit(unit)):
            raise _wrong(
                f"--map is {item}",
                f"KEY=COLUMN, with KEY one of {', '.join(KEYS)}; a unit may follow it, as in period_hours or epoch_mjd",
                f"--map {nearest(key, KEYS) or 'period'}={source or 'COLUMN'}",
            )
        if source not in table.columns:
            guess = nearest(source, table.columns)
            raise _wrong(
                f"--map names {source}, which the catalog does not have",
                f"one of {', '.join(table.columns)}",
                f"--map {stated}={guess or 'COLUMN'}",
            )
        own = units.get(source, "") or stated_unit(source)
        if unit and own and own.lower() != unit.lower():
            raise _wrong(
                f"--map gives {source} in {unit}, and the catalog says {own}",
                "one unit",
                f"--map {key}={source}",
            )
        names[key] = source
        units |= {source: unit} if unit else {}
    return names, replace(table, units=units)


def _wrong(found: str, wanted: str, fix: str) -> TransitError:
    return TransitError(found, wanted=wanted, fix=fix, exit_code=ExitCode.USAGE, code="map")


def guesses(missing: Sequence[str], columns: Mapping[str, Sequence[object]], used: Sequence[str]) -> str:
    """The `--map` that names columns for what is missing: "COLUMN" stands for those that cannot be guessed.

    A column keeps the unit that its own name states: none is renamed.
    """
    left = [name for name in columns if name not in used]
    parts = []
    for key in missing:
        plain_names = {split_unit(name)[0].lower(): name for name in left}
        guess = plain_names.get(nearest(key, plain_names), "")
        if key == "star" and not guess:
            guess = next((name for name in columns if name.lower() in {"name", "id", "star id", "source"}), "")
        parts.append(f"{key}={guess or 'COLUMN'}")
    return "--map " + ",".join(parts)
