"""Parquet files with one light curve per row: times, fluxes and flags as lists, and a column that names the star.

A light curve in such a file is named by the file and its row, from 0, as in `survey.parquet[12]`: a path that the
functions of this module understand and that no file has. Rows are read in batches, and the last batch of each file is
kept, so that a file whose rows are asked for in order is read once, in bounded memory.
"""

from __future__ import annotations

import functools
import hashlib
import re
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from transit_cli.data.lightcurves.lightcurve import UnreadableError
from transit_cli.utils import bounded, machine_errors, remote
from transit_cli.utils.packages import require

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SUFFIXES = (".parquet", ".pq")
#: Rows that are read together, and files of which a batch is kept: of 20,000 cadences in three columns, 7 MB a batch.
BATCH, FILES = 16, 32
#: Bytes at the end of a Parquet file: the length of the footer before them, and a mark.
_TAIL = 8
_NAME = re.compile(r"(.+\.(?:parquet|pq))\[(\d+)\]", re.IGNORECASE)


def split(path: Path) -> tuple[Path, int] | None:
    """The file and the row that a light curve's name stands for; None for the name of a file."""
    if not path.name.endswith("]"):
        return None
    found = _NAME.fullmatch(path.name)
    return (path.with_name(found[1]), int(found[2])) if found else None


def name(file: Path, row: int) -> Path:
    """The name of a light curve in a file."""
    return file.with_name(f"{file.name}[{row}]")


def names(file: Path) -> list[Path]:
    """The names of all light curves in a file."""
    return [name(file, row) for row in range(_rows(file, *_stamp(file)))]


def file_of(path: Path) -> Path:
    """The file that holds a light curve."""
    found = split(path)
    return found[0] if found else path


def order(path: Path) -> tuple[str, int]:
    """Sorts the light curves of a file by row."""
    found = split(path)
    return (str(found[0]), found[1]) if found else (str(path), -1)


@contextmanager
def opened(path: Path) -> Iterator[Path]:
    """A light curve on this machine while the block runs: as `remote.opened`; the file of a row by URL is kept."""
    found = split(path)
    if found and remote.url(path):
        yield name(remote.local(found[0]), found[1])
        return
    with remote.opened(path) as here:
        yield here


def is_list(kind: Any) -> bool:
    """Whether a type of pyarrow is that of lists."""
    types = require("pyarrow", "data", "reading Parquet").types
    return types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)


def flat(table: Any) -> Any:
    """A table of pyarrow with the fields of nested columns, as in lightcurve{time, flux}, as columns."""
    types = require("pyarrow", "data", "reading Parquet").types
    for _ in range(3):
        if any(types.is_struct(field.type) for field in table.schema):
            table = table.flatten()
    return table


def holds_rows(file: Path) -> bool:
    """Whether a file is Parquet with lists and several rows; False for one that cannot be opened."""
    if not file.name.lower().endswith(SUFFIXES):
        return False
    try:
        content = _opened(file)
        return content.metadata.num_rows > 1 and any(
            is_list(field.type) for field in flat(content.schema_arrow.empty_table()).schema
        )
    except UnreadableError:
        return False


def headers(file: Path) -> Iterator[dict[str, Any]]:
    """The cells of each row that are not lists, by upper-case name."""
    content = _opened(file)
    leaves = [content.schema.column(index).path for index in range(len(content.schema))]
    single = [leaf for leaf in leaves if not {"list", "key_value"} & set(leaf.split("."))]
    if not single:
        yield from ({} for _ in range(content.metadata.num_rows))
        return
    tables = require("pyarrow", "data", "reading Parquet").Table
    for batch in content.iter_batches(columns=single):
        for cells in flat(tables.from_batches([batch])).to_pylist():
            yield {key.rpartition(".")[2].upper(): value for key, value in cells.items() if value is not None}


@dataclass
class _Position:
    """How far a file has been read.

    Attributes:
        stamp: the file's size and time of change.
        batches: those that follow.
        start: the first row of `batch`.
        batch: the last one that was read.
    """

    stamp: tuple[int, int]
    batches: Iterator[Any]
    start: int
    batch: Any = None


