"""`transit evaluate`: which network, on which signals, and where the report goes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from transit_cli.data.viewset import ViewSet
from transit_cli.device.select import select
from transit_cli.results import TransitError
from transit_cli.vetting import report
from transit_cli.vetting.ensemble import open_run
from transit_cli.vetting.judge import judge
from transit_cli.vetting.pictures import require_matplotlib

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
        require_matplotlib("--no-report")
    ensemble, views = chosen(settings)
    judged = judge(ensemble, views, settings)
    beside = settings.run if settings.run.is_dir() else settings.run.parent
    folder = settings.out or beside / f"evaluate-{views.path.name}-{judged.split}"
    files = report.write(folder, judged, views, ensemble, pictures=settings.report)
    return report.result(judged, views, ensemble, files)


def chosen(settings: EvaluateSettings) -> tuple[Ensemble, ViewSet]:
    """The network and the view set that the arguments mean."""
    ensemble = open_run(settings.run, select(settings.device))
    if settings.view_set:
        return ensemble, ViewSet.open(settings.view_set)
    if ensemble.training_set is None:
        raise TransitError(
            f"the view set that {settings.run} was trained on is not where it was",
            wanted="a VIEWSET to judge it on",
            fix=f"transit evaluate {settings.run} VIEWSET",
            code="viewset-missing",
        )
    return ensemble, ensemble.training_set
