"""Plain tables as raw tables: CSV, TSV, ECSV and Parquet with a time and a flux column.

Header values are read from comment lines ("# TICID: 270501383"), ECSV's `meta`, Parquet's metadata, and from columns
that hold the same star in every row.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from transit_cli.data import bulk, parquet
from transit_cli.data.lightcurves.lightcurve import UnreadableError
from transit_cli.data.lightcurves.products import recognise
from transit_cli.data.lightcurves.raw import RawTable, find_time
from transit_cli.utils import bounded, machine_errors
from transit_cli.utils.packages import require

if TYPE_CHECKING:
    from pathlib import Path

SUFFIXES = (".csv", ".tsv", ".ecsv", ".parquet", ".pq")
#: Delimiters of text tables; blanks if none of them separates the header.
DELIMITERS = ",;\t|"
#: Columns that name the star of each row.
_STAR_COLUMNS = (
    "TICID",
    "TIC_ID",
    "TIC",
    "KEPLERID",
    "KEPID",
    "KIC",
    "EPIC",
    "EPICID",
    "TARGETID",
    "OBJECT_ID",
    "OBJECT",
)
_STAR_COLUMNS += ("STAR", "TARGET", "GAIADR3")
#: The keywords of FITS headers that such columns stand for.
_KEYWORDS = {"KEPID": "KEPLERID", "KIC": "KEPLERID", "OBJECT_ID": "OBJECT"}
_MISSING = {"", "nan", "null", "none", "na", "n/a", "--", "-"}


class NoLightCurveError(UnreadableError):
    """A table without a time and a flux column, such as a catalog."""


def is_table(file: Path) -> bool:
    """Whether a file's name is that of a plain table."""
    return bulk.file_of(file).name.lower().endswith(SUFFIXES)


def keywords(cells: Mapping[str, Any]) -> dict[str, Any]:
    """Cells of a row of light curves, by upper-case name, as a header."""
    return {_KEYWORDS.get(name, name): value for name, value in cells.items()}


def open_table(file: Path) -> RawTable:
    """The columns of a plain table.

    Raises:
        UnreadableError: the file is not such a table, or holds several stars.
        NoLightCurveError: it has no time or no flux column.
    """
    try:
        if bulk.file_of(file).suffix.lower() in bulk.SUFFIXES:
            header, columns, units = _parquet(file)
        else:
            text = _text(file)
            header, columns, units = _ecsv(text) if text.startswith("# %ECSV") else _delimited(text)
    except OSError as error:
        machine_errors.raise_if_machine(error)
        raise UnreadableError(error.strerror or str(error)) from error
    has_time = bool(find_time(list(columns))) or any(name.startswith("PHASE") for name in columns)
    if not has_time or not any(re.search(r"FLUX|MAG|FCOR|FRAW|^LC\d", name) for name in columns):
        raise NoLightCurveError(f"no time and flux columns among {', '.join(list(columns)[:12])}")
    header = _star_of_rows(columns) | header
    product, reason = recognise(header, file.name, columns)
    count = len(next(iter(columns.values())))
    return RawTable(file, header, units, columns.__getitem__, count, product=product, recognised_by=reason)


def _text(file: Path) -> str:
    content = bounded.read_bytes(file)
    if b"\0" in content[:4096]:
        encoding = "utf-16" if content[:2] in {b"\xff\xfe", b"\xfe\xff"} else ""
        if not encoding:
            raise UnreadableError("it is not text")
        return content.decode(encoding, errors="replace")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("latin-1")


