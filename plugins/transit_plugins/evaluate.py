"""Judge a network on labelled signals: every figure with its interval, plots, worst mistakes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from transit_cli.command import command
from transit_cli.vetting.settings import EvaluateSettings

if TYPE_CHECKING:
    from transit_cli.results import Result

app = typer.Typer()


@command(app, EvaluateSettings)
def evaluate(settings: EvaluateSettings) -> Result:
    """Judge a network on labelled signals: every figure with its interval, plots, worst mistakes.

    RUN alone is judged on the set that it was trained on; VIEWSET alone, with the network that comes with transit.
    """
    from transit_cli.vetting.evaluate import evaluate

    return evaluate(settings)
