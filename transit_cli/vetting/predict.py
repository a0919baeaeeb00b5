"""`transit predict`: scores of new signals, with the spread of the ensemble, plots and a check of the period."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from transit_cli import console
from transit_cli.data.storage.columns import Column, Columns, Text
from transit_cli.data.viewset import INFO, write_table
from transit_cli.device.select import select
from transit_cli.model.calibration import shift_prior
from transit_cli.plotting.figures import require_matplotlib
from transit_cli.results import ExitCode, Result, TransitError
from transit_cli.utils import remote
from transit_cli.utils.files import atomic_output, locked
from transit_cli.vetting import pretrained
from transit_cli.vetting.ensemble import open_run
from transit_cli.vetting.evaluation import mean_score
from transit_cli.vetting.predictions.result import doubts_of, prediction_result, row_of
from transit_cli.vetting.scored_signals import Signals, from_catalog, from_light_curve, from_viewset

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from transit_cli.data.storage.stacked_rows import StackedRows
    from transit_cli.vetting.ensemble import Ensemble
    from transit_cli.vetting.settings import PredictSettings

#: Measurements of the light curve that are reported beside a score.
MEASURED = ("measured_depth_ppm", "measured_snr", "transits")
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
        return ensemble, from_catalog(path, settings.light_curves, folder, lengths, check=check, mapping=settings.map)
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
    remove_former(folder)
    order = np.argsort(-np.nan_to_num(scores, nan=-1), kind="stable")
    plots = [""] * len(signals)
    drawn = [place for place in order[: settings.max_plots].tolist() if not errors[place]]
    with console.progress("plots", len(drawn)) as bar:
        for place in drawn:
            plots[place] = _plot(folder, signals, row_of(table, place), place)
            bar.update(advance=1)
    columns = {name: table.stored(name) for name in table if name != "trained_on"}
    table = Columns(columns | {"plot": Text.of(plots), "trained_on": table.stored("trained_on")})
    with atomic_output(folder / "scores.csv") as temporary:
        write_table(temporary, table if len(signals) else {})
    return prediction_result(ensemble, table, order, folder, settings.prior)


def remove_former(folder: Path) -> None:
    """Remove the scores and plots of an earlier prediction, so that none is taken for one of this."""
    file = folder / "scores.csv"
    try:
        with file.open(newline="", encoding="utf-8", errors="replace") as lines:
            plots = {Path(row.get("plot") or "").name for row in csv.DictReader(lines)}
    except FileNotFoundError:
        return
    except (OSError, csv.Error):
        plots = set()
    file.unlink()
    for name in plots - {""}:
        for suffix in (".png", ".svg", ".pdf"):
            (folder / name).with_suffix(suffix).unlink(missing_ok=True)


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
    columns |= {name: tces.stored(name) for name in MEASURED if name in tces}
    columns |= {"score": scores, "spread": np.where(np.isfinite(scores), members.std(axis=0), np.nan)}
    columns |= {f"score_{member + 1}": values for member, values in enumerate(members)}
    columns |= _impostors(ensemble, probabilities)
    columns |= {f"score_{name}_period": values for name, values in checks.items()}
    columns |= {"doubt": Text.of(doubts_of(columns)), "error": Text.of(errors)}
    return Columns(columns | {"trained_on": Text(np.array([ensemble.trained_on]), np.zeros(count, np.int32))})


def _plot(folder: Path, signals: Signals, row: dict[str, Any], place: int) -> str:
    """Its name in `folder`: the files of a folder do not depend on where it lies."""
    from transit_cli.vetting import evaluation_plots

    title = f"{row.get('star', '')} {row.get('signal', '')}".strip() or f"row {place}"
    about = f"{title}: score {row['score']:.3f} +- {row['spread']:.3f}  (trained on {row['trained_on']})"
    figure = evaluation_plots.folded({name: values[place] for name, values in signals.views.items()}, about)
    evaluation_plots.save(figure, folder, f"signal_{place}")
    return f"signal_{place}.png"
