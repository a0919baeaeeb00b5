"""What every test shares. Rooms have their own conftest.py for what only they need."""

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import torch

from tests import forkserver
from tests.metal_shim import Unavailable
from tests.metal_shim.compiler import cache
from tests.mps_simulator.fixture import mps  # noqa: F401 - a fixture is known by being a name here

# Two pytest workers share two cores: threads that spin while they wait would make everything several times slower.
os.environ.update(OMP_NUM_THREADS="1", MKL_NUM_THREADS="1", OMP_WAIT_POLICY="PASSIVE")

# Triton reads this when a kernel is defined, its own library's kernels at its first import; torch's FLOP counter imports it.
if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"

# A suite that runs in the background may have been told to ignore Ctrl-C; the programs that it tests must not be.
signal.signal(signal.SIGINT, signal.default_int_handler)

# What is measured in tests is no knowledge about this machine; child processes inherit it. What is built for the tests
# themselves stays where it can be found again.
os.environ.setdefault("TRANSIT_TESTS_CACHE", os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache"))
_CACHE = tempfile.TemporaryDirectory(prefix="transit-cache-")
os.environ["XDG_CACHE_HOME"] = _CACHE.name


def pytest_unconfigure():
    """Remove the cache of this process."""
    _CACHE.cleanup()


ROOT = Path(__file__).parent.parent


@pytest.fixture
def shared_data():
    """Real light curves, catalogs and labelled signals; they lie beside the project and are no part of it."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"the real data are not beside the project ({folder.name} is absent)")
    return folder


@pytest.fixture(scope="session")
def metal_shim():
    """Skip a test where Metal sources cannot be compiled for the CPU."""
    try:
        cache()
    except Unavailable as reason:
        pytest.skip(str(reason))


@pytest.fixture(scope="session")
def transit():
    """Run `transit` as a process of its own: `transit("doctor", "--json").stdout`."""

    def run(*arguments, env=None, **options):
        options = {"capture_output": True, "text": True, "timeout": 300} | options
        command = [sys.executable, "-m", "transit_cli", *map(str, arguments)]
        return subprocess.run(command, env=os.environ | {"TERM": "dumb"} | (env or {}), **options)

    return run


@pytest.fixture(scope="session")
def forked_transit(transit):
    """As `transit`, without the seconds that imports take: for tests of what a command says, not of how it starts."""
    # On a Mac a fork cannot use the system's libraries, nor elsewhere CUDA
    return forkserver.run if sys.platform == "linux" and not torch.cuda.is_available() else transit
