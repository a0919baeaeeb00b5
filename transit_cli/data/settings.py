"""Settings of the commands under `transit data`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from transit_cli.config import Flag, Positional, Range, Settings


@dataclass(frozen=True, kw_only=True)
class ShardSettings(Settings):
    """Options of commands that do their work in shards."""

    shard: Annotated[str, Flag(metavar="I/N")] = ""
    "Do only part I, from 1, of N, on any machine and in any order; the last one completes OUT."

    shards: Annotated[int, Range(0, 99_999)] = 0
    "Do the work in N parts, each finished by itself; about 1,000 stars each are right. 0 for one folder."

    scheduler: Annotated[str, Flag(metavar="ADDRESS")] = ""
    "Scheduler of a Dask cluster (tcp://host:8786) whose workers see the same files."


@dataclass(frozen=True, kw_only=True)
class ImportSettings(Settings):
    """Options of `transit data import`."""

    files: Annotated[tuple[Path, ...], Positional("FILES")]
    "TFRecord, .npz, .npy (one per array) or HDF5 files, or folders of them."

    out: Annotated[Path, Positional("OUT")]
    "Folder of the new view set."

    map: Annotated[tuple[str, ...], Flag(metavar="KEY=NAME,...")] = ()
    "Names of features that are not recognised: global=NAME, local=NAME, label=NAME, star=NAME..."

    labels: Annotated[tuple[str, ...], Flag(metavar="LABEL=NEW,...")] = ()
    "Canonical labels for those in the files that are not recognised, as in 0=J,1=PC."

    split: Literal["star", "published"] = "star"
    "By star, with no star in two parts; or as published, by train, val and test in the files' names."

    mission: Literal["kepler", "k2", "tess"] | None = None
    "Mission of the stars, if their names do not give it."


@dataclass(frozen=True, kw_only=True)
class InfoSettings(Settings):
    """Options of `transit data info`."""

    viewset: Annotated[Path, Positional("VIEWSET")]
    "Folder of a view set."

    check: bool = False
    "Verify the checksums and invariants; exit with 1 if one fails."

    plot: Annotated[Path | None, Flag(metavar="FILE")] = None
    "Draw a page of folded views with their labels (PNG, PDF or SVG)."


@dataclass(frozen=True, kw_only=True)
class PrepareSettings(ShardSettings):
    """Options of `transit data prepare`."""

    catalog: Annotated[Path, Positional("CATALOG")]
    "Table of signals: Kepler TCE or KOI, TESS TOI, or any CSV or ECSV with star, period, epoch and duration."

    light_curves: Annotated[Path, Positional("LIGHT_CURVES")]
    "Folder of light curves, searched with its subfolders, or a Parquet file with one per row."

    out: Annotated[Path, Positional("OUT")]
    "Folder of the new view set."

    map: Annotated[tuple[str, ...], Flag(metavar="KEY=COLUMN,...")] = ()
    "Columns that are not recognised, as in star=name,period=P,epoch_mjd=T0; a unit may follow the key."

    mission: Literal["kepler", "k2", "tess"] | None = None
    "Mission of star numbers and times, if the files do not give it."

    bins: Annotated[str, Flag(metavar="G/L")] = ""
    "Bins of the global and local views; by default 2001/201 (AstroNet), or 201/61 (Yu et al. 2019) for TESS."

    secondary: bool = False
    "Add a view of the deepest dip outside the transit."

    odd_even: bool = False
    "Add views of the odd and of the even transits."

    views: Annotated[tuple[str, ...], Flag(metavar="NAME,...")] = ()
    "More views: local_scatter, local_empty, global_scatter, global_empty, half_period, transits, centroid."

    detrend: str = "spline"
    "Method for the trend: spline, or one of wotan's such as biweight (needs wotan)."

    flux_column: str = ""
    "Flux column, in place of the preferred one."

    workers: Annotated[int, Range(0, 1024)] = 0
    "Processes; 0 for one per core."


@dataclass(frozen=True, kw_only=True)
class InjectSettings(ShardSettings):
    """Options of `transit data inject`."""

    light_curves: Annotated[Path, Positional("LIGHT_CURVES")]
    "Folder of light curves, searched with its subfolders, or a Parquet file with one per row."

    out: Annotated[Path, Positional("OUT")]
    "Folder of the new view set."

    catalog: Annotated[Path | None, Flag(metavar="FILE")] = None
    "Table of known signals, whose transits are cut out first."

    map: Annotated[tuple[str, ...], Flag(metavar="KEY=COLUMN,...")] = ()
    "Columns that are not recognised, as in star=name,period=P,epoch_mjd=T0; a unit may follow the key."

    tces: Annotated[int, Range(1, 1_000_000_000)] = 2000
    "Number of injections, the same for every star."

    kinds: Annotated[tuple[str, ...], Flag(metavar="KIND,...")] = (
        *("planet", "binary", "background-binary"),
        *("variable", "inverted", "scrambled"),
    )
    "planet, binary, background-binary and variable are injected; inverted and scrambled are false alarms of the noise."

    seed: Annotated[int, Range(0, 2**63 - 1)] = 0
    "Seed; the same seed and light curves give the same set."

    mission: Literal["kepler", "k2", "tess"] | None = None
    "Mission of star numbers and times, if the files do not give it; tess makes 201/61 bins the default."

    bins: Annotated[str, Flag(metavar="G/L")] = ""
    "Bins of the global and local views; by default 2001/201, or 201/61 with --mission tess."

    secondary: bool = False
    "Add a view of the deepest dip outside the transit."

    odd_even: bool = False
    "Add views of the odd and of the even transits."

    views: Annotated[tuple[str, ...], Flag(metavar="NAME,...")] = ()
    "More views: local_scatter, local_empty, global_scatter, global_empty, half_period, transits, centroid."

    flux_column: str = ""
    "Flux column, in place of the preferred one."

    workers: Annotated[int, Range(0, 1024)] = 0
    "Processes; 0 for one per core. The set does not depend on it."


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
    """Options of `transit data fold`."""

    light_curve: Annotated[Path, Positional("LIGHT_CURVE")]
    "FITS light curve."

    period: Annotated[float, Range(0, open="left")]
    "Period in days."

    epoch: float
    "Mid-time of one transit in days, in the time system of the light curve or as BJD."

    duration: Annotated[float, Range(0, open="left")]
    "Duration in hours, from first to last contact."

    plot: Annotated[Path | None, Flag(metavar="FILE")] = None
    "Draw the light curve and views (PNG, PDF or SVG)."

    bins: Annotated[str, Flag(metavar="G/L")] = "2001/201"
    "Bins of the global and local views."

    flux_column: str = ""
    "Flux column, in place of the preferred one."


@dataclass(frozen=True, kw_only=True)
class FetchSettings(Settings):
    """Options of `transit data fetch`."""

    targets: Annotated[tuple[str, ...], Positional("TARGETS")]
    "Stars (KIC 11442793,TIC 270501383), URLs of files, or a text file or tces.csv with them."

    out: Annotated[Path, Positional("OUT")]
    "Folder for the light curves."

    mission: Literal["Kepler", "K2", "TESS"] | None = None
    "Only light curves of this mission."

    author: str = ""
    "Only light curves of this pipeline (SPOC, QLP, Kepler, K2...)."

    cadence: Literal["long", "short"] | None = None
    "Only light curves of this cadence."

    timeout: Annotated[float, Range(0, open="left")] = 60.0
    "Seconds without a byte after which an attempt is given up."

    tries: Annotated[int, Range(1, 20)] = 5
    "Attempts per file."


@dataclass(frozen=True, kw_only=True)
class SimulateSettings(ShardSettings):
    """Options of `transit data simulate`."""

    out: Annotated[Path, Positional("OUT")]
    "The folder of the new view set."

    tces: Annotated[int, Range(1, 1_000_000_000)] = 4000
    "Number of TCEs: a quarter planets, a quarter eclipsing binaries, half junk."

    seed: Annotated[int, Range(0, 2**63 - 1)] = 0
    "Seed; the same seed gives the same set."

    mission: Literal["kepler", "tess"] = "kepler"
    "Mission to simulate: cadence, gaps, noise and systematics."

    bins: Annotated[str, Flag(metavar="G/L")] = ""
    "Bins of the global and local views; by default 2001/201 for Kepler and 201/61 for TESS."

    secondary: bool = False
    "Add a view of the deepest dip outside the transit."

    odd_even: bool = False
    "Add views of the odd and of the even transits."

    views: Annotated[tuple[str, ...], Flag(metavar="NAME,...")] = ()
    "More views: local_scatter, local_empty, global_scatter, global_empty, half_period, transits, centroid."

    workers: Annotated[int, Range(0, 1024)] = 0
    "Processes; 0 for one per core. The set does not depend on it."
