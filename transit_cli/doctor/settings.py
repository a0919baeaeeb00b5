"""Settings of `transit doctor`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from transit_cli.config import Flag
from transit_cli.options import OUT, DeviceSettings


@dataclass(frozen=True, kw_only=True)
class DoctorSettings(DeviceSettings):
    """Options of `transit doctor`."""

    only: Annotated[tuple[str, ...], Flag(metavar="CHECK,...")] = ()
    "Run only these checks; mps also runs mps-step and its other parts."

    device: Literal["auto", "mps", "cuda", "cpu"] = "auto"
    "Device to check, which must be present; auto checks every device that is."

    strict: bool = False
    "Exit 1 on warnings too."

    fix: bool = False
    "Print the fixes as a shell snippet; nothing is changed."

    out: Annotated[Path | None, OUT] = None
    "Also write the result to this file, as Markdown to paste into an issue."

    mac_report: Annotated[Path | None, Flag(metavar="FILE")] = None
    "On a Mac: also test operators, Metal kernels, speed and energy for five minutes, and write it all to this file."

    runs: Path = Path("runs")
    "Folder that runs are written to, whose disk is checked."

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.mac_report and (self.only or self.fix or self.out):
            self.refuse("mac_report", "no --only, --fix or --out beside it")
