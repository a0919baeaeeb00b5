"""What `transit evaluate` writes and shows: report.html, plots, scores.csv, and the tables of the terminal."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from transit_cli import __version__
from transit_cli.plotting import html
from transit_cli.results import Result, Table, plain
from transit_cli.vetting import evaluation, groups

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from transit_cli.data.viewset import ViewSet
    from transit_cli.vetting.ensemble import Ensemble
    from transit_cli.vetting.evaluation import Evaluation
    from transit_cli.vetting.metrics import Figure

NAMES = {
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
    "majority_accuracy": "accuracy of always saying the same",
    "brier": "Brier score (0 is best)",
    "calibration_error": "calibration error (0 is best)",
}


def figures_table(judged: Evaluation) -> Table:
    """Every figure with its interval."""
    rows = []
    for key, name in NAMES.items():
        figure = judged.figures[key]
        shown = "-" if np.isnan(figure.value) else f"{figure.value:.3f}"
        interval = "-" if np.isnan(figure.low) else f"{figure.low:.3f} to {figure.high:.3f}"
        rows.append((name, shown, interval))
    if judged.new_stars:
        new = judged.new_stars
        row = ("average precision, new stars only", f"{new.value:.3f}", f"{new.low:.3f} to {new.high:.3f}")
        rows.insert(1, row)
    return Table(
        ("figure", "value", "95 % interval"), rows, note=f"threshold {judged.threshold:.3f}: {judged.threshold_from}"
    )


def confusion_table(judged: Evaluation, ensemble: Ensemble) -> Table:
    """Signals called right and wrong at the threshold."""
    found, target = judged.confusion(), ",".join(ensemble.target)
    return Table(
        ("label", f"called {target}", "called other"),
        [
            (target, found["true_positives"], found["false_negatives"]),
            ("other", found["false_positives"], found["true_negatives"]),
        ],
    )


def groups_tables(judged: Evaluation) -> list[Table]:
    """A table for each column by which the set was divided."""
    tables = []
    for column, name in groups.COLUMNS.items():
        rows = [
            (
                group.range,
                group.signals,
                group.positives,
                _brief(group.figures["average_precision"]),
                _brief(group.figures["recall"]),
            )
            for group in judged.groups
            if group.column == column
        ]
        if rows:
            tables.append(Table((name, "signals", "positives", "AP (95 %)", "recall (95 %)"), rows))
    return tables


def mistakes_tables(judged: Evaluation, views: ViewSet) -> list[Table]:
    """The worst false alarms and misses."""
    found = evaluation.worst_errors(judged, views)
    columns = ("star", "signal", "label", "score", "spread", "period", "depth", "S/N")
    tables = []
    for title, signals in zip(("worst false alarms", "worst misses"), found, strict=True):
        rows = [
            (
                item["star"],
                item["signal"],
                item["label"],
                f"{item['score']:.3f}",
                f"{item['spread']:.3f}",
                _number(item["period_days"], " d"),
                _number(item["depth_ppm"], " ppm"),
                _number(item["snr"]),
            )
            for item in signals
        ]
        if rows:
            tables.append(Table(columns, rows, title=title))
    return tables


def _number(value: float, unit: str = "") -> str:
    if np.isnan(value):
        return "-"
    return f"{value:,.0f}{unit}" if abs(value) >= 1000 else f"{value:.4g}{unit}"


def _brief(figure: Figure) -> str:
    if np.isnan(figure.value):
        return "-"
    return f"{figure.value:.2f} ({figure.low:.2f}-{figure.high:.2f})"


def write(folder: Path, judged: Evaluation, views: ViewSet, ensemble: Ensemble, *, with_plots: bool) -> dict[str, str]:
    """Write everything into a folder; returns the files by what they are."""
    from transit_cli.data.viewset import write_table

    folder.mkdir(parents=True, exist_ok=True)
    files = {"scores": folder / "scores.csv", "figures": folder / "figures.json"}
    write_table(files["scores"], evaluation.table(judged, views, ensemble))
    found = plain(evaluation.document(judged, views, ensemble))
    files["figures"].write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    if with_plots:
        files |= {"report": folder / "report.html", "plots": folder / "plots"}
        files["report"].write_text(_page(judged, views, ensemble, files["plots"]), encoding="utf-8")
    return {name: str(path) for name, path in files.items()}


def _page(judged: Evaluation, views: ViewSet, ensemble: Ensemble, plot_folder: Path) -> str:
    from transit_cli.vetting import plots

    scores, truth = judged.scores, judged.truth
    drawn = {
        "precision_recall": plots.precision_recall(truth, scores, judged.threshold),
        "roc": plots.roc(truth, scores),
        "calibration": plots.calibration(truth, scores),
        "histogram": plots.histogram(views.labels[judged.rows], scores, judged.threshold),
    }
    captions = {
        "precision_recall": "Precision and recall; the dot is the threshold in use.",
        "roc": "True and false positive rate.",
        "calibration": "Do scores mean what they say? Ten bins of equally many signals.",
        "histogram": "Scores of each label; the dotted line is the threshold.",
    }
    parts = {}
    for column, name in groups.COLUMNS.items():
        own = [group for group in judged.groups if group.column == column]
        if own:
            parts[f"by_{column}"] = plots.by_group(own, name)
    elements = {name: plots.save(picture, plot_folder, name) for name, picture in (drawn | parts).items()}
    alarms, misses = evaluation.worst_errors(judged, views)
    sections = [
        html.Section("Figures", tables=[figures_table(judged), confusion_table(judged, ensemble)]),
        html.Section("", plots=[(elements[name], captions[name]) for name in drawn]),
        html.Section(
            "By signal-to-noise, period and depth",
            ["Divided at the quartiles of the positives; average precision with its interval."],
            groups_tables(judged),
            [(elements[name], "") for name in parts],
        ),
        html.Section("Worst false alarms", plots=_gallery(views, alarms, plot_folder, "false_alarm"), wide=True),
        html.Section("Worst misses", plots=_gallery(views, misses, plot_folder, "miss"), wide=True),
        html.Section("How this was measured", how(judged, views)),
    ]
    target = ",".join(ensemble.target)
    about = [
        f"{ensemble.name}: {len(judged.members)} member(s), positive is {target}.",
        (
            f"Judged on {views.path.name}, part {judged.split}: {len(truth):,} signals of "
            f"{len(np.unique(views.tces['star'][judged.rows])):,} stars, {truth.sum():,} positive."
        ),
        f"Trained on {ensemble.trained_on}. transit {__version__}.",
    ]
    warning = "The light curves of this set are simulated: the figures say nothing about real stars." * views.simulated
    return html.page(f"Evaluation of {ensemble.name}", about, sections, cards=_cards(judged), warning=warning)


def _cards(judged: Evaluation) -> list[tuple[str, str, str]]:
    names = ("average_precision", "roc_auc", "recall_at_precision_90", "accuracy")
    cards = []
    for name in names:
        figure = judged.figures[name]
        below = f"{figure.low:.3f} to {figure.high:.3f}"
        if name == "accuracy":
            below += f"; always the same: {judged.figures['majority_accuracy'].value:.3f}"
        cards.append((NAMES[name], f"{figure.value:.3f}", below))
    return cards


def _gallery(views: ViewSet, signals: Sequence[dict[str, Any]], plot_folder: Path, name: str) -> list[tuple[str, str]]:
    from transit_cli.vetting import plots

    shown = []
    for number, signal in enumerate(signals, 1):
        picture = plots.folded(
            {view: values[signal["row"]] for view, values in views.views.items()},
            f"{signal['star']} {signal['signal']}: {signal['label']}, score {signal['score']:.3f}",
            width=5.6,
        )
        element = plots.save(picture, plot_folder, f"{name}_{number}", png=False)
        facts = f"P {_number(signal['period_days'], ' d')}, depth {_number(signal['depth_ppm'], ' ppm')}, "
        caption = f"{facts}S/N {_number(signal['snr'])}, members differ by {signal['spread']:.3f}, row {signal['row']}"
        shown.append((element, caption))
    return shown


def how(judged: Evaluation, views: ViewSet) -> list[str]:
    """The small print."""
    lines = [
        "Figures are scikit-learn's. Intervals hold 95 % of a bootstrap that draws stars with all their signals.",
        f"Threshold {judged.threshold:.3f}: {judged.threshold_from}.",
        "The ensemble's score is the mean of its members' probabilities.",
        f"View set: {json.dumps(plain(views.recipe))}",
    ]
    if len(judged.unusable):
        lines.append(f"{len(judged.unusable)} labelled signals with values that are not finite were left out.")
    return lines


def result(judged: Evaluation, views: ViewSet, ensemble: Ensemble, files: dict[str, str]) -> Result:
    """What the command answers."""
    data: dict[str, Any] = evaluation.document(judged, views, ensemble) | {"files": files}
    figure = judged.figures["average_precision"]
    what = f"{len(judged.rows):,} signals ({judged.split}), {int(judged.truth.sum()):,} positive"
    verdict = f"average precision {figure} on {what}"
    if views.simulated:
        verdict += ", simulated"
    if "report" in files:
        verdict += f"\nreport: {files['report']}"
    blocks = [
        figures_table(judged),
        confusion_table(judged, ensemble),
        *groups_tables(judged),
        *mistakes_tables(judged, views),
    ]
    return Result(data, blocks, verdict)
