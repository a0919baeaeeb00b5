"""Measure training and inference speed, and this machine's limits.

It takes about a minute. `transit train` then reports which share of these figures a run reaches.

    transit bench --json > before.json
    transit bench --compare before.json
"""

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
    from transit_cli.bench import bench_result, benchmark

    return bench_result.result(benchmark.bench(settings))
