"""The result of `transit predict`: the printed table, what its numbers are, doubts and warnings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from transit_cli.data.starlight.ephemeris_check import LEAST
from transit_cli.results import Result, Table
from transit_cli.vetting.prediction.score_table import LISTED, SCORES, SHOWN

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Mapping, Sequence

    from transit_cli.vetting.ensemble import Ensemble

#: Reasons without a score that the verdict names.
REASONS = 3
#: Titles of the scores at other periods.
PERIODS = {"half": "P/2", "double": "2P"}


def prediction_result(
    ensemble: Ensemble,
    listed: Sequence[Mapping[str, Any]],
    counts: tuple[int, int],
    reasons: Counter[str],
    *,
    scores_file: str,
    prior: float | None,
) -> Result:
    """The result of the command.

    Args:
        ensemble: the networks.
        listed: the rows of highest score, at most `LISTED`, in the order of the table.
        counts: signals, and those of them that could not be scored.
        reasons: why not, and how often.
        scores_file: the table.
        prior: as it was given.
    """
    count, failed = counts
    ranked = sorted(listed, key=lambda row: -row["score"] if row["score"] == row["score"] else 1.0)
    shown = ranked if count <= SHOWN else ranked[: min(SHOWN, max(count - failed, 1))]
    target = ",".join(ensemble.target)
    checked = [name for name in PERIODS if count and f"score_{name}_period" in listed[0]]
    verdict = f"{count - failed:,} signals scored"
    best = shown[0] if shown and not shown[0]["error"] else None
    if count - failed == 1 and best:
        verdict = f"score {best['score']:.3f} (spread of the networks {best['spread']:.3f}) for {target}"
        if ensemble.card.classes:
            verdict += f"; most probable impostor {best['impostor']} ({best['impostor_probability']:.3f})"
    if count == 1 and best and "measured_snr" in best:
        transits, depth = int(best["transits"]), best["measured_depth_ppm"]
        verdict += f"; {transits} transit{'s' * (transits != 1)} of {depth:,.0f} ppm, S/N {best['measured_snr']:.1f}"
    if failed:
        verdict = f"{count - failed:,} of {count:,} signals scored; {failed:,} could not be: {_reasons(reasons)}"
    more = count - len(shown)
    note = _note(ensemble, prior, checked) + (f"; {more:,} more in {SCORES}" if more else "")
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
    warnings = [*_doubt_warnings(listed), *_period_warnings(listed, checked)]
    return Result(data, [_shown(shown, ensemble, checked, note)], f"{verdict}; {scores_file}", warnings)


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


def _reasons(reasons: Counter[str]) -> str:
    """Why signals have no score, the most frequent reasons first."""
    kinds = reasons.most_common()
    if len(kinds) == 1:
        return kinds[0][0]
    named = [f"{reason} ({times:,})" for reason, times in kinds[:REASONS]]
    return "; ".join([*named, *([f"{len(kinds) - REASONS} other reasons"] if len(kinds) > REASONS else [])])


def _name(row: Mapping[str, Any]) -> str:
    return f"{row.get('star', '')} {row.get('signal', '')}".strip()


def _doubt_warnings(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """A warning that names the first signals with a doubt."""
    doubted = [row for row in rows if row.get("doubt")]
    if not doubted or len(rows) == 1:  # the ephemeris of a single light curve is checked more closely
        return []
    named, more = [_name(row) for row in doubted[:3]], f" and {len(doubted) - 3:,} more" if len(doubted) > 3 else ""
    return [
        f"scores that mean little, for S/N below {LEAST:g} or a single transit (column doubt): {', '.join(named)}{more}"
    ]


def _period_warnings(rows: Sequence[Mapping[str, Any]], checked: Sequence[str]) -> list[str]:
    """Warnings for the first signals of which another period scores clearly higher."""
    warnings: list[str] = []
    for row in rows:
        others = {name: row[f"score_{name}_period"] for name in checked}
        best = max(others, key=lambda name: np.nan_to_num(others[name], nan=-1), default="")
        if best and others[best] > row["score"] + np.fmax(0.1, 2 * row["spread"]):
            found = f"{best} the period scores {others[best]:.3f}, more than the period given"
            warnings.append(f"{_name(row)}: {found}")
        if len(warnings) == SHOWN:
            break
    return warnings


def _number(value: float, digits: int = 3) -> str:
    return "-" if np.isnan(value) else f"{value:,.{digits}f}"
