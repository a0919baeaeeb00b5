"""Settings of `transit probe-batch` and `transit accumulate`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from transit_cli.config import Flag, Panel, Positional, Range
from transit_cli.memory.settings import MemorySettings
from transit_cli.options import BinnedInputSettings, DeviceSettings, ExecutionSettings


@dataclass(frozen=True, kw_only=True)
class WorkSettings(BinnedInputSettings, ExecutionSettings, DeviceSettings, MemorySettings):
    """What both commands run: a network, its inputs, and where."""

    viewset: Annotated[Path | None, Positional("VIEWSET")] = None
    "View set that will be trained on; by default random samples of the lengths in --bins."

    input: Annotated[tuple[str, ...], Flag(metavar="SHAPE,..."), Panel("Network")] = ()
    "Shapes of one sample (3x224x224) for a network of your own: my_net.py:build is then called without arguments."

    optimizer: Annotated[Literal["adamw", "adam"], Panel("Network")] = "adamw"
    "Optimizer, whose state takes memory too."

    seconds: Annotated[float, Range(5)] = 120.0
    "Most seconds per trial; a batch that takes longer counts as too slow."

    def __post_init__(self) -> None:
        super().__post_init__()
        if not all(re.fullmatch(r"[1-9]\d*(x[1-9]\d*)*", item) for item in self.input):
            self.refuse("input", "shapes of one sample, such as 3x224x224")
        if self.input and self.viewset:
            self.refuse("input", "either a view set, whose views have their lengths, or --input")
        if self.input and ":" not in self.network:
            self.refuse("input", "shapes only with --network my_net.py:build")

    @property
    def lengths(self) -> dict[str, int]:
        """Views by name and length if neither a view set nor --input gives them."""
        return {} if self.input else super().lengths

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """The shapes in --input."""
        return tuple(tuple(map(int, item.split("x"))) for item in self.input)


@dataclass(frozen=True, kw_only=True)
class ProbeSettings(WorkSettings):
    """Options of `transit probe-batch`."""

    only_best: bool = False
    "Stop when throughput no longer grows: faster, but the largest batch stays unknown."

    write: Path | None = None
    "Write the best batch to this YAML file, for `transit train --config`."


@dataclass(frozen=True, kw_only=True)
class AccumulateSettings(WorkSettings):
    """Options of `transit accumulate`."""

    effective_batch: Annotated[int, Range(2, 65_535)] = 256
    "Samples per optimizer step."

    plan: bool = True
    "Run the step in micro-batches of several sizes, and choose one."

    proof: bool = True
    "Compare the gradients of micro-batches with those of the full batch."

    ddp: bool = False
    "Check it across two processes too, as under torchrun (gloo, on the CPU)."
