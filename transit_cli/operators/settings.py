"""Settings of `transit fallback-test`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from transit_cli.config import Flag, Positional, Range
from transit_cli.options import OUT, BinnedInputSettings
from transit_cli.training.settings import StepSettings


@dataclass(frozen=True, kw_only=True)
class FallbackTestSettings(StepSettings, BinnedInputSettings):
    """Options of `transit fallback-test`."""

    viewset: Annotated[Path | None, Positional("VIEWSET")] = None
    "View set whose lengths of views are used, in place of --bins."

    scalars: Annotated[tuple[str, ...], Flag(metavar="NAME,...")] = ()
    "Columns of tces.csv that the network gets too; only their number matters here."

    target: Literal["here", "mps"] = "here"
    "here computes on this machine's device; mps says what a Mac would do, from any machine."

    torch: str = ""
    "With --target mps or --operators: the torch version to ask about (2.8 to 2.14); unless given, the installed one."

    operators: bool = False
    "Print every operator of that torch with its place on MPS: native, composite, fallback or missing."

    steps: Annotated[int, Range(0)] = 50
    "Steps of the whole network, device against CPU; 0 leaves this part out."

    all_ops: bool = False
    "Test torch's own operator database on the device, not the network's operators."

    out: Annotated[Path | None, OUT] = None
    "With --all-ops: a folder for the matrix (matrix.json, .md, .html); an interrupted run goes on from it."

    compare: Annotated[Path | None, Flag(metavar="FILE")] = None
    "With --all-ops: another matrix.json, to say what differs."

    timeout: Annotated[float, Range(1)] = 120.0
    "Seconds after which a child process that says nothing counts as hanging."

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.torch and self.target == "here" and not self.operators:
            self.refuse("torch", "a version only with --target mps or --operators", fix="add --target mps")
