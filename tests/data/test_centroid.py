"""Centroid offsets: injected shifts are recovered, with errors of the right size, across files with axes of their own."""

import numpy as np
import pytest

from transit_cli.data.lightcurves import readers
from transit_cli.data.lightcurves.lightcurve import LightCurve, stitch
from transit_cli.data.simulation.simulate import one
from transit_cli.data.views.extra_views import NAMES, TRANSITS
from transit_cli.data.views.folding import Signal, phases
from transit_cli.data.views.make import make_views, recipe_for
from transit_cli.data.views.measurements.centroid import (
    centroid_scalars,
    centroid_view,
    detrend_centroids,
    significance,
)

SIGNAL = Signal(3.7, 101.3, 0.2)


def curve(shift, *, begin=100.0, noise=1e-3, seed=0, drift=0.05):
    """30 days of centroids with a drift and a shift [2] in pixels during transits, in the axes of one file."""
    rng = np.random.default_rng(seed)
    time = np.arange(begin, begin + 30, 0.02)
    inside = np.abs(phases(time, SIGNAL)[0]) < SIGNAL.duration / 2
    position = np.array([512.0, 77.0]) + drift * np.sin((time - begin) / 9)[:, None]
    position = position + inside[:, None] * np.asarray(shift) + noise * rng.standard_normal((len(time), 2))
    position[::50] = np.nan
    return LightCurve(time, 1 - 0.01 * inside, star="KIC 1", source=f"{begin}.fits", centroid=position)


def test_an_offset_is_recovered_and_its_error_is_that_of_repetitions():
    found = [
        centroid_scalars(detrend_centroids(curve((2e-3, -1e-3), seed=s), [SIGNAL]), SIGNAL, 0.01) for s in range(20)
    ]
    size = np.array([one["centroid_offset_pixels"] for one in found])
    assert size.mean() == pytest.approx(np.hypot(2e-3, 1e-3), rel=0.1)
    errors = np.array([one["centroid_offset_error_pixels"] for one in found])
    assert 0.4 < size.std() / errors.mean() < 1.3  # the error is of both axes together
    assert found[0]["centroid_source_pixels"] == pytest.approx(size[0] / 0.01)
    assert min(one["centroid_offset_significance"] for one in found) > 8


def test_without_an_offset_the_significance_is_that_of_noise():
    found = [centroid_scalars(detrend_centroids(curve((0, 0), seed=s), [SIGNAL]), SIGNAL, 0.01) for s in range(60)]
    sigma = np.array([one["centroid_offset_significance"] for one in found])
    assert abs(sigma.mean()) < 0.6
    assert sigma.max() < 3.5


def test_offsets_of_files_with_turned_axes_add_up_in_size():
    """Kepler turns by a quarter between quarters: the vectors of both files would cancel."""
    files = [curve((2e-3, 0)), curve((-2e-3, 0), begin=140.0, seed=1)]
    alone, both = (detrend_centroids(one, [SIGNAL]) for one in (files[0], stitch(files)))
    one, two = (centroid_scalars(centroids, SIGNAL, 0.01) for centroids in (alone, both))
    assert two["centroid_offset_pixels"] == pytest.approx(2e-3, rel=0.15)
    assert two["centroid_offset_significance"] > one["centroid_offset_significance"]
    view = centroid_view(both, SIGNAL, bins=61, span=2.0, width=0.16)
    assert np.median(view[28:33]) > 3 * np.abs(view[:12]).mean()


def test_files_without_centroids_have_none_and_not_zero():
    bare = LightCurve(np.arange(10.0), np.ones(10), source="a.fits")
    assert detrend_centroids(bare, [SIGNAL]) is None
    assert all(np.isnan(value) for value in centroid_scalars(None, SIGNAL, 0.01).values())
    assert not centroid_view(None, SIGNAL, bins=61, span=2.0, width=0.16).any()
    mixed = stitch([curve((0, 0)), LightCurve(np.arange(200.0, 210, 0.02), np.ones(500), source="b.fits")])
    assert np.isnan(mixed.centroid[-500:]).all()
    assert set(mixed.file_number.tolist()) == {0, 1}


@pytest.mark.parametrize("header", ["MOM_CENTR1,MOM_CENTR2", "sap_x,sap_y", "X_CENTROID,Y_CENTROID"])
def test_columns_of_products_are_read(tmp_path, header):
    time = np.arange(2000, 2010, 0.02)
    rows = "\n".join(f"{t:.5f},{1 + 1e-4 * (i % 5)},{30 + i % 3},{40 - i % 2}" for i, t in enumerate(time))
    file = tmp_path / "star.csv"
    file.write_text(f"btjd,flux,{header}\n{rows}\n", encoding="utf-8")
    read = readers.read(file)
    assert read.centroid is not None
    np.testing.assert_allclose(read.centroid[:3], [[30, 40], [31, 39], [32, 40]])


def test_significance_is_that_of_the_normal_distribution():
    assert significance(0.0, 1) < -5
    assert significance(2 * np.log(1 / 0.15865525), 1) == pytest.approx(1, abs=1e-6)
    assert significance(1500.0, 1) == pytest.approx(np.sqrt(1500), rel=0.01)
    assert significance(1195.0, 1) == pytest.approx(significance(1205.0, 1), abs=0.2)  # both sides of the change


def test_extra_views_say_what_bins_and_transits_hold():
    rng = np.random.default_rng(3)
    time = np.arange(100, 160, 0.02)
    time = time[(time < 130) | (time > 131)]
    flux = 1 - 0.01 * (np.abs(phases(time, SIGNAL)[0]) < 0.1) + 1e-3 * rng.standard_normal(len(time))
    names = tuple(name for name in NAMES if name != "centroid")
    views, _ = make_views(time, flux, SIGNAL, recipe_for("201/61", extra=names))
    recipe = recipe_for("201/61", extra=names)
    assert {name: len(view) for name, view in views.items()} == recipe.lengths
    assert all(np.isfinite(view).all() for view in views.values())
    assert np.median(views["local_scatter"]) == pytest.approx(0.1, rel=0.3)
    assert set(np.unique(views["local_empty"])) <= {0, 1}
    rows = views["transits"].reshape(TRANSITS, 61)
    assert (np.median(rows[:, 26:35], axis=1) < -0.7).all()
    assert np.abs(np.median(views["half_period"])) < 0.05


def test_simulated_background_binaries_pull_the_centroid_and_others_do_not():
    found = [one(3, number, "tess", recipe_for("201/61", extra=("centroid",))) for number in range(60)]
    rows = [row for _, row in found]
    sigma = np.array([row["centroid_offset_significance"] for row in rows])
    beside = np.array(["background" in row["source"] for row in rows])
    assert beside.sum() >= 3
    assert all(row["label"] == "EB" for row, is_beside in zip(rows, beside, strict=True) if is_beside)
    assert np.nanmedian(sigma[beside]) > 5
    assert np.nanmedian(np.abs(sigma[~beside])) < 2
    assert {len(views["centroid"]) for views, _ in found} == {61}
