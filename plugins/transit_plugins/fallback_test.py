"""Find the operators that MPS lacks, runs on the CPU, or gets wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from transit_cli.command import command
from transit_cli.operators.settings import FallbackTestSettings

if TYPE_CHECKING:
    from transit_cli.results import Result

app = typer.Typer()


@command(app, FallbackTestSettings)
def fallback_test(settings: FallbackTestSettings) -> Result:
    """Find the operators that MPS lacks, runs on the CPU, or gets wrong.

    Every operator of your network's training step runs on this machine's device and is compared with float64. With
    --target mps: what a Mac would do, from any machine. --operators prints the whole table of a torch version.
    --all-ops tests torch's own operator database. Exits 1 where something is missing, refused or wrong.
    """
    if settings.operators or settings.target == "mps":
        from transit_cli.operators import coverage

        return coverage.operators(settings) if settings.operators else coverage.predict(settings)
    if settings.all_ops:
        from transit_cli.operators import matrix

        return matrix.check_op_db(settings)
    from transit_cli.operators import device_check

    return device_check.check_device(settings)
