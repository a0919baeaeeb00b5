"""Make, import, fetch and look at view sets: what networks are trained on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from transit_cli.command import command
from transit_cli.data.settings import (
    CheckSettings,
    FetchSettings,
    FoldSettings,
    ImportSettings,
    InfoSettings,
    PrepareSettings,
    SimulateSettings,
)

if TYPE_CHECKING:
    from transit_cli.results import Result

app = typer.Typer(no_args_is_help=True)


@app.callback()
def data() -> None:
    """Make, import, fetch and look at view sets: what networks are trained on."""


@command(app, ImportSettings, name="import")
def import_(settings: ImportSettings) -> Result:
    """Import folded views (TFRecord, .npz, .npy, HDF5) as a view set.

    Features are recognised by the names that AstroNet, Yu et al. 2019 and ExoMiner gave them; --map names others.
    """
    from transit_cli.data.catalogs.importer import import_views

    return import_views(settings)


@command(app, InfoSettings, name="info")
def info(settings: InfoSettings) -> Result:
    """Show what a view set holds: labels, splits, what was dropped and why, duplicates, leakage."""
    from transit_cli.data.inspection import info
    from transit_cli.data.viewset import ViewSet

    return info(ViewSet.open(settings.viewset), check=settings.check, plot=settings.plot)


@command(app, CheckSettings, name="check")
def check(settings: CheckSettings) -> Result:
    """Show what would be read from light curves: product, star, time system, flux, flags, and every doubt.

    Exits with 1 if a file cannot be read.
    """
    from transit_cli.data.check import check

    return check(settings)


@command(app, PrepareSettings, name="prepare")
def prepare(settings: PrepareSettings) -> Result:
    """Make a view set from light curves and a catalog of signals.

    What cannot become a view is dropped with its reason. A run that was stopped goes on with the same command.
    """
    from transit_cli.data.prepare import prepare

    return prepare(settings)


@command(app, FoldSettings, name="fold")
def fold(settings: FoldSettings) -> Result:
    """Look at one signal: the light curve with its trend, folded, and every view."""
    from transit_cli.data.views.inspect_signal import inspect_signal

    return inspect_signal(settings)


@command(app, FetchSettings, name="fetch")
def fetch(settings: FetchSettings) -> Result:
    """Fetch light curves from the public archive; resumes, checks every file, and replaces one that was cut short."""
    from transit_cli.data.lightcurves.fetch import fetch

    return fetch(settings)


@command(app, SimulateSettings, name="simulate")
def simulate(settings: SimulateSettings) -> Result:
    """Simulate planets, eclipsing binaries and junk as a view set: no download, the same for the same seed."""
    from transit_cli.data.simulation import simulate

    return simulate.simulate(settings)
