"""`transit data prepare`: from files and a catalog to a set; drops with reasons; kills, workers and clusters."""

import hashlib
import json
import os
import signal as signals
import subprocess
import sys
import time
from pathlib import Path

import fits_maker as make
import numpy as np
import pytest

from transit_cli.data.prepare import prepare
from transit_cli.data.settings import PrepareSettings
from transit_cli.data.views.folding import Signal, phases
from transit_cli.data.viewset import ViewSet
from transit_cli.results import TransitError

STARS = 6


def catalog(rows):
    """Rows of (kepid, period, epoch, hours, depth, label) as a Kepler TCE table."""
    names = "kepid,tce_period,tce_time0bk,tce_duration,tce_depth,av_training_set"
    return "\n".join([f"# made up\n{names}", *(",".join(map(str, row)) for row in rows)]) + "\n"


@pytest.fixture
def survey(tmp_path):
    """Six stars of two quarters, one signal each; the first star has two."""
    first, second = make.long_cadence(30), make.long_cadence(30, start=223.0)
    rows = []
    for star in range(1, STARS + 1):
        mine = [Signal(3.0 + 0.37 * star, 132.0 + 0.2 * star, 0.15)]
        mine += [Signal(7.7, 135.2, 0.2)] if star == 1 else []
        depths = [0.004, 0.008][: len(mine)]
        for quarter, times in ((1, first), (2, second)):
            flux = make.flux_with(times, mine, depths, seed=star, level=1000.0 * quarter)
            make.kepler(tmp_path / f"curves/{star}/kplr{star:09d}-{quarter}_llc.fits", star, times, flux)
        rows += [
            (star, s.period, s.epoch, s.duration * 24, depth * 1e6, "PC" if star % 2 else "AFP")
            for s, depth in zip(mine, depths, strict=True)
        ]
    (tmp_path / "tces.csv").write_text(catalog(rows))
    return tmp_path


def run(folder, out="set", **changes):
    settings = {"bins": "201/61", "workers": 1} | changes
    return prepare(
        PrepareSettings(catalog=folder / "tces.csv", light_curves=folder / "curves", out=folder / out, **settings)
    )


def digest(folder):
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in sorted(folder.iterdir())}


def append(folder, *rows):
    with (folder / "tces.csv").open("a") as stream:
        stream.writelines(",".join(map(str, row)) + "\n" for row in rows)


def test_every_signal_becomes_views_with_its_own_depth(survey):
    result = run(survey, secondary=True, odd_even=True)
    views = ViewSet.open(survey / "set")
    assert result.data["tces"] == STARS + 1
    assert views.lengths == {"global": 201, "local": 61, "secondary": 61, "odd": 61, "even": 61}
    np.testing.assert_allclose(views.tces["measured_depth_ppm"], views.tces["depth_ppm"], rtol=0.05)
    np.testing.assert_allclose(views.tces["minimum_offset_durations"], 0, atol=0.5)  # anywhere in a flat bottom
    assert list(views.tces["source"][:1]) == ["kplr000000001-1_llc.fits (+1)"]
    assert set(views.tces["time_system"]) == {"BKJD"}
    assert not views.simulated
    assert list(survey.glob(".*")) == []  # neither work folder nor temporary one


def test_the_epoch_is_brought_to_the_data_with_its_error(survey):
    names = "kepid,tce_period,tce_period_err,tce_time0bk,tce_time0bk_err,tce_duration\n"
    period = 3.37
    (survey / "tces.csv").write_text(names + f"1,{period},0.001,{132.2 - 1000 * period},0.01,3.6\n")
    run(survey)
    tces = ViewSet.open(survey / "set").tces
    assert tces["epoch_days"][0] == pytest.approx(132.2, abs=1e-6) or tces["epoch_days"][0] == pytest.approx(135.57)
    assert tces["epoch_error_days"][0] == pytest.approx(np.hypot(0.01, 1000 * 0.001), rel=0.01)
    assert "epoch uncertain by" in tces["note"][0]