def _delimited(text: str) -> tuple[dict[str, Any], dict[str, np.ndarray], dict[str, str]]:
    """Header values, columns and units of a text table with a header line."""
    lines = [line for line in text.splitlines() if line.strip()]
    comments = [line.lstrip("#").strip() for line in lines if line.startswith("#")]
    rows = [line for line in lines if not line.startswith("#")]
    if rows and comments and _is_numeric(_cells(rows[0])) and len(_cells(comments[-1])) == len(_cells(rows[0])):
        rows.insert(0, comments.pop())  # the header line is a comment
    if not rows:
        raise UnreadableError("the table is empty")
    names = [name.strip() for name in _cells(rows[0])]
    if _is_numeric(names):
        raise UnreadableError("the first line holds numbers: a header line with names such as time,flux is missing")
    table = [_cells(row, rows[0]) for row in rows[1:]]
    ragged = next((number for number, row in enumerate(table, 2) if len(row) != len(names)), None)
    if ragged is not None:
        found = len(table[ragged - 2])
        cause = " (decimal commas?)" if "," in rows[ragged - 1] and found > len(names) else ""
        raise UnreadableError(f"row {ragged} has {found} cells, the header {len(names)}{cause}")
    columns, units = _named(names)
    if len(table) > 1 and not any(map(_is_number, table[0])) and any(map(_is_number, table[1])):
        units |= {name: cell.strip() or units[name] for name, cell in zip(columns, table.pop(0), strict=True)}
    values = {name: _column(name, [row[index] for row in table]) for index, name in enumerate(columns)}
    return _comment_values(comments), values, units


def _cells(line: str, header: str = "") -> list[str]:
    sample = header or line
    delimiter = max(DELIMITERS, key=sample.count)
    if not sample.count(delimiter):
        return line.split()
    return next(csv.reader([line], delimiter=delimiter, skipinitialspace=True))


def _is_number(cell: str) -> bool:
    return bool(re.fullmatch(r"\s*[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?\s*", cell, re.IGNORECASE))


def _is_numeric(cells: Sequence[str]) -> bool:
    return bool(cells) and all(
        re.fullmatch(r"\s*([+-]?[\d.]+([eE][+-]?\d+)?|nan)\s*", cell, re.IGNORECASE) for cell in cells
    )


