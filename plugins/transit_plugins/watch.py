"""Follow a run from another terminal, epoch by epoch, until it ends.

Reads the files that the run writes, and costs it nothing. Exits with 1 if the run ended before it was finished.

    transit watch runs/triage
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from transit_cli.command import command
from transit_cli.runs.settings import WatchSettings

if TYPE_CHECKING:
    from transit_cli.results import Result

app = typer.Typer()


@command(app, WatchSettings, prepare=False)
def watch(settings: WatchSettings) -> Result:
    from transit_cli.runs.watching import watch

    return watch(settings)