def test_what_cannot_become_a_view_is_dropped_with_its_reason(survey):
    (survey / "curves/cut.fits").write_bytes((survey / "curves/2/kplr000000002-1_llc.fits").read_bytes()[:9000])
    (survey / "curves/kplr000000077-1_llc.fits").write_bytes(b"not FITS" * 500)
    append(
        survey,
        (1, 3.0, "nan", 3, 100, "PC"),
        (1, 3.0, 140, 100, 100, "PC"),
        (1, 300.0, 180, 3, 100, "PC"),
        (1, "", 140, 3, 100, "PC"),
        (999, 3.0, 140, 3, 100, "PC"),
        (77, 3.0, 140, 3, 100, "PC"),
    )
    result = run(survey)
    views = ViewSet.open(survey / "set")
    assert len(views) == STARS + 1
    assert list(views.dropped["reason"]) == [
        "epoch is not a finite number",
        "duration is longer than period",
        "no cadence in transit",
        "period is not a finite number",
        "no light curve of this star",
        "kplr000000077-1_llc.fits: not a FITS file that can be read (No SIMPLE card found)",
    ]
    assert result.data["tces"] + len(views.dropped["reason"]) == STARS + 1 + 6
    notes = dict(zip(views.tces["star"], views.tces["note"], strict=True))
    assert "cut.fits: the file breaks off before its end" in notes["KIC 2"]


def test_a_broken_quarter_is_noted_and_the_others_are_used(survey):
    file = survey / "curves/3/kplr000000003-2_llc.fits"
    file.write_bytes(file.read_bytes()[:20000])
    result = run(survey)
    tces = ViewSet.open(survey / "set").tces
    notes = dict(zip(tces["star"], tces["note"], strict=True))
    assert "kplr000000003-2_llc.fits: the file breaks off" in notes["KIC 3"]
    assert any("cannot be read" in text for text in result.warnings)


def test_a_catalog_may_name_the_light_curve_of_each_row(survey):
    text = (survey / "tces.csv").read_text().splitlines()
    text = [text[0], text[1] + ",file", *(f"{line},kplr{int(line.split(',')[0]):09d}-1_llc.fits" for line in text[2:])]
    (survey / "tces.csv").write_text("\n".join(text))
    run(survey)
    assert set(ViewSet.open(survey / "set").tces["segment"]) == {"Q3"}
    assert all("(+" not in source for source in ViewSet.open(survey / "set").tces["source"])


def test_another_planet_is_taken_out_of_the_views_and_a_secondary_eclipse_is_not(survey):
    star, planet = 50, Signal(6.0, 133.0, 0.3)
    eclipse = Signal(6.0, 136.0, 0.3)
    other = Signal(2.7, 132.1, 0.2)
    time = make.long_cadence(90)
    flux = make.flux_with(time, [planet, eclipse, other], [0.01, 0.004, 0.009])
    make.kepler(survey / "curves/x.fits", star, time, flux)
    rows = [
        (star, s.period, s.epoch, s.duration * 24, d, "PC") for s, d in ((planet, 1e4), (eclipse, 4e3), (other, 9e3))
    ]
    (survey / "tces.csv").write_text(catalog(rows))
    run(survey, bins="2001/201")
    views = ViewSet.open(survey / "set")
    world = views.views["global"][0]
    phase = (np.arange(2001) + 0.5) / 2001 * 6.0 - 3.0
    assert world[np.abs(phase) > 2.9].mean() == pytest.approx(-0.4, abs=0.05)  # the eclipse, half a period away
    assert (world[(np.abs(phase) > 0.3) & (np.abs(phase) < 2.7)] > -0.2).mean() > 0.99  # nothing of the other planet
    assert "blended with" in views.tces["note"][0]


def test_workers_make_the_same_bytes(survey):
    run(survey, "one", workers=1)
    run(survey, "three", workers=3)
    assert digest(survey / "one") == digest(survey / "three")


def test_the_same_command_again_has_nothing_to_do_and_another_is_refused(survey):
    run(survey)
    before = digest(survey / "set")
    run(survey)
    assert digest(survey / "set") == before
    with pytest.raises(TransitError, match="exists already"):
        run(survey, bins="301/31")


def start(folder, out, *options):
    command = [
        sys.executable,
        "-m",
        "transit_cli",
        "data",
        "prepare",
        folder / "tces.csv",
        folder / "curves",
        folder / out,
    ]
    command += ["--bins", "201/61", *options]
    return subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.fixture
def large_survey(survey):
    """As `survey`, with twenty more stars, so that there is time to kill."""
    time, rows = make.long_cadence(30), []
    for star in range(100, 120):
        flux = make.flux_with(time, [Signal(3.74, 132.4, 0.15)], [0.004], seed=star)
        make.kepler(survey / f"curves/kplr{star:09d}-1_llc.fits", star, time, flux)
        rows.append((star, 3.74, 132.4, 3.6, 4000, "PC"))
    append(survey, *rows)
    return survey


