"""List, show and compare the runs of `transit train`.

transit runs list
transit runs compare runs/a runs/b
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from transit_cli.command import command
from transit_cli.help import group
from transit_cli.runs.settings import BestSettings, CompareSettings, ListSettings, RemoveEmptySettings, ShowSettings

if TYPE_CHECKING:
    from transit_cli.results import Result

app = typer.Typer(cls=group(), help=__doc__, no_args_is_help=True)


@command(app, ListSettings, name="list", prepare=False)
def list_(settings: ListSettings) -> Result:
    """List the runs in a folder: state, view set, network, average precision."""
    from transit_cli.runs.listing import list_runs

    return list_runs(settings)


@command(app, ShowSettings, name="show", prepare=False)
def show(settings: ShowSettings) -> Result:
    """Show one run: its options, where it ran, and its epochs."""
    from transit_cli.runs.listing import show_run

    return show_run(settings.run)


@command(app, ShowSettings, name="report", prepare=False)
def report(settings: ShowSettings) -> Result:
    """Write RUN/report.html: curves, options, data, machine, how to cite; `transit train` writes it at its end."""
    from transit_cli.runs.report import report

    return report(settings.run)


@command(app, CompareSettings, name="compare", prepare=False)
def compare(settings: CompareSettings) -> Result:
    """Compare two runs on the signals that both held out: is the difference more than chance?

    The interval is that of a paired bootstrap over stars.
    """
    from transit_cli.runs.comparison import compare_runs

    return compare_runs(settings)


@command(app, BestSettings, name="best", prepare=False)
def best(settings: BestSettings) -> Result:
    """Find the finished run with the highest held-out average precision on a view set."""
    from transit_cli.runs.listing import best_run

    return best_run(settings)


@command(app, RemoveEmptySettings, name="remove-empty", prepare=False)
def remove_empty(settings: RemoveEmptySettings) -> Result:
    """Remove runs that have neither an epoch nor a checkpoint."""
    from transit_cli.runs.listing import remove_empty

    return remove_empty(settings)
