"""Settings of `transit profile`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

from transit_cli.config import Flag, Panel, Positional, Range
from transit_cli.options import OUT, BinsSettings, DeviceSettings, NetworkSettings
from transit_cli.training.settings import StepSettings


@dataclass(frozen=True, kw_only=True)
class ProfileSettings(StepSettings, NetworkSettings, BinsSettings, DeviceSettings):
    """Options of `transit profile`."""

    first: ClassVar[tuple[str, ...]] = ("network", "bins", "batch_size", "device")

    viewset: Annotated[Path | None, Positional("VIEWSET")] = None
    "View set to train on; by default random numbers, since time does not depend on values."

    loader: Annotated[str | None, Flag(metavar="FILE:FUNCTION"), Panel("Data")] = None
    "my_data.py:batches, a function of (views, scalars, batch_size) that yields (inputs, targets), to profile your own."

    steps: Annotated[int, Range(5, 1000)] = 30
    "Optimizer steps to measure."

    inference: bool = False
    "Profile only the forward pass, as `transit predict` runs it."

    growth_steps: Annotated[int, Range(0, 1_000_000)] = 200
    "Steps over which memory must not grow; 0 skips the check."

    try_: bool = False
    "Try what the verdict advises, if an option does it, and report the gain."

    trace: bool = False
    "Write trace.json.gz, for https://ui.perfetto.dev or chrome://tracing."

    signposts: bool = False
    "MPS: emit signposts for Instruments (Logging > os_signpost)."

    metal_capture: bool = False
    "MPS: write steps.gputrace for Xcode; needs MTL_CAPTURE_ENABLED=1 in the environment."

    report: bool = False
    "Write report.html with plots."

    out: Annotated[Path, OUT] = Path("profile")
    "Folder for the files."

    compare: Annotated[Path | None, Flag(metavar="FILE")] = None
    "Compare with an earlier run, saved with --json."
