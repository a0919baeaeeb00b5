"""The Python interface: the same answers as the commands, exceptions instead of exits."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

from transit_cli import api

PERIOD, EPOCH, HOURS = 3.1, 1326.2, 4.0


def transits(depth=0.01, noise=2e-4):
    time = np.arange(1325, 1352, 10 / 1440)
    phase = np.abs((time - EPOCH + PERIOD / 2) % PERIOD - PERIOD / 2)
    flux = 1 - depth * np.clip((HOURS / 48 + 0.01 - phase) / 0.02, 0, 1)
    return time, flux + np.random.default_rng(0).normal(0, noise, len(time))


def test_arrays_a_file_and_the_command_give_one_score(tmp_path, forked_transit):
    time, flux = transits()
    curve = api.light_curve(time, 1000 * flux, star="TIC 1", reference_jd=2457000.0)
    found = api.predict(curve, period=PERIOD, epoch=EPOCH, duration=HOURS, device="cpu")
    assert found.score > 0.5
    assert found.warnings == []
    assert sum(found.probabilities.values()) == pytest.approx(1)
    assert found.measurements["measured_depth_ppm"] == pytest.approx(10_000, rel=0.05)
    file = tmp_path / "tic1.csv"
    np.savetxt(file, np.column_stack([time, flux]), delimiter=",", header="time_btjd,flux", comments="", fmt="%.8f")
    read = api.predict(api.read(file), period=PERIOD, epoch=EPOCH, duration=HOURS, device="cpu")
    words = ["--period", PERIOD, "--epoch", EPOCH, "--duration", HOURS, "--max-plots", 0, "--no-check-periods"]
    done = forked_transit("predict", file, *words, "--device", "cpu", "--json", cwd=tmp_path)
    (signal,) = json.loads(done.stdout)["data"]["signals"]
    assert read.score == pytest.approx(signal["score"], abs=1e-4)
    assert found.score == pytest.approx(signal["score"], abs=0.02)


def test_a_light_curve_of_lightkurve_is_read_with_its_time_format():
    time, flux = transits()
    masked = np.ma.masked_array(flux, mask=np.arange(len(flux)) % 10 == 0)
    other = SimpleNamespace(
        time=SimpleNamespace(format="btjd", value=time),
        flux=SimpleNamespace(value=masked),
        meta={"MISSION": "TESS", "TARGETID": 123},
    )
    curve = api.from_lightkurve(other)
    assert (curve.star, curve.mission, curve.reference_jd) == ("TIC 123", "tess", 2457000.0)
    assert curve.finite == (~masked.mask).sum()
    other.time.format = "unix"
    with pytest.raises(api.TransitError, match="unix"):
        api.from_lightkurve(other)


def test_what_cannot_be_used_is_an_exception_and_doubts_are_warnings():
    time, flux = transits()
    with pytest.raises(api.TransitError, match="time has"):
        api.light_curve(time, flux[:-1])
    with pytest.raises(api.TransitError, match="with a median of"):
        api.light_curve(time, flux - 1)
    curve = api.light_curve(time, flux, reference_jd=2457000.0)
    with pytest.raises(api.TransitError, match="cannot be folded"):
        api.predict(curve, period=-1, epoch=EPOCH, duration=HOURS, device="cpu")
    doubtful = api.predict(curve, period=PERIOD, epoch=EPOCH + 1.3, duration=HOURS, device="cpu")
    assert any("no dip at this ephemeris" in text for text in doubtful.warnings)