#: Where this process reads, by file; the file that was read last is the last.
_positions: dict[Path, _Position] = {}


def row(path: Path) -> Any:
    """A table of pyarrow with the one row that a light curve's name stands for.

    Raises:
        UnreadableError: the file cannot be read, or has no such row.
    """
    found = split(path)
    if found is None:
        raise UnreadableError("it is not the name of a row")
    file, number = found
    here = _positions.pop(file, None)  # it stays away if reading fails
    try:
        stamp = _stamp(file)
        if here is None or here.stamp != stamp or number < here.start:
            here = _seek(file, stamp, number)
        while here.batch is None or number >= here.start + here.batch.num_rows:
            here.start += 0 if here.batch is None else here.batch.num_rows
            here.batch = next(here.batches)
    except UnreadableError:
        raise
    except StopIteration:
        raise UnreadableError(f"{file.name} has no row {number}") from None
    except Exception as error:
        machine_errors.raise_if_machine(error)
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UnreadableError(f"{file.name} cannot be read: {reason[:120]}") from error
    _positions[file] = here
    if len(_positions) > FILES:
        _positions.pop(next(iter(_positions)))
    table = require("pyarrow", "data", f"reading {file.name}").Table.from_batches([here.batch])
    return table.slice(number - here.start, 1)


def _seek(file: Path, stamp: tuple[int, int], number: int) -> _Position:
    """The position at the beginning of the row group that holds a row."""
    content = _opened(file)
    start, count = 0, content.metadata.num_row_groups
    sizes = [content.metadata.row_group(group).num_rows for group in range(count)]
    for group, size in enumerate(sizes):
        if start + size > number:
            return _Position(stamp, content.iter_batches(batch_size=BATCH, row_groups=list(range(group, count))), start)
        start += size
    raise UnreadableError(f"{file.name} has {start:,} rows, and none of number {number}")


def _stamp(file: Path) -> tuple[int, int]:
    status = file.stat()
    return status.st_size, status.st_mtime_ns


def _opened(file: Path) -> Any:
    reader = require("pyarrow.parquet", "data", f"reading {file.name}")
    try:
        content = reader.ParquetFile(file, pre_buffer=False)
        about = content.metadata
        declared = sum(about.row_group(index).total_byte_size for index in range(about.num_row_groups))
        bounded.check(max(declared, about.num_rows * about.num_columns), file.stat().st_size)
        return content
    except Exception as error:
        machine_errors.raise_if_machine(error)
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UnreadableError(f"not a Parquet file that can be read ({reason[:120]})") from error


def stamp(path: Path) -> tuple[int, int]:
    """The size in bytes and the time of change of a light curve's file; of a row, about its part of the file."""
    found = split(path)
    size, changed = _stamp(found[0] if found else path)
    return (size // max(_rows(found[0], size, changed), 1), changed) if found else (size, changed)


@functools.lru_cache(maxsize=1024)
def _rows(file: Path, _size: int, _changed: int) -> int:
    return _opened(file).metadata.num_rows


def digest(path: Path) -> str:
    """A digest of a row: of the file's size and footer, and of the row's number.

    The footer has the place, the size and the least and greatest value of every column of every row group. The whole
    file, which may be larger than memory, is not read.
    """
    file, number = split(path) or (path, -1)
    if remote.url(file):
        return f"{remote.tag(file)} {number}"
    return hashlib.sha256(f"{_footer(file, *_stamp(file))} {number}".encode()).hexdigest()


@functools.lru_cache(maxsize=1024)
def _footer(file: Path, size: int, _changed: int) -> str:
    with file.open("rb") as stream:
        stream.seek(max(size - _TAIL, 0))
        length = int.from_bytes(stream.read(_TAIL)[:4], "little")
        stream.seek(max(size - _TAIL - length, 0))
        return hashlib.sha256(stream.read(length + _TAIL) + str(size).encode()).hexdigest()
