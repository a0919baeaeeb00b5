"""Settings of `transit bench`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from transit_cli.config import Flag, Positional, Range, Settings
from transit_cli.training.settings import view_lengths


@dataclass(frozen=True, kw_only=True)
class BenchSettings(Settings):
    """What `transit bench` measures, and for how long."""

    viewset: Annotated[Path | None, Positional("[VIEWSET]")] = None
    "A view set whose lengths of views are taken; the numbers are random, since time does not depend on them."

    network: Annotated[tuple[str, ...], Flag(metavar="NAME,...")] = ("two-branch", "astronet")
    "Networks: two-branch, astronet, installed ones, or my_net.py:build for your own."

    views: Annotated[str, Flag(metavar="G/L")] = "2001/201"
    "Bins of the global and the local view where no VIEWSET says."

    batch_size: Annotated[tuple[int, ...], Range(1, 65_535), Flag(metavar="N,...")] = (8, 64, 512)
    "Batch sizes; one that would take too long for --seconds is left out, and said."

    precision: Literal["auto", "fp32", "fp16", "bf16"] = "auto"
    "Arithmetic of training; auto is what was measured fastest on the device. Inference is in float32."

    device: Literal["auto", "mps", "cuda", "cpu"] = "auto"
    "Where to compute; auto takes MPS, then CUDA, then the CPU."

    seconds: Annotated[float, Range(1, 36_000)] = 60.0
    "About how long to measure in all, without --peers and --largest-batch."

    largest_batch: bool = False
    "Find the largest safe batch of the first network too, as `transit probe-batch` does; it takes minutes."

    peers: bool = False
    "Train in turn with a plain DataLoader loop, and with Lightning and Accelerate where they are installed."

    compare: Annotated[Path | None, Flag(metavar="FILE")] = None
    "Set the figures beside an earlier run's, saved with --json."

    def __post_init__(self) -> None:
        super().__post_init__()
        try:
            view_lengths(self.views)
        except ValueError:
            self.refuse("views", "two lengths of at least 4 bins, such as 2001/201")
        for name in ("network", "batch_size"):
            if not getattr(self, name):
                self.refuse(name, "at least one")
