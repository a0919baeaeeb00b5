"""Settings of the commands under `transit fallback-test`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

from transit_cli.config import Flag, Positional, Range, Settings
from transit_cli.options import OUT, BinnedInputSettings, DeviceSettings
from transit_cli.training.settings import StepSettings


@dataclass(frozen=True, kw_only=True)
class StepFactorySettings(StepSettings, BinnedInputSettings):
    """The training step whose operators are tested."""

    first: ClassVar[tuple[str, ...]] = ("network", "views", "bins", "scalars", "batch_size", "precision")

    hidden: ClassVar[tuple[str, ...]] = ("execution",)

    viewset: Annotated[Path | None, Positional("VIEWSET")] = None
    "View set whose lengths of views are used, in place of --bins."

    scalars: Annotated[tuple[str, ...], Flag(metavar="NAME,...")] = ()
    "Columns of tces.csv that the network gets too; only their number matters here."


@dataclass(frozen=True, kw_only=True)
class FallbackTestSettings(StepFactorySettings, DeviceSettings):
    """Options of `transit fallback-test run`."""

    first: ClassVar[tuple[str, ...]] = (*StepFactorySettings.first, "device")

    steps: Annotated[int, Range(0, 1_000_000)] = 50
    "Training steps to compare with the CPU; 0 skips this part."

    timeout: Annotated[float, Range(1)] = 120.0
    "Seconds without an answer after which a child process counts as hanging."


@dataclass(frozen=True, kw_only=True)
class FallbackPredictionSettings(StepFactorySettings):
    """Options of `transit fallback-test predict`."""

    hidden: ClassVar[tuple[str, ...]] = ("execution", "learning_rate", "betas", "schedule", "warmup_steps")

    torch: Annotated[str, Flag(metavar="VERSION")] = ""
    "Version of torch (2.8 or later); by default the installed one."


@dataclass(frozen=True, kw_only=True)
class OperatorTableSettings(Settings):
    """Options of `transit fallback-test operators`."""

    torch: Annotated[str, Flag(metavar="VERSION")] = ""
    "Version of torch (2.8 or later); by default the installed one."


@dataclass(frozen=True, kw_only=True)
class OperatorDatabaseSettings(DeviceSettings):
    """Options of `transit fallback-test all-ops`."""

    out: Annotated[Path | None, OUT] = None
    "Folder for matrix.json, .md and .html; an interrupted run is resumed from it."

    compare: Annotated[Path | None, Flag(metavar="FILE")] = None
    "Compare with the matrix.json of an earlier run."

    timeout: Annotated[float, Range(1)] = 120.0
    "Seconds without an answer after which a child process counts as hanging."
