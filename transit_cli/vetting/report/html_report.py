"""report.html of an evaluation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from transit_cli.plotting import html
from transit_cli.plotting.svg import svg
from transit_cli.results import Table, plain
from transit_cli.vetting.evaluation import describe_errors
from transit_cli.vetting.groups import GROUP_COLUMNS
from transit_cli.vetting.report import plots
from transit_cli.vetting.report.tables import (
    TITLES,
    classes_tables,
    confusion_table,
    groups_tables,
    labels_table,
    metrics_table,
    quantity,
)
from transit_cli.vetting.sheets.views import view_panels

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from transit_cli.data.viewset import ViewSet
    from transit_cli.vetting.ensemble import Ensemble
    from transit_cli.vetting.evaluation import Evaluation

#: Metrics in the boxes at the top.
KEY_METRICS = ("average_precision", "roc_auc", "recall_at_precision_90", "accuracy")


def page(evaluation: Evaluation, views: ViewSet, ensemble: Ensemble, plot_folder: Path) -> str:
    """The document; its plots are also written to `plot_folder`, as SVG, PDF and PNG."""
    scores, truth = evaluation.scores, evaluation.truth
    threshold = evaluation.threshold
    curves = {
        "precision_recall": plots.precision_recall(truth, scores, threshold),
        "roc": plots.roc(truth, scores),
        "calibration": plots.calibration(truth, scores),
        "histogram": plots.histogram(views.labels[evaluation.rows], scores, threshold),
    }
    groups = {}
    for column, title in GROUP_COLUMNS.items():
        some = [group for group in evaluation.groups if group.column == column]
        if some:
            groups[f"by_{column}"] = plots.by_group(some, title)
    columns = views.tces.take(evaluation.rows)
    maps = plots.maps(columns["period_days"], columns["depth_ppm"], truth, scores >= threshold)
    for name, panel in (curves | groups | maps).items():
        plots.save(panel, plot_folder, name)
    false_positives, false_negatives = describe_errors(evaluation, views)
    sections = [
        html.Section(
            "Metrics",
            tables=[
                metrics_table(evaluation),
                confusion_table(evaluation, ensemble),
                labels_table(evaluation, views),
                *classes_tables(evaluation),
            ],
        ),
        html.Section("Curves", plots=_drawn(curves), wide=True),
        html.Section(
            "By signal-to-noise, period and depth",
            [
                "Divided at the quartiles of the positives; average precision with its 95 % interval.",
                "The average precision of random scores is the share of positives, which differs between the groups.",
            ],
            groups_tables(evaluation),
            _drawn(groups),
        ),
        html.Section("Over period and depth", plots=_drawn(maps)),
        _errors("Worst false positives", views, false_positives, ensemble),
        _errors("Worst false negatives", views, false_negatives, ensemble),
        html.Section("Methods", methods(evaluation), [_recipe(views)]),
    ]
    members = len(evaluation.members)
    about = [
        f"{ensemble.name}: {members} network{'s' if members > 1 else ''}, trained on {ensemble.trained_on}.",
        f"Positive labels: {', '.join(ensemble.target)}.",
        (
            f"Evaluated on {views.path.name}, split {evaluation.split}: {len(truth):,} signals of "
            f"{len(views.tces.text('star').take(evaluation.rows).unique[0]):,} stars, {truth.sum():,} positive."
        ),
    ]
    return html.page(
        f"Evaluation of {ensemble.name}",
        about,
        [section for section in sections if section.plots or section.text or section.tables],
        cards=[_card(evaluation, name) for name in KEY_METRICS],
        warning=" ".join(_warnings(evaluation, views)),
    )


def _warnings(evaluation: Evaluation, views: ViewSet) -> list[str]:
    found = []
    if views.simulated:
        found.append("The light curves of this set are simulated: the metrics do not hold for real stars.")
    if evaluation.seen:
        new = evaluation.new_stars
        found.append(
            f"{evaluation.seen:.0%} of these signals are of stars that the network was trained on"
            + (f"; on the other stars the average precision is {new}." if new else ".")
        )
    return found


def _drawn(panels: dict[str, plots.Panel]) -> list[tuple[str, str]]:
    return [(svg(panel), panel.title) for panel in panels.values()]


def _card(evaluation: Evaluation, name: str) -> tuple[str, str, str]:
    found = evaluation.metrics[name]
    below = f"{found.low:.3f} to {found.high:.3f}"
    if name == "accuracy":
        below += f"; majority class: {evaluation.metrics['majority_accuracy'].value:.3f}"
    return TITLES[name], f"{found.value:.3f}", below


def _errors(title: str, views: ViewSet, signals: Sequence[dict[str, Any]], ensemble: Ensemble) -> html.Section:
    """The views of signals, with their facts."""
    shown = []
    for signal in signals:
        row = signal["row"]
        duration = float(views.tces.take(slice(row, row + 1))["duration_hours"][0])
        caption = f"{signal['star']} {signal['signal']}: {signal['label']}, score {signal['score']:.3f}"
        if len(ensemble.networks) > 1:
            caption += f", standard deviation of the networks {signal['spread']:.3f}"
        facts = (
            f"P = {quantity(signal['period_days'], ' d')}",
            f"depth {quantity(signal['depth_ppm'], ' ppm')}",
            f"S/N {quantity(signal['snr'])}",
        )
        caption += f". {', '.join(fact for fact in facts if not fact.endswith(' -'))}; row {row}."
        values = {name: view[row] for name, view in views.views.items() if name in {"global", "local"}}
        panels = view_panels(values, views.local_span, duration)
        shown.append(("".join(map(svg, panels)), caption))
    text = ["Whole orbit and transit of each signal, as the network sees them, farthest from the threshold first."]
    return html.Section(title, text, plots=shown, wide=True) if shown else html.Section("")


def methods(evaluation: Evaluation) -> list[str]:
    """How the metrics were computed."""
    lines = [
        "Metrics are scikit-learn's. 95 % confidence intervals are from a bootstrap over stars with all their signals.",
        "Intervals of shares are Wilson's (1927).",
        f"Threshold {evaluation.threshold:.3f}: {evaluation.threshold_from}.",
        "The score of the ensemble is the mean of its networks' probabilities.",
    ]
    if len(evaluation.unusable):
        lines.append(f"{len(evaluation.unusable)} labelled signals with values that are not finite were left out.")
    return lines


def _recipe(views: ViewSet) -> Table:
    """How the view set was made."""
    rows = [(name.replace("_", " "), _value(value)) for name, value in plain(dict(views.recipe)).items()]
    return Table(("view set", "value"), rows)


def _value(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name}: {_value(item)}" for name, item in value.items())
    if isinstance(value, list):
        return ", ".join(map(_value, value)) or "none"
    return {"True": "yes", "False": "no", "None": "-"}.get(str(value), str(value))
