"""Light curves: read, whatever their format, named by their star, and stitched.

FITS is read by `transit_cli.data.lightcurves.fits`; other formats by readers that are installed beside transit.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from transit_cli.data.lightcurves.target import star_name
from transit_cli.discovery import READERS, discover

if TYPE_CHECKING:
    from pathlib import Path

    from transit_cli.discovery import Plugin

#: What the names of archive files say: mission and star.
_FILE_NAMES = (
    (re.compile(r"^kplr(\d{9})[-_]", re.IGNORECASE), "kepler"),
    (re.compile(r"^ktwo(\d{9})[-_]", re.IGNORECASE), "k2"),
    (re.compile(r"^tess\d{13}-s\d{4}-(\d{16})-", re.IGNORECASE), "tess"),
    (re.compile(r"^hlsp_(?:qlp|tess-spoc|tglc|cdips|eleanor|pathos)_tess_.*?(\d{10,16})", re.IGNORECASE), "tess"),
    (re.compile(r"^hlsp_(?:k2sff|everest|k2sc|k2varcat)_k2_.*?(\d{9})", re.IGNORECASE), "k2"),
)
_LOOSE_NAMES = re.compile(r"(kic|epic|tic)[\s_-]*0*(\d+)", re.IGNORECASE)


class UnreadableError(ValueError):
    """A file that is no light curve, or not a whole one; the text says why, without the file's name."""


@dataclass(frozen=True)
class LightCurve:
    """Fluxes over time, of one star.

    Attributes:
        time: [n] days since Julian Date `zero`, ascending.
        flux: [n] finite, relative to the file's median.
        star: its name, as in "KIC 11442793"; "" if the file does not say.
        mission: "kepler", "k2", "tess" or "".
        zero: the Julian Date of time 0 (2454833 for BKJD, 2457000 for BTJD).
        segment: the quarter, campaign or sector, as in "Q3"; "" if the file does not say.
        column: the flux column that was read.
        source: the file's name.
        cadences: rows in the file.
        finite: rows with finite time and flux, before the quality mask.
        notes: what had to be assumed.
    """

    time: np.ndarray
    flux: np.ndarray
    star: str = ""
    mission: str = ""
    zero: float = 0.0
    segment: str = ""
    column: str = ""
    source: str = ""
    cadences: int = 0
    finite: int = 0
    notes: tuple[str, ...] = field(default=())


def star_of_name(file: Path) -> str:
    """The star that the name of an archive file gives, without opening it; "" for any other name."""
    for pattern, mission in _FILE_NAMES:
        if found := pattern.match(file.name):
            return star_name(found[1], mission)
    return ""


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
    from transit_cli.data.lightcurves.fits import star_in

    return star_in(file) or loose_star(file)


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
    from transit_cli.data.lightcurves.fits import read_fits

    return read_fits(file, column)


def stitch(curves: Sequence[LightCurve]) -> LightCurve:
    """The light curves of one star as one, each relative to its own median, in the time of the first.

    Of files that cover the same days (long and short cadence, two pipelines) the one that covers more is kept.
    """
    zero = curves[0].zero
    moved = [replace(curve, time=curve.time + (curve.zero - zero), zero=zero) for curve in curves]
    chosen: list[LightCurve] = []
    for curve in sorted((c for c in moved if len(c.time)), key=lambda c: (-np.ptp(c.time), len(c.time), c.source)):
        overlap = sum(max(0.0, min(c.time[-1], curve.time[-1]) - max(c.time[0], curve.time[0])) for c in chosen)
        if not chosen or overlap <= 0.5 * np.ptp(curve.time):
            chosen.append(curve)
    if not chosen:
        return moved[0]
    time = np.concatenate([curve.time for curve in chosen])
    flux = np.concatenate([curve.flux for curve in chosen])
    order = np.argsort(time, kind="stable")
    sources = sorted(curve.source for curve in chosen)
    more = f" (+{len(sources) - 1})" if len(sources) > 1 else ""
    return replace(
        chosen[0],
        time=time[order],
        flux=flux[order],
        segment=" ".join(sorted({curve.segment for curve in chosen})),
        source=sources[0] + more,
        cadences=sum(curve.cadences for curve in chosen),
        finite=sum(curve.finite for curve in chosen),
        notes=tuple(dict.fromkeys(note for curve in curves for note in curve.notes)),
    )


def loose_star(file: Path) -> str:
    """The star that any file's name gives ("exohunt_kic10811496.fits"), "" if none."""
    found = _LOOSE_NAMES.search(file.name)
    return star_of_name(file) or (f"{found[1].upper()} {found[2]}" if found else "")
