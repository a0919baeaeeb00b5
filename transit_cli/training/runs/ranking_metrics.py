"""Ranking metrics of scores, by scikit-learn."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch import nn

    from transit_cli.device.base import Device
    from transit_cli.training.loading.samples import Samples


def ranking(targets: np.ndarray, logits: np.ndarray) -> dict[str, float]:
    """Average precision, ROC AUC and mean loss of logits [N] against targets [N]; NaN if a class is absent.

    The loss is the cross-entropy without the smoothing and weights of training.
    """
    from sklearn import metrics

    if not np.isfinite(logits).all() or len(np.unique(targets)) < 2:
        return {"average_precision": math.nan, "roc_auc": math.nan, "loss": math.nan}
    loss = np.logaddexp(0, logits) - targets * logits
    return {
        "average_precision": float(metrics.average_precision_score(targets, logits)),
        "roc_auc": float(metrics.roc_auc_score(targets, logits)),
        "loss": float(loss.mean()),
    }


def score(network: nn.Module, samples: Samples, device: Device, execution: str = "auto") -> np.ndarray:
    """The logit of every sample, [N] float64, in evaluation mode; `execution` as in `inference.logits`."""
    from transit_cli.training import inference

    chunks = samples.chunks(inference.CHUNK)
    found = [inference.logits([network], inputs, device, execution=execution)[0] for inputs in chunks]
    return np.concatenate([np.empty(0), *(part.numpy() for part in found)]).astype(np.float64)
