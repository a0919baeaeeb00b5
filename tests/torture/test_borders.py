"""At each border any bytes give a value or a typed error, and what a file declares costs no more than its size allows."""

import gzip
import io
import os
import resource
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.data.tfrecord_writer import field, record
from transit_cli import config
from transit_cli.bench.settings import BenchSettings
from transit_cli.data.catalogs import array_files, catalog
from transit_cli.data.lightcurves import readers
from transit_cli.data.lightcurves.lightcurve import UnreadableError
from transit_cli.data.settings import SimulateSettings
from transit_cli.data.simulation.simulate import simulate
from transit_cli.data.viewset import ViewSet, read_table, write_table
from transit_cli.model import saved
from transit_cli.parsing import csv_text, schema
from transit_cli.results import TransitError
from transit_cli.training.settings import TrainSettings
from transit_cli.utils import bounded

pytestmark = pytest.mark.filterwarnings("ignore")


def arrays(path):
    return list(array_files.sources([path]))


#: How a file of each kind begins, and what reads it.
BORDERS = {
    "a.csv": (b"star,period_days,epoch_days,duration_hours\n", lambda path: catalog.read(path, "")),
    "a.ecsv": (
        b"# %ECSV 1.0\n# ---\n# datatype:\n# - {name: a, datatype: int64}\n",
        lambda path: catalog.read(path, ""),
    ),
    "a.xml": (b'<?xml version="1.0"?><VOTABLE version="1.4">', lambda path: catalog.read(path, "")),
    "a.fits": (b"SIMPLE  =                    T", lambda path: catalog.read(path, "")),
    "a.parquet": (b"PAR1", lambda path: catalog.read(path, "")),
    "curve.csv": (b"time,flux\n", readers.read),
    "curve.fits": (b"SIMPLE  =                    T", readers.read),
    "curve.fits.gz": (b"\x1f\x8b\x08\x00", readers.read),
    "curve.parquet": (b"PAR1", readers.read),
    "a.npy": (b"\x93NUMPY\x01\x00", arrays),
    "a.npz": (b"PK\x03\x04", arrays),
    "a.h5": (b"\x89HDF\r\n\x1a\n", arrays),
    "a.tfrecord": (struct.pack("<Q", 3), array_files.tfrecord.read),
    "a.yaml": (b"epochs: ", lambda path: config.resolve(TrainSettings, {}, path)),
    "a.json": (b'{"a": ', lambda path: schema.read(path, dict, schema.Source("a", "b", "c", "d"))),
    saved.FILE: (b"\x08\x00\x00\x00\x00\x00\x00\x00{", saved.load),
    "set/viewset.json": (b'{"viewset": 1, ', lambda path: ViewSet.open(path.parent)),
    "set/tces.csv": (b"star,signal\n", read_table),
}


def outcome(name, content, folder):
    """What became of the file: "read" or "refused"; anything else is raised."""
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    try:
        BORDERS[name][1](path)
    except (TransitError, UnreadableError) as error:
        str(error).encode()
        return "refused"
    return "read"


@pytest.mark.parametrize("name", BORDERS)
@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(content=st.binary(max_size=300), whole=st.booleans())
def test_any_bytes_give_a_value_or_a_typed_error(name, content, whole, tmp_path):
    assert outcome(name, content if whole else BORDERS[name][0] + content, tmp_path) in {"read", "refused"}


