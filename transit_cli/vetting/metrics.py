"""Metrics of a classifier's scores, with confidence intervals.

The metrics are scikit-learn's (`point_estimates`). Their intervals are percentiles of a bootstrap over stars, not
signals, because the signals of a star share its noise, the history of its labels and often its planet (Efron &
Tibshirani 1993, ch. 8: resample what is independent). scikit-learn would take minutes for a thousand resamples;
`resampled_metrics` computes the same metrics of all of them at once, from cumulative sums over scores sorted once. The
tests compare both.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

RECALLS = (0.9, 0.95, 0.99)
PRECISIONS = (0.9, 0.99)
CALIBRATION_BINS = 10
RESAMPLES = 1000
LEVEL = 0.95
#: Resamples, and weights, that are handled at once.
_CHUNK, _WEIGHTS = 50, 1 << 19


@dataclass(frozen=True)
class Estimate:
    """The value of a metric and its `LEVEL` confidence interval; NaN where the metric is undefined."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        if np.isnan(self.value):
            return "-"
        return f"{self.value:.3f} ({self.low:.3f} to {self.high:.3f})"


def estimate(
    truth: NDArray[np.bool_],
    scores: NDArray[np.float64],
    stars: NDArray[np.generic],
    threshold: float,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> dict[str, Estimate]:
    """Every metric with its interval.

    Args:
        truth: [N] whether each signal is positive.
        scores: [N] probabilities, finite.
        stars: [N] the star of each signal, the unit of the bootstrap.
        threshold: signals with at least this score are predicted positive.
        resamples: number of bootstrap samples.
        seed: seed of the bootstrap.
    """
    values = point_estimates(truth, scores, threshold)
    order = np.argsort(-scores, kind="stable")
    ranked = _Ranked(truth[order], scores[order], threshold)
    draws: dict[str, list[NDArray[np.float64]]] = {name: [] for name in values}
    for weights in bootstrap_weights(stars[order], resamples, seed):
        for name, drawn in ranked.metrics(weights).items():
            draws[name].append(drawn)
    return {name: Estimate(value, *_interval(draws[name])) for name, value in values.items()}


def _interval(draws: list[NDArray[np.float64]]) -> tuple[float, float]:
    drawn = np.concatenate(draws) if draws else np.empty(0)
    drawn = drawn[np.isfinite(drawn)]  # a resample without a positive has no precision
    if not len(drawn):
        return float("nan"), float("nan")
    low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def bootstrap_weights(stars: NDArray[np.generic], resamples: int, seed: int) -> Iterator[NDArray[np.float64]]:
    """How often each bootstrap sample contains each signal: `resamples` rows in blocks of [<= 50, N].

    The draws do not depend on the size of the blocks, which hold less than a few MB.
    """
    names, star = np.unique(stars, return_inverse=True)
    random = np.random.default_rng(seed)
    block = min(max(_WEIGHTS // max(len(star), 1), 1), _CHUNK)
    for start in range(0, resamples, block):
        rows = min(block, resamples - start)
        drawn = random.integers(len(names), size=(rows, len(names)))
        drawn += np.arange(rows)[:, None] * len(names)
        counts = np.bincount(drawn.ravel(), minlength=rows * len(names)).reshape(rows, len(names))
        yield counts[:, star].astype(np.float64)


def point_estimates(truth: NDArray[np.bool_], scores: NDArray[np.float64], threshold: float) -> dict[str, float]:
    """The metrics; NaN where one is undefined (only one class)."""
    from sklearn import metrics

    predicted = scores >= threshold
    positives = int(truth.sum())
    both = 0 < positives < len(truth)
    values = {"average_precision": float("nan"), "roc_auc": float("nan")}
    precision, recall = np.array([np.nan]), np.array([np.nan])
    if positives:
        values["average_precision"] = float(metrics.average_precision_score(truth, scores))
        precision, recall, _ = metrics.precision_recall_curve(truth, scores)
        precision, recall = precision[:-1], recall[:-1]  # scikit-learn's last point (1, 0) is no threshold
    if both:
        values["roc_auc"] = float(metrics.roc_auc_score(truth, scores))
    for minimum in RECALLS:
        values[f"precision_at_recall_{minimum * 100:.0f}"] = _best(precision, recall >= minimum)
    for minimum in PRECISIONS:
        reached = _best(recall, precision >= minimum)
        values[f"recall_at_precision_{minimum * 100:.0f}"] = reached if positives else float("nan")
    zero: dict[str, Any] = {"zero_division": np.nan}
    values |= {
        "accuracy": float(metrics.accuracy_score(truth, predicted)),
        "majority_accuracy": max(positives, len(truth) - positives) / len(truth),
        "precision": float(metrics.precision_score(truth, predicted, **zero)),
        "recall": float(metrics.recall_score(truth, predicted, **zero)),
        "f1": float(metrics.f1_score(truth, predicted, **zero)),
        "brier": float(metrics.mean_squared_error(truth, scores)),
        "calibration_error": float(_calibration_error(truth, scores, np.ones((1, len(truth))))[0]),
    }
    return values


def _best(values: NDArray[np.float64], allowed: NDArray[np.bool_]) -> float:
    """The largest of the allowed values; 0 if none is allowed, NaN if a value is NaN."""
    return float("nan") if np.isnan(values).any() else float(np.max(values, where=allowed, initial=0.0))


def resampled_metrics(
    truth: NDArray[np.bool_],
    scores: NDArray[np.float64],
    weights: NDArray[np.float64],
    threshold: float,
) -> dict[str, NDArray[np.float64]]:
    """The metrics of `point_estimates` for each row of weights [R, N]: arrays [R]."""
    order = np.argsort(-scores, kind="stable")
    return _Ranked(truth[order], scores[order], threshold).metrics(weights[:, order])


class _Ranked:
    """Signals in descending order of score, so that each metric of a resample follows from cumulative sums.

    Args:
        truth: [N] whether each signal is positive.
        scores: [N], descending.
        threshold: signals with at least this score are predicted positive.
    """

    def __init__(self, truth: NDArray[np.bool_], scores: NDArray[np.float64], threshold: float) -> None:
        self._truth = truth
        self._error = scores - truth
        self._above = int((scores >= threshold).sum())
        last = np.append(np.diff(scores) != 0, True)  # equal scores share a threshold
        self._last = slice(None) if last.all() else np.flatnonzero(last)
        bins = np.minimum((scores * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
        self._bins = np.flatnonzero(np.diff(bins, prepend=-1))

    def metrics(self, weights: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
        """The metrics of `point_estimates` for each row of weights [R, N]: arrays [R]."""
        true_all, predicted_all = np.cumsum(weights * self._truth, axis=1), np.cumsum(weights, axis=1)
        true, predicted = true_all[:, self._last], predicted_all[:, self._last]
        false = predicted - true
        positives, negatives = true[:, -1:], false[:, -1:]
        with np.errstate(divide="ignore", invalid="ignore"):
            precision = np.where(predicted > 0, true / predicted, 0.0)
            recall, fall_out = true / positives, false / negatives
            found = {
                "average_precision": (np.diff(recall, axis=1, prepend=0.0) * precision).sum(1),
                "roc_auc": np.trapezoid(_from_zero(recall), _from_zero(fall_out), axis=1),
            }
            for minimum in RECALLS:
                best = np.where(recall >= minimum, precision, 0.0).max(1)
                found[f"precision_at_recall_{minimum * 100:.0f}"] = np.where(positives[:, 0] > 0, best, np.nan)
            for minimum in PRECISIONS:
                best = np.where(precision >= minimum, recall, 0.0).max(1)
                found[f"recall_at_precision_{minimum * 100:.0f}"] = np.where(positives[:, 0] > 0, best, np.nan)
            total, true_count = predicted_all[:, -1], true_all[:, -1]
            zero, last = np.zeros(len(weights)), self._above - 1
            both, above = (true_all[:, last], predicted_all[:, last]) if self._above else (zero, zero)
            prevalence = true_count / total
            wrong = np.add.reduceat(weights * self._error, self._bins, axis=1)
            found |= {
                "accuracy": (both + (total - above) - (true_count - both)) / total,
                "majority_accuracy": np.maximum(prevalence, 1 - prevalence),
                "precision": both / above,
                "recall": both / true_count,
                "f1": 2 * both / (above + true_count),
                "brier": weights @ self._error**2 / total,
                "calibration_error": np.abs(wrong).sum(1) / total,
            }
        return found


def _from_zero(curve: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.concatenate([np.zeros((len(curve), 1)), curve], axis=1)


def _calibration_error(
    truth: NDArray[np.bool_], scores: NDArray[np.float64], weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Expected calibration error over ten equal bins of score (Naeini et al. 2015): [R]."""
    which = np.minimum((scores * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
    member = which[:, None] == np.arange(CALIBRATION_BINS)
    return np.abs(weights @ (member * (scores - truth)[:, None])).sum(1) / weights.sum(1)


def best_threshold(truth: NDArray[np.bool_], scores: NDArray[np.float64]) -> float:
    """The threshold with the highest F1, midway between two neighbouring scores; 0.5 without a positive."""
    from sklearn.metrics import precision_recall_curve

    if not truth.any():
        return 0.5
    precision, recall, thresholds = precision_recall_curve(truth, scores)
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    best = int(np.argmax(f1[:-1]))
    below = thresholds[best - 1] if best else 0.0
    return float((thresholds[best] + below) / 2)
