"""Settings of `transit profile`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from transit_cli.config import Flag, Positional, Range
from transit_cli.training.settings import StepSettings, view_lengths


@dataclass(frozen=True, kw_only=True)
class ProfileSettings(StepSettings):
    """What `transit profile` runs, how long, and what it writes."""

    viewset: Annotated[Path | None, Positional("[VIEWSET]")] = None
    "View set to train on; unless given, random numbers of the shape of --views, since time does not depend on values."

    network: str = "two-branch"
    "Network: two-branch, astronet, an installed one, or my_net.py:build for your own."

    views: Annotated[str, Flag(metavar="G/L")] = "2001/201"
    "Bins of the global and the local view where no VIEWSET says."

    loader: str | None = None
    "my_data.py:batches, a function of (views, scalars, batch_size) that yields (inputs, targets): profile your own."

    device: Literal["auto", "mps", "cuda", "cpu"] = "auto"
    "Where to compute; auto takes MPS, then CUDA, then the CPU."

    steps: Annotated[int, Range(5, 1000)] = 30
    "Optimizer steps that are measured."

    inference: bool = False
    "Profile the forward pass alone, as `transit predict` runs it."

    growth_steps: Annotated[int, Range(0)] = 200
    "Steps over which memory must not grow; 0 leaves the check out."

    try_: bool = False
    "Run what the verdict advises where that can be tried at once, and show what it gained."

    trace: bool = False
    "Write trace.json.gz, to be opened at https://ui.perfetto.dev or chrome://tracing."

    signposts: bool = False
    "MPS: emit signposts while the steps run, for Instruments (Logging > os_signpost)."

    metal_capture: bool = False
    "MPS: write steps.gputrace for Xcode; needs MTL_CAPTURE_ENABLED=1 before the start."

    report: bool = False
    "Write report.html with the pictures (needs the extra `report`)."

    out: Path = Path("profile")
    "Folder for what is written."

    compare: Annotated[tuple[Path, Path] | None, Flag(metavar="A.json B.json")] = None
    "Compare two earlier runs, saved with --json; nothing is run."

    def __post_init__(self) -> None:
        super().__post_init__()
        try:
            view_lengths(self.views)
        except ValueError:
            self.refuse("views", "two lengths of at least 4 bins, such as 2001/201")
