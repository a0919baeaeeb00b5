"""Tables of an evaluation, for the terminal and the page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from transit_cli.results import Table
from transit_cli.vetting.completeness.cells import interval
from transit_cli.vetting.evaluation import describe_errors
from transit_cli.vetting.groups import GROUP_COLUMNS, range_labels

if TYPE_CHECKING:
    from transit_cli.data.viewset import ViewSet
    from transit_cli.vetting.ensemble import Ensemble
    from transit_cli.vetting.evaluation import Evaluation
    from transit_cli.vetting.metrics import Estimate

TITLES = {
    "average_precision": "average precision",
    "roc_auc": "ROC AUC",
    "precision_at_recall_90": "precision at recall 0.90",
    "precision_at_recall_95": "precision at recall 0.95",
    "precision_at_recall_99": "precision at recall 0.99",
    "recall_at_precision_90": "recall at precision 0.90",
    "recall_at_precision_99": "recall at precision 0.99",
    "precision": "precision at the threshold",
    "recall": "recall at the threshold",
    "f1": "F1 at the threshold",
    "accuracy": "accuracy at the threshold",
    "majority_accuracy": "accuracy of the majority class",
    "brier": "Brier score (0 is best)",
    "calibration_error": "calibration error (0 is best)",
}


def metrics_table(evaluation: Evaluation) -> Table:
    """Every metric with its interval."""
    named = {title: evaluation.metrics[name] for name, title in TITLES.items()}
    rows = [(title, _format(found.value), _interval(found)) for title, found in named.items()]
    if new := evaluation.new_stars:
        rows.insert(1, ("average precision, new stars only", _format(new.value), _interval(new)))
    note = f"threshold {evaluation.threshold:.3f}: {evaluation.threshold_from}"
    return Table(("metric", "value", "95 % interval"), rows, note=note)


def confusion_table(evaluation: Evaluation, ensemble: Ensemble) -> Table:
    """The confusion matrix at the threshold."""
    cells, target = evaluation.confusion(), ",".join(ensemble.target)
    return Table(
        ("label", f"predicted {target}", "predicted other"),
        [
            (target, cells["true_positives"], cells["false_negatives"]),
            ("other", cells["false_positives"], cells["true_negatives"]),
        ],
    )


def labels(evaluation: Evaluation, views: ViewSet) -> list[dict[str, Any]]:
    """For each label: its signals, and the share at or above the threshold with its 95 % interval (Wilson 1927).

    For a positive label the share is its recall, otherwise its false positive rate.
    """
    found: list[dict[str, Any]] = []
    own, passed = views.labels[evaluation.rows], evaluation.scores >= evaluation.threshold
    for label in np.unique(own).tolist():
        some = own == label
        signals, above = int(some.sum()), int((some & passed).sum())
        low, high = interval(above, signals)
        entry = {"label": label, "positive": bool(evaluation.truth[some].any()), "signals": signals, "passed": above}
        found.append(entry | {"share": above / signals, "share_low": low, "share_high": high})
    return sorted(found, key=lambda item: not item["positive"])


def labels_table(evaluation: Evaluation, views: ViewSet) -> Table:
    """Recall of each positive label, and false positive rate of the others."""
    rows = [
        (
            item["label"],
            "recall" if item["positive"] else "false positive rate",
            f"{item['signals']:,}",
            f"{item['share']:.3f}",
            f"{item['share_low']:.3f} to {item['share_high']:.3f}",
        )
        for item in labels(evaluation, views)
    ]
    return Table(("label", "at the threshold", "signals", "share", "95 % interval"), rows)


def classes_tables(evaluation: Evaluation) -> list[Table]:
    """The confusion matrix of the classes and the metrics of each, of networks that tell classes apart."""
    found = evaluation.classes
    if found is None:
        return []
    confusion = Table(
        ("label", *(f"predicted {name}" for name in found.classes)),
        [(label, *row.tolist()) for label, row in zip(found.labels, found.confusion, strict=True)],
        note="predicted: the most probable class",
    )
    metrics = Table(
        ("class against the rest", "AP (95 %)", "ECE"),
        [
            (name, str(metrics["average_precision"]), f"{metrics['calibration_error'].value:.3f}")
            for name, metrics in found.metrics.items()
        ],
    )
    return [confusion, metrics]


def groups_tables(evaluation: Evaluation) -> list[Table]:
    """One table per column by which the set was divided."""
    tables = []
    for column, title in GROUP_COLUMNS.items():
        groups = [group for group in evaluation.groups if group.column == column]
        rows = [
            (
                name,
                group.signals,
                group.positives,
                _short(group.metrics["average_precision"]),
                _short(group.metrics["recall"]),
                f"{group.metrics['calibration_error'].value:.3f}",
            )
            for name, group in zip(range_labels(groups), groups, strict=True)
        ]
        if rows:
            tables.append(Table((title, "signals", "positives", "AP (95 %)", "recall (95 %)", "ECE"), rows))
    return tables


def errors_tables(evaluation: Evaluation, views: ViewSet) -> list[Table]:
    """The worst false positives and false negatives."""
    columns = ("star", "signal", "label", "score", "spread", "period", "depth", "S/N")
    titles = ("worst false positives", "worst false negatives")
    tables = []
    for title, signals in zip(titles, describe_errors(evaluation, views), strict=True):
        rows = [
            (
                item["star"],
                item["signal"],
                item["label"],
                f"{item['score']:.3f}",
                f"{item['spread']:.3f}",
                quantity(item["period_days"], " d"),
                quantity(item["depth_ppm"], " ppm"),
                quantity(item["snr"]),
            )
            for item in signals
        ]
        if rows:
            tables.append(Table(columns, rows, title=title))
    return tables


def _format(value: float) -> str:
    return "-" if np.isnan(value) else f"{value:.3f}"


def _interval(found: Estimate) -> str:
    return "-" if np.isnan(found.low) else f"{found.low:.3f} to {found.high:.3f}"


def _short(found: Estimate) -> str:
    return "-" if np.isnan(found.value) else f"{found.value:.2f} ({found.low:.2f}-{found.high:.2f})"


def quantity(value: float, unit: str = "") -> str:
    """A value to four digits with its unit, or "-"."""
    if np.isnan(value):
        return "-"
    return f"{value:,.0f}{unit}" if abs(value) >= 1000 else f"{value:.4g}{unit}"
