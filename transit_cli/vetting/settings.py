"""Settings of `transit evaluate`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from transit_cli.config import Positional, Range, Settings


@dataclass(frozen=True, kw_only=True)
class EvaluateSettings(Settings):
    """What `transit evaluate` judges, and on what."""

    run: Annotated[Path, Positional("RUN")]
    "Folder that `transit train` wrote."

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
