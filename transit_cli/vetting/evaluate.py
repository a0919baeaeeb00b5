"""`transit evaluate`: which network, on which signals, and where the report goes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from transit_cli.data.viewset import INFO, ViewSet
from transit_cli.device.select import select
from transit_cli.plotting.figures import require_matplotlib
from transit_cli.results import ExitCode, TransitError
from transit_cli.vetting import pretrained, report
from transit_cli.vetting.ensemble import open_run
from transit_cli.vetting.evaluation import evaluate_split

if TYPE_CHECKING:
    from transit_cli.results import Result
    from transit_cli.vetting.ensemble import Ensemble
    from transit_cli.vetting.settings import EvaluateSettings


def evaluate(settings: EvaluateSettings) -> Result:
    """Judge a network and write the report.

    Raises:
        TransitError: there is no such run or view set, or they do not fit each other.
    """
    if settings.report:
        require_matplotlib("the report (omit it with --no-report)")
    ensemble, views = chosen(settings)
    judged = evaluate_split(ensemble, views, settings)
    folder = settings.out or _beside(settings.run) / f"evaluate-{views.path.name}-{judged.split}"
    files = report.write(folder, judged, views, ensemble, with_plots=settings.report)
    return report.result(judged, views, ensemble, files)


def _beside(run: Path | None) -> Path:
    """Where the report goes: into the run, or into the current folder where there is none."""
    if run is None or (run / INFO).is_file():
        return Path()
    return run if run.is_dir() else run.parent


def chosen(settings: EvaluateSettings) -> tuple[Ensemble, ViewSet]:
    """The network and the view set that the arguments mean; one argument alone may be either."""
    run, path, device = settings.run, settings.viewset, select(settings.device)
    if run and path is None and (run / INFO).is_file():
        run, path = None, run
    if run is None:
        if path is None:
            raise TransitError(
                "there is neither RUN nor VIEWSET",
                wanted="a run to judge, or a view set to judge the network that comes with transit on",
                fix="transit evaluate VIEWSET",
                exit_code=ExitCode.USAGE,
                code="setting-missing",
            )
        views = ViewSet.open(path)
        return pretrained.for_lengths(views.lengths, device), views
    ensemble = open_run(run, device)
    if path:
        return ensemble, ViewSet.open(path)
    if ensemble.training_set is None:
        raise TransitError(
            f"the view set that {run} was trained on is not where it was",
            wanted="a VIEWSET to judge it on",
            fix=f"transit evaluate {run} VIEWSET",
            code="viewset-missing",
        )
    return ensemble, ensemble.training_set
