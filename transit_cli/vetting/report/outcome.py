"""The files and the result of `transit evaluate`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from transit_cli.data.viewset import write_table
from transit_cli.results import Result, plain
from transit_cli.utils.files import atomic_output, atomic_write
from transit_cli.vetting.evaluation import score_columns, to_document
from transit_cli.vetting.report.html_report import page
from transit_cli.vetting.report.tables import (
    classes_tables,
    confusion_table,
    errors_tables,
    groups_tables,
    labels,
    labels_table,
    metrics_table,
)

if TYPE_CHECKING:
    from pathlib import Path

    from transit_cli.data.viewset import ViewSet
    from transit_cli.vetting.ensemble import Ensemble
    from transit_cli.vetting.evaluation import Evaluation


def write(
    folder: Path, evaluation: Evaluation, views: ViewSet, ensemble: Ensemble, *, with_plots: bool
) -> dict[str, str]:
    """Write all files, each atomically; returns their paths by content."""
    files = {"scores": folder / "scores.csv", "metrics": folder / "metrics.json"}
    with atomic_output(files["scores"]) as temporary:
        write_table(temporary, score_columns(evaluation, views, ensemble))
    document = plain(to_document(evaluation, views, ensemble) | {"labels": labels(evaluation, views)})
    atomic_write(files["metrics"], json.dumps(document, indent=2) + "\n")
    if with_plots:
        files |= {"report": folder / "report.html", "plots": folder / "plots"}
        atomic_write(files["report"], page(evaluation, views, ensemble, files["plots"]))
    return {name: str(path) for name, path in files.items()}


def result(evaluation: Evaluation, views: ViewSet, ensemble: Ensemble, files: dict[str, str]) -> Result:
    """The result of the command."""
    data = to_document(evaluation, views, ensemble) | {"labels": labels(evaluation, views), "files": files}
    data |= {"trained_with": ensemble.trained_with}
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
        labels_table(evaluation, views),
        *classes_tables(evaluation),
        *groups_tables(evaluation),
        *errors_tables(evaluation, views),
    ]
    return Result(data, blocks, verdict)
