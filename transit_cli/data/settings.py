"""Settings of the commands under `transit data`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from transit_cli.config import Flag, Positional, Settings


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
