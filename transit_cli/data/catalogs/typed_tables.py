"""Tables whose columns have types and units: ECSV, VOTable and FITS through astropy, Parquet through pyarrow."""

from __future__ import annotations

import importlib
import io
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from transit_cli.data.catalogs.source_table import SourceTable, unreadable
from transit_cli.utils import packages

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from astropy.table import Table


def kind_of(content: bytes) -> str | None:
    """The astropy format of a file's content ("ascii.ecsv", "votable", "fits"), "parquet", or None for other files."""
    start = content[:4096].lstrip()
    if content.startswith((b"# %ECSV", b"\xef\xbb\xbf# %ECSV")):
        return "ascii.ecsv"
    if content.startswith(b"SIMPLE  ="):
        return "fits"
    if content.startswith(b"PAR1"):
        return "parquet"
    if start.startswith((b"<?xml", b"<VOTABLE")) and b"VOTABLE" in start:
        return "votable"
    if start.startswith((b"\\", b"|")) and any(
        not line.startswith((b"\\", b"|")) for line in start.splitlines() if line
    ):
        return "ascii.ipac"
    return None


def read(path: Path, content: bytes, kind: str) -> SourceTable:
    """Read a typed table.

    Args:
        path: the file, for error messages.
        content: of the file.
        kind: what `kind_of` says.

    Raises:
        TransitError: it is damaged, or a package is missing.
    """
    if kind == "parquet":
        return _parquet(path, content)
    from astropy.table import Table

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # units that astropy does not know, and other remarks of its readers
            if kind.startswith("ascii."):
                text = content.decode("utf-8-sig")
                table = Table.read(text.splitlines(), format=kind)
            else:
                table = Table.read(io.BytesIO(content), format=kind)
    except Exception as error:  # noqa: BLE001 - astropy raises many kinds for a damaged table
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        name = {"ascii.ecsv": "ECSV", "votable": "VOTable", "fits": "FITS", "ascii.ipac": "IPAC"}[kind]
        raise unreadable(
            path, f"it is not {name} that can be read: {reason}", f"correct {path}, or export it as CSV"
        ) from None
    return _source_table(table)


def _source_table(table: Table) -> SourceTable:
    """Columns of one value per row, in plain types; what has several (coordinates, spectra) is left out."""
    from astropy.table import Column
    from astropy.time import Time, TimeDelta

    columns: dict[str, Sequence[Any]] = {}
    units: dict[str, str] = {}
    float32 = set()
    for name in table.colnames:
        column: Any = table[name]
        if isinstance(column, TimeDelta):
            columns[name], units[name] = _filled(column.to_value("jd"), getattr(column, "mask", None)), "d"
        elif isinstance(column, Time):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # leap seconds of dates far ahead
                days = column.tdb.jd if column.scale not in {"local", "tdb"} else column.jd
            columns[name], units[name] = _filled(days, getattr(column, "mask", None)), "BJD"
        elif isinstance(column, Column) or (hasattr(column, "unit") and hasattr(column, "value")):
            values = np.ma.asarray(getattr(column, "value", column))
            if values.ndim != 1:
                continue
            if values.dtype.kind == "f" and values.dtype.itemsize < 8:
                float32.add(name)
            columns[name] = _filled(values.data, values.mask)
            if str(column.unit or ""):
                units[name] = str(column.unit)
    return SourceTable(columns, units, frozenset(float32))


def _filled(values: Any, mask: Any) -> list[Any]:
    """Python values; None where masked, bytes as text."""
    values = np.asarray(values)
    if values.dtype == np.float32:
        values = values.astype(str).astype(np.float64)  # the digits that a float32 stands for
    masked = np.broadcast_to(False if mask is None else np.asarray(mask), values.shape)
    return [None if hidden else _plain_value(value) for value, hidden in zip(values.tolist(), masked, strict=True)]


def _plain_value(value: Any) -> Any:
    return value.decode("utf-8", "replace").strip() if isinstance(value, bytes) else value


def _parquet(path: Path, content: bytes) -> SourceTable:
    packages.require("pyarrow", "", "reading Parquet")
    parquet = importlib.import_module("pyarrow.parquet")
    try:
        table = parquet.read_table(io.BytesIO(content))
    except Exception as error:  # noqa: BLE001 - pyarrow raises many kinds for a damaged table
        raise unreadable(path, f"it is not Parquet that can be read: {str(error).splitlines()[0]}") from None
    columns: dict[str, Sequence[Any]] = {}
    units: dict[str, str] = {}
    float32 = set()
    for field, column in zip(table.schema, table.columns, strict=True):
        kind = str(field.type)
        if kind.startswith(("list", "struct", "map", "large_list", "fixed_size_list")):
            continue
        values = column.to_pylist()
        if kind in {"float", "halffloat"}:
            float32.add(field.name)
            values = [None if value is None else float(str(np.float32(value))) for value in values]
        columns[field.name] = [_plain_value(value) for value in values]
        unit = (field.metadata or {}).get(b"unit")
        if unit:
            units[field.name] = unit.decode("utf-8", "replace")
    return SourceTable(columns, units, frozenset(float32))
