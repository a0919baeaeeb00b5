"""Make view sets to train on: import or simulate them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from transit_cli.command import command
from transit_cli.data.settings import ImportSettings

if TYPE_CHECKING:
    from transit_cli.results import Result

app = typer.Typer(no_args_is_help=True)


@app.callback()
def data() -> None:
    """Make view sets to train on: import or simulate them."""


@command(app, ImportSettings, name="import")
def import_(settings: ImportSettings) -> Result:
    """Import folded views (TFRecord, .npz, .npy, HDF5) as a view set.

    Features are recognised by the names that AstroNet, Yu et al. 2019 and ExoMiner gave them; --map names others.
    """
    from transit_cli.data.imports import import_views

    return import_views(settings)
