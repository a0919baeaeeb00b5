"""`transit evaluate`: selects the network and the view set, and writes the report."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from transit_cli.data.viewset import INFO, ViewSet
from transit_cli.device.select import select
from transit_cli.plotting.figures import require_matplotlib
from transit_cli.results import ExitCode, TransitError
from transit_cli.utils.files import locked
from transit_cli.vetting import pretrained
from transit_cli.vetting.completeness.report import Completeness, require_injected
from transit_cli.vetting.ensemble import open_run
from transit_cli.vetting.evaluation import evaluate_split
from transit_cli.vetting.report import outcome

if TYPE_CHECKING:
    from transit_cli.results import Result
    from transit_cli.vetting.ensemble import Ensemble
    from transit_cli.vetting.settings import EvaluateSettings


def evaluate(settings: EvaluateSettings) -> Result:
    """Evaluate a network and write the report.

    Raises:
        TransitError: the run or the view set does not exist, or they do not fit each other.
    """
    if settings.report:
        require_matplotlib("the report (--no-report omits it)")
    ensemble, views = select_inputs(settings)
    ensemble = ensemble.with_target(settings.target)
    if settings.completeness:
        require_injected(views)
    evaluation = evaluate_split(ensemble, views, settings)
    found = Completeness(evaluation, views) if settings.completeness else None
    folder = settings.out or _parent_folder(settings.run) / f"evaluate-{views.path.name}-{evaluation.split}"
    with locked(folder):
        files = outcome.write(folder, evaluation, views, ensemble, with_plots=settings.report)
        if found:
            files |= found.write(folder, with_plots=settings.report)
    result = outcome.result(evaluation, views, ensemble, files)
    if not found:
        return result
    data = {**result.data, "completeness": found.document()}
    return replace(result, data=data, blocks=[*result.blocks, *found.tables()])


def _parent_folder(run: Path | None) -> Path:
    """Where the default output folder goes: into the run, or into the current folder if no run was given."""
    if run is None or (run / INFO).is_file():
        return Path()
    return run if run.is_dir() else run.parent


def select_inputs(settings: EvaluateSettings) -> tuple[Ensemble, ViewSet]:
    """The network and the view set; a single argument may be either."""
    run, path, device = settings.run, settings.viewset, select(settings.device)
    if run and path is None and (run / INFO).is_file():
        run, path = None, run
    if run is None:
        if path is None:
            raise TransitError(
                "there is neither RUN nor VIEWSET",
                wanted="a run to evaluate, or a view set to evaluate the pretrained network on",
                fix="transit evaluate VIEWSET",
                exit_code=ExitCode.USAGE,
                code="setting-missing",
            )
        views = ViewSet.open(path).checked()
        return pretrained.for_lengths(views.lengths, device), views
    ensemble = open_run(run, device, trust=settings.trust)
    if path:
        return ensemble, ViewSet.open(path).checked()
    if ensemble.training_set is None:
        raise TransitError(
            f"the view set that {run} was trained on is not where it was",
            wanted="a VIEWSET to evaluate it on",
            fix=f"transit evaluate {run} VIEWSET",
            code="viewset-missing",
        )
    return ensemble, ensemble.training_set.checked()
