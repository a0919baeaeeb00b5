"""Settings of `transit runs` and `transit watch`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from transit_cli.config import Positional, Range, Settings


@dataclass(frozen=True, kw_only=True)
class FolderSettings(Settings):
    """A folder of runs."""

    folder: Annotated[Path, Positional("FOLDER")] = Path("runs")
    "Folder whose subfolders are runs."


@dataclass(frozen=True, kw_only=True)
class ListSettings(FolderSettings):
    """Options of `transit runs list`."""

    sort: Literal["started", "ap"] = "started"
    "Order: the newest or the highest average precision first."


@dataclass(frozen=True, kw_only=True)
class BestSettings(FolderSettings):
    """Options of `transit runs best`."""

    viewset: Annotated[str, Positional("VIEWSET")] = ""
    "Name of the view set to compare runs on; may be omitted if all finished runs share one."


@dataclass(frozen=True, kw_only=True)
class RemoveEmptySettings(FolderSettings):
    """Options of `transit runs remove-empty`."""

    dry_run: bool = False
    "Only show what would be removed."


@dataclass(frozen=True, kw_only=True)
class ShowSettings(Settings):
    """Options of `transit runs show`."""

    run: Annotated[Path, Positional("RUN")]
    "Folder that `transit train` wrote."


@dataclass(frozen=True, kw_only=True)
class CompareSettings(Settings):
    """Options of `transit runs compare`."""

    run: Annotated[Path, Positional("RUN")]
    "Folder that `transit train` wrote."

    other: Annotated[Path, Positional("OTHER")]
    "Folder of the run to compare it with."

    resamples: Annotated[int, Range(100, 100_000)] = 2000
    "Bootstrap samples of stars for the 95 % interval of the difference."


@dataclass(frozen=True, kw_only=True)
class WatchSettings(Settings):
    """Options of `transit watch`."""

    run: Annotated[Path | None, Positional("RUN")] = None
    "Folder that `transit train` writes; by default the newest one in runs/."

    interval: Annotated[float, Range(0.1, 3600)] = 1.0
    "Seconds between two looks at the run's files."
