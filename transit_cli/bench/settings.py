"""Settings of `transit bench`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from transit_cli.config import Flag, Positional, Range
from transit_cli.options import BinsSettings, DeviceSettings, ExecutionSettings


@dataclass(frozen=True, kw_only=True)
class BenchSettings(BinsSettings, ExecutionSettings, DeviceSettings):
    """Options of `transit bench`."""

    viewset: Annotated[Path | None, Positional("VIEWSET")] = None
    "View set whose lengths of views are used; the numbers are random, since time does not depend on them."

    network: Annotated[tuple[str, ...], Flag(metavar="NAME,...")] = ("two-branch", "astronet")
    "Networks: two-branch, astronet, installed ones, or my_net.py:build for your own."

    batch_size: Annotated[tuple[int, ...], Range(1, 65_535), Flag(metavar="N,...")] = (8, 64, 512)
    "Batch sizes; those that would take too long for --seconds are skipped with a warning."

    seconds: Annotated[float, Range(1, 36_000)] = 60.0
    "About how many seconds to measure, besides --peers and --largest-batch."

    largest_batch: bool = False
    "Also find the largest safe batch of the first network, as `transit probe-batch` does; takes minutes."

    peers: bool = False
    "Also train with a plain DataLoader loop, and with Lightning and Accelerate if they are installed."

    compare: Annotated[Path | None, Flag(metavar="FILE")] = None
    "Compare with an earlier run, saved with --json."

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("network", "batch_size"):
            if not getattr(self, name):
                self.refuse(name, "at least one")
