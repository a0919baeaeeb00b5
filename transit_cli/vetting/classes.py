"""Evaluation of networks that tell classes apart: the confusion matrix, and each class against the rest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from transit_cli.vetting.metrics import Estimate, estimate

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray


@dataclass(frozen=True)
class ClassEvaluation:
    """What a network makes of each class.

    Attributes:
        classes: [C] the labels that the network tells apart.
        probabilities: [N, C] of each signal: mean over the members.
        labels: the labels of the signals, those of the network first.
        confusion: [L, C] how many signals of each label are most probably of each class.
        metrics: by class, its average precision and calibration error against all other signals.
    """

    classes: Sequence[str]
    probabilities: NDArray[np.float64]
    labels: Sequence[str]
    confusion: NDArray[np.int64]
    metrics: Mapping[str, Mapping[str, Estimate]]

    def document(self) -> dict[str, Any]:
        """As JSON types."""
        matrix = {
            label: dict(zip(self.classes, row.tolist(), strict=True))
            for label, row in zip(self.labels, self.confusion, strict=True)
        }
        document: dict[str, Any] = {"confusion": matrix}
        for name, found in self.metrics.items():
            document[name] = {
                f"{key}{suffix}": value
                for key, metric in found.items()
                for suffix, value in (("", metric.value), ("_low", metric.low), ("_high", metric.high))
            }
        return document


def evaluate_classes(
    classes: Sequence[str],
    probabilities: NDArray[np.float64],
    labels: NDArray[np.str_],
    stars: NDArray[np.generic],
    resamples: int,
) -> ClassEvaluation:
    """Compare the most probable class of each signal with its label, and rank each class against the rest.

    Args:
        classes: [C] the labels that the network tells apart.
        probabilities: [N, C].
        labels: [N]; labels that the network does not know are rows of the confusion matrix too.
        stars: [N] the unit of the bootstrap.
        resamples: bootstrap samples for the intervals.
    """
    known = [*classes, *sorted(set(labels.tolist()) - set(classes))]
    predicted = probabilities.argmax(axis=1)
    confusion = np.stack([np.bincount(predicted[labels == label], minlength=len(classes)) for label in known])
    metrics = {}
    for place, name in enumerate(classes):
        truth = labels == name
        if truth.any() and not truth.all():
            found = estimate(truth, probabilities[:, place], stars, 0.5, resamples=resamples)
            metrics[name] = {key: found[key] for key in ("average_precision", "calibration_error")}
    return ClassEvaluation(classes, probabilities, known, confusion, metrics)