@pytest.mark.parametrize(
    ("blow", "workers"), [(signals.SIGKILL, 1), pytest.param(signals.SIGTERM, 2, marks=pytest.mark.torture)]
)
def test_a_killed_run_goes_on_and_ends_with_the_same_bytes(large_survey, blow, workers):
    run(large_survey, "whole")
    process = start(large_survey, "set", "--workers", str(workers))
    work = large_survey / ".set.work"
    deadline = time.monotonic() + 60
    while len(list(work.glob("*.npz"))) < 3 and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(blow)
    _, said = process.communicate(timeout=60)
    done = len(list(work.glob("*.npz")))
    assert not (large_survey / "set").exists()
    assert 3 <= done < STARS + 20
    if blow == signals.SIGTERM:
        assert process.returncode == 143
        assert "to resume from" in said
    again = start(large_survey, "set", "--workers", "1", "--json")
    answer, said = again.communicate(timeout=120)
    assert again.returncode == 0, said
    assert "were done before" in said
    assert json.loads(answer)["data"]["tces"] == STARS + 21
    assert digest(large_survey / "set") == digest(large_survey / "whole")


def test_workers_end_when_their_parent_is_killed(large_survey):
    process = start(large_survey, "set", "--workers", "2")
    while not list((large_survey / ".set.work").glob("*.npz")):
        assert process.poll() is None, process.communicate()
        time.sleep(0.005)
    import psutil

    children = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.communicate()
    _, alive = psutil.wait_procs(children, timeout=20)
    assert alive == []


def slowly(task):
    """As `prepare_star`, slow enough that a worker can be killed at it."""
    from transit_cli.data.views.star import prepare_star

    time.sleep(0.2)
    return prepare_star(task)


@pytest.mark.torture
def test_a_cluster_makes_the_same_bytes_though_a_worker_is_killed(survey, monkeypatch):
    distributed = pytest.importorskip("distributed")
    run(survey, "here")
    import transit_cli.data.prepare as module

    monkeypatch.setattr(module, "prepare_star", slowly)
    paths = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    monkeypatch.setenv("PYTHONPATH", paths)
    with distributed.LocalCluster(
        n_workers=3, threads_per_worker=1, processes=True, dashboard_address=None, silence_logs=50
    ) as cluster:
        victim = next(iter(cluster.workers.values()))
        each = module.each

        def each_with_a_blow(*arguments):
            for count, item in enumerate(each(*arguments)):
                if count == 0:
                    os.kill(victim.pid, signals.SIGKILL)
                yield item

        monkeypatch.setattr(module, "each", each_with_a_blow)
        run(survey, "there", scheduler=cluster.scheduler_address)
    assert digest(survey / "here") == digest(survey / "there")


def test_a_scheduler_that_does_not_answer_says_so(survey):
    pytest.importorskip("distributed")
    with pytest.raises(TransitError, match="no Dask scheduler answers"):
        run(survey, scheduler="tcp://127.0.0.1:9")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"bins": "12"}, "--bins is 12"),
        ({"detrend": "magic"}, "--detrend is magic|wotan"),
        ({"mission": "k2"}, "none of"),
    ],
)
def test_settings_that_cannot_work_say_so(survey, changes, message):
    if changes.get("mission"):
        (survey / "tces.csv").write_text("star,period,t0,duration\n123,2.0,140,3\n")
    with pytest.raises(TransitError, match=message):
        run(survey, **changes)


def test_folders_without_light_curves_say_so(tmp_path):
    (tmp_path / "tces.csv").write_text(catalog([(1, 3, 140, 3, 100, "PC")]))
    with pytest.raises(TransitError, match="is not a folder"):
        run(tmp_path)
    (tmp_path / "curves").mkdir()
    with pytest.raises(TransitError, match="holds no light curve"):
        run(tmp_path)


def test_phases_of_the_test_survey_hold_transits():  # the fixture itself: each star has transits in both quarters
    for star in range(1, STARS + 1):
        signal = Signal(3.0 + 0.37 * star, 132.0 + 0.2 * star, 0.15)
        for time_ in (make.long_cadence(30), make.long_cadence(30, start=223.0)):
            assert (np.abs(phases(time_, signal)[0]) < 0.05).sum() > 10
