"""Scalars measured on views: known shapes are recovered within their errors, and what cannot be measured is missing."""

import numpy as np
import pytest

from transit_cli.data.views.folding import Signal
from transit_cli.data.views.make import TESS, make_views, recipe_for
from transit_cli.data.views.measurements.binned import view_scalars
from transit_cli.data.views.measurements.trapezoid import BINS, centres, fit_trapezoids

PERIOD, DURATION = 4.0, 0.16


def light_curve(share=0.2, *, depth=0.01, noise=5e-4, secondary=0.0, odd=1.0, seed=0):
    """27 days at 10 minutes of trapezoidal transits, with secondaries at phase 0.5 and odd transits `odd` as deep."""
    rng = np.random.default_rng(seed)
    time = np.arange(0, 27, 10 / 1440)
    signal = Signal(PERIOD, 1.0, DURATION)

    def shape(epoch):
        phase = (time - epoch + PERIOD / 2) % PERIOD - PERIOD / 2
        return np.clip((DURATION / 2 - np.abs(phase)) / (share * DURATION), 0, 1)

    cycle = np.floor((time - 1.0) / PERIOD + 0.5)
    flux = 1 - depth * shape(1.0) * np.where(cycle % 2 == 1, odd, 1.0) - secondary * shape(1.0 + PERIOD / 2)
    return time, flux + noise * rng.standard_normal(len(time)), signal


def scalars(views, recipe=TESS, period=PERIOD, duration=DURATION):
    stacked = {name: np.stack([one[name] for one in views]) for name in views[0]}
    times = np.full(len(views), period), np.full(len(views), duration)
    return view_scalars(stacked, *times, span=recipe.local_span, width=recipe.local_width)


@pytest.mark.parametrize("bins", ["201/61", "2001/201"])
@pytest.mark.parametrize("share", [0.1, 0.25, 0.45])
def test_the_shape_of_a_transit_is_recovered_within_its_error(bins, share):
    recipe = recipe_for(bins)
    views = [make_views(*light_curve(share, seed=seed), recipe)[0] for seed in range(24)]
    found = scalars(views, recipe)
    columns = {"ingress_share": share, "trapezoid_duration_hours": DURATION * 24}
    for name, true in columns.items():
        unit = 1.0 if name == "ingress_share" else true
        error = found[name.replace("_hours", "_error_hours") if "hours" in name else f"{name}_error"]
        assert np.abs(found[name].mean() - true) < 0.06 * unit, name
        assert np.abs((found[name] - true) / error).mean() < 1.8, name  # half a step of the grid is 1.7
        assert np.abs(found[name] - true).max() < 0.15 * unit, name
    assert np.abs(found["trapezoid_offset_durations"]).max() < 0.1
    assert (found["trapezoid_snr"] > 15).all()


def test_secondaries_and_the_odd_even_difference_are_found_where_they_are():
    recipe = recipe_for("201/61", odd_even=True)
    cases = {"planet": {}, "secondary": {"secondary": 2e-3}, "alternating": {"odd": 0.6}}
    found = {
        name: scalars([make_views(*light_curve(seed=s, **case), recipe)[0] for s in range(8)], recipe)
        for name, case in cases.items()
    }
    for column in ("secondary_significance", "half_period_significance"):
        assert found["planet"][column].max() < 5 < found["secondary"][column].min(), column
    assert found["secondary"]["half_period_depth_ratio"].mean() == pytest.approx(0.2, abs=0.06)
    assert found["planet"]["odd_even_significance"].max() < 4 < found["alternating"]["odd_even_significance"].min()
    assert found["alternating"]["odd_even_difference"].mean() == pytest.approx(-0.5, abs=0.12)  # of the mean depth


def test_what_cannot_be_measured_is_missing_and_never_zero():
    views = make_views(*light_curve(), recipe_for("201/61", odd_even=True))[0]
    for name in ("odd", "even"):
        views[name] = views[name] / -views[name].min()  # each in its own depth: the difference is lost
    found = scalars([views])
    assert np.isnan(found["odd_even_difference"]).all()
    unknown = scalars([views], period=np.nan, duration=np.nan)
    for name in ("trapezoid_duration_hours", "secondary_significance", "period_harmonic_ratio"):
        assert np.isnan(unknown[name]).all(), name
    assert np.isfinite(unknown["ingress_share"]).all()
    rising = fit_trapezoids(1 + np.abs(centres())[None] * -0.1, np.ones((1, BINS)), 0.16)
    assert np.isnan(rising.depth).all()
    assert np.isnan(rising.ingress_share).all()


def test_profiles_scale_and_rows_do_not_affect_each_other():
    views = [make_views(*light_curve(share, seed=seed), TESS)[0] for seed, share in enumerate((0.1, 0.3, 0.5))]
    together = scalars(views)
    for row, one in enumerate(views):
        for name, values in scalars([one]).items():
            np.testing.assert_allclose(values[0], together[name][row], rtol=1e-6, err_msg=name)
