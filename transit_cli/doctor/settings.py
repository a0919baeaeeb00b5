"""Settings of `transit doctor`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from transit_cli.config import Settings


@dataclass(frozen=True, kw_only=True)
class DoctorSettings(Settings):
    """What to look at, and how to answer."""

    only: tuple[str, ...] = ()
    "Look at these rows alone; `mps` also takes mps-step and its other parts."

    device: Literal["auto", "mps", "cuda", "cpu"] = "auto"
    "Prove this device, and fail where it is absent; auto proves every one that is there."

    strict: bool = False
    "Exit 1 on warnings too."

    fix: bool = False
    "Print the fixes as a shell snippet; nothing is changed."

    report: Path | None = None
    "Also write the answer to this file, as Markdown to paste into an issue."

    runs: Path = Path("runs")
    "The folder that runs are written to; its disk is looked at."
