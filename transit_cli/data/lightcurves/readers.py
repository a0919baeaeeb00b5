"""Read a light curve of any format: FITS, or a format that an installed plugin reads."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from transit_cli.data.lightcurves.fits import read_fits, star_in
from transit_cli.data.lightcurves.lightcurve import LightCurve, UnreadableError
from transit_cli.data.lightcurves.target import star_in_name
from transit_cli.discovery import READERS, discover

if TYPE_CHECKING:
    from pathlib import Path

    from transit_cli.discovery import Plugin


@functools.cache
def readers() -> dict[str, Plugin]:
    """Installed readers of other formats (entry points `transit.readers`) by the ending of the files they read.

    An entry point's name is the ending without its point; what it names takes a path and returns a `LightCurve`.
    """
    return {f".{name.lower()}": plugin for name, plugin in discover(READERS).used.items()}


def suffixes() -> tuple[str, ...]:
    """Endings of the names of light-curve files."""
    return (".fits", ".fits.gz", ".fit", ".fit.gz", *readers())


def _read_with(plugin: Plugin, file: Path) -> LightCurve:
    reader = plugin.load()
    try:
        curve = reader(file)
    except Exception as error:
        raise UnreadableError(f"the reader of {plugin.distribution} fails: {type(error).__name__}: {error}") from error
    if not isinstance(curve, LightCurve):
        raise UnreadableError(f"the reader of {plugin.distribution} returns {type(curve).__name__}, not LightCurve")
    return curve


def star_of_file(file: Path) -> str:
    """The star that a file's header gives, or else its name ("kic10811496.fits"); "" if neither does.

    Raises:
        UnreadableError: the file cannot be opened.
    """
    if plugin := readers().get(file.suffix.lower()):
        return _read_with(plugin, file).star
    return star_in(file) or star_in_name(file)


def read(file: Path, column: str = "") -> LightCurve:
    """Read a light curve.

    Args:
        file: FITS, also compressed with gzip; or of a format that an installed reader knows.
        column: the flux column; without it the first of `FLUX_COLUMNS` that holds a finite number.

    Raises:
        UnreadableError: the file cannot be read, breaks off, or holds no light curve.
    """
    if plugin := readers().get(file.suffix.lower()):
        return _read_with(plugin, file)
    return read_fits(file, column)
