"""Detrending: the published vectors of the Kepler spline, and transits that survive it."""

import numpy as np
import pytest
from scipy.interpolate import make_lsq_spline

from transit_cli.data.views.detrend import SPACINGS, fit_spline, flatten, in_transit
from transit_cli.data.views.folding import Signal, phases
from transit_cli.data.views.spline import gap_splits


@pytest.mark.parametrize(
    ("penalty", "spacing", "rmse"),
    [(1.0, 1.67990914314, 0.013013), (0.1, 1.4882, 0.0066376), (2.0, 1.8963, 0.026215)],
)
def test_published_choice_of_spacing(penalty, spacing, rmse):
    # exoplanet-ml, third_party/kepler_spline/kepler_spline_test.py fits its two sines as separate stretches;
    # here a gap of a day between them does that.
    parts = [np.arange(0, 100, 0.1), np.arange(100, 200, 0.1)]
    flux = np.concatenate([np.sin(part) for part in parts])
    time = np.concatenate([parts[0], parts[1] + 1])
    trend = fit_spline(time, flux, spacings=np.geomspace(0.5, 5, 20).tolist(), penalty=penalty)
    assert trend.spacing == pytest.approx(spacing, abs=1e-4)
    assert np.sqrt(np.mean((flux - trend.values) ** 2)) == pytest.approx(rmse, rel=2e-4)
    assert trend.used_in_fit.all()


def test_published_sine_with_outliers():  # the same file, testFitSine
    time = np.arange(0, 10, 0.1)
    flux = np.sin(time)
    trend = fit_spline(time, flux, spacings=[0.5])
    assert np.sqrt(np.mean((flux - trend.values)[trend.used_in_fit] ** 2)) < 1e-4
    flux[[35, 77, 95]] = 10, -3, 2
    trend = fit_spline(time, flux, spacings=[0.5])
    assert not trend.used_in_fit[[35, 77, 95]].any()
    assert np.sqrt(np.mean((flux - trend.values)[trend.used_in_fit] ** 2)) < 1e-4


def test_published_cubic_is_fitted_exactly():  # the same file, testKeplerSplineCubic
    time = np.arange(0, 10, 0.1)
    flux = (time - 5) ** 3 + 2 * (time - 5) ** 2 + 10
    np.testing.assert_allclose(fit_spline(time, flux, spacings=[0.5]).values, flux, atol=2e-5)


def test_published_removal_of_events():  # light_curve/util_test.py
    time = np.arange(20.0)
    used_in_fit = time[~in_transit(time, [Signal(4.0, 3.5, 1.5)], width=1.0)]
    np.testing.assert_array_equal(used_in_fit, [1, 2, 5, 6, 9, 10, 13, 14, 17, 18])


@pytest.mark.parametrize("spacing", [0.5, 1.3, 7.0])
def test_equals_a_least_squares_spline_of_scipy(spacing):
    rng = np.random.default_rng(3)
    time = np.sort(rng.uniform(0, 30, 800))
    time = time[np.diff(time, prepend=-1) > 0]
    flux = np.sin(time) + rng.normal(0, 0.3, len(time))
    pieces = max(int(np.ptp(time) / spacing), 1)
    knots = time[0] + np.ptp(time) / pieces * np.arange(-3, pieces + 4)
    knots[pieces + 3] = time[-1]
    trend = fit_spline(time, flux, spacings=[spacing])
    expected = make_lsq_spline(time[trend.used_in_fit], flux[trend.used_in_fit], knots, 3)
    np.testing.assert_allclose(trend.values, expected(time), atol=1e-5)


def kepler_like(noise=1e-4, days=300, seed=0):
    """Long cadence with a day's gap a month, and a star that turns in 12 days."""
    time = np.arange(0, days, 0.0204336)
    time = time[time % 30 > 1]
    rng = np.random.default_rng(seed)
    return time, 1 + 2e-3 * np.sin(2 * np.pi * time / 12) + rng.normal(0, noise, len(time))


