"""The result of `transit predict`: the printed table, what its numbers are, doubts and warnings."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np

from transit_cli.data.starlight.ephemeris_check import LEAST
from transit_cli.results import Result, Table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from transit_cli.data.storage.columns import Columns, Text
    from transit_cli.vetting.ensemble import Ensemble

#: Rows of the printed table, and at most in the JSON document; scores.csv has all.
SHOWN, LISTED = 20, 10_000
#: Reasons without a score that the verdict names.
REASONS = 3
#: Titles of the scores at other periods.
PERIODS = {"half": "P/2", "double": "2P"}


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


def row_of(table: Columns, place: int) -> dict[str, Any]:
    """One row of the table."""
    return {name: column[0] for name, column in table.take(slice(place, place + 1)).items()}


def prediction_result(
    ensemble: Ensemble, table: Columns, order: NDArray[np.int64], folder: Path, prior: float | None
) -> Result:
    """The result of a prediction.

    Args:
        ensemble: the networks.
        table: the columns of scores.csv.
        order: [N] rows from the highest score to the lowest.
        folder: of scores.csv.
        prior: share of the target that was stated.
    """
    count, errors = table.rows, table.text("error")
    failed = int((errors.values != "")[errors.codes].sum())
    few = order if count <= SHOWN else order[: min(SHOWN, max(count - failed, 1))]
    shown = [row_of(table, place) for place in few.tolist()]
    target = ",".join(ensemble.target)
    checked = [name for name in ("half", "double") if count and f"score_{name}_period" in table]
    verdict = f"{count - failed:,} signals scored"
    best = shown[0] if shown and not shown[0]["error"] else None
    if count - failed == 1 and best:
        verdict = f"score {best['score']:.3f} (spread of the networks {best['spread']:.3f}) for {target}"
        if ensemble.card.classes:
            verdict += f"; most probable impostor {best['impostor']} ({best['impostor_probability']:.3f})"
    if count == 1 and best and "measured_snr" in best:
        count_of, depth = int(best["transits"]), best["measured_depth_ppm"]
        verdict += f"; {count_of} transit{'s' * (count_of != 1)} of {depth:,.0f} ppm, S/N {best['measured_snr']:.1f}"
    if failed:
        verdict = f"{count - failed:,} of {count:,} signals scored; {failed:,} could not be: {_reasons(errors)}"
    more = count - len(shown)
    note = _note(ensemble, prior, checked) + (f"; {more:,} more in scores.csv" if more else "")
    listed = np.sort(order[:LISTED])
    if count > LISTED:
        note += f"; the JSON document has the {LISTED:,} with the highest scores"
    data = {
        "signals": _rows(table.take(listed)),
        "scored": count - failed,
        "errors": failed,
        "run": ensemble.name,
        "target": list(ensemble.target),
        "classes": list(ensemble.card.classes),
        "calibrated": ensemble.calibrations is not None,
        "prior": prior,
        "trained_on": ensemble.trained_on,
        "scores_file": str(folder / "scores.csv"),
    }
    warnings = [*_doubt_warnings(table), *_period_warnings(table, checked)]
    return Result(data, [_shown(shown, ensemble, checked, note)], f"{verdict}; {folder / 'scores.csv'}", warnings)


def _shown(rows: Sequence[Mapping[str, Any]], ensemble: Ensemble, checked: Sequence[str], note: str) -> Table:
    """The printed table."""
    impostor, errors = bool(ensemble.card.classes), any(row["error"] for row in rows)
    titles = {"measured_snr": "S/N", "transits": "transits"}
    measured = [name for name in titles if rows and name in rows[0]]
    columns = ["star", "signal", *(titles[name] for name in measured), "score", "spread"]
    columns += (["impostor"] if impostor else []) + [PERIODS[name] for name in checked] + (["error"] if errors else [])
    cells = [
        (
            row.get("star", ""),
            row.get("signal", ""),
            *(_number(row[name], 1 if name == "measured_snr" else 0) for name in measured),
            _number(row["score"]),
            _number(row["spread"]),
            *([f"{row['impostor']} {_number(row['impostor_probability'])}"] if impostor else []),
            *(_number(row[f"score_{name}_period"]) for name in checked),
            *([row["error"]] if errors else []),
        )
        for row in rows
    ]
    return Table(tuple(columns), cells, note=note)


def _note(ensemble: Ensemble, prior: float | None, checked: Sequence[str]) -> str:
    """What the numbers of the table are."""
    target, count = ",".join(ensemble.target), len(ensemble.networks)
    note = f"score: for {target}, "
    note += f"mean of {count} networks (spread: their standard deviation)" if count > 1 else "of one network"
    note += f" trained on {ensemble.trained_on}"
    if ensemble.calibrations is None:
        note += "; not calibrated: scores rank signals, and are no probabilities"
    elif prior is None:
        note += "; a probability only where signals are as in that set: --prior states how frequent the target is"
    else:
        note += f"; of the new signals {prior:g} are taken to be {target}"
    if ensemble.card.classes:
        note += "; impostor: the most probable other class"
    if checked:
        note += f"; {', '.join(PERIODS[name] for name in checked)}: scores at other periods"
    return note


def _reasons(errors: Text) -> str:
    """Why signals have no score, the most frequent reasons first."""
    found: Counter[str] = Counter()
    for reason, times in zip(errors.values, np.bincount(errors.codes, minlength=len(errors.values)), strict=True):
        found[str(reason)] += int(times)
    kinds = [(reason, times) for reason, times in found.most_common() if reason and times]
    if len(kinds) == 1:
        return kinds[0][0]
    named = [f"{reason} ({times:,})" for reason, times in kinds[:REASONS]]
    return "; ".join([*named, *([f"{len(kinds) - REASONS} other reasons"] if len(kinds) > REASONS else [])])


def _rows(table: Columns) -> list[dict[str, Any]]:
    columns = {name: column.tolist() for name, column in table.items()}
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def _doubt_warnings(table: Columns) -> list[str]:
    """A warning that names the first signals with a doubt."""
    doubts = table.text("doubt").array()
    places = np.flatnonzero(doubts != "").tolist()
    if not places or len(doubts) == 1:  # the ephemeris of a single light curve is checked more closely
        return []
    named = [f"{row.get('star', '')} {row.get('signal', '')}".strip() for row in (row_of(table, p) for p in places[:3])]
    more = f" and {len(places) - 3:,} more" if len(places) > 3 else ""
    return [
        f"scores that mean little, for S/N below {LEAST:g} or a single transit (column doubt): {', '.join(named)}{more}"
    ]


def _period_warnings(table: Columns, checked: Sequence[str]) -> list[str]:
    """Warnings for the first signals of which another period scores clearly higher."""
    if not checked:
        return []
    others = np.stack([np.nan_to_num(table[f"score_{name}_period"], nan=-1) for name in checked])
    higher = others.max(axis=0) > table["score"] + np.fmax(0.1, 2 * table["spread"])
    warnings = []
    for place in np.flatnonzero(higher)[:SHOWN].tolist():
        row, best = row_of(table, place), checked[int(others[:, place].argmax())]
        name = f"{row.get('star', '')} {row.get('signal', '')}".strip()
        found = row[f"score_{best}_period"]
        warnings.append(f"{name}: {best} the period scores {found:.3f}, more than the period given")
    return warnings


def _number(value: float, digits: int = 3) -> str:
    return "-" if np.isnan(value) else f"{value:,.{digits}f}"