def _named(names: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Upper-case names and units of columns such as "flux [ppm]" or "time (BTJD)"."""
    found: list[str] = []
    units: dict[str, str] = {}
    for name in names:
        match = re.fullmatch(r"(.*?)\s*[\[(]([^\[\]()]*(?:\([^()]*\))?[^\[\]()]*)[\])]\s*", name)
        plain, unit = (match[1], match[2]) if match and match[1] else (name, "")
        upper = re.sub(r"[\s.]+", "_", plain.strip()).upper()
        if upper in units:
            raise UnreadableError(f"two columns are called {plain}")
        found.append(upper)
        units[upper] = unit.strip()
    return found, units


def _column(name: str, cells: Sequence[str]) -> np.ndarray:
    """Whole numbers, numbers (NaN where missing), truth values or text."""
    stripped = [cell.strip() for cell in cells]
    if all(re.fullmatch(r"[+-]?\d{1,18}", cell) for cell in stripped):
        return np.array(stripped, dtype=np.int64)
    lower = [cell.lower() for cell in stripped]
    if lower and set(lower) <= {"true", "false"}:
        return np.array([cell == "true" for cell in lower])
    try:
        return np.array([np.nan if cell in _MISSING else float(cell) for cell in lower])
    except ValueError:
        if re.search("FLUX|TIME|JD", name) and any(re.fullmatch(r"[+-]?\d+,\d+", cell) for cell in stripped):
            raise UnreadableError(f"column {name} has decimal commas: write decimal points") from None
        return np.array(stripped)


def _comment_values(comments: Sequence[str]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for comment in comments:
        if found := re.fullmatch(r"([A-Za-z][\w-]{0,20})\s*[:=]\s*(.+)", comment):
            values.setdefault(found[1].upper(), found[2].strip().strip("'\""))
    return values


def _ecsv(text: str) -> tuple[dict[str, Any], dict[str, np.ndarray], dict[str, str]]:
    from astropy.table import Table

    try:
        table = Table.read(text.splitlines(), format="ascii.ecsv")
    except Exception as error:
        raise UnreadableError(f"not ECSV that can be read ({str(error).splitlines()[0][:120]})") from error
    meta = {str(key).upper(): value for key, value in table.meta.items() if isinstance(value, str | int | float)}
    columns: dict[str, np.ndarray] = {}
    units: dict[str, str] = {}
    for name in table.colnames:
        upper, column = name.upper(), table[name]
        if upper in columns:
            raise UnreadableError(f"two columns are called {name}")
        values, unit = _mixin(column)
        if values is not None:
            columns[upper], units[upper] = values, unit
    return meta, columns, units


def _mixin(column: Any) -> tuple[np.ndarray | None, str]:
    """Values and unit of an astropy column, Quantity or Time; None for what is neither, such as SkyCoord."""
    if hasattr(column, "jd1"):
        return np.asarray(column.tdb.jd if column.scale in {"utc", "tai", "tt"} else column.jd, float), "JD"
    if not hasattr(column, "dtype"):
        return None, ""
    unit = str(getattr(column, "unit", None) or "")
    values = getattr(column, "value", column)
    mask = getattr(column, "mask", None)
    array = np.asarray(values)
    if mask is not None and np.any(mask):
        array = np.where(np.asarray(mask), np.nan, array.astype(float)) if array.dtype.kind in "iuf" else array
    return array, unit


def _parquet(file: Path) -> tuple[dict[str, Any], dict[str, np.ndarray], dict[str, str]]:
    """Columns of a Parquet file, or of one row of nested lists, of which a file may have one per star."""
    require("pyarrow", "data", f"reading {file.name}")
    try:
        table = bulk.row(file) if bulk.split(file) else parquet.read(bounded.read_bytes(file), f"reading {file.name}")
    except UnreadableError:
        raise
    except ValueError as error:
        raise UnreadableError(str(error)) from error
    meta = {
        key.decode(errors="replace").upper(): value.decode(errors="replace")
        for key, value in (table.schema.metadata or {}).items()
        if len(value) < 200
    }
    table = bulk.flat(table)
    lists = {field.name for field in table.schema if bulk.is_list(field.type)}
    if lists and table.num_rows != 1:
        raise UnreadableError(f"it holds {table.num_rows:,} light curves: give the file, or one as {file.name}[0]")
    plain, units = _named([name.rpartition(".")[2] for name in table.column_names])
    columns: dict[str, np.ndarray] = {}
    for field, upper in zip(table.schema, plain, strict=True):
        column = table.column(field.name)
        if field.name in lists:
            values = column[0].values
            columns[upper] = _array(values)
        elif lists:
            meta.setdefault(_KEYWORDS.get(upper, upper), column[0].as_py())
        else:
            columns[upper] = _array(column)
        stated = (field.metadata or {}).get(b"unit", b"").decode(errors="replace")
        units[upper] = units[upper] or stated
    lengths = {len(values) for values in columns.values()}
    if lists and len(lengths) > 1:
        longest = max(lengths)
        columns = {name: values for name, values in columns.items() if len(values) == longest}
    return meta, columns, {name: units[name] for name in columns}


def _array(values: Any) -> np.ndarray:
    """The values of an array of pyarrow; NaN where numbers are missing."""
    array = np.empty(0) if values is None else np.asarray(values.to_numpy(zero_copy_only=False))
    return array.astype(str) if array.dtype == object else array


def _star_of_rows(columns: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """The star that a column names in every row.

    Raises:
        UnreadableError: the rows are of several stars.
    """
    found: dict[str, Any] = {}
    for name in _STAR_COLUMNS:
        if name in columns and len(columns[name]):
            stars = np.unique(columns[name].astype(str))
            if len(stars) > 1:
                raise UnreadableError(
                    f"column {name} names {len(stars):,} stars: write one file, or one row with lists, per star"
                )
            found.setdefault(_KEYWORDS.get(name, name), stars[0])
    return found
