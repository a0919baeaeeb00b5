"""Memory and open files do not grow with the number of stars; a killed run resumes to the same bytes; MPS has it all."""

import json
import os
import subprocess
import sys
import time

import numpy as np
import pytest

from tests.data import fits_maker
from tests.search.curves import planted
from tests.search.test_command import rows, settings, stars
from transit_cli.search import search_run

#: Runs `transit search` with few open files allowed, and prints its peak of resident memory in MiB.
CHILD = """
import resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))

from transit_cli.app import main

try:
    sys.exit(main(["search", *sys.argv[1:]]))
finally:
    unit = 1 << 20 if sys.platform == "darwin" else 1 << 10
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // unit, file=sys.stderr)
"""
FEW_PERIODS = ("--device", "cpu", "--workers", "1", "--min-period", "3.7", "--max-period", "3.8")


def start(*arguments):
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )


def many(folder, count):
    """Light curves of eight stars' noise, each under many names."""
    folder.mkdir()
    time_ = fits_maker.long_cadence(28.0)
    for number in range(count):
        flux = 5000 * planted(
            time_, [(3.74, 133.0, 0.15, 3e-3)] if number % 10 == 0 else [], noise=3e-4, seed=number % 8
        )
        star = 10_000 + number
        fits_maker.kepler(folder / f"kplr{star:09}-2009166043257_llc.fits", star, time_, flux)
    return folder


@pytest.mark.torture
def test_memory_and_open_files_do_not_grow_with_the_number_of_stars(tmp_path):
    peaks = {}
    for count in (100, 1000):
        folder = many(tmp_path / f"curves{count}", count)
        process = start(folder, tmp_path / f"{count}.csv", *FEW_PERIODS, "--memory-limit", "1GiB", "--json")
        answer, said = process.communicate(timeout=900)
        assert process.returncode == 0, said
        assert json.loads(answer)["data"]["signals"] == count // 10
        peaks[count] = int(said.splitlines()[-1])
    assert peaks[1000] < 1.05 * peaks[100], peaks
    assert peaks[1000] < 1024


@pytest.mark.torture
def test_a_killed_search_resumes_and_ends_with_the_same_bytes(tmp_path):
    folder = many(tmp_path / "curves", 24)
    options = (*FEW_PERIODS, "--batch-size", "2")
    whole = start(folder, tmp_path / "whole.csv", *options)
    whole.communicate(timeout=300)
    assert whole.returncode == 0
    for blocks in (2, 6):
        process = start(folder, tmp_path / "found.csv", *options)
        deadline = time.monotonic() + 120
        while len(list((tmp_path / ".found.csv.work").glob("block-*"))) < blocks and time.monotonic() < deadline:
            time.sleep(0.002)
        process.kill()
        process.communicate()
        assert not (tmp_path / "found.csv").exists()
    again = start(folder, tmp_path / "found.csv", *options)
    _, said = again.communicate(timeout=300)
    assert again.returncode == 0
    assert "were searched before" in said
    assert (tmp_path / "found.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()


def test_the_search_runs_on_mps_without_falling_back_and_finds_what_the_cpu_finds(mps, tmp_path):
    folder = stars(tmp_path / "curves", 2)
    search_run.search(settings(folder, tmp_path / "cpu.csv", min_period=4.2, max_period=4.6))
    options = ("--device", "mps", "--min-period", "4.2", "--max-period", "4.6", "--workers", "1", "--json")
    done = mps.transit("search", str(folder), str(tmp_path / "mps.csv"), *options, timeout=300)
    assert done.returncode == 0, done.stderr
    assert not done.counters.get("fell_back")
    here, there = rows(tmp_path / "cpu.csv"), rows(tmp_path / "mps.csv")
    assert [row["star"] for row in there] == [row["star"] for row in here] == ["KIC 1001"]
    for name in ("period_days", "epoch_days", "duration_hours", "depth_ppm", "snr"):
        np.testing.assert_allclose(float(there[0][name]), float(here[0][name]), rtol=1e-4)
