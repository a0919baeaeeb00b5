"""FITS files as raw tables: the headers, the table that holds the light curve, and its columns.

Sizes that a header declares are compared with the file before anything is allocated; a file that ends early is refused.
"""

from __future__ import annotations

import io
import re
import warnings
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from transit_cli.data.lightcurves.lightcurve import UnreadableError
from transit_cli.data.lightcurves.products import Product, recognise
from transit_cli.data.lightcurves.raw import CORRECTED, FLUX_COLUMNS, TIME_COLUMNS, RawTable, find_time
from transit_cli.utils import bounded, machine_errors
from transit_cli.utils.packages import collector_paused

if TYPE_CHECKING:
    from pathlib import Path

#: Largest number of tables and images in a file.
MAX_TABLES = 5000
#: Largest number of columns of a table and of axes of an array (FITS Standard 4.0, sections 4.4.1 and 7.3.1).
MAX_COLUMNS = MAX_AXES = 999

#: Header keywords that are read.
STAR_KEYWORDS = ("TICID", "TIC_ID", "TIC", "KEPLERID", "EPICID", "EPIC", "TARGETID", "GAIADR3", "OBJECT", "TARGNAME")
TIME_KEYWORDS = ("BJDREFI", "BJDREFF", "BJDREF", "JDREFI", "JDREFF", "JDREF", "MJDREFI", "MJDREFF", "MJDREF")
TIME_KEYWORDS += ("TIMEZERO", "TIMEOFFS", "TIMEUNIT", "TIMESYS")
KEYWORDS = (
    *("MISSION", "TELESCOP", "ORIGIN", "AUTHOR", "CREATOR", "LITE", "EXT_NAME", "GAIA-ID", "GAIAID"),
    *("QUARTER", "CAMPAIGN", "SECTOR", "PHEPOCH", "PHNORM", "TGLCVER"),
    *("TEFF", "LOGG", "RADIUS", "TESSMAG", "KEPMAG"),
    *STAR_KEYWORDS,
    *TIME_KEYWORDS,
)


def star_header(file: Path) -> Mapping[str, Any]:
    """The header values of a file, without its data; the primary header only, if that names the star.

    Raises:
        UnreadableError: the file cannot be opened or ends early.
    """
    if not file.name.lower().endswith(".gz"):
        with collector_paused():
            from astropy.io import fits

        try:
            with file.open("rb") as stream:
                header = _values([fits.Header.fromfile(stream)])
        except Exception:  # noqa: BLE001 - reported when the file is opened below
            header: dict[str, Any] = {}
        if any(key in header for key in STAR_KEYWORDS[:5]):
            return header
    with _open(file) as (tables, _):
        return _values([table.header for table in tables])


def verify(file: Path) -> None:
    """Raise `UnreadableError` if a file is not FITS or ends early."""
    with _open(file):
        pass


def open_fits(file: Path) -> RawTable:
    """The table of a FITS file that holds the light curve.

    Raises:
        UnreadableError: the file cannot be read, ends early, or has no table with a time column.
    """
    with _open(file) as (tables, content):
        found = [table for table in tables if _is_table(table, len(content))]
        names = {id(table): [name.upper() for name in table.columns.names] for table in found}
        header = _values([table.header for table in tables])
        every = {name for columns in names.values() for name in columns}
        product, reason = recognise(header, file.name, every)
        table, others = _choose(found, names, product)
        header = _values([table.header, *(other.header for other in tables)]) if len(found) > 1 else header
        columns = {name.upper(): name for name in table.columns.names}
        _check_datasum(table, content)
        rows = _rows(table, content)
        units = {upper: str(table.columns[name].unit or "") for upper, name in columns.items()}
        nulls = {upper: table.columns[name].null for upper, name in columns.items()}

        def load(name: str) -> np.ndarray:
            return _native(rows[columns[name]], nulls[name])

        return RawTable(
            file, header, units, load, len(rows), product=product, recognised_by=reason, table=table.name, others=others
        )


def check_sizes(content: bytes) -> None:
    """Raise `UnreadableError` if a FITS file declares more data than it has; astropy would look for them for ever."""
    with _opened(content) as tables:
        for table in tables:
            _is_table(table, len(content))


@contextmanager
def _open(file: Path) -> Iterator[tuple[Any, bytes]]:
    """The HDUs of a FITS file and its bytes; every failure and every sign of truncation is an `UnreadableError`."""
    try:
        content = bounded.read_bytes(file)
    except OSError as error:
        machine_errors.raise_if_machine(error)
        raise UnreadableError(error.strerror or str(error)) from error
    content = _decompress(content) if content[:2] == b"\x1f\x8b" else content
    with _opened(content) as tables:
        yield tables, content


@contextmanager
def _opened(content: bytes) -> Iterator[Any]:
    with collector_paused():
        from astropy.io import fits
    from astropy.io.fits.verify import VerifyWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.filterwarnings("error", message=".*truncated.*")
        warnings.simplefilter("ignore", VerifyWarning)
        try:
            _check_counts(content)
            with fits.open(io.BytesIO(content), memmap=False, lazy_load_hdus=True) as tables:
                _load_headers(tables)
                yield tables
        except UnreadableError:
            raise
        except Exception as error:
            raise _unreadable(error) from error


