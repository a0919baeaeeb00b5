"""Search light curves for transits: a catalog of signals for `transit data prepare` and `transit predict`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from transit_cli.command import command
from transit_cli.search.settings import SearchSettings
from transit_cli.utils.packages import collector_paused

if TYPE_CHECKING:
    from transit_cli.results import Result

app = typer.Typer()


@command(app, SearchSettings)
def search(settings: SearchSettings) -> Result:
    """Search light curves for transits: a catalog of signals for `transit data prepare` and `transit predict`.

    A limb-darkened template is tried over a grid of period, epoch and duration that follows from the stars' density.
    Each signal is masked before the next is searched. A run that was stopped resumes with the same command.
    """
    with collector_paused(freeze=True):
        from transit_cli.search.search_run import search

    return search(settings)
