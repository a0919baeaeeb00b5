"""Make, import, fetch and inspect view sets.

A view set is a folder of folded light curves with their labels and measurements: what networks are trained on.

    transit data simulate my_views
    transit data prepare tces.csv light_curves/ my_views
"""

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
    InjectSettings,
    PrepareSettings,
    SimulateSettings,
)
from transit_cli.help import group

if TYPE_CHECKING:
    from transit_cli.results import Result

app = typer.Typer(cls=group(), help=__doc__, no_args_is_help=True)


@command(app, ImportSettings, name="import")
def import_(settings: ImportSettings) -> Result:
    """Import folded views (TFRecord, .npz, .npy, HDF5) as a view set.

    Features are recognised by the names of AstroNet, Yu et al. 2019 and ExoMiner; --map gives others.
    """
    from transit_cli.data.catalogs.importer import import_views

    return import_views(settings)


@command(app, InfoSettings, name="info")
def info(settings: InfoSettings) -> Result:
    """Describe a view set: labels, splits, dropped signals, duplicates, leakage."""
    from transit_cli.data.inspection import info
    from transit_cli.data.viewset import ViewSet

    return info(ViewSet.open(settings.viewset), check=settings.check, plot=settings.plot)


@command(app, CheckSettings, name="check")
def check(settings: CheckSettings) -> Result:
    """Show what would be read from light curves: product, star, time system, flux, flags, and every doubt.

    Exits with 1 if a file cannot be read.
    """
    from transit_cli.data.file_check import check

    return check(settings)


@command(app, PrepareSettings, name="prepare")
def prepare(settings: PrepareSettings) -> Result:
    """Make a view set from light curves and a catalog of signals.

    Signals without usable views are dropped, with the reason. The same command resumes where it was interrupted.

        transit data prepare tces.csv light_curves/ my_views
    """
    from transit_cli.data.prepare import prepare

    return prepare(settings)


@command(app, FoldSettings, name="fold")
def fold(settings: FoldSettings) -> Result:
    """Inspect one signal: light curve, trend, folded light curve and views.

    transit data fold star.fits --period 3.52 --epoch 2458354.1 --duration 2.6 --plot star.png
    """
    from transit_cli.data.views.inspect_signal import inspect_signal

    return inspect_signal(settings)


@command(app, FetchSettings, name="fetch")
def fetch(settings: FetchSettings) -> Result:
    """Fetch light curves from the public archive.

    Every file is checked, and downloads are resumed.
    """
    from transit_cli.data.lightcurves.fetch import fetch

    return fetch(settings)


@command(app, InjectSettings, name="inject")
def inject(settings: InjectSettings) -> Result:
    """Inject planets and impostors into your own light curves: a labelled view set with their noise and gaps.

        transit data inject light_curves/ injected --catalog known.csv

    The same command resumes where it was interrupted.
    """
    from transit_cli.data.injection import inject

    return inject.inject(settings)


@command(app, SimulateSettings, name="simulate")
def simulate(settings: SimulateSettings) -> Result:
    """Simulate a view set of planets, eclipsing binaries and junk."""
    from transit_cli.data.simulation import simulate

    return simulate.simulate(settings)
