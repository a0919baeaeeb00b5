"""Score new signals: a light curve, a catalog, or a view set.

One argument is INPUT, scored by the network that comes with transit; of two, the first is the RUN. A signal that
cannot be scored is a row with its error. The exit code does not depend on the scores.

    transit predict star.fits --period 3.52 --epoch 2458354.1 --duration 2.6
    transit predict runs/triage toi.csv --light-curves fits/
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from transit_cli.command import command
from transit_cli.utils.packages import collector_paused
from transit_cli.vetting.settings import PredictSettings

if TYPE_CHECKING:
    from transit_cli.results import Result

app = typer.Typer()


@command(app, PredictSettings)
def predict(settings: PredictSettings) -> Result:
    with collector_paused(freeze=True):
        from transit_cli.vetting.predict import predict

    return predict(settings)
