"""What is simulated obeys the laws it claims to obey."""

import contextlib
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transit_cli.data.simulation import instrument, signals, systems
from transit_cli.data.simulation.box_search import deepest_box
from transit_cli.data.simulation.systems import SOLAR_DENSITY_PERIOD, Orbit, eclipse

EXPOSURE = 30 / 1440
LIMB = (0.4, 0.25)


def test_the_earth_lies_215_solar_radii_from_the_sun():
    assert pytest.approx(215.03, rel=0.002) == (365.25 / SOLAR_DENSITY_PERIOD) ** (2 / 3)


def test_a_transit_across_the_centre_of_a_uniform_star_is_as_deep_as_the_ratio_of_areas():
    orbit = Orbit(10.0, 0.0, 20.0, 0.0)
    lost = eclipse(np.array([0.0, 2.5, 5.0]), orbit, 0.1, (0.0, 0.0), 1e-4)
    assert lost == pytest.approx([-0.01, 0, 0], abs=1e-9)


orbits = st.builds(
    Orbit,
    period=st.floats(1, 30),
    epoch=st.floats(-5, 5),
    a_over_rstar=st.floats(5, 60),
    cos_inclination=st.floats(0, 0.02),
    eccentricity=st.floats(0, 0.3),
    omega=st.floats(0, 6.28),
)


@settings(max_examples=60, deadline=None)
@given(orbits, st.floats(0.02, 0.8))
def test_an_exposure_averages_what_happens_within_it(orbit, radius_ratio):
    duration = orbit.duration(1 + radius_ratio)
    middle = orbit.epoch + np.linspace(-0.6, 0.6, 41) * max(duration, 0.05)
    within = (np.arange(200) + 0.5) / 200 - 0.5
    fine = eclipse((middle[:, None] + EXPOSURE * within).ravel(), orbit, radius_ratio, LIMB, 1e-6).reshape(41, 200)
    coarse = eclipse(middle, orbit, radius_ratio, LIMB, EXPOSURE)
    assert coarse == pytest.approx(fine.mean(axis=1), abs=0.04 * max(radius_ratio**2, -coarse.min()))


@settings(max_examples=60, deadline=None)
@given(orbits, st.floats(0.02, 0.8), st.booleans())
def test_eclipses_begin_and_end_with_the_contacts(orbit, radius_ratio, secondary):
    duration = orbit.duration(1 + radius_ratio, secondary=secondary)
    centre = orbit.secondary_phase if secondary else 0.0
    phase = np.linspace(-0.5, 0.5, 4001)
    together = orbit.separation(centre + phase * min(3 * duration / orbit.period, 0.5)) < 1 + radius_ratio
    if duration == 0:
        assert not together.any()
    else:
        measured = together.mean() * min(3 * duration, 0.5 * orbit.period)
        # Winn's formula takes the speed as constant during the transit: a few per cent at high eccentricity
        assert measured == pytest.approx(duration, rel=0.15)


def test_two_equal_stars_eclipse_each_other_equally():
    orbit = Orbit(2.0, 0.0, 6.0, 0.05)
    time = np.arange(0, 20, EXPOSURE)
    first, other = (eclipse(time, orbit, 1.0, LIMB, EXPOSURE, secondary=secondary) for secondary in (False, True))
    assert orbit.secondary_phase == pytest.approx(0.5)
    assert np.roll(first, 48) == pytest.approx(other, abs=1e-6)


def test_the_search_finds_a_box_where_it_was_put():
    rng = np.random.default_rng(0)
    time = np.arange(0, 27, EXPOSURE)
    since = (time - 1.3 + 0.5 * 3.7) % 3.7 - 0.5 * 3.7
    flux = 1 - 0.002 * (np.abs(since) < 0.1) + 0.0004 * rng.standard_normal(len(time))
    signal, significance = deepest_box(time, flux, np.array([0.9, 1.7, 3.1, 3.7, 5.9, 11.0]))
    assert signal.period == 3.7
    assert (signal.epoch - 1.3 + 1.85) % 3.7 - 1.85 == pytest.approx(0, abs=0.05)
    assert signal.duration == pytest.approx(0.2, rel=0.4)
    assert significance > 20


