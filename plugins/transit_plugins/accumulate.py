"""Plan gradient accumulation for a large batch, and prove it exact.

The plan runs the step in micro-batches of several sizes and reports what each costs. The proof compares the gradients
that the optimizer gets with those of one full batch, for every parameter. Exits with 1 if they differ.

    transit accumulate my_views --effective-batch 1024
"""

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
    from transit_cli.tuning.accumulation import accumulate as run

    return run(settings)
