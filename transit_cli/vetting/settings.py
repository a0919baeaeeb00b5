"""Settings of `transit evaluate`, `transit predict` and `transit vet`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from transit_cli.config import Flag, Positional, Range
from transit_cli.data.settings import ShardSettings
from transit_cli.options import OUT, DeviceSettings


@dataclass(frozen=True, kw_only=True)
class EvaluateSettings(DeviceSettings):
    """Options of `transit evaluate`."""

    run: Annotated[Path | None, Positional("RUN")] = None
    "Folder that `transit train` wrote; by default the network that comes with transit."

    viewset: Annotated[Path | None, Positional("VIEWSET")] = None
    "View set with labels; by default the one that the run was trained on."

    target: Annotated[tuple[str, ...], Flag(metavar="LABEL,...")] = ()
    "Classes to score, of a network that tells classes apart; by default planet candidates."

    split: Literal["auto", "test", "val", "train", "all", "folds"] = "auto"
    "Rows to evaluate; auto takes folds for a run with --folds on its own set, otherwise test, or val without one."

    threshold: Annotated[float | None, Range(0, 1)] = None
    "Score from which a signal counts as positive; by default the one with the highest F1 on val."

    completeness: bool = False
    "Shares of injected planets and of false alarms that pass, in cells of period, S/N and radius (data inject)."

    resamples: Annotated[int, Range(20, 100_000)] = 1000
    "Bootstrap samples of stars for the 95 % intervals."

    out: Annotated[Path | None, OUT] = None
    "Folder for report.html, plots and scores.csv; by default RUN/evaluate-SET-SPLIT."

    report: bool = True
    "Write report.html with plots."

    trust: bool = False
    "Execute the Python file of RUN's own network; use it only if you trust who wrote the run."


@dataclass(frozen=True, kw_only=True)
class PredictSettings(ShardSettings, DeviceSettings):
    """Options of `transit predict`."""

    run: Annotated[Path | None, Positional("RUN")] = None
    "Folder that `transit train` wrote; omit it to use the network that comes with transit."

    input: Annotated[Path | None, Positional("INPUT")] = None
    "View set, light curve (with --period, --epoch and --duration), or catalog (with --light-curves)."

    target: Annotated[tuple[str, ...], Flag(metavar="LABEL,...")] = ()
    "Classes to score, of a network that tells classes apart; by default planet candidates."

    prior: Annotated[float | None, Range(0, 1, open="both")] = None
    "Share of the target among the new signals, if it differs from that of the labelled ones."

    light_curves: Annotated[Path | None, Flag(metavar="FOLDER")] = None
    "Folder with the light curves of a catalog's stars, or a Parquet file with one per row."

    map: Annotated[tuple[str, ...], Flag(metavar="KEY=COLUMN,...")] = ()
    "Columns that are not recognised, as in star=name,period=P,epoch_mjd=T0; a unit may follow the key."

    period: Annotated[float | None, Range(0, open="left")] = None
    "Period of the signal, in days."

    epoch: float | None = None
    "Mid-time of one transit in days, in the time system of the light curve."

    duration: Annotated[float | None, Range(0, open="left")] = None
    "Duration of the transit, in hours."

    check_periods: bool = True
    "Also score half and double the period, if there is a light curve."

    max_plots: Annotated[int, Range(0)] = 20
    "Most plots of folded views to draw, of the highest scores; 0 draws none."

    out: Annotated[Path | None, OUT] = None
    "Folder for scores.csv and the plots; by default predict-INPUT in the current folder."

    trust: bool = False
    "Execute the Python file of RUN's own network; use it only if you trust who wrote the run."


@dataclass(frozen=True, kw_only=True)
class VetSettings(DeviceSettings):
    """Options of `transit vet`."""

    catalog: Annotated[Path, Positional("CATALOG")]
    "Table of signals, as `transit data prepare` reads it; omit it to search the light curves first."

    light_curves: Annotated[Path, Positional("LIGHT_CURVES")]
    "Folder with the light curves, searched with its subfolders."

    out: Annotated[Path | None, Positional("OUT")] = None
    "Folder for vetting.html, candidates.csv and signals.jsonl."

    run: Annotated[Path | None, Flag(metavar="RUN")] = None
    "Network: a folder that `transit train` wrote; by default the one that comes with transit."

    map: Annotated[tuple[str, ...], Flag(metavar="KEY=COLUMN,...")] = ()
    "Columns that are not recognised, as in star=name,period=P,epoch_mjd=T0; a unit may follow the key."

    mission: Literal["kepler", "k2", "tess"] | None = None
    "Mission of star numbers and times, if the files do not give it."

    flux_column: str = ""
    "Flux column, in place of the preferred one."

    max_sheets: Annotated[int, Range(0)] = 500
    "Most signals with plots on the page, in the catalog's order; the table always has all."

    pdf: bool = False
    "Also write one PDF page per signal, into OUT/pdf."

    workers: Annotated[int, Range(0)] = 0
    "Processes; 0 for one per core."

    overwrite: Annotated[bool, Flag()] = False
    "Replace the files in OUT if they are of other input or options."

    trust: bool = False
    "Execute the Python file of RUN's own network; use it only if you trust who wrote the run."
