"""The metrics are scikit-learn's; the bootstrap computes the same for many samples at once, and draws stars."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score

from transit_cli.vetting import metrics


def cases(seed, n=60, ties=True):
    random = np.random.default_rng(seed)
    truth = random.random(n) < 0.3
    truth[:2] = [True, False]
    scores = np.clip(0.35 * truth + random.random(n) * 0.65, 0, 1)
    return truth, np.round(scores, 1) if ties else scores


@pytest.mark.parametrize("ties", [True, False])
@given(seed=st.integers(0, 10_000))
@settings(max_examples=40, deadline=None)
def test_the_bootstrap_computes_scikit_learns_metrics(seed, ties):
    truth, scores = cases(seed, ties=ties)
    threshold = 0.5
    found = metrics.resampled_metrics(truth, scores, np.ones((1, len(truth))), threshold)
    expected = metrics.point_estimates(truth, scores, threshold)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name][0] == pytest.approx(value, nan_ok=True), name


@given(seed=st.integers(0, 10_000))
@settings(max_examples=30, deadline=None)
def test_weights_count_as_scikit_learns_sample_weights(seed):
    truth, scores = cases(seed)
    weights = np.random.default_rng(seed + 1).integers(0, 4, len(truth)).astype(float)
    weights[:2] = 1
    found = metrics.resampled_metrics(truth, scores, weights[None], 0.5)
    assert found["average_precision"][0] == pytest.approx(average_precision_score(truth, scores, sample_weight=weights))
    assert found["roc_auc"][0] == pytest.approx(roc_auc_score(truth, scores, sample_weight=weights))
    repeated = np.repeat(np.arange(len(truth)), weights.astype(int))
    for name, value in metrics.point_estimates(truth[repeated], scores[repeated], 0.5).items():
        assert found[name][0] == pytest.approx(value, nan_ok=True), name


def test_precision_at_recall_by_hand():
    truth = np.array([1, 1, 0, 1, 0, 0, 0, 0, 0, 1], bool)
    scores = np.linspace(0.9, 0.1, 10)
    found = metrics.point_estimates(truth, scores, 0.65)
    assert found["precision_at_recall_90"] == pytest.approx(0.4)  # all four only with all ten
    assert found["recall_at_precision_90"] == pytest.approx(0.5)  # the first two are right
    assert found["accuracy"] == pytest.approx(0.7)
    assert found["majority_accuracy"] == pytest.approx(0.6)


def test_whole_stars_are_drawn():
    stars = np.repeat(["a", "b", "c"], [1, 5, 2])
    weights = np.concatenate(list(metrics.bootstrap_weights(stars, 130, seed=0)))
    assert weights.shape == (130, 8)
    assert (weights[:, 1:6] == weights[:, 1:2]).all()
    assert (weights[:, 6:] == weights[:, 6:7]).all()
    drawn_stars = weights[:, 0] + weights[:, 1] + weights[:, 6]
    assert (drawn_stars == 3).all()
    assert weights[:, 0].mean() == pytest.approx(1, abs=0.2)


def test_copies_of_a_star_do_not_narrow_the_interval():
    truth, scores = cases(3, 200, ties=False)
    single = metrics.estimate(truth, scores, np.arange(200), 0.5, resamples=400)
    truth4, scores4, stars4 = np.repeat(truth, 4), np.repeat(scores, 4), np.repeat(np.arange(200), 4)
    by_star = metrics.estimate(truth4, scores4, stars4, 0.5, resamples=400)
    by_signal = metrics.estimate(truth4, scores4, np.arange(800), 0.5, resamples=400)

    def width(found):
        return found["average_precision"].high - found["average_precision"].low

    assert width(by_star) == pytest.approx(width(single), rel=0.25)
    assert width(by_signal) < 0.7 * width(by_star)


def test_the_interval_holds_the_truth_about_as_often_as_it_says():
    """AUC of two normals one apart is 0.760; of 60 intervals of 95 % about 57 hold it (binomial: 50 or fewer, p < 0.001)."""
    held = 0
    for seed in range(60):
        random = np.random.default_rng(seed)
        truth = np.arange(300) % 3 == 0
        scores = 1 / (1 + np.exp(-(random.normal(size=300) + truth)))
        found = metrics.estimate(truth, scores, np.arange(300), 0.5, resamples=150, seed=seed)["roc_auc"]
        held += found.low <= 0.7602 <= found.high
    assert held > 50


@pytest.mark.parametrize("truth", [np.zeros(5, bool), np.ones(5, bool)])
def test_metrics_of_one_class_are_nan(truth):
    found = metrics.estimate(truth, np.linspace(0.1, 0.9, 5), np.arange(5), 0.5, resamples=20)
    assert np.isnan(found["roc_auc"].value)
    assert str(found["roc_auc"]) == "-"
    assert np.isnan(found["average_precision"].value) == (not truth.any())
    assert 0 <= found["accuracy"].value <= 1


@given(seed=st.integers(0, 10_000))
@settings(max_examples=30, deadline=None)
def test_no_threshold_has_a_higher_f1(seed):
    truth, scores = cases(seed)
    best = metrics.point_estimates(truth, scores, metrics.best_threshold(truth, scores))["f1"]
    precision, recall, _ = precision_recall_curve(truth, scores)
    assert best == pytest.approx(np.max(2 * precision * recall / np.maximum(precision + recall, 1e-12)))
