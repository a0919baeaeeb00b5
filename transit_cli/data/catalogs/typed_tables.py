"""Tables whose columns have types and units: ECSV, VOTable and FITS through astropy, Parquet through pyarrow."""

from __future__ import annotations

import io
import re
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from transit_cli.data import parquet
from transit_cli.data.catalogs.source_table import SourceTable, unreadable
from transit_cli.data.lightcurves import fits
from transit_cli.utils import bounded, machine_errors

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

    _register_mission_times()
    if kind == "votable" and (problem := _votable_problem(content)):
        raise unreadable(path, problem)
    try:
        if kind == "fits":
            fits.check_sizes(content)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # units that astropy does not know, and other remarks of its readers
            if kind.startswith("ascii."):
                text = content.decode("utf-8-sig")
                table = Table.read(text.splitlines(), format=kind)
            else:
                table = Table.read(io.BytesIO(content), format=kind)
    except Exception as error:  # noqa: BLE001 - astropy raises many kinds for a damaged table
        machine_errors.raise_if_machine(error)
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        name = {"ascii.ecsv": "ECSV", "votable": "VOTable", "fits": "FITS", "ascii.ipac": "IPAC"}[kind]
        raise unreadable(
            path, f"it is not {name} that can be read: {reason}", f"correct {path}, or export it as CSV"
        ) from None
    return _source_table(table)


def _votable_problem(content: bytes) -> str:
    """Why a VOTable is not read, or "": astropy would fetch what a STREAM refers to, and allocate what it declares."""
    if re.search(rb"<!(DOCTYPE|ENTITY)", content, re.IGNORECASE) or re.search(rb"<[\w:]*STREAM\b[^>]*\bhref", content):
        return "it refers to other files"
    sizes = re.findall(rb"\bnrows\s*=\s*[\"']\s*(\d+)", content)
    sizes += [
        part
        for shape in re.findall(rb"\barraysize\s*=\s*[\"']([^\"']*)", content)
        for part in re.findall(rb"\d+", shape)
    ]
    if declared := max((int(size[:20]) for size in sizes), default=0):
        try:
            bounded.check(declared, len(content))
        except bounded.TooLargeError as error:
            return str(error)
    return ""


def _register_mission_times() -> None:
    """Time formats that lightkurve writes into ECSV: days of Kepler and of TESS."""
    from astropy.time import TIME_FORMATS
    from astropy.time.formats import TimeFromEpoch

    for name, day in (("bkjd", "2009-01-01 12:00:00"), ("btjd", "2014-12-08 12:00:00")):
        if name not in TIME_FORMATS:  # defining the class registers it
            epoch = {"epoch_val": day, "epoch_val2": None, "epoch_scale": "tdb", "epoch_format": "iso"}
            type(f"Time{name.upper()}", (TimeFromEpoch,), {"name": name, "unit": 1.0} | epoch)


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
    try:
        table = parquet.read(content, "reading Parquet")
    except ValueError as error:
        raise unreadable(path, str(error)) from None
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
