"""Vet signals: the network's probability beside classical tests, and one sheet per signal.

With a CATALOG its signals are vetted; without one the light curves are searched first. A run that was stopped resumes
with the same command. The exit code does not depend on the verdicts.

    transit vet toi.csv fits/ vetted
    transit vet fits/ vetted
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from transit_cli.command import command
from transit_cli.utils.packages import collector_paused
from transit_cli.vetting.settings import VetSettings

if TYPE_CHECKING:
    from transit_cli.results import Result

app = typer.Typer()


@command(app, VetSettings)
def vet(settings: VetSettings) -> Result:
    with collector_paused(freeze=True):
        from transit_cli.vetting.candidates.vet_run import vet

    return vet(settings)
