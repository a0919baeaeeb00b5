"""The table of scores of `transit predict`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from transit_cli.data.starlight.ephemeris_check import LEAST
from transit_cli.data.storage.columns import Column, Columns, Text
from transit_cli.vetting.evaluation import mean_score

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from transit_cli.vetting.ensemble import Ensemble
    from transit_cli.vetting.scored_signals import Signals

#: Rows of the printed table, and at most in the JSON document; scores.csv has all.
SHOWN, LISTED = 20, 10_000
#: The name of the table.
SCORES = "scores.csv"
#: Measurements of the light curve that are reported beside a score.
MEASURED = ("measured_depth_ppm", "measured_snr", "transits")


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


def doubts_of(columns: Mapping[str, Any]) -> list[str]:
    """[N] why a score means little, by what was measured in the light curve; "" where nothing speaks against it."""
    score = columns["score"]
    snr, transits = (columns.get(name, np.full(len(score), np.nan)) for name in ("measured_snr", "transits"))
    doubts = [""] * len(score)
    for place in np.flatnonzero(np.isfinite(score) & (transits < 2)).tolist():
        doubts[place] = "only one transit is observed"
    for place in np.flatnonzero(np.isfinite(score) & (snr < LEAST)).tolist():
        doubts[place] = f"no clear dip: S/N {snr[place]:.1f}, less than {LEAST:g}"
    return doubts


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
    columns |= {name: tces.stored(name) for name in (*names, *MEASURED) if name in tces}
    columns |= {"score": scores, "spread": np.where(np.isfinite(scores), members.std(axis=0), np.nan)}
    columns |= {f"score_{member + 1}": values for member, values in enumerate(members)}
    columns |= _impostors(ensemble, probabilities)
    columns |= {f"score_{name}_period": values for name, values in checks.items()}
    nothing = np.zeros(count, np.int32)
    columns |= {"doubt": Text.of(doubts_of(columns)), "error": Text.of(errors), "plot": Text(np.array([""]), nothing)}
    return Columns(columns | {"trained_on": Text(np.array([ensemble.trained_on]), nothing)})


def ranked(scores: NDArray[np.float64]) -> NDArray[np.int64]:
    """The rows in descending order of score, those without a score last: [N]."""
    return np.argsort(-np.nan_to_num(scores, nan=-1), kind="stable")


def rows_of(table: Columns, rows: NDArray[np.int64]) -> list[dict[str, Any]]:
    """Some rows of the table."""
    columns = {name: column.tolist() for name, column in table.take(rows).items()}
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
