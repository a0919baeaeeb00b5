"""Settings of `transit search`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from transit_cli.config import Flag, Positional, Range
from transit_cli.data.settings import ShardSettings
from transit_cli.memory.settings import MemorySettings


@dataclass(frozen=True, kw_only=True)
class SearchSettings(ShardSettings, MemorySettings):
    """`transit search`."""

    light_curves: Annotated[Path, Positional("LIGHT_CURVES")]
    "A folder with light curves in any format that `transit data prepare` reads, or a Parquet file with one per row."

    out: Annotated[Path, Positional("OUT")]
    "The catalog to write, a CSV file with one row per signal."

    min_period: Annotated[float, Range(0, open="left")] = 0.5
    "The shortest period, in days."

    max_period: Annotated[float, Range(0)] = 0.0
    "The longest period, in days; 0 for the length of the light curve."

    min_density: Annotated[float, Range(0, open="left")] = 0.1
    "The lowest mean density of the stars, in units of the Sun's: it gives the longest transits."

    max_density: Annotated[float, Range(0, open="left")] = 10.0
    "The highest mean density of the stars: it gives the shortest transits."

    oversampling: Annotated[float, Range(1, 20)] = 3.0
    "Trial periods per drift of one transit duration over the light curve (Ofir 2014)."

    snr: Annotated[float, Range(3)] = 7.0
    "The least signal-to-noise ratio of a periodic signal."

    single_snr: Annotated[float, Range(3)] = 10.0
    "The least signal-to-noise ratio of a single transit."

    sde: Annotated[float, Range(0)] = 0.0
    "The least signal detection efficiency of a periodic signal (Hippke & Heller 2019)."

    max_signals: Annotated[int, Range(1, 50)] = 8
    "Signals per star at most."

    flux_column: str = ""
    "The flux column, where the preferred one is not wanted."

    batch_size: Annotated[int, Range(0)] = 0
    "Stars that are searched together; 0 for what fits into the memory limit, at most 64 on a CPU and 256 on a GPU."

    device: Literal["auto", "mps", "cuda", "cpu"] = "auto"
    "Where to compute."

    workers: Annotated[int, Range(0, 1024)] = 0
    "Processes that read and detrend; 0 is one per core."

    overwrite: Annotated[bool, Flag()] = False
    "Replace OUT if it exists."

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.max_period and self.max_period <= self.min_period:
            self.refuse("max_period", f"more than --min-period, {self.min_period:g}")
        if self.max_density < self.min_density:
            self.refuse("max_density", f"at least --min-density, {self.min_density:g}")
