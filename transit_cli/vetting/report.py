"""Output of `transit evaluate`: report.html, plots, scores.csv, metrics.json, and the tables in the terminal."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from transit_cli import __version__
from transit_cli.data.viewset import write_table
from transit_cli.plotting import html
from transit_cli.results import Result, Table, plain
from transit_cli.utils.files import atomic_output, atomic_write
from transit_cli.vetting import evaluation_plots as plots
from transit_cli.vetting.evaluation import describe_errors, score_columns, to_document
from transit_cli.vetting.groups import GROUP_COLUMNS

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

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
#: Metrics in the boxes at the top of report.html.
KEY_METRICS = ("average_precision", "roc_auc", "recall_at_precision_90", "accuracy")


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
        rows = [
            (
                group.range,
                group.signals,
                group.positives,
                _short(group.metrics["average_precision"]),
                _short(group.metrics["recall"]),
                f"{group.metrics['calibration_error'].value:.3f}",
            )
            for group in evaluation.groups
            if group.column == column
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
                _quantity(item["period_days"], " d"),
                _quantity(item["depth_ppm"], " ppm"),
                _quantity(item["snr"]),
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


def _quantity(value: float, unit: str = "") -> str:
    if np.isnan(value):
        return "-"
    return f"{value:,.0f}{unit}" if abs(value) >= 1000 else f"{value:.4g}{unit}"


def write(
    folder: Path, evaluation: Evaluation, views: ViewSet, ensemble: Ensemble, *, with_plots: bool
) -> dict[str, str]:
    """Write all files, each atomically; returns their paths by content."""
    files = {"scores": folder / "scores.csv", "metrics": folder / "metrics.json"}
    with atomic_output(files["scores"]) as temporary:
        write_table(temporary, score_columns(evaluation, views, ensemble))
    document = plain(to_document(evaluation, views, ensemble))
    atomic_write(files["metrics"], json.dumps(document, indent=2) + "\n")
    if with_plots:
        files |= {"report": folder / "report.html", "plots": folder / "plots"}
        atomic_write(files["report"], _page(evaluation, views, ensemble, files["plots"]))
    return {name: str(path) for name, path in files.items()}


def _page(evaluation: Evaluation, views: ViewSet, ensemble: Ensemble, plot_folder: Path) -> str:
    scores, truth = evaluation.scores, evaluation.truth
    labels = views.labels[evaluation.rows]
    threshold = evaluation.threshold
    captioned = {
        "precision_recall": (plots.precision_recall(truth, scores, threshold), "Precision and recall."),
        "roc": (plots.roc(truth, scores), "ROC curve."),
        "calibration": (
            plots.calibration(truth, scores),
            "Calibration in ten equal bins of score, with 95 % intervals.",
        ),
        "histogram": (
            plots.histogram(labels, scores, threshold),
            "Scores of each label, and the threshold.",
        ),
    }
    for column, title in GROUP_COLUMNS.items():
        groups = [group for group in evaluation.groups if group.column == column]
        if groups:
            captioned[f"by_{column}"] = (plots.by_group(groups, title), "")
    drawn = {name: (plots.save(figure, plot_folder, name), text) for name, (figure, text) in captioned.items()}
    false_positives, false_negatives = describe_errors(evaluation, views)
    sections = [
        html.Section(
            "Metrics",
            tables=[metrics_table(evaluation), confusion_table(evaluation, ensemble), *classes_tables(evaluation)],
        ),
        html.Section("", plots=[plot for name, plot in drawn.items() if not name.startswith("by_")]),
        html.Section(
            "By signal-to-noise, period and depth",
            ["Divided at the quartiles of the positives; average precision with its interval."],
            groups_tables(evaluation),
            [plot for name, plot in drawn.items() if name.startswith("by_")],
        ),
        html.Section(
            "Worst false positives", plots=_gallery(views, false_positives, plot_folder, "false_positive"), wide=True
        ),
        html.Section(
            "Worst false negatives", plots=_gallery(views, false_negatives, plot_folder, "false_negative"), wide=True
        ),
        html.Section("Methods", methods_note(evaluation, views)),
    ]
    about = [
        f"{ensemble.name}: {len(evaluation.members)} member(s), positive is {','.join(ensemble.target)}.",
        (
            f"Evaluated on {views.path.name}, split {evaluation.split}: {len(truth):,} signals of "
            f"{len(views.tces.text('star').take(evaluation.rows).unique[0]):,} stars, {truth.sum():,} positive."
        ),
        f"Trained on {ensemble.trained_on}. transit {__version__}.",
    ]
    simulated = "The light curves of this set are simulated: the metrics do not hold for real stars."
    return html.page(
        f"Evaluation of {ensemble.name}",
        about,
        sections,
        cards=[_card(evaluation, name) for name in KEY_METRICS],
        warning=simulated if views.simulated else "",
    )


def _card(evaluation: Evaluation, name: str) -> tuple[str, str, str]:
    found = evaluation.metrics[name]
    below = f"{found.low:.3f} to {found.high:.3f}"
    if name == "accuracy":
        below += f"; majority class: {evaluation.metrics['majority_accuracy'].value:.3f}"
    return TITLES[name], f"{found.value:.3f}", below


def _gallery(views: ViewSet, signals: Sequence[dict[str, Any]], plot_folder: Path, name: str) -> list[tuple[str, str]]:
    shown = []
    for number, signal in enumerate(signals, 1):
        figure = plots.folded(
            {view: values[signal["row"]] for view, values in views.views.items()},
            f"{signal['star']} {signal['signal']}: {signal['label']}, score {signal['score']:.3f}",
            width=5.6,
        )
        element = plots.save(figure, plot_folder, f"{name}_{number}", png=False)
        facts = f"P {_quantity(signal['period_days'], ' d')}, depth {_quantity(signal['depth_ppm'], ' ppm')}, "
        caption = f"{facts}S/N {_quantity(signal['snr'])}, spread {signal['spread']:.3f}, row {signal['row']}"
        shown.append((element, caption))
    return shown


def methods_note(evaluation: Evaluation, views: ViewSet) -> list[str]:
    """How the metrics were computed."""
    lines = [
        "Metrics are scikit-learn's. 95 % confidence intervals are from a bootstrap over stars with all their signals.",
        f"Threshold {evaluation.threshold:.3f}: {evaluation.threshold_from}.",
        "The score of the ensemble is the mean of its members' probabilities; the spread is their standard deviation.",
        f"View set: {json.dumps(plain(views.recipe))}",
    ]
    if len(evaluation.unusable):
        lines.append(f"{len(evaluation.unusable)} labelled signals with values that are not finite were left out.")
    return lines


def result(evaluation: Evaluation, views: ViewSet, ensemble: Ensemble, files: dict[str, str]) -> Result:
    """The result of the command."""
    data = to_document(evaluation, views, ensemble) | {"trained_with": ensemble.trained_with, "files": files}
    size = f"{len(evaluation.rows):,} signals ({evaluation.split}), {int(evaluation.truth.sum()):,} positive"
    verdict = f"average precision {evaluation.metrics['average_precision']} on {size}"
    if views.simulated:
        verdict += ", simulated"
    if ensemble.trained_with:
        verdict += f"\ntrained with {ensemble.trained_with}"
    if "report" in files:
        verdict += f"\nreport: {files['report']}"
    blocks = [
        metrics_table(evaluation),
        confusion_table(evaluation, ensemble),
        *classes_tables(evaluation),
        *groups_tables(evaluation),
        *errors_tables(evaluation, views),
    ]
    return Result(data, blocks, verdict)
