"""`transit runs compare`: the difference of two runs' average precision on the rows that both held out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from transit_cli.data.viewset import read_table
from transit_cli.results import Result, Table, TransitError
from transit_cli.runs import record
from transit_cli.training.runs.run import SCORES
from transit_cli.vetting import metrics

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from transit_cli.runs.record import RunRecord
    from transit_cli.runs.settings import CompareSettings

_COLUMNS = ("row", "star", "label", "score")


def compare_runs(settings: CompareSettings) -> Result:
    """The difference of average precision with a paired bootstrap over stars: both runs score the same signals.

    Efron & Tibshirani 1993, ch. 8 and 16: in each bootstrap sample, both runs are measured on the same stars, so that
    what makes a sample hard or easy cancels.

    Raises:
        TransitError: a run has not finished, the runs answer different questions, or they share no held-out rows.
    """
    runs = [record.read(settings.run), record.read(settings.other)]
    tables = [_scores(run) for run in runs]
    _check_comparable(*runs)
    rows, first, second = np.intersect1d(tables[0]["row"], tables[1]["row"], return_indices=True)
    labels = tables[0]["label"][first]
    truth = np.isin(labels, list(runs[0].settings.target))
    if not truth.any() or truth.all():
        raise TransitError(
            f"{settings.run} and {settings.other} share {len(rows)} held-out rows, {int(truth.sum())} positive",
            wanted="positive and other signals that neither run was trained on",
            fix="train both with the same split (--folds, or the view set's own)",
            code="runs-not-comparable",
        )
    stars = tables[0]["star"][first]
    scores = [tables[0]["score"][first], tables[1]["score"][second]]
    values = [metrics.point_estimates(truth, score, 0.5)["average_precision"] for score in scores]
    differences = _differences(truth, scores, stars, settings.resamples)
    low, high = np.quantile(differences, [0.025, 0.975])
    difference = values[1] - values[0]
    is_real = bool(low > 0 or high < 0)
    table = Table(
        ("run", "average precision", "options"),
        [
            (run.path, f"{value:.4f}", _options(run, other))
            for run, value, other in zip(runs, values, runs[::-1], strict=True)
        ],
        note=f"{len(rows):,} held-out signals of {len(np.unique(stars)):,} stars that both runs scored, "
        f"{int(truth.sum()):,} positive.",
    )
    better = settings.other if difference > 0 else settings.run
    words = f"{better} is better" if is_real else "the difference may be chance"
    verdict = (
        f"difference {difference:+.4f} (95 % interval {low:+.4f} to {high:+.4f}): {words}\n"
        "The interval is over stars. Another seed changes a run too: compare runs with --members or several seeds."
    )
    data = {
        "runs": [{"run": run.path, "average_precision": value} for run, value in zip(runs, values, strict=True)],
        "signals": len(rows),
        "positives": int(truth.sum()),
        "difference": difference,
        "difference_low": low,
        "difference_high": high,
        "share_of_resamples_with_second_better": float((differences > 0).mean()),
        "significant": is_real,
    }
    return Result(data, [table], verdict)


def _differences(
    truth: NDArray[np.bool_], scores: list[NDArray[np.float64]], stars: NDArray[np.generic], resamples: int
) -> NDArray[np.float64]:
    drawn = []
    for weights in metrics.bootstrap_weights(stars, resamples, seed=0):
        first, second = (metrics.resampled_metrics(truth, score, weights, 0.5)["average_precision"] for score in scores)
        drawn.append(second - first)
    found = np.concatenate(drawn)
    return found[np.isfinite(found)]


def _scores(run: RunRecord) -> dict[str, Any]:
    file = run.path / SCORES
    if not file.is_file():
        raise TransitError(
            f"{run.path} has no {SCORES}: it is {run.state}",
            wanted="a run that has finished",
            fix=f"transit train --resume {run.path}",
            code="run-unfinished",
        )
    table = read_table(file)
    missing = [name for name in _COLUMNS if name not in table]
    if missing or not len(table["row"]):
        raise TransitError(
            f"{file} has no {' and no '.join(missing) or 'rows'}",
            wanted="the file that `transit train` wrote",
            fix=f"transit train --resume {run.path}",
            code="table-damaged",
        )
    return dict(table)


def _check_comparable(first: RunRecord, second: RunRecord) -> None:
    if tuple(first.settings.target) != tuple(second.settings.target):
        found = f"{first.path} is trained for {','.join(first.settings.target)}, {second.path} for " + ",".join(
            second.settings.target
        )
        raise TransitError(
            found, wanted="two runs with the same --target", fix="train both alike", code="runs-not-comparable"
        )
    tables = [(run.environment.viewset.sha256 or {}).get("tces.csv") for run in (first, second)]
    if tables[0] != tables[1]:
        raise TransitError(
            f"{first.path} was trained on {first.viewset}, {second.path} on {second.viewset}, whose tces.csv differs",
            wanted="two runs on one view set",
            fix=f"transit evaluate RUN {second.viewset} for both, and compare their metrics.json",
            code="runs-not-comparable",
        )


def _options(run: RunRecord, other: RunRecord) -> str:
    """The options in which a run differs from another."""
    own, others = vars(run.settings), vars(other.settings)
    names = [name for name in own if name not in {"sources", "out", "resume", "viewset"} and own[name] != others[name]]
    return ", ".join(f"{name} {own[name]}" for name in names) or "the same"
