"""The classical tests: each fails what it is for, and passes a planet."""

import numpy as np
import pytest

from transit_cli.data.simulation.systems import Orbit, eclipse
from transit_cli.data.starlight.properties import ExtraColumns, StarProperties
from transit_cli.data.views.folding import Signal
from transit_cli.vetting.candidate_tests.candidate import Candidate
from transit_cli.vetting.candidate_tests.transit_fit import fit_transit
from transit_cli.vetting.candidates.disposition import decide, run_tests

PERIOD, EPOCH, CELL, SIGMA = 3.3, 1401.0, 10 / 1440, 4e-4
TIME = np.concatenate([np.arange(1400, 1413, CELL), np.arange(1414.2, 1427, CELL)])


def orbit(period=PERIOD, epoch=EPOCH, b=0.3, a=9.0):
    return Orbit(period, epoch, a, b / a)


def transits(k=0.08, time=TIME, **where):
    return eclipse(time, orbit(**where), k, (0.45, 0.2), CELL)


def candidate(dip, *, duration=None, period=PERIOD, epoch=EPOCH, seed=1, raw=0.0, star=None, extra=None, noise=SIGMA):
    """A candidate with a light curve of white noise and some dips."""
    flux = 1 + dip + noise * np.random.default_rng(seed).standard_normal(len(TIME))
    guess = Signal(period, epoch, duration or orbit(period).duration(1.08))
    weight = np.ones(len(TIME))
    fit = fit_transit(TIME, flux, weight, guess, sigma=noise, red=1.0, cell=CELL)
    assert fit is not None
    return Candidate(
        time=TIME,
        flux=flux,
        raw=flux + raw,
        weight=weight,
        cell=CELL,
        sigma=noise,
        red=1.0,
        signal=Signal(fit.period, fit.epoch, fit.duration),
        fit=fit,
        star=star or StarProperties(1.0, 0.05, 4.44, 0.05, 5777, 10, "test"),
        extra=extra or ExtraColumns(),
        segments=(TIME > 1413.5).astype(int),
        segment_names=("S1", "S2"),
    )


def outcomes(found):
    tests, _ = run_tests(found)
    return {outcome.name: outcome for outcome in tests}, decide(tests, found.fit.snr)


def test_a_planet_passes_every_test_and_its_numbers_are_measured():
    found = candidate(transits())
    tests, decided = outcomes(found)
    assert decided.code == "PC"
    assert {name for name, outcome in tests.items() if outcome.verdict == "fail"} == set()
    fit = found.fit
    assert fit.period == pytest.approx(PERIOD, abs=4 * fit.period_error)
    cycles = (fit.epoch - EPOCH) / PERIOD
    assert fit.epoch == pytest.approx(EPOCH + round(cycles) * PERIOD, abs=4 * fit.epoch_error)
    assert fit.radius_ratio == pytest.approx(0.08, abs=0.005)
    assert fit.duration == pytest.approx(orbit().duration(1.08), rel=0.05)
    for outcome in tests.values():
        assert outcome.reason
        assert outcome.paper
        assert np.isnan(outcome.value) == (outcome.verdict == "not made") or outcome.verdict == "warn"


def test_an_eclipsing_binary_at_half_its_period_fails_by_odd_and_even_depth():
    dip = transits(0.2, period=2 * PERIOD) + transits(0.16, period=2 * PERIOD, epoch=EPOCH + PERIOD)
    tests, decided = outcomes(candidate(dip, duration=0.17))
    assert tests["odd_even"].verdict == "fail"
    assert decided.code == "FP"


@pytest.mark.parametrize(("share", "phase", "verdict"), [(0.3, 0.5, "fail"), (0.3, 0.37, "fail"), (0.05, 0.5, "warn")])
def test_a_second_event_is_an_eclipse_unless_it_can_be_the_light_of_a_planet(share, phase, verdict):
    first = transits(0.13)
    second = share * transits(0.13, epoch=EPOCH + phase * PERIOD)
    tests, decided = outcomes(candidate(first + second))
    assert tests["secondary"].verdict == verdict
    assert tests["secondary"].details["secondary_phase"] == pytest.approx(phase, abs=0.02)
    assert decided.code == ("FP" if verdict == "fail" else "PC")


def test_a_dip_that_happens_once_is_no_secondary_eclipse():
    once = np.where((TIME > 1405) & (TIME < 1406.5), transits(0.1, epoch=EPOCH + 0.4 * PERIOD), 0.0)
    tests, decided = outcomes(candidate(transits(0.08) + once))
    assert tests["secondary"].verdict in {"warn", "pass"}
    assert decided.code == "PC"


