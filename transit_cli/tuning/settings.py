"""Settings of `transit probe-batch` and `transit accumulate`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path  # noqa: TC003 - the types of settings are read at run time
from typing import Annotated, Literal

from transit_cli.config import Flag, Positional, Range
from transit_cli.memory.settings import MemorySettings
from transit_cli.training.settings import DEFAULT_SCALARS

#: Views of a network when neither a view set nor --input says otherwise: the lengths of Shallue & Vanderburg 2018.
DEFAULT_VIEWS = {"global": 2001, "local": 201}


@dataclass(frozen=True, kw_only=True)
class WorkSettings(MemorySettings):
    """What both commands run: a network, its inputs, and where."""

    viewset: Annotated[Path | None, Positional("VIEWSET")] = None
    "The view set that will be trained on; unless given, random samples of the --input shapes."

    network: str = "two-branch"
    "Network by name (two-branch, astronet, or a plugin's), or my_net.py:build for one of your own."

    views: tuple[str, ...] = ("global", "local")
    "Views of the set that the network sees."

    scalars: tuple[str, ...] = DEFAULT_SCALARS
    "Columns of tces.csv that the network sees too."

    input: Annotated[tuple[str, ...], Flag(metavar="SHAPE,...")] = ()
    """Without a view set: views by name and length (global=2001,local=201, the default), or plain shapes of one sample
    (3x224x224) for a network of your own, which my_net.py:build then makes without arguments."""

    optimizer: Literal["adamw", "adam"] = "adamw"
    "The optimizer; its state takes memory too."

    precision: Literal["auto", "fp32", "fp16", "bf16"] = "auto"
    "Arithmetic of the forward pass; auto is what was measured fastest on the device."

    execution: Literal[
        "auto", "eager", "channels-last", "onednn", "single-thread", "replicas", "cuda-graph", "triton"
    ] = "auto"
    "How the step runs; auto takes what `transit train` would take."

    device: Literal["auto", "mps", "cuda", "cpu"] = "auto"
    "Where to compute."

    seconds: Annotated[float, Range(5)] = 120.0
    "The longest that one trial may take; a size that needs longer counts as too slow."

    def __post_init__(self) -> None:
        super().__post_init__()
        named = [item for item in self.input if re.fullmatch(r"[^=]+=[1-9]\d*", item)]
        plain = [item for item in self.input if re.fullmatch(r"[1-9]\d*(x[1-9]\d*)*", item)]
        if len(self.input) not in {len(named), len(plain)}:
            self.refuse("input", "global=2001,local=201 or shapes such as 3x224x224, not both")
        if self.input and self.viewset:
            self.refuse("input", "either a view set, whose views have their lengths, or --input")
        if plain and ":" not in self.network:
            self.refuse("input", "plain shapes only with --network my_net.py:build")

    @property
    def lengths(self) -> dict[str, int]:
        """Views by name and length where there is no view set and no plain shape."""
        named = dict(item.split("=") for item in self.input if "=" in item)
        return {name: int(length) for name, length in named.items()} or ({} if self.shapes else DEFAULT_VIEWS)

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """Plain shapes of one sample."""
        return tuple(tuple(int(side) for side in item.split("x")) for item in self.input if "=" not in item)


@dataclass(frozen=True, kw_only=True)
class ProbeSettings(WorkSettings):
    """Options of `transit probe-batch`."""

    only_best: bool = False
    "Stop as soon as throughput no longer grows: quicker, but the largest batch stays unknown."

    write: Path | None = None
    "Write the best batch to this file, for `transit train --config`."


@dataclass(frozen=True, kw_only=True)
class AccumulateSettings(WorkSettings):
    """Options of `transit accumulate`."""

    effective_batch: Annotated[int, Range(2, 65_535)] = 256
    "Samples of one optimizer step."

    plan: bool = True
    "Run the step in micro-batches of several sizes, and choose."

    proof: bool = True
    "Compare gradients of micro-batches with those of the full batch."

    ddp: bool = False
    "Check it across two processes too, as under torchrun (gloo, on the CPU)."
