"""The simulated set: the same for a seed however it is made, labelled, and whole or not there."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import psutil
import pytest

from transit_cli.data.inspection import info
from transit_cli.data.settings import SimulateSettings
from transit_cli.data.simulation import simulate
from transit_cli.data.simulation.simulate import SHARES, embedded, make, one
from transit_cli.data.views.make import KEPLER, TESS
from transit_cli.data.viewset import ViewSet
from transit_cli.results import ExitCode, TransitError


def files(folder):
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def settings(out, **options):
    return SimulateSettings(out=out, **{"tces": 30, "mission": "tess", "workers": 1} | options)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    out = tmp_path_factory.mktemp("simulated") / "set"
    return make(settings(out, tces=150))


def test_the_set_does_not_depend_on_the_number_of_processes(tmp_path):
    make(settings(tmp_path / "one", tces=80))
    make(settings(tmp_path / "two", tces=80, workers=2))
    assert files(tmp_path / "one") == files(tmp_path / "two")


def test_a_larger_set_begins_with_the_smaller(tmp_path, small):
    fewer = make(settings(tmp_path / "set", tces=60))
    for name, view in fewer.views.items():
        assert np.array_equal(view, small.views[name][:60])
    assert fewer.tces["period_days"].tolist() == small.tces["period_days"][:60].tolist()


def test_seeds_give_different_sets():
    first, second = (one(seed, 0, "tess", TESS)[0]["global"] for seed in (0, 1))
    assert not np.array_equal(first, second)


def test_the_set_does_not_depend_on_the_processor(tmp_path, transit):
    found = np.show_config(mode="dicts")["SIMD Extensions"]["found"]
    if not found:
        pytest.skip("this processor has no extension that NumPy could do without")
    for name, disabled in (("with", ""), ("without", " ".join(found))):
        env = {"NPY_DISABLE_CPU_FEATURES": disabled} if disabled else {}
        done = transit("data", "simulate", tmp_path / name, "--tces", 40, "--mission", "tess", env=env)
        assert done.returncode == 0, done.stderr
    assert files(tmp_path / "with") == files(tmp_path / "without")


def test_every_invariant_of_a_view_set_holds(small):
    result = info(small, check=True)
    assert result.exit_code == ExitCode.DONE, result.verdict


def test_it_is_labelled_simulated_wherever_one_looks(tmp_path, forked_transit, small):
    assert small.simulated
    assert all(source.startswith("simulated (") for source in small.tces["source"])
    assert all(star.startswith("SIM ") for star in small.tces["star"])
    done = forked_transit("data", "simulate", tmp_path / "set", "--tces", 12)
    assert "simulated" in done.stdout
    assert ViewSet.open(tmp_path / "set").lengths == {"global": 2001, "local": 201}


def test_labels_have_their_shares(small):
    junk = np.isin(small.labels, ["J", "O", "NTP"])
    assert {"O", "NTP"} < set(small.labels)
    for label, share in SHARES.items():
        assert abs((junk if label == "J" else small.labels == label).mean() - share) < 4 * np.sqrt(
            share * (1 - share) / len(small)
        )


@pytest.mark.parametrize(("mission", "recipe"), [("tess", TESS), ("kepler", KEPLER)])
def test_a_planet_shows_a_dip_in_the_middle_of_both_views(mission, recipe):
    numbers = iter(range(1000))
    planets = []
    while len(planets) < 12:
        views, row = one(3, next(numbers), mission, recipe)
        if row["label"] == "PC" and row["snr"] > 15:
            planets.append(views)
    for views in planets:
        local = views["local"]
        reach = len(local) // 60  # the catalogued duration may be three times too long
        assert np.median(local[len(local) // 2 - reach : len(local) // 2 + reach + 1]) < -0.4
        assert abs(int(np.argmin(views["global"])) - recipe.global_bins // 2) < 0.15 * recipe.global_bins


def test_more_views_can_be_asked_for(tmp_path):
    made = make(settings(tmp_path / "set", tces=5, bins="101/31", secondary=True, odd_even=True))
    assert made.lengths == {"global": 101, "local": 31, "secondary": 31, "odd": 31, "even": 31}
    with pytest.raises(TransitError, match="--bins is 5"):
        make(settings(tmp_path / "other", bins="5"))


def test_the_embedded_set_is_made_once(tmp_path, monkeypatch):
    monkeypatch.setattr(simulate, "EMBEDDED_TCES", 20)
    path = embedded(tmp_path / "cache")
    before = files(path)
    stamp = (path / "viewset.json").stat().st_mtime_ns
    assert embedded(tmp_path / "cache") == path
    assert files(path) == before
    assert (path / "viewset.json").stat().st_mtime_ns == stamp
    assert ViewSet.open(path).simulated


def started(tmp_path, *options):
    command = [sys.executable, "-m", "transit_cli", "data", "simulate", str(tmp_path / "set"), "--tces", "20000"]
    run = subprocess.Popen([*command, *options], stderr=subprocess.PIPE, text=True, env=os.environ | {"TERM": "dumb"})
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        children = psutil.Process(run.pid).children(recursive=True)
        working = [child for child in children if "spawn_main" in " ".join(child.cmdline())]
        if len(working) == 2 and all(child.cpu_times().user > 1 for child in working):
            return run, working
        time.sleep(0.1)
    run.kill()
    raise AssertionError("the processes did not start")


def test_a_killed_process_is_said_and_leaves_nothing(tmp_path):
    run, children = started(tmp_path, "--workers", "3")
    children[0].kill()
    _, errors = run.communicate(timeout=60)
    assert run.returncode == ExitCode.MACHINE
    assert "was killed" in errors
    assert list(tmp_path.iterdir()) == []


def test_an_interrupt_leaves_nothing(tmp_path):
    run, children = started(tmp_path, "--workers", "3")
    run.send_signal(signal.SIGINT)
    run.communicate(timeout=60)
    assert run.returncode == ExitCode.INTERRUPTED
    assert list(tmp_path.iterdir()) == []
    assert not any(child.is_running() and child.status() != psutil.STATUS_ZOMBIE for child in children)
