"""Score new signals: a light curve with its period, a catalog, or a view set."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from transit_cli.command import command
from transit_cli.vetting.settings import PredictSettings

if TYPE_CHECKING:
    from transit_cli.results import Result

app = typer.Typer()


@command(app, PredictSettings)
def predict(settings: PredictSettings) -> Result:
    """Score new signals: a light curve with its period, a catalog, or a view set.

    One argument is INPUT, scored by the network that comes with transit; of two, the first is the RUN. A signal that
    cannot be scored is a row with its error, never a 0. Exits 0 whatever the scores are.
    """
    from transit_cli.vetting.predict import predict

    return predict(settings)
