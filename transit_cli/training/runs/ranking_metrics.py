"""Ranking metrics of scores, by scikit-learn."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from transit_cli.model.calibration import log_softmax

if TYPE_CHECKING:
    from torch import nn

    from transit_cli.device.base import Device
    from transit_cli.training.loading.samples import Samples


def ranking(targets: np.ndarray, logits: np.ndarray) -> dict[str, float]:
    """Average precision, ROC AUC and mean loss of logits [N] against targets [N]; NaN if a class is absent.

    The loss is the cross-entropy without the smoothing and weights of training. Of classes ([N, C] both), the average
    precision and the ROC AUC are the means over the classes, each against the rest.
    """
    from sklearn import metrics

    if targets.ndim == 2:
        return _of_classes(targets, logits)
    if not np.isfinite(logits).all() or len(np.unique(targets)) < 2:
        return {"average_precision": math.nan, "roc_auc": math.nan, "loss": math.nan}
    loss = np.logaddexp(0, logits) - targets * logits
    return {
        "average_precision": float(metrics.average_precision_score(targets, logits)),
        "roc_auc": float(metrics.roc_auc_score(targets, logits)),
        "loss": float(loss.mean()),
    }


def _of_classes(targets: np.ndarray, logits: np.ndarray) -> dict[str, float]:
    logarithms = log_softmax(logits)
    each = [ranking(targets[:, place], logarithms[:, place]) for place in range(targets.shape[1])]
    return {
        "average_precision": float(np.mean([found["average_precision"] for found in each])),
        "roc_auc": float(np.mean([found["roc_auc"] for found in each])),
        "loss": float(-(targets * logarithms).sum(axis=1).mean()) if len(targets) else math.nan,
    }


def score(network: nn.Module, samples: Samples, device: Device, execution: str = "auto") -> np.ndarray:
    """The logit of every sample, [N] float64, or [N, C] of classes; `execution` as in `inference.logits`."""
    from transit_cli.training import inference

    chunks = samples.chunks(inference.CHUNK)
    found = [inference.logits([network], inputs, device, execution=execution)[0] for inputs in chunks]
    return np.concatenate([part.numpy() for part in found] or [np.empty(0)]).astype(np.float64)


def calibration_error(truth: np.ndarray, scores: np.ndarray, bins: int = 10) -> float:
    """Expected calibration error over equal bins of score (Naeini et al. 2015): [N] truth, [N] scores in 0 to 1."""
    which = np.minimum((scores * bins).astype(int), bins - 1)
    return float(np.abs(np.bincount(which, scores - truth, minlength=bins)).sum() / max(len(truth), 1))
