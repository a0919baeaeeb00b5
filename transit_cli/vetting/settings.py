"""Settings of `transit evaluate` and `transit predict`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from transit_cli.config import Flag, Positional, Range, Settings


@dataclass(frozen=True, kw_only=True)
class EvaluateSettings(Settings):
    """What `transit evaluate` judges, and on what."""

    run: Annotated[Path | None, Positional("RUN")] = None
    "Folder that `transit train` wrote; without one, the network that comes with transit."

    view_set: Annotated[Path | None, Positional("VIEWSET")] = None
    "Folder with labelled views; without one, the set that the run was trained on."

    split: Literal["auto", "test", "val", "train", "all", "folds"] = "auto"
    "Part to judge on; auto takes folds for a run with --folds on its own set, else test where there is one, else val."

    threshold: Annotated[float | None, Range(0, 1)] = None
    "Score from which a signal is called positive; unless given, the one of highest F1 on the val part."

    resamples: Annotated[int, Range(20, 100_000)] = 1000
    "Bootstrap samples of the stars, from which the 95 % intervals come."

    out: Path | None = None
    "Folder for report.html, plots and scores.csv; unless given, RUN/evaluate-SET-SPLIT."

    report: bool = True
    "Write report.html and the plots (they need the extra `report`)."

    device: Literal["auto", "mps", "cuda", "cpu"] = "auto"
    "Where to compute."


@dataclass(frozen=True, kw_only=True)
class PredictSettings(Settings):
    """What `transit predict` scores."""

    run: Annotated[Path | None, Positional("RUN")] = None
    "Folder that `transit train` wrote; leave it away to use the network that comes with transit."

    input: Annotated[Path | None, Positional("INPUT")] = None
    "View set, light curve (with --period, --epoch and --duration), or catalog (with --light-curves)."

    light_curves: Path | None = None
    "Folder with the light curves of a catalog's stars."

    period: Annotated[float | None, Range(0, open="left")] = None
    "Period of the signal, in days."

    epoch: float | None = None
    "Time of one transit's middle, in days, in the time system of the light curve."

    duration: Annotated[float | None, Range(0, open="left")] = None
    "Duration of the transit, in hours."

    check_periods: bool = True
    "Score half and double the period as well, where there is a light curve."

    picture: bool = True
    "Draw the folded views with the score (needs the extra `report`)."

    pictures: Annotated[int, Range(1)] = 20
    "At most so many pictures, of the highest scores."

    out: Annotated[Path | None, Flag("-o")] = None
    "Folder for scores.csv and the pictures; unless given, predict-INPUT in the current folder."

    device: Literal["auto", "mps", "cuda", "cpu"] = "auto"
    "Where to compute."
