"""Evaluate a network on labelled signals, with confidence intervals.

With RUN only, the set that it was trained on is used; with VIEWSET only, the network that comes with transit.

    transit evaluate runs/triage other_views --split all
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from transit_cli.command import command
from transit_cli.utils.packages import collector_paused
from transit_cli.vetting.settings import EvaluateSettings

if TYPE_CHECKING:
    from transit_cli.results import Result

app = typer.Typer()


@command(app, EvaluateSettings)
def evaluate(settings: EvaluateSettings) -> Result:
    with collector_paused(freeze=True):
        from transit_cli.vetting.evaluate import evaluate

    return evaluate(settings)
