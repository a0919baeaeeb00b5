"""Too many open files, no memory and a failing disk are the machine's faults, and never count as those of a light curve."""

import errno
import json
import os
import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.data import fits_maker
from transit_cli.data import file_check
from transit_cli.data.lightcurves import readers
from transit_cli.data.lightcurves.file_index import FileIndex
from transit_cli.data.settings import CheckSettings
from transit_cli.data.views.folding import Signal
from transit_cli.parsing import schema
from transit_cli.results import ExitCode, TransitError
from transit_cli.utils import machine_errors

#: Runs `transit data prepare` with ever fewer files that it may have open, and prints each ending; then reads with none.
CHILD = """
import contextlib, io, json, os, resource, shutil, sys
from pathlib import Path
from transit_cli.app import main
from transit_cli.data.lightcurves import readers
from transit_cli.data.lightcurves.file_index import FileIndex
from transit_cli.results import TransitError

folder = Path(sys.argv[1])
curves = sorted((folder / "curves").iterdir())
arguments = ["data", "prepare", "catalog.csv", "curves", "made", "--workers", "1", "--bins", "201/61", "--json"]
os.chdir(folder)

def ending():
    for left in ("made", ".made.work", "cache"):
        shutil.rmtree(left, ignore_errors=True)
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        code = main(arguments)
    print(json.dumps([code, json.loads(out.getvalue())]))

def failure(read):
    try:
        read()
    except TransitError as error:
        return error.exit_code, error.document()

ending()
[readers.read(file) for file in curves]
handle = os.dup(2)
os.close(handle)
for more in reversed(range(1, 6)):
    resource.setrlimit(resource.RLIMIT_NOFILE, (handle + more, handle + more))
    ending()
shutil.rmtree("cache", ignore_errors=True)
resource.setrlimit(resource.RLIMIT_NOFILE, (handle, handle))
for file in curves:
    print(json.dumps(failure(lambda: readers.read(file))))
    print(json.dumps(failure(lambda: readers.star_of_file(file))))
print(json.dumps(failure(lambda: FileIndex.of(folder / "curves"))))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A catalog and light curves in FITS, CSV and Parquet of three stars."""
    folder = tmp_path_factory.mktemp("few-files")
    (folder / "curves").mkdir()
    time = fits_maker.long_cadence(30.0)
    flux = fits_maker.flux_with(time, [Signal(3.0, 133.0, 0.15)], [0.002])
    fits_maker.kepler(folder / "curves" / "kplr000000001-2009166043257_llc.fits", 1, time, flux)
    rows = "\n".join(f"{t},{f}" for t, f in zip(time, flux, strict=True))
    (folder / "curves" / "kic000000002.csv").write_text(f"time_bkjd,flux\n{rows}\n")
    columns = "kepid,koi_period,koi_time0bk,koi_duration,koi_disposition"
    row = {"kepid": [3], "time": pa.array([time.tolist()]), "flux": pa.array([flux.tolist()])}
    pq.write_table(pa.table(row), folder / "curves" / "kic000000003.parquet")
    (folder / "catalog.csv").write_text(f"{columns}\n1,3.0,133.0,3.6,CONFIRMED\n2,3.0,133.0,3.6,CONFIRMED\n")
    return folder


def test_too_few_open_files_are_said_and_never_counted_as_an_unreadable_light_curve(folder):
    child = [sys.executable, "-c", CHILD, str(folder)]
    environment = os.environ | {"XDG_CACHE_HOME": str(folder / "cache")}
    done = subprocess.run(child, capture_output=True, text=True, timeout=120, env=environment)
    endings = [json.loads(line) for line in done.stdout.splitlines()]
    runs, reads = endings[:6], endings[6:]
    assert len(reads) == 7, done.stderr
    assert {code for code, _ in runs} == {ExitCode.DONE, ExitCode.MACHINE}
    assert all(document["verdict"].startswith("2 TCEs of 2 stars") for code, document in runs if code == ExitCode.DONE)
    assert {code for code, _ in reads} == {ExitCode.MACHINE}
    for error in [document["errors"][0] for code, document in runs if code] + [document for _, document in reads]:
        assert "Too many open files (this process may have" in error["found"]
        assert "ulimit -n" in error["fix"]


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EIO])
def test_no_reader_takes_a_failure_of_the_machine_for_one_of_the_file(folder, monkeypatch, number):
    opened = os.open

    def fail(path, flags, *others, **named):
        if str(folder) in str(path):
            raise OSError(number, os.strerror(number), str(path))
        return opened(path, flags, *others, **named)

    monkeypatch.setattr(os, "open", fail)
    table, parquet, fits = sorted((folder / "curves").iterdir())
    source = schema.Source("a file", "", "", "")
    for read in (
        lambda: readers.read(fits),
        lambda: readers.read(table),
        lambda: readers.read(parquet),
        lambda: readers.star_of_file(table),
        lambda: readers.verify(fits),
        lambda: file_check.check(CheckSettings(files=(table,))),
        lambda: FileIndex.of(folder / "curves"),
        lambda: schema.load_text(table, source),
    ):
        with pytest.raises(TransitError) as caught:
            read()
        assert (caught.value.exit_code, caught.value.code) == (ExitCode.MACHINE, "os-error")
        assert os.strerror(number) in caught.value.found
        assert caught.value.fix


def caused_by(cause):
    """An error that a library raises in place of another one."""
    error = ValueError("it is no table")
    error.__cause__ = cause
    return error


def test_the_first_cause_decides():
    for cause in (
        OSError(errno.EIO, "x"),
        OSError("[errno 24] Too many"),
        MemoryError(),
        RuntimeError("(os error 24)"),
    ):
        with pytest.raises(TransitError) as caught:
            machine_errors.raise_if_machine(caused_by(cause))
        assert caught.value.exit_code == ExitCode.MACHINE
    for fault in (ValueError("errno = 24"), PermissionError(errno.EACCES, "x"), FileNotFoundError(errno.ENOENT, "x")):
        machine_errors.raise_if_machine(caused_by(fault))
