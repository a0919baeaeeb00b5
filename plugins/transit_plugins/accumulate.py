"""Plan a larger effective batch than fits in memory, and prove it exact."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from transit_cli.command import command
from transit_cli.tuning.settings import AccumulateSettings

if TYPE_CHECKING:
    from transit_cli.results import Result

app = typer.Typer()


@command(app, AccumulateSettings)
def accumulate(settings: AccumulateSettings) -> Result:
    """Plan a larger effective batch than fits in memory, and prove it exact.

    The plan runs the step in micro-batches of several sizes and says what each costs. The proof compares the gradients
    that the optimizer is handed with those of one full batch, for every parameter. Exits 1 if they differ.
    """
    from transit_cli.tuning.accumulation import accumulate as run

    return run(settings)