def _check_counts(content: bytes) -> None:
    """Refuse numbers of axes and columns beyond the standard's: astropy loops over them."""
    for keyword, number in re.findall(rb"(NAXIS  |TFIELDS) = *([0-9]+)", content):
        if int(number[:9]) > MAX_AXES:
            raise UnreadableError(f"a header declares {keyword.decode().strip()} {number[:20].decode()}")


def _load_headers(tables: Any) -> None:
    """Read all headers. A negative size of data leads back to an earlier one, which astropy would follow for ever."""
    last = -1
    for number in range(MAX_TABLES):
        try:
            begin = tables[number].fileinfo()["datLoc"]
        except IndexError:
            return
        if begin <= last:
            raise UnreadableError("a header declares data of negative size")
        last = begin
    raise UnreadableError(f"more than {MAX_TABLES:,} tables")


def _decompress(content: bytes) -> bytes:
    """The content of a gzip file."""
    try:
        return bounded.gunzip(content)
    except ValueError as error:
        raise UnreadableError(str(error)) from None


def _unreadable(error: Exception) -> UnreadableError:
    text = re.split(r"[\n,]|\. ", str(error).strip())[0]
    if "truncated" in text or isinstance(error, EOFError | zlib.error) or "end of file" in text.lower():
        return UnreadableError("the file breaks off before its end")
    return UnreadableError(f"not a FITS file that can be read ({text or type(error).__name__})")


def _values(headers: Sequence[Any]) -> dict[str, Any]:
    """The values of `KEYWORDS`, from the first header that has them: astropy parses a card when it is asked for."""
    values: dict[str, Any] = {}
    for header in headers:
        for keyword in KEYWORDS:
            if keyword not in values and keyword in header:
                value = header[keyword]
                if value is not None and type(value).__name__ != "Undefined":
                    values[keyword] = value
    return values


def _is_table(hdu: Any, size: int) -> bool:
    """Whether an HDU is a table with rows, of a size that the file can hold."""
    header = hdu.header
    if header.get("XTENSION", "").strip() not in {"BINTABLE", "TABLE", "A3DTABLE"} or not header.get("NAXIS"):
        return False
    declared = int(header["NAXIS1"]) * int(header["NAXIS2"]) + int(header.get("PCOUNT", 0))
    if not 0 <= declared <= size or not 0 <= int(header.get("TFIELDS", 0)) <= MAX_COLUMNS:
        raise UnreadableError(f"its header declares {declared:,} bytes of data in a file of {size:,}")
    return getattr(hdu, "columns", None) is not None


def _check_datasum(hdu: Any, content: bytes) -> None:
    """Compare the data of an HDU with its DATASUM, if it has one (FITS Standard 4.0, appendix J)."""
    declared = str(hdu.header.get("DATASUM", "")).strip()
    if not declared:
        return
    about = hdu.fileinfo()
    data = content[about["datLoc"] : about["datLoc"] + about["datSpan"]]
    total = int(np.frombuffer(data, ">u4").sum(dtype=np.uint64))
    while total >> 32:
        total = (total & 0xFFFFFFFF) + (total >> 32)
    if declared != str(total):
        raise UnreadableError("its data are damaged: they do not have the checksum in the header (DATASUM)")


def _choose(found: Sequence[Any], names: Mapping[int, Sequence[str]], product: Product) -> tuple[Any, tuple[str, ...]]:
    """The table with the light curve, and the names of others that could be it."""
    if not found:
        raise UnreadableError("no table of cadences")
    times = product.time if product.name else TIME_COLUMNS
    usable = [table for table in found if find_time(names[id(table)], times)]
    if not usable:
        raise UnreadableError(f"no table with a time column among {', '.join(names[id(found[0])][:12])}")
    flux = product.flux or FLUX_COLUMNS

    def rank(table: Any) -> tuple[bool, int, bool]:
        best = min((flux.index(name) for name in names[id(table)] if name in flux), default=len(flux))
        other = bool(product.table) and table.name.upper() != product.table
        return other, best, not product.name and not CORRECTED.search(table.name.upper())

    chosen = min(usable, key=rank)
    alike = [table.name for table in usable if table is not chosen and rank(table) == rank(chosen)]
    return chosen, tuple(alike) if not product.name else ()


def _rows(table: Any, content: bytes) -> Any:
    """The table's rows: a view of the file's bytes if these are the numbers, else as astropy converts them."""
    columns, header = table.columns, table.header
    plain = all(c.bscale in {"", None, 1} and c.bzero in {"", None, 0} and c.format[-1] in "ABIJKED" for c in columns)
    if not plain or columns.dtype.itemsize != header["NAXIS1"]:
        return table.data
    return np.frombuffer(content, columns.dtype.newbyteorder(">"), header["NAXIS2"], table.fileinfo()["datLoc"])


def _native(values: Any, null: Any) -> np.ndarray:
    """A column in native byte order, one value per row; TNULL of integers is NaN."""
    values = np.asarray(values)
    values = values[:, 0] if values.ndim == 2 and values.shape[1] == 1 else values
    if values.dtype.kind == "S":
        return np.char.decode(values, "ascii", "replace")
    if values.dtype.kind in "iu":
        values = values.astype(values.dtype.newbyteorder("="))
        if isinstance(null, int) and (values == null).any():
            return np.where(values == null, np.nan, values.astype(np.float64))
        return values
    if values.dtype.kind == "f":
        return values.astype(values.dtype.newbyteorder("="))
    return values
