"""`transit predict`: scores of new signals, with the spread of the ensemble, plots and a check of the period."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from transit_cli import console
from transit_cli.data.storage.columns import Column, Columns, Text
from transit_cli.data.viewset import INFO, write_table
from transit_cli.device.select import select
from transit_cli.model.calibration import shift_prior
from transit_cli.plotting.figures import require_matplotlib
from transit_cli.results import ExitCode, Result, Table, TransitError
from transit_cli.utils import remote
from transit_cli.utils.files import atomic_output, locked
from transit_cli.vetting import pretrained
from transit_cli.vetting.ensemble import open_run
from transit_cli.vetting.evaluation import mean_score
from transit_cli.vetting.scored_signals import Signals, from_catalog, from_light_curve, from_viewset

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from transit_cli.data.storage.stacked_rows import StackedRows
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
    with remote.staged(folder) as here, locked(here):
        ensemble, signals = open_inputs(settings, run, path, here)
        return score(ensemble, signals, settings, here)


def open_inputs(settings: PredictSettings, run: Path | None, path: Path, folder: Path) -> tuple[Ensemble, Signals]:
    """The network and the signals of any kind of input."""
    device = select(settings.device)
    ensemble = open_run(run, device, trust=settings.trust).with_target(settings.target) if run else None
    if path.is_dir() or (remote.url(path) and remote.exists(path / INFO)):
        signals = from_viewset(path)
        return ensemble or pretrained.for_lengths(signals.lengths, device).with_target(settings.target), signals
    ensemble = ensemble or pretrained.open_named(pretrained.DEFAULT, device).with_target(settings.target)
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
        found = scored(ensemble, signals.views, signals.tces, settings.prior, bar.update)
    probabilities = _padded(found, len(signals))
    members = ensemble.positive(probabilities)
    scores = mean_score(members)
    errors = list(signals.errors)
    for place in np.flatnonzero(~np.isfinite(scores)).tolist():
        errors[place] = errors[place] or "a view has values that are not finite"
    checks = {
        name: mean_score(ensemble.positive(scored(ensemble, other, signals.tces, settings.prior)))
        for name, other in signals.other_periods.items()
    }
    checks = {
        name: np.pad(values, (0, len(signals) - len(values)), constant_values=np.nan) for name, values in checks.items()
    }
    table = _table(ensemble, signals, probabilities, errors, checks)
    order = np.argsort(-np.nan_to_num(scores, nan=-1), kind="stable")
    plots = [""] * len(signals)
    for place in order[: settings.max_plots].tolist():
        if not errors[place]:
            plots[place] = _plot(folder, signals, _row(table, place), place)
    columns = {name: table.stored(name) for name in table if name != "trained_on"}
    table = Columns(columns | {"plot": Text.of(plots), "trained_on": table.stored("trained_on")})
    with atomic_output(folder / "scores.csv") as temporary:
        write_table(temporary, table if len(signals) else {})
    return _result(ensemble, table, order, folder, settings.prior)


def scored(
    ensemble: Ensemble,
    views: Mapping[str, NDArray[np.float32] | StackedRows],
    tces: Mapping[str, NDArray[Any]],
    prior: float | None,
    tick: Callable[[int], object] | None = None,
) -> NDArray[np.float64]:
    """Probabilities of the classes by each member, [M, N, C], for signals of which `prior` are of the target.

    Raises:
        TransitError: there is a prior, but it is not known how frequent the target was where the scores hold.
    """
    probabilities = ensemble.probabilities(views, tces, tick)
    if prior is None:
        return probabilities
    calibrations = ensemble.calibrations
    if calibrations is None:
        raise TransitError(
            f"--prior is given, and the scores of {ensemble.name} are not calibrated",
            wanted="networks with a calibration, which records how frequent each class was",
            fix="omit --prior, or train with validation rows and --calibrate",
            exit_code=ExitCode.USAGE,
            code="not-calibrated",
        )
    before = float(np.array(calibrations.shares)[ensemble.is_target].sum())
    return shift_prior(probabilities, ensemble.is_target, before, prior)


def _padded(probabilities: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    """Probabilities [M, count, C], NaN for the signals at the end that have no views."""
    return np.pad(probabilities, ((0, 0), (0, count - probabilities.shape[1]), (0, 0)), constant_values=np.nan)


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


def _table(
    ensemble: Ensemble,
    signals: Signals,
    probabilities: NDArray[np.float64],
    errors: Sequence[str],
    checks: dict[str, NDArray[np.float64]],
) -> Columns:
    """The columns of scores.csv, all but "plot"."""
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
    columns |= {"error": Text.of(errors)}
    return Columns(columns | {"trained_on": Text(np.array([ensemble.trained_on]), np.zeros(count, np.int32))})


def _row(table: Columns, place: int) -> dict[str, Any]:
    return {name: column[0] for name, column in table.take(slice(place, place + 1)).items()}


def _plot(folder: Path, signals: Signals, row: dict[str, Any], place: int) -> str:
    """Its name in `folder`: the files of a folder do not depend on where it lies."""
    from transit_cli.plotting import figures
    from transit_cli.vetting.sheets.views import light_panels, view_panels

    title = f"{row.get('star', '')} {row.get('signal', '')}".strip() or f"row {place}"
    title += f": score {row['score']:.3f} \u00b1 {row['spread']:.3f} (trained on {row['trained_on']})"
    tces = signals.tces if isinstance(signals.tces, Columns) else Columns.of(signals.tces)
    facts = {name: column[0] for name, column in tces.take(slice(place, place + 1)).items()}
    if signals.light:
        panels = light_panels(*signals.light, float(facts.get("secondary_phase_days", np.nan)))
    else:
        counts = {
            name: int(facts[key])
            for name in ("odd", "even")
            if np.isfinite(facts.get(key := f"{name}_transits", np.nan))
        }
        views = {name: values[place] for name, values in signals.views.items()}
        panels = [
            replace(panel, wide=number == 0)
            for number, panel in enumerate(
                view_panels(views, signals.span, float(facts.get("duration_hours", np.nan)), counts)
            )
        ]
    drawn = figures.panels_figure(panels, f"{title}\n{_facts(facts)}")
    name = f"signal_{place}"
    figures.save_formats(drawn, folder, name)
    return f"{name}.png"


def _facts(row: Mapping[str, Any]) -> str:
    """Period, depth, S/N and number of transits, as far as they are known; those of the catalog if not measured."""
    quantities = (
        (("period_days",), "P = {:.6g} d"),
        (("duration_hours",), "duration {:.3g} h"),
        (("measured_depth_ppm", "depth_ppm"), "depth {:,.0f} ppm"),
        (("measured_snr", "snr"), "S/N {:.1f}"),
        (("transits",), "transits: {:.0f}"),
    )
    found: list[str] = []
    for names, text in quantities:
        values = [float(row[name]) for name in names if name in row]
        known = [value for value in values if np.isfinite(value)]
        found += [text.format(value) for value in known[:1]]
    return ", ".join(found)


def _result(ensemble: Ensemble, table: Columns, order: NDArray[np.int64], folder: Path, prior: float | None) -> Result:
    count, errors = table.rows, table.text("error")
    failed = int((errors.values != "")[errors.codes].sum())
    shown = [_row(table, place) for place in order[:SHOWN].tolist()]
    target = ",".join(ensemble.target)
    checked = [name for name in ("half", "double") if count and f"score_{name}_period" in table]
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
    more = f"; {count - SHOWN} more in scores.csv" if count > SHOWN else ""
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
        reasons = {str(value) for value in errors.values if value}
        alike = f": {min(reasons)}" if len(reasons) == 1 else ""
        verdict = f"{count - failed:,} of {count:,} signals scored; {failed:,} could not be{alike}"
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
