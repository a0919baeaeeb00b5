"""Optional packages that are there, and that are not."""

import gc
import json
import subprocess
import sys

import pytest

from transit_cli.results import ExitCode, TransitError
from transit_cli.utils import packages


def test_a_package_that_is_installed_is_returned():
    assert packages.require("json", "data", "reading JSON") is json


@pytest.mark.parametrize(
    ("extra", "command"), [("data", 'pip install "transit-cli[data]"'), ("", "pip install no-such-package")]
)
def test_a_package_that_is_missing_is_named_with_its_purpose_and_command(extra, command):
    with pytest.raises(TransitError) as failure:
        packages.require("no_such_package", extra, "reading HDF5")
    error = failure.value
    assert error.found == "the package 'no-such-package' is not installed"
    assert "reading HDF5" in error.wanted
    assert error.fix == command
    assert (error.code, error.exit_code) == ("package-missing", ExitCode.MACHINE)


@pytest.mark.parametrize("enabled", [True, False])
def test_the_collector_pauses_and_is_left_as_it_was(enabled):
    (gc.enable if enabled else gc.disable)()
    try:
        with packages.collector_paused():
            assert not gc.isenabled()
        assert gc.isenabled() is enabled
    finally:
        gc.enable()


def test_what_is_frozen_at_the_start_is_released_at_the_end():
    """Otherwise extension modules report their objects as leaks when the process ends."""
    script = """
import atexit, gc
atexit.register(lambda: print(gc.get_freeze_count()))  # runs last
from transit_cli.utils.packages import collector_paused
for _ in range(2):
    with collector_paused(freeze=True):
        import json
    print(gc.get_freeze_count())
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    first, second, last = map(int, done.stdout.split())
    assert first == second > 1000
    assert last == 0


def test_the_doctor_names_what_is_missing(monkeypatch):
    from transit_cli.doctor.environment_checks import optional_packages

    there = optional_packages()
    assert there.status == "ok"
    monkeypatch.setattr(packages, "absent", lambda names: [name for name in names if name in {"h5py", "wotan"}])
    row = optional_packages()
    assert row.status == "ok"
    assert 'h5py (HDF5 view sets), wotan (--detrend); pip install "transit-cli[data,wotan]"' in row.found
    monkeypatch.setattr(packages, "absent", lambda names: [name for name in names if name == "astropy"])
    row = optional_packages()
    assert (row.status, row.found) == ("fail", "missing: astropy (FITS light curves)")
