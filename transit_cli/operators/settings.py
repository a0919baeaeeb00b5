"""Options of `transit fallback-test`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from transit_cli.config import Positional
from transit_cli.training.settings import StepSettings

#: Bins of the views where no view set is given: those of the AstroNet paper.
DEFAULT_LENGTHS = {"global": 2001, "local": 201}


@dataclass(frozen=True, kw_only=True)
class FallbackTestSettings(StepSettings):
    """Options of `transit fallback-test`."""

    viewset: Annotated[Path | None, Positional("VIEWSET")] = None
    "A view set, for the lengths of its views; unless given, global views of 2001 bins and local ones of 201."

    network: str = "two-branch"
    "Network by name (two-branch, astronet, or a plugin's), or my_net.py:build for one of your own."

    views: tuple[str, ...] = ("global", "local")
    "Views that the network sees."

    scalars: tuple[str, ...] = ()
    "Columns of tces.csv that the network sees too; only their number matters here."

    target: Literal["mps"] = "mps"
    "mps: say what a Mac would do, from any machine."

    torch: str = ""
    "The torch version to ask about (2.8 to 2.14); unless given, the installed one."

    operators: bool = False
    "Print every operator of that torch with its place on MPS: native, composite, fallback or missing."