def test_the_search_takes_noise_for_little():
    rng = np.random.default_rng(1)
    time = np.arange(0, 27, EXPOSURE)
    _, significance = deepest_box(time, 1 + 1e-3 * rng.standard_normal(len(time)), rng.uniform(0.5, 20, 80))
    assert significance < 6.5


@pytest.mark.parametrize("observe", [instrument.observe_tess, instrument.observe_kepler])
def test_what_the_instrument_adds_is_finite_everywhere(observe):
    for seed in range(20):
        rng = np.random.default_rng(seed)
        observation = observe(rng)
        assert (np.diff(observation.time) > 0).all()
        assert np.diff(observation.time).max() > 0.7  # a real gap
        for make in (
            instrument.pointing_drift,
            instrument.momentum_dump_offsets,
            instrument.edge_ramps,
            instrument.flux_jumps,
            instrument.outlier_bursts,
            instrument.scattered_light,
            instrument.flares,
        ):
            added = make(rng, observation)
            assert added.shape == observation.grid.shape
            assert np.isfinite(added).all(), make.__name__


def test_tess_was_off_for_three_days_in_sector_4():
    spans = [instrument.observe_tess(np.random.default_rng(seed)) for seed in range(40)]
    fourth = [observation.time for observation in spans if observation.grid[0] < 1418 and observation.grid[-1] > 1425]
    assert fourth
    for time in fourth:
        assert not ((time > 1418.54) & (time < 1421.21)).any()


def test_times_are_the_barycentres():
    for seed in range(20):
        step = np.diff(instrument.observe_tess(np.random.default_rng(seed)).grid)
        assert np.abs(step / instrument.TESS_CADENCE - 1).max() <= 1.01 * 2 * np.pi * instrument.LIGHT_TIME / 365.25


@pytest.mark.parametrize("mission", ["tess", "kepler"])
def test_what_is_too_weak_to_be_found_hardly_changes_the_mix(mission):
    kinds = Counter()
    tries = 150
    for seed in range(tries):
        with contextlib.suppress(signals.NothingFoundError):
            kinds[signals.simulate_signal(np.random.default_rng(seed), "J", mission).kind] += 1
    assert kinds.total() > 0.65 * tries
    expected = signals.JUNK["variable"] * tries
    assert kinds["variable star"] == pytest.approx(expected, abs=4 * np.sqrt(expected))
    assert len(kinds) == len(signals.JUNK)


def test_red_noise_is_red_and_of_unit_variance():
    rng = np.random.default_rng(0)
    noise = np.array([instrument.red_noise(rng, 1300, EXPOSURE) for _ in range(50)])
    assert noise.std(axis=1) == pytest.approx(np.ones(50), rel=0.4)
    power = (np.abs(np.fft.rfft(noise, axis=1)) ** 2).mean(axis=0)
    assert power[1:60].mean() > 3 * power[-200:].mean()


@pytest.mark.parametrize("make", [systems.planet, systems.binary])
def test_systems_dim_where_their_signal_says(make):
    time = np.arange(0, 27, EXPOSURE)
    found = 0
    for seed in range(60):
        system = make(np.random.default_rng(seed), time, EXPOSURE, 20.0)
        assert np.isfinite(system.flux).all()
        since = (time - system.signal.epoch + 0.5 * system.signal.period) % system.signal.period
        near = np.abs(since - 0.5 * system.signal.period) < max(system.signal.duration / 2, EXPOSURE)
        if near.sum() > 3 and system.depth > 1e-4:
            found += 1
            lowest = np.argmin(system.flux)
            assert near[lowest] or system.flux[near].min() < 0.6 * system.flux.min()
    assert found > 40