def test_a_grazing_binary_fails_by_its_shape():
    dip = transits(0.5, b=1.3)
    tests, decided = outcomes(candidate(dip, duration=0.09))
    assert tests["shape"].verdict == "fail"
    assert decided.code == "FP"
    assert "V-shaped" in decided.reasons[0] or "deep" in decided.reasons[0]


def test_transits_of_which_one_makes_the_signal_are_a_false_alarm():
    once = np.where((TIME > EPOCH + PERIOD - 1) & (TIME < EPOCH + PERIOD + 1), transits(0.14), 0.1 * transits(0.14))
    tests, decided = outcomes(candidate(once))
    assert tests["depth_consistency"].verdict == "fail"
    assert decided.code == "FA"


@pytest.mark.parametrize("multiple", [0.5, 1.0, 2.0])
def test_a_sine_wave_at_the_period_is_a_false_alarm_and_one_elsewhere_is_not(multiple):
    dip = transits(0.04)
    wave = 4e-3 * np.sin(2 * np.pi * TIME / (multiple * PERIOD))
    tests, decided = outcomes(candidate(dip, raw=wave))
    assert tests["sine_wave"].verdict == "fail"
    assert decided.code == "FA"
    other = 4e-3 * np.sin(2 * np.pi * TIME / (1.23 * multiple * PERIOD))
    assert outcomes(candidate(dip, raw=other))[0]["sine_wave"].verdict != "fail"


def test_a_sine_wave_itself_is_not_a_transit():
    wave = -4e-3 * np.cos(2 * np.pi * (TIME - EPOCH) / PERIOD)
    tests, decided = outcomes(candidate(wave, duration=0.15 * PERIOD))
    assert decided.code in {"FA", "FP"}
    assert {tests[name].verdict for name in ("sine_wave", "uniqueness", "duration")} & {"fail"}


def centroids(dip, offset, sigma=2e-4):
    rng = np.random.default_rng(5)
    places = np.stack([offset * dip / (1 + dip), 0 * dip]) + sigma * rng.standard_normal((2, len(TIME)))
    return ExtraColumns(places, "test", 21.0)


def test_a_background_binary_moves_the_centroid():
    dip = transits(0.08)
    tests, decided = outcomes(candidate(dip, extra=centroids(dip, 2.5)))
    found = tests["centroid"]
    assert found.verdict == "fail"
    assert found.details["source_offset_pixels"] == pytest.approx(2.5, rel=0.1)
    assert found.details["source_offset_arcsec"] == pytest.approx(2.5 * 21, rel=0.1)
    assert decided.code == "FP"
    assert outcomes(candidate(dip, extra=centroids(dip, 0.0)))[0]["centroid"].verdict == "pass"


def test_a_dip_that_deepens_with_the_aperture_is_not_of_this_star():
    dip = transits(0.08)
    rng = np.random.default_rng(6)
    flux = {name: 1 + share * dip + SIGMA * rng.standard_normal(len(TIME)) for name, share in (("S", 0.5), ("L", 2.0))}
    tests, decided = outcomes(candidate(dip, extra=ExtraColumns(apertures=flux)))
    assert tests["aperture_depth"].verdict == "fail"
    assert decided.code == "FP"


def test_a_star_without_properties_and_files_without_columns_say_why_a_test_is_not_made():
    tests, _ = outcomes(candidate(transits(), star=StarProperties()))
    assert "not known" in tests["radius"].reason
    assert "no centroids" in tests["centroid"].reason
    assert "one aperture" in tests["aperture_depth"].reason
    assert {tests[name].verdict for name in ("radius", "centroid", "aperture_depth")} == {"not made"}


def test_a_companion_of_a_giant_is_too_large_and_a_dwarf_has_no_long_transits():
    giant = StarProperties(4.0, 0.1, 3.0, 0.1, 4800, 9, "test")
    assert outcomes(candidate(transits(0.1), star=giant))[0]["radius"].verdict == "fail"
    dwarf = StarProperties(0.2, 0.01, 5.05, 0.05, 3200, 12, "test")
    assert outcomes(candidate(transits(0.1), star=dwarf))[0]["duration"].verdict == "fail"


def test_a_period_that_is_a_third_or_twice_the_true_one_is_remarked():
    third = outcomes(candidate(transits(period=PERIOD / 3), duration=0.11))[0]["period_alias"]
    assert third.verdict == "warn"
    assert third.details["period_factor"] == pytest.approx(1 / 3)
    double = outcomes(candidate(transits(0.1, period=2 * PERIOD), duration=0.12))[0]
    assert double["period_alias"].details.get("period_factor") == 2 or double["odd_even"].verdict == "fail"


def test_noise_alone_does_not_pass_and_says_that_it_is_too_weak():
    found = candidate(transits(0.012), seed=4)
    _, decided = outcomes(found)
    assert found.fit.snr < 7.1
    assert decided.code in {"", "FA"} or "below 7.1" in decided.reasons[0]
