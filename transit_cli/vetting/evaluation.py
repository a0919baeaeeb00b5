"""Evaluation of a network on labelled signals: scores, threshold, metrics and the worst errors."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from transit_cli import console
from transit_cli.data.storage.columns import column_rows
from transit_cli.results import TransitError
from transit_cli.vetting import groups
from transit_cli.vetting.classes import ClassEvaluation, evaluate_classes
from transit_cli.vetting.metrics import LEVEL, best_threshold, estimate

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from transit_cli.data.viewset import ViewSet
    from transit_cli.vetting.ensemble import Ensemble
    from transit_cli.vetting.groups import Group
    from transit_cli.vetting.metrics import Estimate
    from transit_cli.vetting.settings import EvaluateSettings

#: Number of errors of each kind that are reported.
WORST_ERRORS = 6
#: The splits that a value of --split stands for, where it is not one split. "folds": all rows of a run with --folds,
#: each star scored by the members that have not seen it.
SPLITS = {"all": ("train", "val", "test"), "folds": ("train", "val")}


@dataclass(frozen=True)
class Evaluation:
    """Labelled signals with their scores and the metrics of the scores.

    Attributes:
        split: the value of --split, resolved.
        rows: [N] indices of the signals in the view set.
        truth: [N] whether each signal is positive.
        members: [M, N] scores of each member, NaN for stars that it was trained on.
        threshold: signals with at least this score are predicted positive.
        threshold_from: how the threshold was chosen.
        metrics: by name, see `metrics.point_estimates`.
        groups: metrics of subsets.
        new_stars: average precision of the stars that were not trained on; None if all are new, or it is not known.
        unusable: indices of labelled signals without a score.
        classes: what is known of each class, of networks that tell classes apart.
        seen: share of signals of stars that the network was trained on, unless each star is scored by networks that
            have not seen it.
    """

    split: str
    rows: NDArray[np.int64]
    truth: NDArray[np.bool_]
    members: NDArray[np.float64]
    threshold: float
    threshold_from: str
    metrics: Mapping[str, Estimate]
    groups: Sequence[Group]
    new_stars: Estimate | None
    unusable: NDArray[np.int64]
    classes: ClassEvaluation | None = None
    seen: float = 0.0

    @property
    def scores(self) -> NDArray[np.float64]:
        """[N] scores of the ensemble: the mean over the members."""
        return mean_score(self.members)

    @property
    def spread(self) -> NDArray[np.float64]:
        """[N] standard deviation of the members' scores."""
        return np.nanstd(self.members, axis=0)

    def confusion(self) -> dict[str, int]:
        """Number of signals in each cell of the confusion matrix."""
        predicted = self.scores >= self.threshold
        return {
            "true_positives": int((predicted & self.truth).sum()),
            "false_positives": int((predicted & ~self.truth).sum()),
            "false_negatives": int((~predicted & self.truth).sum()),
            "true_negatives": int((~predicted & ~self.truth).sum()),
        }

    def worst_errors(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Positions in `rows` of the false positives and the false negatives furthest from the threshold, in order."""
        order = np.argsort(-self.scores, kind="stable")
        false_positives = order[(~self.truth & (self.scores >= self.threshold))[order]]
        false_negatives = order[::-1][(self.truth & (self.scores < self.threshold))[order[::-1]]]
        return false_positives[:WORST_ERRORS], false_negatives[:WORST_ERRORS]


def mean_score(members: NDArray[np.float64]) -> NDArray[np.float64]:
    """[N] mean of the finite scores of the members [M, N]; NaN for signals without any."""
    finite = np.isfinite(members)
    return np.where(finite, members, 0).sum(0) / np.where(finite.any(0), finite.sum(0), np.nan)


def evaluate_split(ensemble: Ensemble, views: ViewSet, settings: EvaluateSettings) -> Evaluation:
    """Score the labelled signals of one split of a view set and compute the metrics.

    Raises:
        TransitError: the set lacks a view, or the split is empty or has signals of only one class.
    """
    split = _resolve_split(ensemble, views, settings.split)
    rows = views.labelled(SPLITS.get(split, (split,)))
    labels = views.tces.text("label")
    truth = np.isin(labels.values, ensemble.target)[labels.codes]
    _require_both_classes(views, split, truth, ensemble)
    with console.progress("scoring", len(rows)) as bar:
        probabilities = ensemble.probabilities_of_rows(views, rows, bar.update)
    usable = np.isfinite(probabilities).all(2).any(0)
    unusable, rows, probabilities = rows[~usable], rows[usable], probabilities[:, usable]
    members = ensemble.positive(probabilities)
    if len(unusable):
        console.warn(f"{len(unusable)} labelled signals have values that are not finite and are left out")
    positive, scores, stars = truth[rows], mean_score(members), views.tces.text("star").take(rows).unique[1]
    threshold, origin = _choose_threshold(ensemble, views, settings, split, (positive, scores))
    metrics = estimate(positive, scores, stars, threshold, resamples=settings.resamples)
    columns = views.tces.take(rows)
    subsets = groups.by_column(columns, positive, scores, stars, threshold)
    new_stars, share = None, 0.0
    seen = np.isin(columns["star"], ensemble.trained_stars())
    if seen.any() and split in {"test", "val"} and not ensemble.card.folds:
        share = float(seen.mean())
        console.warn(f"{share:.0%} of these signals are of stars that the network was trained on")
        if not seen.all():
            new = estimate(positive[~seen], scores[~seen], stars[~seen], threshold, resamples=settings.resamples)
            new_stars = new["average_precision"]
    of_classes = None
    if ensemble.card.classes:
        mean = np.stack([mean_score(part) for part in np.moveaxis(probabilities, 2, 0)], axis=1)
        of_classes = evaluate_classes(ensemble.card.classes, mean, views.labels[rows], stars, settings.resamples)
    return Evaluation(
        split, rows, positive, members, threshold, origin, metrics, subsets, new_stars, unusable, of_classes, share
    )


def _resolve_split(ensemble: Ensemble, views: ViewSet, wanted: str) -> str:
    present = set(views.tces.unique("split")[0].tolist())
    own = ensemble.training_set is not None and ensemble.training_set.path.resolve() == views.path.resolve()
    if wanted == "auto":
        if ensemble.card.folds and own:
            return "folds"
        return next((split for split in ("test", "val") if split in present), "all")
    if wanted == "folds" and not (ensemble.card.folds and own):
        raise TransitError(
            f"{ensemble.name} was not trained on folds of {views.path}",
            wanted="a run of transit train --folds, and its own view set",
            fix="--split test",
            code="no-folds",
        )
    if wanted not in {"all", "folds"} and wanted not in present:
        raise TransitError(
            f"{views.path} has no split {wanted!r}",
            wanted=f"one of {', '.join(sorted(present))}",
            fix=f"--split {min(present)}" if present else "give a view set that is not empty",
            code="split-absent",
        )
    return wanted


def _require_both_classes(views: ViewSet, split: str, truth: NDArray[np.bool_], ensemble: Ensemble) -> None:
    """Raise the error for a split of one class; `truth` is of all rows of the set."""

    def of(name: str) -> NDArray[np.bool_]:
        return truth[views.labelled(SPLITS.get(name, (name,)))]

    if of(split).any() and not of(split).all():
        return
    others = [name for name in ("test", "val", "all") if name != split and of(name).any() and not of(name).all()]
    fix = f"--split {others[0]}" if others else "give another VIEWSET; transit predict scores signals without labels"
    if others == ["all"] and not ensemble.card.folds and ensemble.training_set is not None:
        fix = f"transit train {views.path} --folds 5, or --split all, which includes the rows that it was trained on"
    truth = of(split)
    target = ",".join(ensemble.target)
    content = "no labelled signal" if not len(truth) else f"only {target}" if truth.any() else f"no {target}"
    raise TransitError(
        f"the split {split!r} of {views.path} holds {content}",
        wanted=f"signals labelled {target}, and others",
        fix=fix,
        code="one-class",
    )


def _choose_threshold(
    ensemble: Ensemble,
    views: ViewSet,
    settings: EvaluateSettings,
    split: str,
    evaluated: tuple[NDArray[np.bool_], NDArray[np.float64]],
) -> tuple[float, str]:
    """The threshold and how it was chosen. `evaluated`: truth and scores of the split that is evaluated."""
    if settings.threshold is not None:
        return settings.threshold, "given by --threshold"
    if split in {"val", "folds"}:
        return best_threshold(*evaluated), "highest F1 on these signals, so the metrics at it are optimistic"
    sources = [(views, "this set"), (ensemble.training_set, "the training set")]
    for source, name in sources:
        rows = source.labelled(("val",)) if source else np.empty(0, np.int64)
        if source is None or not len(rows):
            continue
        scores = mean_score(ensemble.score_rows(source, rows))
        usable = np.isfinite(scores)
        truth = np.isin(source.labels[rows], ensemble.target)[usable]
        if truth.any() and not truth.all():
            return best_threshold(truth, scores[usable]), f"highest F1 on the val split of {name}"
    return 0.5, "default, as no val split is available"


def to_document(evaluation: Evaluation, views: ViewSet, ensemble: Ensemble) -> dict[str, Any]:
    """The data of `--json`: each metric flat, with its interval as NAME_low and NAME_high."""
    document: dict[str, Any] = {}
    new_stars = {"average_precision_new_stars": evaluation.new_stars} if evaluation.new_stars else {}
    for name, found in (dict(evaluation.metrics) | new_stars).items():
        document |= {name: found.value, f"{name}_low": found.low, f"{name}_high": found.high}
    false_positives, false_negatives = describe_errors(evaluation, views)
    return document | {
        "signals": len(evaluation.rows),
        "positives": int(evaluation.truth.sum()),
        "stars": len(views.tces.text("star").take(evaluation.rows).unique[0]),
        "unusable": len(evaluation.unusable),
        "interval": LEVEL,
        "split": evaluation.split,
        "viewset": views.path,
        "simulated": views.simulated,
        "run": ensemble.name,
        "members": len(evaluation.members),
        "target": list(ensemble.target),
        "trained_on": ensemble.trained_on,
        "threshold": evaluation.threshold,
        "threshold_from": evaluation.threshold_from,
        "confusion": evaluation.confusion(),
        "classes": evaluation.classes.document() if evaluation.classes else None,
        "groups": [dataclasses.asdict(group) for group in evaluation.groups],
        "worst_false_positives": false_positives,
        "worst_false_negatives": false_negatives,
    }


def describe_errors(evaluation: Evaluation, views: ViewSet) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The worst false positives and false negatives with their columns, worst first."""
    false_positives, false_negatives = evaluation.worst_errors()
    return (
        [_describe_signal(evaluation, views, index) for index in false_positives],
        [_describe_signal(evaluation, views, index) for index in false_negatives],
    )


def _describe_signal(evaluation: Evaluation, views: ViewSet, index: int) -> dict[str, Any]:
    row = evaluation.rows[index]
    names = ("star", "signal", "label", "period_days", "depth_ppm", "snr")
    values = views.tces.take(evaluation.rows[index : index + 1])
    return {name: values[name][0] for name in names} | {
        "row": int(row),
        "score": float(evaluation.scores[index]),
        "spread": float(evaluation.spread[index]),
    }


def score_columns(evaluation: Evaluation, views: ViewSet, ensemble: Ensemble) -> dict[str, Any]:
    """The columns of scores.csv: signal, label, and the scores of the ensemble and of each member."""
    rows = evaluation.rows
    names = ("star", "signal", "period_days", "epoch_days", "duration_hours", "depth_ppm", "snr", "label", "split")
    columns: dict[str, Any] = {"row": rows} | {n: column_rows(views.tces.stored(n), rows) for n in names}
    columns |= {"positive": evaluation.truth.astype(int), "score": evaluation.scores, "spread": evaluation.spread}
    columns |= {f"score_{index + 1}": scores for index, scores in enumerate(evaluation.members)}
    if found := evaluation.classes:
        columns |= {f"probability_{name}": found.probabilities[:, place] for place, name in enumerate(found.classes)}
    return columns | {"trained_on": [ensemble.trained_on] * len(rows)}