def test_transits_keep_their_depth_when_masked():
    time, flux = kepler_like()
    signal = Signal(9.3, 2.0, 0.5)
    phase, _ = phases(time, signal)
    inside = np.abs(phase) < signal.duration / 2
    flux = flux * (1 - 1e-3 * inside)
    masked = flatten(time, flux, [signal]).flux
    assert 1 - np.median(masked[inside]) == pytest.approx(1e-3, rel=0.03)
    assert np.median(masked[~inside]) == pytest.approx(1, abs=1e-5)


def test_the_spline_runs_straight_across_a_masked_transit_longer_than_its_knot_spacing():
    time = np.arange(0, 20, 0.02)
    flux = 1 + 0.001 * time
    signal = Signal(100.0, 10.0, 2.0)
    flux[in_transit(time, [signal], 1.0)] -= 0.1
    trend = fit_spline(time, flux, in_transit(time, [signal]), spacings=[0.5])
    np.testing.assert_allclose(trend.values, 1 + 0.001 * time, atol=1e-4)


def test_stretches_are_independent_and_short_ones_are_dropped():
    time = np.concatenate([np.arange(0, 5, 0.02), [7.0, 7.02, 7.04], np.arange(9, 14, 0.02)])
    flux = np.where(time < 6, 1.0, 3.0)
    np.testing.assert_array_equal(gap_splits(time), [0, 250, 253])
    flat = flatten(time, flux)
    assert len(flat.time) == 500
    np.testing.assert_allclose(flat.flux, 1)


def test_the_finest_spacing_follows_a_fast_star_and_the_widest_a_quiet_one():
    time = np.arange(0, 90, 0.02)
    noise = np.random.default_rng(0).normal(0, 1e-4, len(time))
    assert fit_spline(time, 1 + noise).spacing == pytest.approx(SPACINGS[-1])
    assert fit_spline(time, 1 + noise + 0.01 * np.sin(2 * np.pi * time / 2)).spacing < 1


@pytest.mark.parametrize(
    "flux", [np.ones(500), np.zeros(500), np.full(500, -3.0), np.where(np.arange(500) % 2, 1.0, 1.0 + 1e-16)]
)
def test_constant_flux_gives_a_constant_trend(flux):
    trend = fit_spline(np.arange(500) * 0.02, flux)
    np.testing.assert_allclose(trend.values, flux, atol=1e-9)


def test_masks_ignore_figures_that_make_no_sense_and_never_take_everything():
    time = np.arange(0, 30, 0.02)
    assert not in_transit(time, [Signal(np.nan, 0, 0.1), Signal(3, np.nan, 0.1), Signal(0, 0, 1)]).any()
    assert in_transit(time, [Signal(1.0, 0.0, 5.0)]).mean() == pytest.approx(0.5, abs=0.02)
    everything = np.ones(len(time), dtype=bool)
    assert np.isfinite(fit_spline(time, np.ones(len(time)), everything).values).all()


def test_nothing_and_next_to_nothing_are_returned_empty():
    assert len(flatten(np.array([]), np.array([])).time) == 0
    assert len(flatten(np.array([1.0, 2.0]), np.array([1.0, 1.0])).time) == 0


def test_the_trend_stays_level_over_a_transit_at_the_end_of_a_stretch():
    time = np.arange(0, 10, 0.002)
    flux = 1 + np.random.default_rng(1).normal(0, 1e-4, len(time))
    trend = fit_spline(time, flux, time > 9.8, spacings=[0.5])
    last = trend.values[time <= 9.8][-1]
    np.testing.assert_array_equal(trend.values[time > 9.8], last)
    assert last == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("method", ["spline", "biweight", "median"])
def test_every_way_of_detrending_keeps_masked_transits(method):
    if method != "spline":
        pytest.importorskip("wotan", reason="the extra wotan is not installed")
    time, flux = kepler_like(days=60)
    signal = Signal(9.3, 3.0, 0.3)
    inside = np.abs(phases(time, signal)[0]) < signal.duration / 2
    flat = flatten(time, flux * (1 - 1e-3 * inside), [signal], method=method).flux
    assert 1 - np.median(flat[inside]) == pytest.approx(1e-3, rel=0.06)
