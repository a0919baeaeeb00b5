"""Calibration: it finds a distortion that was put in, never judges a star by itself, and shifts priors as Bayes does."""

import numpy as np
import pytest

from transit_cli.model.calibration import Calibration, Calibrations, log_probabilities, shift_prior
from transit_cli.training.runs.calibrate import fit, fit_calibrations
from transit_cli.training.runs.ranking_metrics import calibration_error


def distorted(classes, rows=6000, members=2, seed=0):
    """Logits of members that are twice too sure and biased, and labels drawn from the true probabilities."""
    random = np.random.default_rng(seed)
    true = random.normal(0, 2, (rows, classes))
    p = np.exp(true - true.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    labels = (random.random((rows, 1)) > p.cumsum(1)).sum(1)
    shown = 2 * np.log(p) + np.arange(classes)
    return np.stack([shown + random.normal(0, 0.05, shown.shape) for _ in range(members)]), labels


@pytest.mark.parametrize("classes", [2, 4])
def test_a_distortion_is_found_and_undone(classes):
    logits, labels = distorted(classes)
    if classes == 2:
        logits = logits[..., 1] - logits[..., 0]
    logarithms = log_probabilities(logits, 1 if classes == 2 else classes)
    raw, found = np.exp(logarithms).mean(0), fit(logarithms, labels).apply(logarithms).mean(0)
    for place in range(classes):
        assert calibration_error(labels == place, found[:, place]) < 0.02
    assert calibration_error(labels == 0, raw[:, 0]) > 0.04
    assert np.isclose(found.sum(1), 1).all()


def test_a_part_is_calibrated_without_itself(views):
    random = np.random.default_rng(0)
    rows = np.arange(len(views))
    logits, truth = random.normal(0, 1, (2, len(rows))), random.integers(0, 2, len(rows))
    found = fit_calibrations(views, rows, logits, truth, 4)
    from transit_cli.training.loading.samples import assign_folds

    part = assign_folds(views, rows, 4)
    changed = np.where(part == 2, 1 - truth, truth)
    again = fit_calibrations(views, rows, logits, changed, 4)
    assert again.parts[2] == found.parts[2], "its own labels do not matter"
    assert again.parts[1] != found.parts[1]
    assert again.overall != found.overall
    assert fit_calibrations(views, rows, logits, np.zeros(len(rows), int), 4) is None
    assert Calibrations.parse(found.document(), 1) == found
    with pytest.raises(ValueError, match="not 3 numbers"):
        Calibrations.parse(found.document(), 3)


def test_the_prior_shifts_odds_and_leaves_ratios():
    p = np.array([[0.5, 0.3, 0.2], [0.9, 0.05, 0.05]])
    target = np.array([True, False, False])
    np.testing.assert_allclose(shift_prior(p, target, 0.25, 0.25), p)
    rare = shift_prior(p, target, 0.5, 0.01)
    np.testing.assert_allclose(rare[:, 0] / (1 - rare[:, 0]), p[:, 0] / (1 - p[:, 0]) / 99)
    np.testing.assert_allclose(rare[:, 1] / rare[:, 2], p[:, 1] / p[:, 2])


def test_identity_changes_nothing():
    logarithms = log_probabilities(np.array([-800.0, -3.0, 0.0, 5.0]), 1)
    np.testing.assert_allclose(Calibration((1.0, 1.0), (0.0, 0.0)).apply(logarithms), np.exp(logarithms), atol=1e-12)


def test_quantile_scaling_sees_through_offsets_outliers_and_ties(views):
    from transit_cli.data.storage.columns import Columns
    from transit_cli.training.loading.scaling import Scaling

    random = np.random.default_rng(0)
    skewed = -51_882 + np.exp(random.normal(0, 3, len(views)))
    skewed[:100] = skewed[0]
    skewed[100] = np.nan
    views.__dict__["tces"] = Columns.of(views.tces | {"odd": skewed})  # a cached property
    scaling = Scaling.measure(views, "odd", np.arange(len(views)), quantiles=True)
    found = scaling.apply(skewed)
    assert found[100] == 0
    assert len(set(found[:100].tolist())) == 1
    rest = found[101:]
    assert np.array_equal(
        np.argsort(rest, kind="stable"),
        np.argsort(np.clip(skewed[101:], *scaling.knots[:: len(scaling.knots) - 1]), kind="stable"),
    )
    assert 0.7 < found.std() < 1.2
    assert abs(found).max() < 3
