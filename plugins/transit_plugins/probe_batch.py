"""Find the largest safe batch size, and the fastest.

Real training steps are run at up to 12 sizes, each in a process of its own: if one runs out of memory, swaps, hangs or
crashes, only its trial is lost. The largest size is verified by a longer run.

    transit probe-batch my_views --write batch.yaml
    transit probe-batch my_views --memory-limit 4GiB
"""

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
    from transit_cli.tuning.batch_probe import probe

    return probe(settings)
