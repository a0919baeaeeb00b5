"""`transit predict`: scores of new signals, with the spread of the ensemble, plots and a check of the period."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from transit_cli import console
from transit_cli.data.storage.columns import Column, Columns, Text
from transit_cli.data.viewset import write_table
from transit_cli.device.select import select
from transit_cli.plotting.figures import require_matplotlib
from transit_cli.results import ExitCode, Result, Table, TransitError
from transit_cli.utils.files import atomic_output, locked
from transit_cli.vetting import pretrained
from transit_cli.vetting.ensemble import open_run
from transit_cli.vetting.evaluation import mean_score
from transit_cli.vetting.scored_signals import Signals, from_catalog, from_light_curve, from_viewset

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from transit_cli.vetting.ensemble import Ensemble
    from transit_cli.vetting.settings import PredictSettings

#: Rows of the printed table, and at most in the JSON document; scores.csv has all.
SHOWN, LISTED = 20, 10_000
#: Suffixes of catalogs.
TABLES = {".csv", ".ecsv", ".tsv", ".txt"}


def predict(settings: PredictSettings) -> Result:
    """Score signals, write scores.csv and plots.

    Raises:
        TransitError: the input cannot be read, or does not fit the network.
    """
    if settings.max_plots:
        require_matplotlib("--max-plots 0")
    run, path = (settings.run, settings.input) if settings.input else (None, settings.run)
    if path is None:
        raise TransitError(
            "there is no INPUT",
            wanted="a view set, a catalog with --light-curves, or a light curve with --period, --epoch and --duration",
            fix="transit predict VIEWSET",
            exit_code=ExitCode.USAGE,
            code="setting-missing",
        )
    folder = settings.out or Path(f"predict-{path.name.split('.')[0]}")
    with locked(folder):
        ensemble, signals = open_inputs(settings, run, path, folder)
        return score(ensemble, signals, settings, folder)


def open_inputs(settings: PredictSettings, run: Path | None, path: Path, folder: Path) -> tuple[Ensemble, Signals]:
    """The network and the signals of any kind of input."""
    device = select(settings.device)
    ensemble = open_run(run, device, trust=settings.trust) if run else None
    if path.is_dir():
        signals = from_viewset(path)
        return ensemble or pretrained.for_lengths(signals.lengths, device), signals
    ensemble = ensemble or pretrained.open_named(pretrained.DEFAULT, device)
    if settings.light_curves:
        lengths, check = ensemble.card.views, settings.check_periods
        return ensemble, from_catalog(path, settings.light_curves, folder, lengths, check=check)
    if path.suffix.lower() in TABLES and settings.period is None:
        raise TransitError(
            f"{path} is a catalog, and the light curves of its stars are not given",
            wanted="the folder that holds them",
            fix="add --light-curves FOLDER",
            exit_code=ExitCode.USAGE,
            code="setting-missing",
        )
    return ensemble, from_light_curve(path, settings, ensemble.card.views)


def score(ensemble: Ensemble, signals: Signals, settings: PredictSettings, folder: Path) -> Result:
    """Score folded signals, and write scores.csv and the plots."""
    with console.progress("scoring", len(signals)) as bar:
        members = _padded(ensemble.score(signals.views, signals.tces, bar.update), len(signals))
    scores = mean_score(members)
    errors = list(signals.errors)
    for place in np.flatnonzero(~np.isfinite(scores)).tolist():
        errors[place] = errors[place] or "a view has values that are not finite"
    others = {name: ensemble.score(other, signals.tces) for name, other in signals.other_periods.items()}
    checks = {name: mean_score(_padded(values, len(signals))) for name, values in others.items()}
    table = _table(ensemble, signals, members, errors, checks)
    order = np.argsort(-np.nan_to_num(scores, nan=-1), kind="stable")
    plots = [""] * len(signals)
    for place in order[: settings.max_plots].tolist():
        if not errors[place]:
            plots[place] = _plot(folder, signals, _row(table, place), place)
    columns = {name: table.stored(name) for name in table if name != "trained_on"}
    table = Columns(columns | {"plot": Text.of(plots), "trained_on": table.stored("trained_on")})
    with atomic_output(folder / "scores.csv") as temporary:
        write_table(temporary, table if len(signals) else {})
    return _result(ensemble, table, order, folder)


def _padded(members: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    """Scores [M, count], NaN for the signals at the end that have no views."""
    return np.pad(members, ((0, 0), (0, count - members.shape[1])), constant_values=np.nan)


def _table(
    ensemble: Ensemble,
    signals: Signals,
    members: NDArray[np.float64],
    errors: Sequence[str],
    checks: dict[str, NDArray[np.float64]],
) -> Columns:
    """The columns of scores.csv, all but "plot"."""
    names = ("star", "signal", "period_days", "epoch_days", "duration_hours", "depth_ppm", "label")
    scores, count = mean_score(members), len(errors)
    tces = signals.tces if isinstance(signals.tces, Columns) else Columns.of(signals.tces)
    columns: dict[str, Column] = {"row": np.arange(count)}
    columns |= {name: tces.stored(name) for name in names if name in tces}
    columns |= {"score": scores, "spread": np.where(np.isfinite(scores), members.std(axis=0), np.nan)}
    columns |= {f"score_{member + 1}": values for member, values in enumerate(members)}
    columns |= {f"score_{name}_period": values for name, values in checks.items()}
    columns |= {"error": Text.of(errors)}
    return Columns(columns | {"trained_on": Text(np.array([ensemble.trained_on]), np.zeros(count, np.int32))})


def _row(table: Columns, place: int) -> dict[str, Any]:
    return {name: column[0] for name, column in table.take(slice(place, place + 1)).items()}


def _plot(folder: Path, signals: Signals, row: dict[str, Any], place: int) -> str:
    from transit_cli.vetting import evaluation_plots

    title = f"{row.get('star', '')} {row.get('signal', '')}".strip() or f"row {place}"
    about = f"{title}: score {row['score']:.3f} +- {row['spread']:.3f}  (trained on {row['trained_on']})"
    figure = evaluation_plots.folded({name: values[place] for name, values in signals.views.items()}, about)
    evaluation_plots.save(figure, folder, f"signal_{place}")
    return str(folder / f"signal_{place}.png")


def _result(ensemble: Ensemble, table: Columns, order: NDArray[np.int64], folder: Path) -> Result:
    count, errors = table.rows, table.text("error")
    failed = int((errors.values != "")[errors.codes].sum())
    shown = [_row(table, place) for place in order[:SHOWN].tolist()]
    target = ",".join(ensemble.target)
    checked = [name for name in ("half", "double") if count and f"score_{name}_period" in table]
    columns = ("star", "signal", "score", "spread", *(f"{name} period" for name in checked), "error")
    cells = [
        (
            row.get("star", ""),
            row.get("signal", ""),
            _format(row["score"]),
            _format(row["spread"]),
            *(_format(row[f"score_{name}_period"]) for name in checked),
            row["error"],
        )
        for row in shown
    ]
    more = f"; {count - SHOWN} more in scores.csv" if count > SHOWN else ""
    note = f"score: probability of {target}, mean of {len(ensemble.networks)} network(s) trained on "
    note += ensemble.trained_on + more
    best = shown[0] if shown and not shown[0]["error"] else None
    verdict = f"{count - failed:,} signals scored"
    if count - failed == 1 and best:
        verdict = f"score {best['score']:.3f} +- {best['spread']:.3f} for {target}"
    verdict += f", {failed} could not be" if failed else ""
    listed = np.sort(order[:LISTED])
    if count > LISTED:
        note += f"; the JSON document has the {LISTED:,} with the highest scores"
    data = {
        "signals": _rows(table.take(listed)),
        "scored": count - failed,
        "errors": failed,
        "run": ensemble.name,
        "target": list(ensemble.target),
        "trained_on": ensemble.trained_on,
        "scores_file": str(folder / "scores.csv"),
    }
    warnings = _period_warnings(table, checked)
    return Result(data, [Table(columns, cells, note=note)], f"{verdict}; {folder / 'scores.csv'}", warnings)


def _rows(table: Columns) -> list[dict[str, Any]]:
    columns = {name: column.tolist() for name, column in table.items()}
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def _period_warnings(table: Columns, checked: Sequence[str]) -> list[str]:
    """Warnings for the first signals of which another period scores clearly higher."""
    if not checked:
        return []
    others = np.stack([np.nan_to_num(table[f"score_{name}_period"], nan=-1) for name in checked])
    higher = others.max(axis=0) > table["score"] + np.fmax(0.1, 2 * table["spread"])
    warnings = []
    for place in np.flatnonzero(higher)[:SHOWN].tolist():
        row, best = _row(table, place), checked[int(others[:, place].argmax())]
        name = f"{row.get('star', '')} {row.get('signal', '')}".strip()
        found = row[f"score_{best}_period"]
        warnings.append(f"{name}: {best} the period scores {found:.3f}, more than the period given")
    return warnings


def _format(value: float) -> str:
    return "-" if np.isnan(value) else f"{value:.3f}"
