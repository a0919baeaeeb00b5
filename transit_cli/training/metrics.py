"""How well scores rank: by scikit-learn's definitions, the field's own."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch
    from torch import nn

    from transit_cli.data.feed import Examples
    from transit_cli.data.stream import Stored
    from transit_cli.device.base import Device

#: Samples that are scored at once. On a CPU, what stays in its cache: 2 to 3 times faster than 512 at once.
CHUNK = {"cpu": 64}
DEFAULT_CHUNK = 512


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


def score(network: nn.Module, examples: Examples | Stored, device: Device) -> np.ndarray:
    """The logit of every example, [N] float64, in evaluation mode. It waits for the device once, at the end."""
    import torch

    training = network.training
    network.eval()
    found: list[torch.Tensor] = []
    chunk = CHUNK.get(device.kind, DEFAULT_CHUNK)
    with torch.inference_mode():
        for host in examples.chunks(chunk):
            inputs = {name: values.to(device.torch_device) for name, values in host.items()}
            count = len(next(iter(inputs.values())))
            if count < chunk and found:  # a shape of its own would be compiled on MPS, and its graph never given back
                inputs = {n: torch.cat([v, v[:1].expand(chunk - count, -1)]) for n, v in inputs.items()}
            found.append(network(inputs)[:count])
    network.train(training)
    return torch.cat(found).float().cpu().numpy().astype(np.float64)
