"""Fits the calibration of a run's networks on rows that they were not trained on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from transit_cli.model.calibration import LOWEST, Calibration, Calibrations, log_probabilities, log_softmax
from transit_cli.training.loading.samples import assign_folds

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from transit_cli.data.viewset import ViewSet

#: Fewer signals of a class than this are not worth a calibration.
MIN_SIGNALS = 10
#: Parts of the validation rows without folds: each is calibrated by the other parts when it is judged itself.
PARTS = 5
#: Strength of the pull towards no change, in signals: what a few signals say is not believed.
PRIOR_SIGNALS = 4.0


def fit_calibrations(
    viewset: ViewSet, rows: NDArray[np.int64], logits: NDArray[np.float64], truth: NDArray[np.int64], folds: int
) -> Calibrations | None:
    """The calibration on all held-out rows, and those without each part of the stars.

    Args:
        viewset: the view set.
        rows: [R] the held-out rows.
        logits: [M, R], or [M, R, C] of several classes, by networks that were not trained on them.
        truth: [R] the class of each row; 0 and 1 of a binary network.
        folds: of the run; 0 without.

    Returns:
        None if a class has fewer than `MIN_SIGNALS` signals, or logits are not finite.
    """
    outputs = 1 if logits.ndim == 2 else logits.shape[2]
    counts = np.bincount(truth, minlength=max(outputs, 2))
    if counts.min() < MIN_SIGNALS or not np.isfinite(logits).all():
        return None
    logarithms = np.maximum(log_probabilities(logits, outputs), LOWEST)
    number = folds or PARTS
    part = assign_folds(viewset, rows, number)
    overall = fit(logarithms, truth)
    parts = tuple(
        fit(logarithms[:, part != k], truth[part != k]) if len(np.unique(truth[part != k])) == len(counts) else overall
        for k in range(number)
    )
    return Calibrations(overall, parts, tuple((counts / counts.sum()).tolist()), len(rows))


def fit(logarithms: NDArray[np.float64], truth: NDArray[np.int64]) -> Calibration:
    """The calibration of each member that makes the mean of their probabilities most likely.

    Args:
        logarithms: [M, R, C] log-probabilities.
        truth: [R] classes.
    """
    from scipy.optimize import minimize

    members, rows, classes = logarithms.shape
    is_true = np.arange(classes) == truth[:, None]

    def loss(parameters: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        scale, bias = parameters[:classes], parameters[classes:]
        p = np.exp(log_softmax(logarithms * scale + bias))  # [M, R, C]
        of_truth = (p * is_true).sum(axis=2)  # [M, R]
        mean = np.maximum(of_truth.mean(axis=0), 1e-300)
        share = of_truth / (members * mean)
        slope = share[:, :, None] * (is_true - p)
        change = np.concatenate([scale - 1, bias])
        gradient = np.concatenate([(slope * logarithms).sum(axis=(0, 1)), slope.sum(axis=(0, 1))])
        value = -np.log(mean).sum() + 0.5 * PRIOR_SIGNALS * (change**2).sum()
        return value / rows, (PRIOR_SIGNALS * change - gradient) / rows

    start = np.concatenate([np.ones(classes), np.zeros(classes)])
    bounds = [(0.0, 20.0)] * classes + [(-20.0, 20.0)] * classes
    found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds)
    return Calibration(tuple(found.x[:classes].tolist()), tuple(found.x[classes:].tolist()))
