"""Folding, binning, normalising: AstroNet's published vectors, invariants, and signals that cannot become views."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transit_cli.data.views.binning import bin_medians, fill_empty, interpolate_empty, median
from transit_cli.data.views.folding import Folded, Signal, UnusableError, fold, phases
from transit_cli.data.views.make import KEPLER, TESS, Recipe, global_bins, local_bins, make_views, normalise, recipe_for
from transit_cli.data.views.measure import boxes_outside, measure, secondary_dip

# exoplanet-ml, light_curve/fast_ops/python/view_generator_test.py
TIME, FLUX = np.arange(0, 2, 0.1), np.arange(20.0)
FOLDED = fold(TIME, FLUX, Signal(2.0, 0.15, 0.125))


def test_published_global_view():
    view = global_bins(FOLDED, Recipe(global_bins=10))
    np.testing.assert_allclose(view, [12.5, 14.5, 16.5, 18.5, 0.5, 2.5, 4.5, 6.5, 8.5, 10.5])
    np.testing.assert_allclose(normalise(view), np.array([3, 5, 7, 9, -9, -7, -5, -3, -1, 1]) / 9)


def test_published_local_view():
    view = local_bins(FOLDED, Recipe(local_bins=5, local_width=1.6, local_span=4.0))
    np.testing.assert_allclose(view, [17.5, 9.5, 1.5, 3.5, 5.5])
    np.testing.assert_allclose(normalise(view), [3, 1, -1, -0.5, 0])


@pytest.mark.parametrize(
    ("points", "bins", "width", "reach", "expected"),
    [  # exoplanet-ml, light_curve/fast_ops/python/median_filter_test.py
        ((range(-6, 7), range(1, 14)), 5, 2, 5, [2.5, 4.5, 6.5, 8.5, 10.5]),
        (([-1, 0, 1], [2, 3, 1]), 5, 1, 5, [2, 2, 3, 2, 2]),
        ((range(-6, 7), range(1, 14)), 7, 5, 10, [1, 2.5, 4, 7, 9, 11.5, 12.5]),
    ],
)
def test_published_median_filter(points, bins, width, reach, expected):
    x, y = (np.array(part, float) for part in points)
    medians, _ = bin_medians(x, y, bins=bins, width=width, low=-reach, high=reach)
    np.testing.assert_allclose(fill_empty(medians, y), expected)


def test_empty_bins_are_bridged_by_lines():
    nothing, flux = np.nan, np.arange(5.0)
    view = interpolate_empty(np.array([nothing, 1, nothing, nothing, 4, 2, nothing]), flux)
    np.testing.assert_allclose(view, [1, 1, 2, 3, 4, 2, 2])
    np.testing.assert_allclose(interpolate_empty(np.full(3, nothing), flux), [2, 2, 2])


def test_a_gap_is_a_line_in_views_as_yu_made_them_and_level_in_astronets():
    time = np.arange(0, 27, 0.02)
    time = time[(time % 5 < 1.5) | (time % 5 > 3)]
    flux = 1 + 0.01 * (time % 5)
    signal = Signal(5.0, 4.5, 0.2)
    bridge = np.diff(make_views(time, flux, signal, TESS)[0]["global"], 2)
    level = np.diff(make_views(time, flux, signal, KEPLER)[0]["global"])
    assert np.abs(bridge[90:110]).max() < 0.1
    assert (level == 0).mean() > 0.2


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=40))
def test_the_median_is_numpys(values):
    assert median(np.array(values)) == np.median(values)


def test_published_normalisation():  # light_curve/fast_ops/normalize_test.cc
    np.testing.assert_allclose(normalise(np.arange(9.0)), np.arange(-1, 1.01, 0.25))
    with pytest.raises(UnusableError, match="flat"):
        normalise(np.full(9, 3.0))


@pytest.mark.parametrize(
    ("time", "epoch", "expected"),
    [  # light_curve/util_test.py: the phase of each time, sorted
        (np.arange(0, 2, 0.1), 0.45, np.repeat(np.arange(-0.45, 0.5, 0.1), 2)),
        (np.arange(0, 2, 0.1), 1.25, np.repeat(np.arange(-0.45, 0.5, 0.1), 2)),
        (np.arange(0, 2, 0.1), -1.65, np.repeat(np.arange(-0.45, 0.5, 0.1), 2)),
        (np.arange(-3, -1, 0.1), 0.55, np.repeat(np.arange(-0.45, 0.5, 0.1), 2)),
    ],
)
def test_published_fold(time, epoch, expected):
    folded = fold(time, np.arange(len(time)), Signal(1.0, epoch, 0.1))
    np.testing.assert_allclose(folded.phase, expected, atol=1e-12)


@given(
    st.lists(st.floats(-1e4, 1e4), min_size=1, max_size=300),
    st.floats(0.1, 900),
    st.floats(-5e3, 5e3),
)
def test_phases_lie_within_half_a_period_and_add_up(times, period, epoch):
    time = np.array(times)
    phase, cycle = phases(time, Signal(period, epoch, period / 10))
    assert (phase >= -period / 2).all()
    assert (phase < period / 2).all()
    np.testing.assert_allclose(epoch + cycle * period + phase, time, atol=1e-8)


@settings(max_examples=60)
@given(
    st.lists(st.tuples(st.floats(-1, 1), st.floats(-1e3, 1e3)), max_size=300),
    st.integers(2, 60),
    st.floats(0.01, 1.5),
)
def test_bin_medians_equal_a_plain_loop(points, bins, width):
    points.sort()
    x, y = np.array([p[0] for p in points]), np.array([p[1] for p in points])
    found, counts = bin_medians(x, y, bins=bins, width=width, low=-1.0, high=1.0)
    step = (2.0 - width) / (bins - 1)
    for i in range(bins):
        begin = -1.0 + step * i
        end = 1.0 if i == bins - 1 else begin + width if abs(step - width) > 1e-9 * width else -1.0 + step * (i + 1)
        inside = y[(x >= begin) & (x < end)]
        assert counts[i] == len(inside)
        np.testing.assert_allclose(found[i], np.median(inside) if len(inside) else np.nan)


def test_touching_bins_hold_every_point_once():
    rng = np.random.default_rng(1)
    for period in rng.uniform(0.5, 400, 50):
        edges = -period / 2 + period / 2001 * np.arange(2001)  # the points most likely to fall between bins
        _, counts = bin_medians(edges, edges, bins=2001, width=period / 2001, low=-period / 2, high=period / 2)
        assert counts.sum() == 2001


def box(time, signal, depth):
    phase, _ = phases(time, signal)
    return 1 - depth * (np.abs(phase) < signal.duration / 2)


@pytest.mark.parametrize("recipe", [KEPLER, TESS, recipe_for("1000/100", secondary=True, odd_even=True)])
def test_a_transit_becomes_views_with_its_minimum_in_the_centre(recipe):
    time = np.arange(0, 300, 0.02)
    signal = Signal(7.3, 3.1, 0.2)
    flux = box(time, signal, 0.01) + np.random.default_rng(0).normal(0, 1e-4, len(time))
    views, scalars = make_views(time, flux, signal, recipe)
    assert {name: len(view) for name, view in views.items()} == recipe.lengths
    for name in ("global", "local"):
        assert np.median(views[name]) == pytest.approx(0, abs=1e-6)
        assert views[name].min() == pytest.approx(-1)
        assert views[name].dtype == np.float32
    half = recipe.local_bins // 2
    assert views["local"][half - 1 : half + 2].max() < -0.9
    assert scalars["measured_depth_ppm"] == pytest.approx(1e4, rel=0.02)
    assert scalars["transits"] == len(np.unique(phases(time, signal)[1][flux < 0.995]))


def test_secondary_and_odd_even_views_keep_their_depth_relative_to_the_primary():
    time = np.arange(0, 300, 0.02)
    primary, secondary = Signal(8.0, 3.1, 0.25), Signal(8.0, 3.1 + 3.4, 0.25)
    phase, cycle = phases(time, primary)
    flux = 1 - (np.abs(phase) < 0.125) * np.where(cycle % 2 == 1, 0.02, 0.01)
    flux += box(time, secondary, 0.004) - 1 + np.random.default_rng(0).normal(0, 1e-5, len(time))
    views, scalars = make_views(time, flux, primary, recipe_for("201/61", secondary=True, odd_even=True))
    odd = np.median(views["odd"][28:33])
    assert odd < -0.9
    assert np.median(views["even"][28:33]) / odd == pytest.approx(0.5, rel=0.02)
    assert scalars["secondary_phase_days"] == pytest.approx(3.4, abs=0.1)
    assert views["secondary"].min() / odd == pytest.approx(0.2, rel=0.02)
    assert scalars["secondary_depth_ppm"] == pytest.approx(4000, rel=0.02)


def test_a_single_transit_repeats_the_local_view_for_the_parity_that_was_not_seen():
    time = np.arange(0, 20, 0.02)
    signal = Signal(100.0, 10.0, 0.5)
    views, scalars = make_views(time, box(time, signal, 0.01), signal, Recipe(odd_even=True))
    assert (scalars["odd_transits"], scalars["even_transits"]) == (0, 1)
    np.testing.assert_array_equal(views["odd"], views["local"])


def test_secondary_of_a_signal_that_fills_its_period_is_half_a_period_away():
    time = np.arange(0, 20, 0.02)
    folded = fold(time, np.ones_like(time), Signal(1.0, 0.0, 0.4))
    assert secondary_dip(folded, boxes_outside(folded)) == (0.5, 0.0, 0)


@pytest.mark.parametrize(
    ("signal", "reason"),
    [
        (Signal(np.nan, 0, 0.1), "period is not a finite number"),
        (Signal(3, np.nan, 0.1), "epoch is not a finite number"),
        (Signal(3, 0, np.inf), "duration is not a finite number"),
        (Signal(0, 0, 0.1), "period is not positive"),
        (Signal(3, 0, -0.1), "duration is not positive"),
        (Signal(3, 0, 3.5), "duration is longer than period"),
        (Signal(100, 50, 0.1), "no cadence in transit"),
        (Signal(3, 0, 0.1), "flat view"),
    ],
)
def test_what_cannot_become_a_view_says_why(signal, reason):
    time = np.arange(0, 10, 0.02)
    with pytest.raises(UnusableError, match=reason):
        make_views(time, np.ones_like(time), signal)


def test_an_empty_light_curve_says_so():
    with pytest.raises(UnusableError, match="empty"):
        make_views(np.array([]), np.array([]), Signal(3, 0, 0.1))


@pytest.mark.parametrize("text", ["2001", "a/b", "2001/5", "-1/20", "2001x201", ""])
def test_view_lengths_that_make_no_sense_are_refused(text):
    with pytest.raises(ValueError, match="bins"):
        recipe_for(text)


def test_local_bins_never_leave_a_gap_between_them():
    recipe = recipe_for("100/20")
    assert recipe.local_width >= 2 * recipe.local_span / recipe.local_bins


def test_a_depth_does_not_hang_on_rounding():
    """Where the middle of a transit is missing, V shapes of any steepness fit its wings alike."""
    rng = np.random.default_rng(4)
    phase = np.sort(np.concatenate([rng.uniform(-0.8, -0.3, 60), rng.uniform(0.3, 0.8, 60)]))
    dip = 0.02 * np.clip(1 - np.abs(phase) / 0.5, 0, None)
    noise = 1e-4 * rng.standard_normal(len(phase))
    depths = []
    for shaken in range(20):
        shake = 1 + 1e-15 * np.random.default_rng(shaken).standard_normal(len(phase))
        folded = Folded(phase, (1 - dip + noise) * shake, np.zeros(len(phase)), Signal(4.0, 0.0, 1.0))
        depths.append(measure(folded, 0.02)["measured_depth_ppm"])
    np.testing.assert_allclose(depths, depths[0], rtol=1e-9)
