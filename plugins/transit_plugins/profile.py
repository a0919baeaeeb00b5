"""Show where the time and memory of a training step go.

The step that trains is run on random numbers, a view set, or your own loader and network. Exits with 1 if memory grows
from step to step.

    transit profile --trace --report
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

import typer

from transit_cli.command import command
from transit_cli.profiling.settings import ProfileSettings

if TYPE_CHECKING:
    from pathlib import Path

    from transit_cli.results import Result

app = typer.Typer()


@command(app, ProfileSettings)
def profile(settings: ProfileSettings) -> Result:
    from transit_cli.profiling import hotspots, profiler, tools
    from transit_cli.profiling.report import compare, html_report, profile_result

    before = compare.read(settings.compare) if settings.compare else None
    with ExitStack() as stack:
        for tool in tools.chosen(settings):
            stack.enter_context(tool)
        found = profiler.profile(settings)
        written: list[Path] = tools.files(settings)
        if settings.trace or settings.report:
            settings.out.mkdir(parents=True, exist_ok=True)
        if settings.trace:
            written.append(settings.out / "trace.json.gz")
            hotspots.trace(found.workload, written[-1])
    if settings.report:
        written.append(settings.out / "report.html")
        html_report.write(found, profile_result.result(found, []).verdict, written[-1])
    result = profile_result.result(found, written)
    if before is None:
        return result
    now = compare.Timings(result.data["step_samples_seconds"], result.data["phase_samples_seconds"])
    return profile_result.with_comparison(result, compare.compare(before, now))
