"""A view set's tables as CSV files, read and written in blocks of rows."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from transit_cli.data.storage.columns import Column, Columns, Text
from transit_cli.parsing import csv_text
from transit_cli.results import TransitError
from transit_cli.utils import machine_errors

if TYPE_CHECKING:
    from pathlib import Path

#: Columns of text. Every other column holds numbers, unless a cell is none; an empty cell is NaN.
TEXT = frozenset({"star", "signal", "mission", "time_system", "label", "split", "source", "reason", "note"})
#: Rows that are handled at once.
BLOCK = 8192


class _WordsError(Exception):
    """A column that was taken for one of numbers holds words."""


def write_table(file: Path, columns: Mapping[str, Iterable[Any] | np.ndarray | Text] | Columns) -> None:
    """Write columns as CSV. Numbers keep all their digits, integers have no point; NaN is an empty cell.

    Raises:
        ValueError: the columns differ in length.
    """
    stored = {name: columns.stored(name) if isinstance(columns, Columns) else columns[name] for name in columns}
    sliced = Sequence | np.ndarray | Text
    kept = {name: column if isinstance(column, sliced) else list(column) for name, column in stored.items()}
    lengths = {len(column) for column in kept.values()}
    if len(lengths) > 1:
        raise ValueError(f"columns of {sorted(lengths)} rows")
    with file.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(map(csv_text.quoted, kept))
        for start in range(0, max(lengths, default=0), BLOCK):
            part = slice(start, start + BLOCK)
            writer.writerows(zip(*(_block(column, part) for column in kept.values()), strict=True))


def _block(column: Sequence[Any] | np.ndarray | Text, rows: slice) -> list[str]:
    if isinstance(column, Text):
        return [csv_text.quoted(value) for value in column.take(rows)]
    values = column[rows]
    return [_cell(value) for value in (values.tolist() if isinstance(values, np.ndarray) else values)]


def _cell(value: Any) -> str:
    if isinstance(value, float | np.floating):
        number = float(value)
        if number != number:  # noqa: PLR0124 - NaN, ten times as fast as np.isnan
            return ""
        return str(int(number)) if number.is_integer() and abs(number) < 1e15 else repr(number)
    return csv_text.quoted(str(value))


def read_table(file: Path) -> Columns:
    """The columns of a CSV file: text for `TEXT` and for columns that are not numeric, float64 for the others.

    Raises:
        TransitError: the file cannot be read, or a row has too many cells or too few.
    """
    words: set[str] = set(TEXT)
    while True:
        try:
            return _read(file, words)
        except _WordsError as column:  # far down in the table
            words.add(str(column))


def _read(file: Path, words: set[str]) -> Columns:
    with _rows(file) as rows:
        names = [csv_text.plain(name) for name in next(rows, [""])]
        parts: list[list[np.ndarray]] = [[] for _ in names]
        values: list[dict[str, int]] = [{} for _ in names]
        line, first = 2, True
        while block := list(islice(rows, BLOCK)):
            _check_cells(file, block, len(names), line)
            for index, cells in enumerate(zip(*block, strict=True)):
                parts[index].append(_parsed(names[index], cells, values[index], words, first=first))
            line, first = line + len(block), False
        return Columns({name: _column(parts[index], values[index], name in words) for index, name in enumerate(names)})


def _parsed(name: str, cells: tuple[str, ...], places: dict[str, int], words: set[str], *, first: bool) -> np.ndarray:
    """Numbers, or the places of text among the values seen so far."""
    if name not in words:
        try:
            return np.array([float(cell) if cell else np.nan for cell in cells], np.float64)
        except ValueError:
            if not first:
                raise _WordsError(name) from None
            words.add(name)
    return np.fromiter((places.setdefault(cell, len(places)) for cell in cells), np.int32, len(cells))


def _column(parts: list[np.ndarray], places: dict[str, int], is_text: bool) -> Column:
    if not is_text:
        return np.concatenate(parts) if parts else np.empty(0)
    codes = np.concatenate(parts) if parts else np.empty(0, np.int32)
    return Text(np.array([csv_text.plain(cell) for cell in places] or [""], np.str_), codes)


def _check_cells(file: Path, block: list[list[str]], count: int, first_line: int) -> None:
    for line, row in enumerate(block, first_line):
        if len(row) != count:
            raise TransitError(
                f"{file}:{line} has {len(row)} cells, not {count}",
                wanted="one cell per column",
                fix=f"correct {file}:{line}",
                code="table-damaged",
            )


@contextmanager
def _rows(file: Path) -> Iterator[Iterator[list[str]]]:
    """The rows of a CSV file as it was written, or as a spreadsheet saves it: with a mark, semicolons or tabs."""
    try:
        with file.open("rb") as stream:
            mark = stream.read(2)
        encoding = "utf-16" if mark in {b"\xff\xfe", b"\xfe\xff"} else "utf-8-sig"
        with file.open(encoding=encoding, newline="") as stream:
            header = stream.readline()
            delimiter = max(",;\t", key=header.count)
            stream.seek(0)
            yield (row for row in csv.reader(stream, delimiter=delimiter) if any(row))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        machine_errors.raise_if_machine(error)
        raise TransitError(
            f"{file} cannot be read: {getattr(error, 'strerror', None) or error}",
            wanted="a CSV table in UTF-8",
            fix=f"correct {file}, or make it again",
            code="table-damaged",
        ) from None
