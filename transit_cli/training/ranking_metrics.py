"""How well scores rank: by scikit-learn's definitions, the field's own."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch import nn

    from transit_cli.device.base import Device
    from transit_cli.training.loading.samples import InMemorySamples
    from transit_cli.training.loading.stream import OnDiskSamples


def ranking(targets: np.ndarray, logits: np.ndarray) -> dict[str, float]:
    """Average precision, ROC AUC and mean loss of logits [N] against targets [N]; NaN where one class is absent.

    The loss is the plain cross-entropy, whatever the training's smoothing or weights.
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


def score(network: nn.Module, examples: InMemorySamples | OnDiskSamples, device: Device) -> np.ndarray:
    """The logit of every example, [N] float64, in evaluation mode."""
    from transit_cli.training import inference

    found = [inference.logits([network], inputs, device)[0] for inputs in examples.chunks(inference.CHUNK)]
    return np.concatenate([np.empty(0), *(part.numpy() for part in found)]).astype(np.float64)
