"""A Dask cluster that ends in the middle of the work: an error that says so, and no silence."""

import subprocess
import sys
import time

import pytest

from transit_cli import parallel
from transit_cli.results import ExitCode, TransitError


def slow(task):
    time.sleep(0.05)
    return task


@pytest.fixture
def cluster(tmp_path):
    """The address of a scheduler with one worker, and both processes."""
    file = tmp_path / "scheduler.json"
    options = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": tmp_path}
    dask = [sys.executable, "-m", "distributed.cli"]
    scheduler = subprocess.Popen(
        [
            *dask[:2],
            f"{dask[2]}.dask_scheduler",
            "--host",
            "127.0.0.1",
            "--port",
            "0",
            "--no-dashboard",
            "--scheduler-file",
            str(file),
        ],
        **options,
    )
    worker = subprocess.Popen(
        [
            *dask[:2],
            f"{dask[2]}.dask_worker",
            "--scheduler-file",
            str(file),
            "--nthreads",
            "1",
            "--no-nanny",
            "--no-dashboard",
        ],
        **options,
    )
    end = time.monotonic() + 60
    while not file.exists() or not file.read_text():
        assert time.monotonic() < end
        time.sleep(0.1)
    import json

    yield json.loads(file.read_text())["address"], scheduler, worker
    for process in (worker, scheduler):
        process.kill()
        process.wait()


@pytest.mark.torture
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("lost", ["scheduler", "worker"])
def test_a_cluster_that_ends_is_said(cluster, lost, monkeypatch):
    address, scheduler, worker = cluster
    monkeypatch.setattr(parallel, "LOOK_S", 0.5)
    monkeypatch.setattr(parallel, "PATIENCE_S", 3.0)
    done = 0
    with pytest.raises(TransitError, match=r"has ended|has had no workers|does not answer") as caught:  # noqa: PT012
        for _ in parallel.each(slow, range(1000), scheduler=address):
            done += 1
            if done == 3:
                (scheduler if lost == "scheduler" else worker).kill()
    assert caught.value.exit_code == ExitCode.MACHINE
    assert 3 <= done < 1000