def _fits(**changed):
    cards = {"SIMPLE": "T", "BITPIX": 8, "NAXIS": 0, "EXTEND": "T"}
    table = {"XTENSION": "'BINTABLE'", "BITPIX": 8, "NAXIS": 2, "NAXIS1": 12, "NAXIS2": 1, "PCOUNT": 0, "GCOUNT": 1}
    table |= {"TFIELDS": 2, "TTYPE1": "'TIME'", "TFORM1": "'D'", "TTYPE2": "'FLUX'", "TFORM2": "'E'"}
    blocks = b""
    for header in (cards | {k: v for k, v in changed.items() if k == "NAXIS"}, table | changed):
        text = "".join(f"{key:<8}= {value:>20}".ljust(80) for key, value in header.items()) + "END".ljust(80)
        blocks += text.ljust(-(-len(text) // 2880) * 2880).encode()
    return blocks + bytes(2880)


def _npy(shape, kind="<f4"):
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": kind, "fortran_order": False, "shape": shape})
    return stream.getvalue() + bytes(100)


def _zip_bomb():
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for index in range(3):
            archive.writestr(f"{index}.npy", _npy((1 << 22,)) + bytes((4 << 22) - 100))
    return stream.getvalue()


def _hdf5_bomb():
    import h5py

    stream = io.BytesIO()
    with h5py.File(stream, "w") as file:
        file.create_dataset("global", shape=(1 << 33,), dtype="f4", chunks=(1 << 20,))
    return stream.getvalue()


def _hdf5_elsewhere(secret=b"/etc/hostname"):
    import h5py

    stream = io.BytesIO()
    with h5py.File(stream, "w") as file:
        file.create_dataset("global", shape=(4,), dtype="u1", external=[(secret, 0, 4)])
    return stream.getvalue()


def _parquet_bomb():
    import pyarrow as pa
    import pyarrow.parquet

    stream = io.BytesIO()
    zeros = pa.array(np.zeros(16_000_000, np.int8))
    pa.parquet.write_table(pa.table({"time": zeros, "flux": zeros}), stream)
    return stream.getvalue()


def _overlapping_values():
    """A value that reaches beyond its entry, over all others."""
    entries = b"".join(field(0x0A, field(0x0A, f"{i:04}".encode()) + b"\x12\x90\x4e") for i in range(1000))
    return record(field(0x0A, entries))


#: Small files that declare, refer to or decompress to what no program should take.
BOMBS = {
    "gzip of a catalog": ("a.csv", lambda: gzip.compress(b"a,b\n" + bytes(40 << 20), 1)),
    "gzip of a light curve": ("curve.fits.gz", lambda: gzip.compress(bytes(40 << 20), 1)),
    "gzip of TFRecords": ("a.tfrecord", lambda: gzip.compress(bytes(40 << 20), 1)),
    "a wide line": ("a.csv", lambda: b"a b c\n" * 400 + b" " * 200_000 + b"x\n"),
    "npy of a terabyte": ("a.npy", lambda: _npy((1 << 38,))),
    "npy of no bytes": ("a.npy", lambda: _npy((1 << 40,), "|S0")),
    "npy of negative size": ("a.npy", lambda: _npy((-1, -(1 << 33)))),
    "zip": ("a.npz", _zip_bomb),
    "HDF5 of 32 GiB": ("a.h5", _hdf5_bomb),
    "HDF5 of another file": ("a.h5", _hdf5_elsewhere),
    "Parquet of many rows": ("curve.parquet", _parquet_bomb),
    "Parquet catalog": ("a.parquet", _parquet_bomb),
    "a billion axes": ("curve.fits", lambda: _fits(NAXIS=1_000_000_000)),
    "a table of terabytes": ("curve.fits", lambda: _fits(NAXIS2=10**12)),
    "a table of negative size": ("curve.fits", lambda: _fits(NAXIS2=-(10**12))),
    "a million columns": ("curve.fits", lambda: _fits(TFIELDS=10**6)),
    "a catalog of terabytes": ("a.fits", lambda: _fits(NAXIS2=10**12)),
    "a catalog of a billion axes": ("a.fits", lambda: _fits(NAXIS=1_000_000_000)),
    "values over others": ("a.tfrecord", _overlapping_values),
    "deep JSON": ("a.json", lambda: b"[" * 1_000_000),
    "deep JSON of a set": ("set/viewset.json", lambda: b'{"viewset":' * 200_000),
    "deep YAML": ("a.yaml", lambda: b"[" * 100_000),
    "YAML aliases": ("a.yaml", lambda: b"a: &a [x,x]\nb: &b [*a,*a]\nc: [*b,*b]\n"),
    "a long header of weights": (saved.FILE, lambda: struct.pack("<Q", 1 << 60) + b"{"),
}
VOTABLE = '<?xml version="1.0"?>{}<VOTABLE version="1.4"><RESOURCE><TABLE {}><FIELD name="star" datatype="{}"/>{}</TABLE></RESOURCE></VOTABLE>'
HREF = '<DATA><BINARY><STREAM href="file:///etc/hostname"/></BINARY></DATA>'
BOMBS |= {
    f"VOTable {number}": ("a.xml", lambda parts=parts: VOTABLE.format(*parts).encode())
    for number, parts in enumerate(
        [
            ("", 'nrows="100000000000"', "double", "<DATA><TABLEDATA/></DATA>"),
            ("", "", 'char" arraysize="99999999999', "<DATA><TABLEDATA><TR><TD>a</TD></TR></TABLEDATA></DATA>"),
            ("", "", "double", HREF),
            ('<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/hostname">]>', "", "double", ""),
        ]
    )
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_what_a_file_declares_is_compared_with_its_size(bomb, tmp_path):
    name, make = BOMBS[bomb]
    content = make()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert outcome(name, content, tmp_path) == "refused"
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000  # KiB


@pytest.mark.parametrize("name", ["a.csv", "curve.fits", "curve.csv", "a.yaml", "set/viewset.json"])
def test_a_pipe_is_refused_instead_of_waited_for(name, tmp_path):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    os.mkfifo(path)
    with pytest.raises((TransitError, UnreadableError)):
        BORDERS[name][1](path)


NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=8)
STARTS = st.sampled_from(["=", "+", "-", "@", "\t", "\r", "'", "'=", "''-", "=HYPERLINK(1)", "-5", "+1e3", ""])


@settings(max_examples=200, deadline=None)
@given(start=STARTS, rest=NAMES)
def test_a_name_is_read_back_from_a_cell_that_is_no_formula(start, rest):
    cell = csv_text.quoted(start + rest)
    assert csv_text.plain(cell) == start + rest
    if cell[0] in "=+-@\t\r\n":
        float(cell)


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(names=st.lists(st.builds(str.__add__, STARTS, NAMES).map(lambda name: name.replace("\r", "")), min_size=1))
def test_tables_keep_names(names, tmp_path):
    write_table(tmp_path / "a.csv", {"star": names, "row": range(len(names))})
    assert read_table(tmp_path / "a.csv")["star"].tolist() == names


def test_gunzip_gives_what_gzip_took_or_says_why_not():
    content = os.urandom(1000) * 20
    packed = gzip.compress(content)
    assert bounded.gunzip(packed) == content
    for broken in (packed[:-5], packed[:20], packed[:30] + b"\0\0" + packed[32:], b"\x1f\x8b"):
        with pytest.raises(ValueError, match=r"breaks off|decompressed"):
            bounded.gunzip(broken)


def test_a_device_that_does_not_end_is_not_read():
    with pytest.raises(OSError, match="not a regular file"):
        bounded.read_bytes(Path("/dev/zero"))


@pytest.mark.parametrize(
    ("make", "found"),
    [
        (lambda out: simulate(SimulateSettings(out=out, tces=1_000_000_000)), "TCEs of 2001/201 bins need"),
        (lambda out: simulate(SimulateSettings(out=out, bins="100000000/100")), "bins"),
        (lambda _: TrainSettings(members=10**9), "members"),
        (lambda _: BenchSettings(bins="9" * 5000 + "/10"), "bins"),
    ],
)
def test_huge_numbers_are_refused_before_anything_is_spent(make, found, tmp_path):
    with pytest.raises(TransitError, match=found) as caught:
        make(tmp_path / "out")
    assert "GiB" in caught.value.wanted or "1" in caught.value.wanted
    assert not list(tmp_path.iterdir())
