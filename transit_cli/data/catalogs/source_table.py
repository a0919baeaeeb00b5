"""A catalog's table as its file holds it, before anything is recognised."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from transit_cli.results import TransitError

if TYPE_CHECKING:
    from pathlib import Path


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
