"""From folded signals to the table of their scores."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from transit_cli import console
from transit_cli.data.viewset import INFO, ViewSet
from transit_cli.device.select import select
from transit_cli.model.calibration import shift_prior
from transit_cli.results import ExitCode, TransitError
from transit_cli.utils import remote
from transit_cli.vetting import pretrained
from transit_cli.vetting.ensemble import open_run
from transit_cli.vetting.evaluation import mean_score
from transit_cli.vetting.prediction.score_table import score_table

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from transit_cli.data.storage.columns import Columns
    from transit_cli.data.storage.stacked_rows import StoredView
    from transit_cli.vetting.ensemble import Ensemble
    from transit_cli.vetting.scored_signals import Signals
    from transit_cli.vetting.settings import PredictSettings


def open_ensemble(settings: PredictSettings, run: Path | None, path: Path) -> Ensemble:
    """The network: of the run, else the one that comes with transit and fits the input."""
    device = select(settings.device)
    if run:
        ensemble = open_run(run, device, trust=settings.trust)
    elif is_viewset(path):
        ensemble = pretrained.for_lengths(ViewSet.open(path).lengths, device)
    else:
        ensemble = pretrained.open_named(pretrained.DEFAULT, device)
    return ensemble.with_target(settings.target)


def is_viewset(path: Path) -> bool:
    """Whether an input is given as a view set: any folder that is no catalog."""
    return path.is_dir() or bool(remote.url(path) and remote.exists(path / INFO))


def scored_table(ensemble: Ensemble, signals: Signals, settings: PredictSettings) -> Columns:
    """The columns of scores.csv of folded signals, without plots."""
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
    return score_table(ensemble, signals, probabilities, errors, checks)


def scored(
    ensemble: Ensemble,
    views: Mapping[str, StoredView],
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
    if probabilities.shape[1] == count:
        return probabilities
    return np.pad(probabilities, ((0, 0), (0, count - probabilities.shape[1]), (0, 0)), constant_values=np.nan)
