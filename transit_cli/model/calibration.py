"""Calibration of probabilities: each class's log-probability is scaled and shifted, then normalised again.

    p'(c) = softmax over c of scale(c) x log p(c) + bias(c)

For two classes this is beta calibration (Kull, Silva Filho & Flach 2017, EJS 11, 5052), for more it is vector scaling
(Guo et al. 2017, arXiv:1706.04599) of log-probabilities. Each member of an ensemble is calibrated so that the mean
over the members is.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Logarithms of probabilities are not smaller than this.
LOWEST = -30.0


@dataclass(frozen=True)
class Calibration:
    """One scale and one bias per class; a binary network has the classes negative and positive, in this order.

    Attributes:
        scale: [C], at least 0.
        bias: [C].
    """

    scale: tuple[float, ...]
    bias: tuple[float, ...]

    def apply(self, log_probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
        """Calibrated probabilities [..., C] of log-probabilities [..., C]; NaN stays NaN."""
        logits = np.maximum(log_probabilities, LOWEST) * np.array(self.scale) + np.array(self.bias)
        return np.exp(log_softmax(logits))


@dataclass(frozen=True)
class Calibrations:
    """The calibrations of saved networks.

    Attributes:
        overall: for new signals; fitted on all of `signals`.
        parts: part k is fitted without the stars of part k (`training.loading.samples.assign_folds`), and is for them.
        shares: [C] how frequent each class was among the signals.
        signals: the number of signals it was fitted on, held out from the networks that scored them.
    """

    overall: Calibration
    parts: tuple[Calibration, ...]
    shares: tuple[float, ...]
    signals: int

    def document(self) -> dict[str, Any]:
        """As JSON types, for a card."""
        return {
            "scale": list(self.overall.scale),
            "bias": list(self.overall.bias),
            "parts": [{"scale": list(part.scale), "bias": list(part.bias)} for part in self.parts],
            "shares": list(self.shares),
            "signals": self.signals,
        }

    @classmethod
    def parse(cls, values: Mapping[str, Any], outputs: int) -> Calibrations | None:
        """What `document` returned; None if `values` is empty.

        Raises:
            ValueError: a value is missing, not finite, or of another length than the network's classes.
        """
        if not values:
            return None
        classes = max(outputs, 2)
        try:
            parts = tuple(_calibration(part, classes) for part in values["parts"])
            overall, shares = _calibration(values, classes), _numbers(values["shares"], classes)
            signals = int(values["signals"])
        except (KeyError, TypeError, OverflowError) as error:
            raise ValueError(f"calibration is incomplete: {error}") from None
        if min(shares) <= 0:
            raise ValueError("calibration has a class without signals")
        return cls(overall, parts, shares, signals)


def _calibration(values: Mapping[str, Any], classes: int) -> Calibration:
    return Calibration(_numbers(values["scale"], classes), _numbers(values["bias"], classes))


def _numbers(values: Sequence[Any], count: int) -> tuple[float, ...]:
    if not isinstance(values, list) or len(values) != count:
        raise ValueError(f"calibration is not {count} numbers")
    if not all(isinstance(value, int | float) and math.isfinite(value) for value in values):
        raise ValueError("calibration has values that are not finite numbers")
    return tuple(float(value) for value in values)


def log_softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Logarithms of the probabilities of logits [..., C]."""
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def log_probabilities(logits: NDArray[np.float64], outputs: int) -> NDArray[np.float64]:
    """Logarithms of the classes' probabilities, [..., C] of logits [..., C], or [..., 2] of binary logits [...]."""
    if outputs == 1:
        logits = np.stack([np.zeros_like(logits), logits], axis=-1)
    return log_softmax(logits)


def shift_prior(
    probabilities: NDArray[np.float64], target: NDArray[np.bool_], before: float, after: float
) -> NDArray[np.float64]:
    """Probabilities [..., C] for signals among which the target classes are more or less frequent.

    The odds of the target are multiplied by the ratio of the odds of its frequencies (Saerens, Latinne & Decaestecker
    2002, Neural Computation 14, 21, equation 2.4); the classes within the target, and the others, keep their ratios.

    Args:
        probabilities: of each class.
        target: [C] which classes are the target.
        before: the share of the target among the signals that `probabilities` hold for, between 0 and 1.
        after: its share among the new signals, between 0 and 1.
    """
    factor = np.where(target, after / before, (1 - after) / (1 - before))
    weighted = probabilities * factor
    return weighted / weighted.sum(axis=-1, keepdims=True)
