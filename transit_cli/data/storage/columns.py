"""A table in columns: numbers as float64, text as the distinct values and a number per row that names one of them.

A row of a view set's table takes more than a thousand bytes as Python objects, and about 150 in this form. A column is
a NumPy array to whoever asks for it; text becomes one when it is asked for, and is not kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

#: Distinct values up to which the same text in two joined columns is stored once.
_FEW = 4096


@dataclass(frozen=True)
class Text:
    """A column of text.

    Attributes:
        values: [V] text, in any order; a value may be there twice.
        codes: [N] int32, the place in `values` of each row's text.
    """

    values: np.ndarray
    codes: np.ndarray

    def __len__(self) -> int:
        return len(self.codes)

    def __iter__(self) -> Iterator[str]:
        return (self.values[code] for code in self.codes)

    def array(self) -> np.ndarray:
        """The text of all rows, [N]."""
        return self.values[self.codes]

    def take(self, rows: np.ndarray | slice) -> Text:
        """The column of some rows."""
        return Text(self.values, self.codes[rows])

    @cached_property
    def unique(self) -> tuple[np.ndarray, np.ndarray]:
        """The distinct values that occur, sorted, and the place of each row's among them: `np.unique`, but faster."""
        values, place = np.unique(self.values, return_inverse=True)
        codes = place[self.codes]
        used = np.zeros(len(values), bool)
        used[codes] = True
        return values[used], (np.cumsum(used) - 1)[codes]

    @classmethod
    def of(cls, column: np.ndarray | Sequence[Any]) -> Text:
        """A column from its cells."""
        places: dict[str, int] = {}
        codes = np.fromiter((places.setdefault(str(cell), len(places)) for cell in column), np.int32, len(column))
        return cls(np.array(list(places) or [""], np.str_), codes)


Column = np.ndarray | Text


class Columns(Mapping[str, np.ndarray]):
    """Columns of equal length by name, each given as an array [N] of float64 or of text."""

    def __init__(self, columns: Mapping[str, Column]) -> None:
        self._columns = dict(columns)

    @classmethod
    def of(cls, columns: Mapping[str, Any]) -> Columns:
        """Columns from arrays or lists of cells."""
        arrays = {name: column if isinstance(column, Text) else np.asarray(column) for name, column in columns.items()}
        return cls(
            {n: Text.of(a) if isinstance(a, np.ndarray) and a.dtype.kind in "UO" else a for n, a in arrays.items()}
        )

    def __getitem__(self, name: str) -> np.ndarray:
        column = self._columns[name]
        return column.array() if isinstance(column, Text) else column

    def __iter__(self) -> Iterator[str]:
        return iter(self._columns)

    def __len__(self) -> int:
        return len(self._columns)

    def __or__(self, other: Mapping[str, Any]) -> dict[str, Any]:
        return dict(self) | dict(other)

    @property
    def rows(self) -> int:
        """The number of rows."""
        return len(next(iter(self._columns.values()), ()))

    @property
    def numbers(self) -> dict[str, np.ndarray]:
        """The columns of numbers."""
        return {name: column for name, column in self._columns.items() if isinstance(column, np.ndarray)}

    def is_text(self, name: str) -> bool:
        """Whether a column holds text."""
        return isinstance(self._columns[name], Text)

    def text(self, name: str) -> Text:
        """A column as `Text`, which costs nothing for a column of text."""
        column = self._columns[name]
        return column if isinstance(column, Text) else Text.of(column)

    def stored(self, name: str) -> Column:
        """A column as it is kept."""
        return self._columns[name]

    def unique(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """The distinct values of a column of text, sorted, and the place of each row's among them."""
        return self.text(name).unique

    def take(self, rows: np.ndarray | slice) -> Columns:
        """The table of some rows."""
        return Columns({name: column_rows(column, rows) for name, column in self._columns.items()})

    def only(self, names: Iterable[str]) -> Columns:
        """The table of some columns."""
        return Columns({name: self._columns[name] for name in names})

    def without(self, *names: str) -> Columns:
        """The table without some columns."""
        return Columns({name: column for name, column in self._columns.items() if name not in names})


def column_rows(column: Column, rows: np.ndarray | slice) -> Column:
    """A column of some rows."""
    return column.take(rows) if isinstance(column, Text) else column[rows]


def joined(tables: Sequence[Columns]) -> Columns:
    """Tables one below the other. A column that one of them lacks is empty there; numbers beside text become text."""
    names = dict.fromkeys(name for table in tables for name in table)
    return Columns({name: _joined_column(name, tables) for name in names})


def _joined_column(name: str, tables: Sequence[Columns]) -> Column:
    if any(name in table and table.is_text(name) for table in tables):
        return join_text([table.text(name) if name in table else _no_text(table.rows) for table in tables])
    return np.concatenate([table[name] if name in table else np.full(table.rows, np.nan) for table in tables])


def _no_text(rows: int) -> Text:
    return Text(np.array([""]), np.zeros(rows, np.int32))


def join_text(parts: Sequence[Text]) -> Text:
    """Columns of text one below the other; few distinct values are stored once."""
    values = np.concatenate([part.values for part in parts])
    starts = np.cumsum([0, *(len(part.values) for part in parts[:-1])])
    codes = np.concatenate([part.codes + np.int32(start) for part, start in zip(parts, starts, strict=True)])
    if sum(len(part.values) for part in parts) > _FEW and len(np.unique(parts[0].values)) * 2 > len(parts[0]):
        return Text(values, codes)
    values, place = np.unique(values, return_inverse=True)
    return Text(values, place.astype(np.int32)[codes])
