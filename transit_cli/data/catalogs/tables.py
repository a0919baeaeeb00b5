"""Tables as text files: the encoding, the separator, the header and the units that comments state.

`read_table_file` reads CSV and its relatives (separated by commas, semicolons, tabs, bars or blanks, or of fixed
width), the text tables of the NASA Exoplanet Archive, ExoFOP and VizieR, and hands ECSV, VOTable, FITS and Parquet to
`transit_cli.data.catalogs.typed_tables`.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from transit_cli.data.catalogs import typed_tables
from transit_cli.data.catalogs.source_table import SourceTable, unreadable
from transit_cli.data.catalogs.vocabulary import (
    COLUMNS,
    canonical_columns,
    is_unit,
    plain,
    split_unit,
)
from transit_cli.parsing import csv_text
from transit_cli.results import TransitError
from transit_cli.utils import bounded, machine_errors

if TYPE_CHECKING:
    from pathlib import Path

_COLUMN_STATEMENT = re.compile(r"^#\s*COLUMN\s+([^\s:]+):.*\[([^\]]*)\]\s*$")
_NUMBER = re.compile(r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$")
_DASHES = re.compile(r"^[-=:+_ ]*$")
#: Beginnings of files that are no tables, and what they are.
_OTHER_FILES = (
    (b"PK\x03\x04", "an Excel workbook or another ZIP archive", "save the sheet as CSV"),
    (b"\xd0\xcf\x11\xe0", "an old Excel workbook", "save the sheet as CSV"),
    (b"version https://git-lfs", "a Git LFS pointer, not the file itself", "run `git lfs pull`"),
    (b"<!doctype", "a web page", "download the table itself"),
    (b"<html", "a web page", "download the table itself"),
    (b"%pdf", "a PDF document", "save the table as CSV"),
    (b"{", "JSON", "save the table as CSV"),
    (b"[", "JSON", "save the table as CSV"),
    (b"\x89hdf", "HDF5", "save the table as CSV; HDF5 files of folded views are for `transit data import`"),
)


def read_table_file(path: Path) -> SourceTable:
    """Read a table.

    Raises:
        TransitError: the file cannot be read, or is no table.
    """
    try:
        content = bounded.read_bytes(path)
        if content[:2] == b"\x1f\x8b":
            content = bounded.gunzip(content)
    except (OSError, ValueError) as error:
        machine_errors.raise_if_machine(error)
        raise unreadable(path, getattr(error, "strerror", None) or str(error)) from None
    if (kind := typed_tables.kind_of(content)) is not None:
        return typed_tables.read(path, content, kind)
    start = content.lstrip()[:40].lower()
    for beginning, what, fix in _OTHER_FILES:
        if start.startswith(beginning.lower()):
            raise unreadable(path, f"it is {what}", fix)
    text, notes = _decoded(path, content)
    return _parsed(path, text, notes)


def _decoded(path: Path, content: bytes) -> tuple[str, list[str]]:
    """The text of a file, by its byte order mark or else as UTF-8; Latin-1 is noted."""
    marks = ((b"\xff\xfe\x00\x00", "utf-32"), (b"\x00\x00\xfe\xff", "utf-32"), (b"\xff\xfe", "utf-16"))
    marks = (*marks, (b"\xfe\xff", "utf-16"), (b"\xef\xbb\xbf", "utf-8-sig"))
    encoding = next((name for mark, name in marks if content.startswith(mark)), "utf-8")
    if encoding == "utf-8" and len(content) > 3 and 0 in content[:2]:  # UTF-16 without a mark
        encoding = "utf-16-le" if content[1] == 0 else "utf-16-be"
    notes: list[str] = []
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError:
        if encoding != "utf-8":
            raise unreadable(path, f"it is not text, though it begins as {encoding.upper()}") from None
        text = content.decode("latin-1")
        notes = ["the text is not UTF-8 and is read as Latin-1; numbers and catalog names do not depend on it"]
    if re.search(r"[\x00-\x08\x0e-\x1b\x7f]", text):
        raise unreadable(path, "it is not text")
    return text, notes


def _parsed(path: Path, text: str, notes: list[str]) -> SourceTable:
    lines = re.split(r"\r\n|\n|\r", text)
    separator = None
    if found := re.match(r"^\"?sep=(.)\"?$", lines[0]):  # Excel's own way of stating it
        separator, lines = found[1], lines[1:]
    comments = [line for line in lines if line.startswith("#")]
    body = [line for line in lines if line.strip() and not line.startswith(("#", "\\"))]
    units = {found[1]: found[2] for line in comments if (found := _COLUMN_STATEMENT.match(line)) and is_unit(found[2])}
    if not body:
        raise TransitError(
            f"{path} has no column: it holds no line that is not a comment",
            wanted="a header and one row per signal",
            fix="give another table",
            code="catalog-columns",
        )
    header, rows, more = _cells(path, comments, body, separator)
    notes += more
    header, rows, row_units = _without_rules(header, rows)
    if not rows:
        raise TransitError(
            f"{path} has columns but no rows",
            wanted="one row per signal",
            fix="give another table",
            code="catalog-empty",
        )
    repeated = [row for row in rows if row == header]
    if repeated:
        notes.append(f"{len(repeated)} rows repeat the header and are skipped")
        rows = [row for row in rows if row != header]
    columns: dict[str, Sequence[Any]] = {
        name: [row[index] for row in rows] for name, index in _distinct(path, header, rows).items()
    }
    return SourceTable(columns, row_units | units, notes=tuple(notes))


def _cells(
    path: Path, comments: Sequence[str], body: Sequence[str], separator: str | None
) -> tuple[list[str], list[list[str]], list[str]]:
    """The header, the rows, and notes: split by the separator under which the most columns are recognised."""
    if body[0].lstrip().startswith("|"):  # a table with bars at both sides, as in IPAC and Markdown
        body = [line.strip().strip("|") if line.lstrip().startswith("|") else line for line in body]
    commented = comments[-1].lstrip("# ").rstrip() if comments else ""
    best, score, header_in_comment = separator or ",", (-1, 0), False
    for delimiter in [separator] if separator else [",", ";", "\t", "|", ""]:
        header = _split(path, body[:1], delimiter)[0]
        above = _split(path, [commented], delimiter)[0] if commented else []
        in_comment = len(_known(above)) > len(_known(header)) and len(above) == len(header)
        reached = (len(_known(above if in_comment else header)), len(header) if delimiter else 1)
        if reached > score and (delimiter or score[0] < 3):  # blanks are in names as well
            best, score, header_in_comment = delimiter, reached, in_comment
    rows = _split(path, body, best)
    header = _split(path, [commented], best)[0] if header_in_comment else rows.pop(0)
    notes = ["the header is the last comment line"] if header_in_comment else []
    header = [cell.strip() for cell in header]
    rows = [[csv_text.plain(cell.strip()) for cell in row] for row in rows]
    while len(header) > 1 and not header[-1] and all(len(row) < len(header) or not row[-1] for row in rows):
        rows = [row[: len(header) - 1] for row in rows]  # a separator at the end of every line
        header = header[:-1]
    rows = [row[: len(header)] if not any(row[len(header) :]) else row for row in rows if any(row)]
    ragged = next((row for row in rows if len(row) != len(header)), None)
    if ragged is not None:
        comma = any(re.fullmatch(r"\d+", cell) for cell in ragged) and len(ragged) > len(header)
        cause = "; are there decimal commas, or texts with a separator and no quotes?" if comma else ""
        raise TransitError(
            f"{path} has a row of {len(ragged)} cells under {len(header)} columns: {','.join(ragged)[:60]}{cause}",
            wanted="one cell per column",
            fix=f"correct that row of {path}",
            code="catalog-row",
        )
    return header, rows, notes


def _known(header: Sequence[str]) -> dict[str, str]:
    return canonical_columns(header, COLUMNS)


def _split(path: Path, lines: Sequence[str], delimiter: str) -> list[list[str]]:
    """Lines as cells; with the delimiter "" at blanks, or in columns of fixed width where blanks do not do."""
    if delimiter:
        try:
            return list(
                csv.reader(io.StringIO("\n".join(lines), newline=""), delimiter=delimiter, skipinitialspace=True)
            )
        except csv.Error as error:
            raise unreadable(path, str(error), f"correct {path}") from None
    words = [re.findall(r'"[^"]*"|\S+', line) for line in lines]
    if all(len(row) == len(words[0]) for row in words):
        return [[cell.strip('"') for cell in row] for row in words]
    return _fixed_width(lines)


def _fixed_width(lines: Sequence[str]) -> list[list[str]]:
    """Cells between the positions that are blank in every line."""
    used = {at for line in lines for at, character in enumerate(line) if character != " "}
    edges: list[tuple[int, int]] = []
    start = None
    for at, empty in enumerate(at not in used for at in range(max(used, default=0) + 2)):
        if not empty and start is None:
            start = at
        elif empty and start is not None:
            edges.append((start, at))
            start = None
    return [[line[begin:end].strip() for begin, end in edges] for line in lines]


def _without_rules(header: list[str], rows: list[list[str]]) -> tuple[list[str], list[list[str]], dict[str, str]]:
    """Without rows of dashes, and with a row of units below the header taken as the units that it states."""
    rows = [row for row in rows if not all(_DASHES.match(cell) for cell in row)]
    units: dict[str, str] = {}
    while rows and not any(_NUMBER.match(cell) for cell in rows[0]):
        first = [cell.strip("[]() ") for cell in rows[0]]
        types = {"double", "float", "int", "integer", "char", "long", "string", "real", "null", "date"}
        stated = [is_unit(cell) for cell in first]
        if not any(stated) and not all(not cell or cell.lower() in types for cell in first):
            break
        units |= {name: cell for name, cell, known in zip(header, first, stated, strict=True) if known}
        rows = [row for row in rows[1:] if not all(_DASHES.match(cell) for cell in row)]
    return header, rows, units


def _distinct(path: Path, header: Sequence[str], rows: Sequence[Sequence[str]]) -> dict[str, int]:
    """The index of each column. A column may be there twice only if it is not read, or with the same cells."""
    found: dict[str, int] = {}
    for index, name in enumerate(header):
        same = next((other for other in found if plain(other) == plain(name)), None)
        if same is None or not plain(name):
            found.setdefault(name, index)
        elif any(row[found[same]] != row[index] for row in rows) and _known([split_unit(name)[0]]):
            raise TransitError(
                f"{path} has the column {name} twice, with different cells",
                wanted="one column of each name",
                fix=f"remove or rename one of them in {path}",
                code="catalog-column-twice",
            )
    return found
