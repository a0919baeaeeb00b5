"""Settings of the commands under `transit data`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from transit_cli.config import Flag, Positional, Range, Settings


@dataclass(frozen=True, kw_only=True)
class ImportSettings(Settings):
    """What `transit data import` is told."""

    files: Annotated[tuple[Path, ...], Positional("FILES")]
    "TFRecord, .npz, .npy (one per array) or HDF5 files, or folders of them."
    out: Annotated[Path, Positional("OUT")]
    "The folder of the new view set."
    map: tuple[str, ...] = ()
    "Which feature is what, where the name does not say it: global=NAME,local=NAME,label=NAME,star=NAME..."
    labels: tuple[str, ...] = ()
    "What the files' labels stand for, where that is not recognised: THEIRS=OURS, as in 0=J,1=PC."
    split: Literal["star", "published"] = "star"
    "By star, so that no star is in two parts; or as published, by the words train, val and test in the files' names."
    mission: Literal["", "kepler", "k2", "tess"] = ""
    "The mission of the stars, where their numbers' name does not say it."


@dataclass(frozen=True, kw_only=True)
class InfoSettings(Settings):
    """`transit data info`."""

    viewset: Annotated[Path, Positional("VIEWSET")]
    "The folder of a view set."
    check: bool = False
    "Verify the checksums and every invariant; exit 1 if one does not hold."
    plot: Annotated[Path | None, Flag(metavar="FILE")] = None
    "Draw a page of folded views with their labels: PNG, PDF or SVG."


@dataclass(frozen=True, kw_only=True)
class PrepareSettings(Settings):
    """`transit data prepare`."""

    catalog: Annotated[Path, Positional("CATALOG")]
    "A table of signals: Kepler TCE or KOI, TESS TOI, or any CSV or ECSV with star, period, epoch and duration."
    lightcurves: Annotated[Path, Positional("LIGHTCURVES")]
    "A folder with FITS light curves, also in folders of its own."
    out: Annotated[Path, Positional("OUT")]
    "The view set to make."
    mission: Literal["kepler", "k2", "tess"] | None = None
    "Of bare star numbers and of days without a zero, where the files do not say it."
    views: Annotated[str, Flag(metavar="G/L")] = ""
    "Bins of the global and local views: 2001/201 as AstroNet, or 201/61 as Yu et al. 2019 (and with --mission tess)."
    secondary: bool = False
    "Add a view of the deepest dip outside the transit."
    odd_even: bool = False
    "Add views of the odd and of the even transits."
    detrend: str = "spline"
    "The trend: spline, or a method of wotan such as biweight (needs the extra wotan)."
    flux_column: str = ""
    "The flux column, where the preferred one is not wanted."
    workers: Annotated[int, Range(0)] = 0
    "Processes; 0 is one per core."
    scheduler: Annotated[str, Flag(metavar="ADDRESS")] = ""
    "Work on the Dask cluster of this scheduler (tcp://host:8786), whose workers see the same files."


@dataclass(frozen=True, kw_only=True)
class CheckSettings(Settings):
    """`transit data check`."""

    files: Annotated[tuple[Path, ...], Positional("FILES")]
    "Light curves, or folders of them."
    flux_column: str = ""
    "The flux column, if not the product's default."
    plot: Annotated[Path | None, Flag(metavar="FILE")] = None
    "Draw the light curves: PNG, PDF or SVG."
    max_plots: Annotated[int, Range(1, 100)] = 8
    "Light curves in the figure at most."


@dataclass(frozen=True, kw_only=True)
class FoldSettings(Settings):
    """`transit data fold`."""

    lightcurve: Annotated[Path, Positional("LIGHTCURVE")]
    "A FITS light curve."
    period: Annotated[float, Range(0, open="left")]
    "Days between two transits."
    epoch: float
    "The centre of a transit: days as the light curve counts them, or a full BJD."
    duration: Annotated[float, Range(0, open="left")]
    "Hours from first to last contact."
    plot: Annotated[Path | None, Flag(metavar="FILE")] = None
    "Draw it: PNG, PDF or SVG."
    views: Annotated[str, Flag(metavar="G/L")] = "2001/201"
    "Bins of the global and local views."
    flux_column: str = ""
    "The flux column, where the preferred one is not wanted."


@dataclass(frozen=True, kw_only=True)
class FetchSettings(Settings):
    """`transit data fetch`."""

    targets: Annotated[tuple[str, ...], Positional("TARGETS")]
    "Stars (KIC 11442793,TIC 270501383), addresses of files, or a text file or view set's tces.csv with them."
    out: Annotated[Path, Positional("OUT")]
    "The folder that the light curves go to."
    mission: Literal["Kepler", "K2", "TESS"] | None = None
    "Only light curves of this mission."
    author: str = ""
    "Only light curves of this pipeline (SPOC, QLP, Kepler, K2...)."
    cadence: Literal["long", "short"] | None = None
    "Only light curves of this cadence."
    timeout: Annotated[float, Range(0, open="left")] = 60.0
    "Seconds without a byte after which a try is given up."
    tries: Annotated[int, Range(1, 20)] = 5
    "How often a file is tried."


@dataclass(frozen=True, kw_only=True)
class SimulateSettings(Settings):
    """`transit data simulate`."""

    out: Annotated[Path, Positional("OUT")]
    "The folder of the new view set."
    tces: Annotated[int, Range(1)] = 4000
    "How many TCEs: a quarter planets, a quarter eclipsing binaries, half junk."
    seed: Annotated[int, Range(0)] = 0
    "The same seed gives the same set."
    mission: Literal["kepler", "tess"] = "kepler"
    "Whose light curves: cadence, gaps, noise and systematics."
    views: Annotated[str, Flag(metavar="G/L")] = ""
    "Bins of the global and local views; unless given, 2001/201 for Kepler and 201/61 for TESS."
    secondary: bool = False
    "Add a view of the deepest dip outside the transit."
    odd_even: bool = False
    "Add views of every other transit."
    workers: Annotated[int, Range(0)] = 0
    "Processes; 0 is one per core. The set is the same for any number."
