"""Find the largest batch that this machine can safely train, and the best."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from transit_cli.command import command
from transit_cli.tuning.settings import ProbeSettings

if TYPE_CHECKING:
    from transit_cli.results import Result

app = typer.Typer()


@command(app, ProbeSettings)
def probe_batch(settings: ProbeSettings) -> Result:
    """Find the largest batch that this machine can safely train, and the best.

    Real training steps are run at up to 12 sizes, each in a process of its own: one that runs out of memory, swaps,
    hangs or crashes costs one trial. Only sizes that ran are answered, and the largest is proven by a longer run.
    --memory-limit 4GiB plans for a smaller machine.
    """
    from transit_cli.tuning.batch_probe import probe

    return probe(settings)
