"""Measure how fast this machine trains and infers, and how near to its limits."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from transit_cli.bench.settings import BenchSettings
from transit_cli.command import command

if TYPE_CHECKING:
    from transit_cli.results import Result

app = typer.Typer()


@command(app, BenchSettings)
def bench(settings: BenchSettings) -> Result:
    """Measure how fast this machine trains and infers, and how near to its limits.

    About a minute. `transit train` then says what share of the figures a run has reached.
    """
    from transit_cli.bench import bench_result, benchmark

    return bench_result.result(benchmark.bench(settings))
