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

    With --target mps: what a Mac would do with your network's training step, from any machine. --operators prints the
    whole table of a torch version. Exits 1 where something is missing, refused or wrong.
    """
    from transit_cli.operators import coverage

    if settings.operators:
        return coverage.operators(settings)
    return coverage.predict(settings)
