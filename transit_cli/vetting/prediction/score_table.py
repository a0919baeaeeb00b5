"""The table of scores, its plots, and the result of `transit predict`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from transit_cli.data.storage.columns import Column, Columns, Text
from transit_cli.results import Result, Table
from transit_cli.vetting.evaluation import mean_score

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from numpy.typing import NDArray

    from transit_cli.vetting.ensemble import Ensemble
    from transit_cli.vetting.scored_signals import Signals

#: Rows of the printed table, and at most in the JSON document; scores.csv has all.
SHOWN, LISTED = 20, 10_000
#: The name of the table.
SCORES = "scores.csv"


def _impostors(ensemble: Ensemble, probabilities: NDArray[np.float64]) -> dict[str, Column]:
    """The probability of each class, and the most probable one that is not the target; {} for a binary network.

    Args:
        ensemble: the networks.
        probabilities: [M, N, C].
    """
    classes = ensemble.card.classes
    if not classes:
        return {}
    mean = probabilities.mean(axis=0)
    columns: dict[str, Column] = {f"probability_{name}": mean[:, index] for index, name in enumerate(classes)}
    known = np.isfinite(mean).all(axis=1)
    best = np.argmax(np.where(ensemble.is_target, -1.0, np.nan_to_num(mean)), axis=1)
    names = Text(np.array([*classes, ""]), np.where(known, best, len(classes)).astype(np.int32))
    highest = np.where(known, mean[np.arange(len(mean)), best], np.nan)
    return columns | {"impostor": names, "impostor_probability": highest}


def score_table(
    ensemble: Ensemble,
    signals: Signals,
    probabilities: NDArray[np.float64],
    errors: Sequence[str],
    checks: dict[str, NDArray[np.float64]],
) -> Columns:
    """The columns of scores.csv, with no plots yet."""
    names = ("star", "signal", "period_days", "epoch_days", "duration_hours", "depth_ppm", "label")
    members, count = ensemble.positive(probabilities), len(errors)
    scores = mean_score(members)
    tces = signals.tces if isinstance(signals.tces, Columns) else Columns.of(signals.tces)
    columns: dict[str, Column] = {"row": np.arange(count)}
    columns |= {name: tces.stored(name) for name in names if name in tces}
    columns |= {"score": scores, "spread": np.where(np.isfinite(scores), members.std(axis=0), np.nan)}
    columns |= {f"score_{member + 1}": values for member, values in enumerate(members)}
    columns |= _impostors(ensemble, probabilities)
    columns |= {f"score_{name}_period": values for name, values in checks.items()}
    nothing = np.zeros(count, np.int32)
    columns |= {"error": Text.of(errors), "plot": Text(np.array([""]), nothing)}
    return Columns(columns | {"trained_on": Text(np.array([ensemble.trained_on]), nothing)})


def ranked(scores: NDArray[np.float64]) -> NDArray[np.int64]:
    """The rows in descending order of score, those without a score last: [N]."""
    return np.argsort(-np.nan_to_num(scores, nan=-1), kind="stable")


def rows_of(table: Columns, rows: NDArray[np.int64]) -> list[dict[str, Any]]:
    """Some rows of the table."""
    columns = {name: column.tolist() for name, column in table.take(rows).items()}
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def result(
    ensemble: Ensemble,
    listed: Sequence[Mapping[str, Any]],
    counts: tuple[int, int],
    reasons: Collection[str],
    *,
    scores_file: str,
    prior: float | None,
) -> Result:
    """The result of the command.

    Args:
        ensemble: the networks.
        listed: the rows of highest score, at most `LISTED`, in the order of the table.
        counts: signals, and those of them that could not be scored.
        reasons: why not, each once; two are enough.
        scores_file: the table.
        prior: as it was given.
    """
    count, failed = counts
    shown = sorted(listed, key=lambda row: -row["score"] if row["score"] == row["score"] else 1.0)[:SHOWN]
    target = ",".join(ensemble.target)
    checked = [name for name in ("half", "double") if count and f"score_{name}_period" in listed[0]]
    impostor = ("impostor",) if ensemble.card.classes else ()
    columns = ("star", "signal", "score", "spread", *impostor, *(f"{name} period" for name in checked), "error")
    cells = [
        (
            row.get("star", ""),
            row.get("signal", ""),
            _format(row["score"]),
            _format(row["spread"]),
            *(f"{row['impostor']} {_format(row['impostor_probability'])}" for _ in impostor),
            *(_format(row[f"score_{name}_period"]) for name in checked),
            row["error"],
        )
        for row in shown
    ]
    more = f"; {count - SHOWN} more in {SCORES}" if count > SHOWN else ""
    note = f"score: probability of {target}, mean of {len(ensemble.networks)} network(s) trained on "
    note += ensemble.trained_on + more
    if impostor:
        note += "; impostor: the most probable other class"
    if prior is not None:
        note += f"; of the new signals {prior:g} are taken to be {target}"
    best = shown[0] if shown and not shown[0]["error"] else None
    verdict = f"{count - failed:,} signals scored"
    if count - failed == 1 and best:
        verdict = f"score {best['score']:.3f} +- {best['spread']:.3f} for {target}"
        if impostor:
            verdict += f"; most probable impostor {best['impostor']} ({best['impostor_probability']:.3f})"
    if failed:
        alike = f": {min(reasons)}" if len(reasons) == 1 else ""
        verdict = f"{count - failed:,} of {count:,} signals scored; {failed:,} could not be{alike}"
    if count > LISTED:
        note += f"; the JSON document has the {LISTED:,} with the highest scores"
    data = {
        "signals": list(listed),
        "scored": count - failed,
        "errors": failed,
        "run": ensemble.name,
        "target": list(ensemble.target),
        "classes": list(ensemble.card.classes),
        "calibrated": ensemble.calibrations is not None,
        "prior": prior,
        "trained_on": ensemble.trained_on,
        "scores_file": scores_file,
    }
    warnings = _period_warnings(listed, checked)
    return Result(data, [Table(columns, cells, note=note)], f"{verdict}; {scores_file}", warnings)


def _period_warnings(rows: Sequence[Mapping[str, Any]], checked: Sequence[str]) -> list[str]:
    """Warnings for the first signals of which another period scores clearly higher."""
    warnings: list[str] = []
    for row in rows:
        others = {name: row[f"score_{name}_period"] for name in checked}
        best = max(others, key=lambda name: np.nan_to_num(others[name], nan=-1), default="")
        if best and others[best] > row["score"] + np.fmax(0.1, 2 * row["spread"]):
            name = f"{row.get('star', '')} {row.get('signal', '')}".strip()
            warnings.append(f"{name}: {best} the period scores {others[best]:.3f}, more than the period given")
        if len(warnings) == SHOWN:
            break
    return warnings


def _format(value: float) -> str:
    return "-" if np.isnan(value) else f"{value:.3f}"
