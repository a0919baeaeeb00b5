"""The output layer of a binary network that begins from the saved classes of another.

The log-odds of a sum of softmax probabilities are no linear function of the features, so that no output layer gives
exactly the scores of the saved network. The mean of the classes' weights is a poor one: planets were ranked with an
average precision of 0.46 instead of 0.54, planets and binaries with 0.940 instead of 0.949. Fitted to the saved scores
of unlabelled signals it is as good as they are (docs/results).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from transit_cli.model.initialise import Initial

#: Signals that the output is fitted to: more changed nothing.
SIGNALS = 1024
#: Ridge penalty, in units of one signal's log-likelihood, and Newton steps at most.
RIDGE, STEPS = 0.1, 50


@torch.no_grad()
def fit_output(
    network: nn.Module, initial: Initial, member: int, target: Sequence[str], inputs: Mapping[str, Tensor]
) -> None:
    """Set the output layer so that the logits are the log-odds of `target` according to the saved classes.

    Args:
        network: a binary network whose other layers come from a saved member, on the CPU.
        initial: the saved networks, of classes.
        member: number of the network, as in `initialise`.
        target: labels that count as positive.
        inputs: of some signals; their labels are not needed.
    """
    saved = initial.states[member % len(initial.states)]
    name, layer = [(name, module) for name, module in network.named_modules() if isinstance(module, nn.Linear)][-1]
    features = hidden_features(network, layer, inputs)
    logits = nn.functional.linear(features, saved[f"{name}.weight"], saved[f"{name}.bias"]).double()
    positive = torch.tensor([label in target for label in initial.card.classes])
    probability = logits.softmax(dim=1)[:, positive].sum(dim=1)
    found = logistic_regression(features.double().numpy(), probability.numpy(), RIDGE)
    if np.isfinite(found).all():
        layer.weight.copy_(torch.from_numpy(found[:-1]).reshape(layer.weight.shape))
        layer.bias.copy_(torch.from_numpy(found[-1:]))


def hidden_features(network: nn.Module, layer: nn.Linear, inputs: Mapping[str, Tensor]) -> Tensor:
    """What reaches a layer of a network, without dropout: [N, features of the layer]."""
    found: list[Tensor] = []

    def keep(_module: nn.Module, given: tuple[Tensor, ...]) -> None:
        found.append(given[0].detach())

    hook = layer.register_forward_pre_hook(keep)
    training = network.training
    try:
        network.eval()(inputs)
    finally:
        hook.remove()
        network.train(training)
    return found[-1]


def logistic_regression(features: np.ndarray, probability: np.ndarray, ridge: float) -> np.ndarray:
    """Weights and, last, the bias [F + 1] of greatest likelihood with a ridge penalty on the weights.

    Args:
        features: [N, F] float64.
        probability: [N] from 0 to 1, labels or scores.
        ridge: the penalty is half of it times the sum of the squared weights.
    """
    columns = np.column_stack([features, np.ones(len(features))])
    penalty = np.full(columns.shape[1], ridge)
    penalty[-1] = 1e-6 * ridge

    def loss(weights: np.ndarray) -> float:
        logits = columns @ weights
        return float((np.logaddexp(0, logits) - probability * logits).sum() + (penalty * weights**2).sum() / 2)

    weights = np.zeros(columns.shape[1])
    for _ in range(STEPS):
        scores = 1 / (1 + np.exp(-np.clip(columns @ weights, -50, 50)))
        gradient = columns.T @ (scores - probability) + penalty * weights
        curvature = (columns * (scores * (1 - scores))[:, None]).T @ columns + np.diag(penalty)
        step = np.linalg.lstsq(curvature, gradient, rcond=None)[0]
        before, size = loss(weights), 1.0
        while size > 1e-4 and not loss(weights - size * step) <= before:
            size /= 2
        weights = weights - size * step
        if np.abs(size * step).max() < 1e-6:
            break
    return weights
