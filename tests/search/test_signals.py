"""Planted signals are found with their figures, one after the other; what is none is not."""

import numpy as np
import pytest
import torch

from tests.search.curves import WIDTH, curve, planted, times
from transit_cli.search import star_batch
from transit_cli.search.engine import Engine
from transit_cli.search.star_batch import Limits, plan_for

MACHINE = Engine(torch.device("cpu"), 4 << 20)


def search(*curves, low=1.8, high=0.0, limits=None):
    plan = plan_for(max(one.cells for one in curves), WIDTH, (low, high), (0.3, 5.0))
    return star_batch.search(MACHINE, plan, curves, limits or Limits())


def only(found):
    assert len(found) == 1, [(item.measured.period, item.measured.snr, item.flags) for item in found]
    return found[0]


def test_a_planet_is_found_with_its_figures_and_their_errors():
    time = times()
    true = {"period": 3.3171, "epoch": 1401.234, "duration": 0.13, "depth": 1.4e-3}
    found = only(search(curve(time, planted(time, [tuple(true.values())])))[0]).measured
    for name, value in true.items():
        error = getattr(found, f"{name}_error")
        assert 0 < error < 0.3 * (value if name != "epoch" else true["duration"])
        assert abs(getattr(found, name) - value) < 4 * error
    assert len(found.cycles) == 8
    assert 10 < found.snr < 20
    assert not found.single


def test_errors_are_of_the_size_of_the_scatter():
    """The pull of each figure, over 12 noises: a standard deviation about 1."""
    time = times()
    true = (2.713, 1400.9, 0.12, 1.5e-3)
    found = search(*[curve(time, planted(time, [true], seed=seed)) for seed in range(12)], low=2.65, high=2.8)
    pulls = []
    for one in found:
        signal = only(one).measured
        pulls.append([(signal.period - true[0]) / signal.period_error, (signal.depth - true[3]) / signal.depth_error])
    spread = np.std(pulls, axis=0)
    assert (spread > 0.5).all()
    assert (spread < 1.8).all()


def test_two_planets_of_a_star_are_found_one_after_the_other():
    time = times(54.0)
    planets = [(3.3, 1401.2, 0.12, 2e-3), (7.9, 1402.0, 0.17, 1.2e-3)]
    found = search(curve(time, planted(time, planets)))[0]
    periods = sorted(item.measured.period for item in found)
    np.testing.assert_allclose(periods, [3.3, 7.9], rtol=2e-3)
    assert found[0].measured.snr > found[1].measured.snr


def test_a_strong_signal_is_reported_once_though_its_mask_leaves_something():
    time = times()
    flux = planted(time, [(2.2, 1400.8, 0.1, 0.03)])
    from transit_cli.search.signals.measurement import phase_of

    flux -= 2e-3 * (np.abs(phase_of(time, 2.2, 1400.8)) < 0.09)  # shoulders wider than the mask
    assert len(search(curve(time, flux))[0]) == 1


def test_a_secondary_eclipse_is_a_signal_of_its_own_and_said_to_have_the_same_period():
    time = times()
    eclipses = [(2.2, 1400.8, 0.1, 0.02), (2.2, 1401.9, 0.1, 0.004)]
    found = search(curve(time, planted(time, eclipses)))[0]
    assert len(found) == 2
    np.testing.assert_allclose([item.measured.period for item in found], 2.2, rtol=1e-3)
    assert any("1 times the period of signal 1" in flag for flag in found[1].flags)


def test_eclipses_of_two_depths_are_said_to_differ():
    time = times()
    found = search(curve(time, planted(time, [(4.4, 1400.8, 0.1, 0.012), (4.4, 1403.0, 0.1, 0.010)])), high=3.0)[0]
    signal = found[0]
    assert signal.measured.period == pytest.approx(2.2, rel=1e-3)
    assert any("odd and even" in flag for flag in signal.flags)
    odd, even, sigma = signal.measured.odd_even()
    assert {round(1e3 * odd), round(1e3 * even)} == {12, 10}
    assert sigma > 4


def test_a_single_transit_is_reported_as_such():
    time = times()
    found = only(search(curve(time, planted(time, [(500.0, 1406.0, 0.25, 4e-3)])))[0])
    assert found.measured.single
    assert found.measured.epoch == pytest.approx(1406.0, abs=0.02)
    assert np.isnan(found.measured.period_error)
    assert np.isnan(found.sde)
    assert found.measured.period == pytest.approx(time[-1] - 1406.0, abs=0.5)  # any shorter one would show another
    assert any("single transit" in flag for flag in found.flags)


def test_of_transits_hidden_in_gaps_the_shorter_periods_are_named():
    time = times(60.0, gap=0.0)
    time = time[(time < 1420) | (time > 1440)]
    found = only(search(curve(time, planted(time, [(37.0, 1411.0, 0.3, 4e-3)])))[0])
    assert found.measured.period == pytest.approx(37.0, rel=1e-3)
    assert any("1/2" in flag for flag in found.flags)


def test_transits_at_the_edge_of_a_gap_are_said_to_be_there():
    time = times(27.0, gap=2.0)
    edge = 1400 + 27 / 2 - 1.0
    found = only(search(curve(time, planted(time, [(500.0, edge - 0.1, 0.2, 6e-3)])))[0])
    assert "near a gap" in found.flags


def test_noise_alone_is_no_signal():
    time = times()
    noise = [curve(time, planted(time, [], seed=seed)) for seed in range(100, 104)]
    assert search(*noise, limits=Limits(snr=8.0)) == [[] for _ in noise]


def test_one_glitch_is_not_taken_for_a_period():
    time = times()
    flux = planted(time, [])
    at = np.searchsorted(time, 1409.3)
    flux[at : at + 2] -= 8e-3  # two cells
    found = search(curve(time, flux), limits=Limits(single=20.0))[0]
    assert found == []


def test_the_efficiency_is_highest_at_the_peak_and_has_no_trend():
    rng = np.random.default_rng(2)
    spectrum = 4 + 0.3 * rng.standard_normal(2000) + np.linspace(0, 1, 2000)
    spectrum[700] = 12
    sde = star_batch.detection_efficiency(spectrum, 3888)
    assert sde.argmax() == 700
    assert sde[700] > 15
    assert abs(np.median(sde[:200]) - np.median(sde[-200:])) < 0.5
