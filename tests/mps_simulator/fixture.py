"""The fixture `mps`: the simulated device, ready to run children on. tests/conftest.py makes it known to every test."""

from __future__ import annotations

import os

import pytest

from tests.mps_simulator import build
from tests.mps_simulator.run import run_on_mps, run_transit_on_mps


class SimulatedMps:
    """`mps.run(script_or_function, ...)` and `mps.transit("doctor", "--json", ...)`; see `tests.mps_simulator.run`."""

    run = staticmethod(run_on_mps)
    transit = staticmethod(run_transit_on_mps)


@pytest.fixture(scope="session")
def mps() -> SimulatedMps:
    """The simulated device. Built at first use; where there is no compiler the test is skipped, except with CI=true."""
    try:
        build.library()
    except build.Unavailable as reason:
        if os.environ.get("CI") == "true":
            pytest.fail(f"{reason}; CI does not skip the tests that need it")
        pytest.skip(str(reason))
    return SimulatedMps()
