"""What a run folder tells about a run, read without torch."""

from __future__ import annotations

import dataclasses
import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from transit_cli import config
from transit_cli.model import saved
from transit_cli.results import TransitError
from transit_cli.training.runs import environment
from transit_cli.training.runs.environment import CONFIG
from transit_cli.training.runs.run import Run, missing_run
from transit_cli.training.settings import TrainSettings
from transit_cli.utils.files import in_use

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from transit_cli.model.card import Card
    from transit_cli.training.runs.environment import Environment
    from transit_cli.training.runs.run import EpochRecord

#: finished: has trained networks; running: a process owns the folder; stopped: can be resumed; empty: no epoch was
#: completed and no checkpoint written.
State = Literal["finished", "running", "stopped", "empty"]


@dataclass(frozen=True)
class RunRecord:
    """A run as its folder describes it.

    Attributes:
        path: the folder.
        state: see `State`.
        settings: the options of the run.
        environment: versions, device and view set.
        epochs: the completed epochs of every fit.
        card: the card of the trained networks; None before the run has finished.
    """

    path: Path
    state: State
    settings: TrainSettings
    environment: Environment
    epochs: Sequence[EpochRecord]
    card: Card | None

    @property
    def viewset(self) -> str:
        """Name of the view set."""
        return self.environment.viewset.path.rpartition("/")[2]

    @property
    def average_precision(self) -> float | None:
        """Average precision on the rows that were held out from the trained networks; None before there are any."""
        value = self.card.figures.get("validation_average_precision") if self.card else None
        return float(value) if isinstance(value, int | float) else None

    @property
    def seeds(self) -> dict[str, Any]:
        """Mean, spread and range of the metrics over the seeds of the members; {} for one member."""
        figures = self.card.figures if self.card else {}
        return {name: value for name, value in figures.items() if name == "seeds" or name.startswith("seed_")}

    @property
    def samples_per_second(self) -> float | None:
        """Median speed of the epochs."""
        speeds = [epoch.samples_per_second for epoch in self.epochs if epoch.samples_per_second]
        return statistics.median(speeds) if speeds else None

    @property
    def networks(self) -> int:
        """Networks that the run trains."""
        return self.settings.members * (self.settings.folds or 1)

    def options(self) -> dict[str, Any]:
        """The options whose values differ from their defaults."""
        return {
            field.name: value
            for field in dataclasses.fields(self.settings)
            if field.name not in {"sources", "viewset", "out", "resume"}
            and (value := getattr(self.settings, field.name)) != field.default
        }


def read(path: Path) -> RunRecord:
    """The record of a run.

    Raises:
        TransitError: the folder contains no run, or one of its files is damaged.
    """
    if not (path / CONFIG).is_file():
        raise missing_run(path)
    epochs = Run(path).history()
    finished = (path / saved.FILE).is_file()
    state: State = "finished" if finished else "stopped" if epochs or any(path.glob("checkpoints/*/*")) else "empty"
    return RunRecord(
        path,
        "running" if in_use(path) else state,
        config.resolve(TrainSettings, {}, path / CONFIG),
        environment.read(path),
        epochs,
        saved.read_header(path / saved.FILE) if finished else None,
    )


def read_all(folder: Path) -> tuple[list[RunRecord], list[str]]:
    """The runs in a folder, newest first, and why others cannot be read.

    Raises:
        TransitError: there is no run in the folder.
    """
    found: list[RunRecord] = []
    problems: list[str] = []
    for file in sorted(folder.glob(f"*/{CONFIG}")):
        try:
            found.append(read(file.parent))
        except TransitError as error:
            problems.append(error.found)
    if not found and not problems:
        raise TransitError(
            f"{folder} contains no run" if folder.is_dir() else f"{folder} does not exist",
            wanted="a folder with runs of `transit train`",
            fix="transit runs list FOLDER, or transit train VIEWSET",
            code="run-missing",
        )
    return sorted(found, key=lambda run: run.environment.started, reverse=True), problems
