"""`transit predict`: scores of new signals, with the spread of the ensemble, plots and a check of the period."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from transit_cli import console
from transit_cli.data.viewset import write_table
from transit_cli.device.select import select
from transit_cli.model.calibration import shift_prior
from transit_cli.plotting.figures import require_matplotlib
from transit_cli.results import ExitCode, Result, Table, TransitError
from transit_cli.utils.files import atomic_output, locked
from transit_cli.vetting import pretrained
from transit_cli.vetting.ensemble import open_run
from transit_cli.vetting.evaluation import mean_score
from transit_cli.vetting.scored_signals import Signals, from_catalog, from_light_curve, from_viewset

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from transit_cli.vetting.ensemble import Ensemble
    from transit_cli.vetting.settings import PredictSettings

#: Rows of the printed table; scores.csv and --json have all.
SHOWN = 20
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
    ensemble = open_run(run, device, trust=settings.trust).with_target(settings.target) if run else None
    if path.is_dir():
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
        probabilities = scored(ensemble, signals.views, signals.tces, settings.prior, bar.update)
    members = ensemble.positive(probabilities)
    scores = mean_score(members)
    errors = [
        error or ("" if np.isfinite(value) else "a view has values that are not finite")
        for error, value in zip(signals.errors, scores, strict=True)
    ]
    checks = {
        name: mean_score(ensemble.positive(scored(ensemble, other, signals.tces, settings.prior)))
        for name, other in signals.other_periods.items()
    }
    rows = _rows(ensemble, signals, probabilities, errors, checks)
    order = np.argsort(-np.nan_to_num(scores, nan=-1), kind="stable")
    for index in order[: settings.max_plots]:
        if not errors[index]:
            rows[index]["plot"] = _plot(folder, signals, rows[index], int(index))
    with atomic_output(folder / "scores.csv") as temporary:
        write_table(temporary, {name: [row[name] for row in rows] for name in rows[0]} if rows else {})
    return _result(ensemble, rows, order, folder, settings.prior)


def scored(
    ensemble: Ensemble,
    views: Mapping[str, NDArray[np.float32]],
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


def _impostor(ensemble: Ensemble, probabilities: NDArray[np.float64]) -> dict[str, Any]:
    """The probability of each class, and the most probable one that is not the target; {} for a binary network.

    Args:
        ensemble: the networks.
        probabilities: [M, C] of one signal.
    """
    classes = ensemble.card.classes
    if not classes:
        return {}
    mean = probabilities.mean(axis=0)
    row: dict[str, Any] = {f"probability_{name}": value for name, value in zip(classes, mean, strict=True)}
    if not np.isfinite(mean).all():
        return row | {"impostor": "", "impostor_probability": np.nan}
    best = int(np.argmax(np.where(ensemble.is_target, -1.0, mean)))
    return row | {"impostor": classes[best], "impostor_probability": mean[best]}


def _rows(
    ensemble: Ensemble,
    signals: Signals,
    probabilities: NDArray[np.float64],
    errors: Sequence[str],
    checks: dict[str, NDArray[np.float64]],
) -> list[dict[str, Any]]:
    members = ensemble.positive(probabilities)
    scores = mean_score(members)
    rows: list[dict[str, Any]] = []
    names = ("star", "signal", "period_days", "epoch_days", "duration_hours", "depth_ppm", "label")
    for place, error in enumerate(errors):
        row: dict[str, Any] = {"row": place}
        row |= {name: signals.tces[name][place] for name in names if name in signals.tces}
        row |= {"score": scores[place], "spread": members[:, place].std() if np.isfinite(scores[place]) else np.nan}
        row |= {f"score_{member + 1}": value for member, value in enumerate(members[:, place])}
        row |= _impostor(ensemble, probabilities[:, place])
        row |= {f"score_{name}_period": values[place] for name, values in checks.items()}
        row |= {"error": error, "plot": "", "trained_on": ensemble.trained_on}
        rows.append(row)
    return rows


def _plot(folder: Path, signals: Signals, row: dict[str, Any], place: int) -> str:
    """Its name in `folder`: the files of a folder do not depend on where it lies."""
    from transit_cli.vetting import evaluation_plots

    title = f"{row.get('star', '')} {row.get('signal', '')}".strip() or f"row {place}"
    about = f"{title}: score {row['score']:.3f} +- {row['spread']:.3f}  (trained on {row['trained_on']})"
    figure = evaluation_plots.folded({name: values[place] for name, values in signals.views.items()}, about)
    evaluation_plots.save(figure, folder, f"signal_{place}")
    return f"signal_{place}.png"


def _result(
    ensemble: Ensemble,
    rows: Sequence[dict[str, Any]],
    order: NDArray[np.int64],
    folder: Path,
    prior: float | None,
) -> Result:
    failed = [row for row in rows if row["error"]]
    shown = [rows[place] for place in order[:SHOWN]]
    target = ",".join(ensemble.target)
    checked = [name for name in ("half", "double") if rows and f"score_{name}_period" in rows[0]]
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
    more = f"; {len(rows) - SHOWN} more in scores.csv" if len(rows) > SHOWN else ""
    note = f"score: probability of {target}, mean of {len(ensemble.networks)} network(s) trained on "
    note += ensemble.trained_on + more
    if impostor:
        note += "; impostor: the most probable other class"
    if prior is not None:
        note += f"; of the new signals {prior:g} are taken to be {target}"
    best = rows[order[0]] if rows and not rows[order[0]]["error"] else None
    verdict = f"{len(rows) - len(failed):,} signals scored"
    if len(rows) - len(failed) == 1 and best:
        verdict = f"score {best['score']:.3f} +- {best['spread']:.3f} for {target}"
        if impostor:
            verdict += f"; most probable impostor {best['impostor']} ({best['impostor_probability']:.3f})"
    verdict += f", {len(failed)} could not be" if failed else ""
    warnings = [text for row in rows if (text := _period_warning(row, checked))][:SHOWN]
    data = {
        "signals": [dict(row) for row in rows],
        "scored": len(rows) - len(failed),
        "errors": len(failed),
        "run": ensemble.name,
        "target": list(ensemble.target),
        "classes": list(ensemble.card.classes),
        "calibrated": ensemble.calibrations is not None,
        "prior": prior,
        "trained_on": ensemble.trained_on,
        "scores_file": str(folder / "scores.csv"),
    }
    return Result(data, [Table(columns, cells, note=note)], f"{verdict}; {folder / 'scores.csv'}", warnings)


def _period_warning(row: dict[str, Any], checked: Sequence[str]) -> str:
    """Warning if another period scores clearly higher, or ''."""
    best = max(checked, key=lambda name: np.nan_to_num(row[f"score_{name}_period"], nan=-1), default="")
    if best and row[f"score_{best}_period"] > row["score"] + max(0.1, 2 * row["spread"]):
        name = f"{row.get('star', '')} {row.get('signal', '')}".strip()
        return f"{name}: {best} the period scores {row[f'score_{best}_period']:.3f}, more than the period given"
    return ""


def _format(value: float) -> str:
    return "-" if np.isnan(value) else f"{value:.3f}"
