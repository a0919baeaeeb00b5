"""Train a classifier on a view set: safely, resumably, and ready to evaluate."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from transit_cli.command import command
from transit_cli.training.settings import TrainSettings

if TYPE_CHECKING:
    from transit_cli.results import Result

app = typer.Typer()


@command(app, TrainSettings)
def train(settings: TrainSettings) -> Result:
    """Train a classifier on a view set: safely, resumably, and ready to evaluate.

    Stop it at any moment: transit train --resume RUN goes on as if it had never stopped.
    """
    from transit_cli.training import loop, rehearsal

    if settings.overfit:
        return rehearsal.overfit(settings)
    if settings.dry_run:
        return rehearsal.dry_run(settings)
    return loop.train(settings)
