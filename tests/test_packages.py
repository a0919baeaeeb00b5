"""Optional packages that are there, and that are not."""

import json

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
