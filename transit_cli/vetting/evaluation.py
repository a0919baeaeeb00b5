"""Judging a network on labelled signals: scores, threshold, figures, and the mistakes to look at."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from transit_cli import console
from transit_cli.results import TransitError
from transit_cli.vetting import groups, metrics

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from transit_cli.data.viewset import ViewSet
    from transit_cli.vetting.ensemble import Ensemble
    from transit_cli.vetting.groups import Group
    from transit_cli.vetting.metrics import Figure
    from transit_cli.vetting.settings import EvaluateSettings

#: Mistakes of each kind in the gallery.
MISTAKES = 6
#: What stands for several parts of a set. "folds": each star by the members that have not seen it.
PARTS = {"all": ("train", "val", "test"), "folds": ("train", "val")}


@dataclass(frozen=True)
class Evaluation:
    """Labelled signals with their scores, and what the scores are worth.

    Attributes:
        split: the part of the set.
        rows: [N] their rows in the view set.
        truth: [N] whether each is positive.
        members: [M, N] the score of each member, NaN where it has learned from the star; the ensemble's is their mean.
        threshold: from which a score counts as positive.
        threshold_from: where the threshold comes from, in words.
        figures: by name, see `metrics.points`.
        groups: the figures of parts of the set.
        new_stars: average precision on stars that were not trained on; None where all are new, or nobody knows.
        unusable: rows that have a label but no score.
    """

    split: str
    rows: NDArray[np.int64]
    truth: NDArray[np.bool_]
    members: NDArray[np.float64]
    threshold: float
    threshold_from: str
    figures: Mapping[str, Figure]
    groups: Sequence[Group]
    new_stars: Figure | None
    unusable: NDArray[np.int64]

    @property
    def scores(self) -> NDArray[np.float64]:
        """[N] the ensemble's scores."""
        return mean_score(self.members)

    @property
    def spread(self) -> NDArray[np.float64]:
        """[N] how far the members are apart: the standard deviation of their scores."""
        return np.nanstd(self.members, axis=0)

    def confusion(self) -> dict[str, int]:
        """Signals called right and wrong at the threshold."""
        called = self.scores >= self.threshold
        return {
            "true_positives": int((called & self.truth).sum()),
            "false_positives": int((called & ~self.truth).sum()),
            "false_negatives": int((~called & self.truth).sum()),
            "true_negatives": int((~called & ~self.truth).sum()),
        }

    def worst_errors(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Places in `rows` of the worst false alarms and the worst misses: wrong at the threshold, worst first."""
        order = np.argsort(-self.scores, kind="stable")
        alarms = order[(~self.truth & (self.scores >= self.threshold))[order]]
        misses = order[::-1][(self.truth & (self.scores < self.threshold))[order[::-1]]]
        return alarms[:MISTAKES], misses[:MISTAKES]


def mean_score(members: NDArray[np.float64]) -> NDArray[np.float64]:
    """[N] the mean over the members [M, N] that give a score; NaN where none does."""
    given = np.isfinite(members)
    return np.where(given, members, 0).sum(0) / np.where(given.any(0), given.sum(0), np.nan)


def evaluate_split(ensemble: Ensemble, views: ViewSet, settings: EvaluateSettings) -> Evaluation:
    """Score the labelled signals of one part of a view set, and measure.

    Raises:
        TransitError: the set lacks a view, the part is empty, or holds no positive or nothing else.
    """
    split = _split(ensemble, views, settings.split)
    rows = views.labelled(PARTS.get(split, (split,)))
    truth = np.isin(views.labels, ensemble.target)
    _refuse_one_class(views, split, truth[rows], ensemble)
    with console.progress("scoring", len(rows)) as bar:
        members = ensemble.score_rows(views, rows, bar.update)
    usable = np.isfinite(members).any(0)
    unusable, rows, members = rows[~usable], rows[usable], members[:, usable]
    if len(unusable):
        console.warn(f"{len(unusable)} labelled signals have values that are not finite and are left out")
    positive, scores, stars = truth[rows], mean_score(members), views.tces["star"][rows]
    threshold, origin = _threshold(ensemble, views, settings, split, (positive, scores))
    figures = metrics.measure(positive, scores, stars, threshold, resamples=settings.resamples)
    columns = {name: column[rows] for name, column in views.tces.items()}
    found = groups.by_column(columns, positive, scores, stars, threshold)
    new_stars = None
    seen = np.isin(stars, ensemble.trained_stars())
    if seen.any() and split in {"test", "val"} and not ensemble.card.folds:
        console.warn(f"{seen.mean():.0%} of these signals are of stars that the network was trained on")
        if not seen.all():
            new = metrics.measure(positive[~seen], scores[~seen], stars[~seen], threshold, resamples=settings.resamples)
            new_stars = new["average_precision"]
    return Evaluation(split, rows, positive, members, threshold, origin, figures, found, new_stars, unusable)


def _split(ensemble: Ensemble, views: ViewSet, wanted: str) -> str:
    present = set(views.splits.tolist())
    own = ensemble.training_set is not None and ensemble.training_set.path.resolve() == views.path.resolve()
    if wanted == "auto":
        if ensemble.card.folds and own:
            return "folds"
        return next((part for part in ("test", "val") if part in present), "all")
    if wanted == "folds" and not (ensemble.card.folds and own):
        raise TransitError(
            f"{ensemble.name} was not trained on folds of {views.path}",
            wanted="a run of transit train --folds, and its own view set",
            fix="--split test",
            code="no-folds",
        )
    if wanted not in {"all", "folds"} and wanted not in present:
        raise TransitError(
            f"{views.path} has no part {wanted!r}",
            wanted=f"one of {', '.join(sorted(present))}",
            fix=f"--split {min(present)}" if present else "give a view set that is not empty",
            code="split-absent",
        )
    return wanted


def _refuse_one_class(views: ViewSet, split: str, truth: NDArray[np.bool_], ensemble: Ensemble) -> None:
    if truth.any() and not truth.all():
        return
    target = ",".join(ensemble.target)
    what = "no labelled signal" if not len(truth) else f"only {target}" if truth.any() else f"no {target}"
    raise TransitError(
        f"the part {split!r} of {views.path} holds {what}",
        wanted=f"signals labelled {target}, and others",
        fix="give another --split or VIEWSET; transit predict scores signals without labels",
        code="one-class",
    )


def _threshold(
    ensemble: Ensemble,
    views: ViewSet,
    settings: EvaluateSettings,
    split: str,
    judged: tuple[NDArray[np.bool_], NDArray[np.float64]],
) -> tuple[float, str]:
    """The threshold, and in words where it comes from. `judged`: truth and scores of the part itself."""
    if settings.threshold is not None:
        return settings.threshold, "given"
    if split in {"val", "folds"}:
        return metrics.best_threshold(*judged), "highest F1 on these same signals, so figures at it are too good"
    sources = [(views, "of this set"), (ensemble.training_set, "of the set it was trained with")]
    for source, words in sources:
        rows = source.labelled(("val",)) if source else np.empty(0, np.int64)
        if source is None or not len(rows):
            continue
        scores = mean_score(ensemble.score_rows(source, rows))
        usable = np.isfinite(scores)
        truth = np.isin(source.labels[rows], ensemble.target)[usable]
        if truth.any() and not truth.all():
            return metrics.best_threshold(truth, scores[usable]), f"highest F1 on the val part {words}"
    return 0.5, "there is no val part to choose it on"


def document(judged: Evaluation, views: ViewSet, ensemble: Ensemble) -> dict[str, Any]:
    """What `--json` answers: every figure flat, with its interval as NAME_low and NAME_high."""
    found: dict[str, Any] = {}
    for name, figure in judged.figures.items():
        found |= {name: figure.value, f"{name}_low": figure.low, f"{name}_high": figure.high}
    if judged.new_stars:
        figure, name = judged.new_stars, "average_precision_new_stars"
        found |= {name: figure.value, f"{name}_low": figure.low, f"{name}_high": figure.high}
    alarms, misses = worst_errors(judged, views)
    return found | {
        "signals": len(judged.rows),
        "positives": int(judged.truth.sum()),
        "stars": len(np.unique(views.tces["star"][judged.rows])),
        "unusable": len(judged.unusable),
        "interval": metrics.LEVEL,
        "split": judged.split,
        "viewset": views.path,
        "simulated": views.simulated,
        "run": ensemble.name,
        "members": len(judged.members),
        "target": list(ensemble.target),
        "trained_on": ensemble.trained_on,
        "threshold": judged.threshold,
        "threshold_from": judged.threshold_from,
        "confusion": judged.confusion(),
        "groups": [
            dataclasses.asdict(group) | {"figures": {k: dataclasses.asdict(v) for k, v in group.figures.items()}}
            for group in judged.groups
        ],
        "false_alarms": alarms,
        "misses": misses,
    }


def worst_errors(judged: Evaluation, views: ViewSet) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The worst false alarms and the worst misses, worst first."""
    alarms, misses = judged.worst_errors()
    return [_signal(judged, views, place) for place in alarms], [_signal(judged, views, place) for place in misses]


def _signal(judged: Evaluation, views: ViewSet, place: int) -> dict[str, Any]:
    row = judged.rows[place]
    names = ("star", "signal", "label", "period_days", "depth_ppm", "snr")
    return {name: views.tces[name][row] for name in names} | {
        "row": int(row),
        "score": float(judged.scores[place]),
        "spread": float(judged.spread[place]),
    }


def table(judged: Evaluation, views: ViewSet, ensemble: Ensemble) -> dict[str, Any]:
    """The columns of scores.csv: the signal, its label, and its score by the ensemble and each member."""
    rows = judged.rows
    names = ("star", "signal", "period_days", "epoch_days", "duration_hours", "depth_ppm", "snr", "label", "split")
    columns: dict[str, Any] = {"row": rows} | {name: views.tces[name][rows] for name in names}
    columns |= {"positive": judged.truth.astype(int), "score": judged.scores, "spread": judged.spread}
    columns |= {f"score_{index + 1}": scores for index, scores in enumerate(judged.members)}
    return columns | {"trained_on": [ensemble.trained_on] * len(rows)}
