"""`transit predict`: scores of new signals, with the spread of the ensemble, plots and a check of the period."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from transit_cli import console
from transit_cli.data.storage.columns import Columns, Text
from transit_cli.data.viewset import write_table
from transit_cli.plotting.figures import require_matplotlib
from transit_cli.results import ExitCode, Result, TransitError
from transit_cli.utils import remote
from transit_cli.utils.files import atomic_output, locked
from transit_cli.vetting.prediction.plots import plot, remove_former
from transit_cli.vetting.prediction.result import prediction_result
from transit_cli.vetting.prediction.score_table import LISTED, SCORES, ranked, rows_of
from transit_cli.vetting.prediction.scoring import is_viewset, open_ensemble, scored_table
from transit_cli.vetting.scored_signals import Signals, from_catalog, from_light_curve, from_viewset

if TYPE_CHECKING:
    from transit_cli.vetting.ensemble import Ensemble
    from transit_cli.vetting.settings import PredictSettings

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
    if settings.shard or settings.shards:
        from transit_cli.vetting.prediction import shards  # a single light curve needs none of it

        return shards.predict(settings, run, path, folder)
    with remote.staged(folder) as here, locked(here):
        ensemble, signals = open_inputs(settings, run, path, here)
        return score(ensemble, signals, settings, here)


def open_inputs(settings: PredictSettings, run: Path | None, path: Path, folder: Path) -> tuple[Ensemble, Signals]:
    """The network and the signals of any kind of input."""
    ensemble = open_ensemble(settings, run, path)
    if is_viewset(path):
        return ensemble, from_viewset(path)
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
    table = scored_table(ensemble, signals, settings)
    order, errors = ranked(table["score"]), table.text("error")
    failed = (errors.values != "")[errors.codes]
    remove_former(folder)
    plots = [""] * len(signals)
    drawn = [place for place in order[: settings.max_plots].tolist() if not failed[place]]
    with console.progress("plots", len(drawn)) as bar:
        for place in drawn:
            plots[place] = plot(folder, signals, rows_of(table, np.array([place]))[0], place)
            bar.update(advance=1)
    table = Columns({name: table.stored(name) for name in table} | {"plot": Text.of(plots)})
    with atomic_output(folder / SCORES) as temporary:
        write_table(temporary, table if len(signals) else {})
    reasons = Counter(errors.values[errors.codes[failed]].tolist())
    return prediction_result(
        ensemble,
        rows_of(table, np.sort(order[:LISTED])),
        (len(signals), int(failed.sum())),
        reasons,
        scores_file=str(folder / SCORES),
        prior=settings.prior,
    )
