"""A run's folder.

runs/NAME/
  config.yaml         every option with its source; `transit train --config` reads it
  environment.json    versions, device, and the view set with its checksums
  metrics.jsonl       one line per epoch of every fit
  checkpoints/FIT/    see `training.checkpoint`
  scores.csv          the held-out rows with their scores
  init.safetensors    a copy of the networks that the run began from (--init)
  model.safetensors   the trained networks, see `model.saved`
"""

from __future__ import annotations

import contextlib
import datetime as dt
import itertools
import json
import math
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from transit_cli import config, console
from transit_cli.parsing import schema
from transit_cli.results import ExitCode, TransitError, plain
from transit_cli.training.runs import environment
from transit_cli.training.runs.environment import CONFIG, ENVIRONMENT, INIT
from transit_cli.training.settings import TrainSettings
from transit_cli.utils import remote
from transit_cli.utils.files import atomic_write, is_temporary, locked

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from transit_cli.training.distributed import ProcessGroup
    from transit_cli.training.plan import Plan

METRICS, CHECKPOINTS, SCORES = "metrics.jsonl", "checkpoints", "scores.csv"

#: Options that do not change what is learned: a run may be resumed with other values of them.
RESUMABLE_OPTIONS = frozenset(
    {
        "viewset",
        "out",
        "resume",
        "checkpoint_minutes",
        "keep_checkpoints",
        "empty_cache_epochs",
        "memory_limit",
        "loader",
        "workers",
        "processes",
        "tensorboard",
    }
)


@dataclass(frozen=True)
class EpochRecord:
    """What is read of a line of metrics.jsonl.

    Attributes:
        fit: name of the fit.
        epoch: number of the epoch, from 1.
        step: optimizer steps taken.
        micro_batch: samples per micro-batch; 0 if it was not recorded.
        samples_per_second: speed of the epoch; 0 if it was not recorded.
        loss: mean training loss; None if it was not recorded.
        learning_rate: at the end of the epoch; None if it was not recorded.
        seconds: training time of the fit so far; 0 if it was not recorded.
        memory_bytes: memory of the driver at the end of the epoch; 0 if it was not recorded.
        validation_average_precision: on the validation rows; None if it was not recorded or is undefined.
        validation_loss: on the validation rows; None if it was not recorded or is undefined.
        execution: how the steps were executed; "" if it was not recorded.
        precision: arithmetic of the forward pass; "" if it was not recorded.
    """

    fit: str
    epoch: Annotated[int, config.Range(1)]
    step: Annotated[int, config.Range(0)]
    micro_batch: int = 0
    samples_per_second: float = 0.0
    loss: float | None = None
    learning_rate: float | None = None
    seconds: float = 0.0
    memory_bytes: int = 0
    validation_average_precision: float | None = None
    validation_loss: float | None = None
    execution: str = ""
    precision: str = ""


@dataclass(frozen=True)
class Run:
    """A run's folder, open for writing."""

    path: Path

    def checkpoints(self, fit: str) -> Path:
        """The folder of one fit's checkpoints."""
        return self.path / CHECKPOINTS / fit

    def log(self, record: Mapping[str, Any]) -> None:
        """Append a line to metrics.jsonl."""
        with (self.path / METRICS).open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(plain(record)) + "\n")

    def history(self) -> list[EpochRecord]:
        """The epochs in metrics.jsonl."""
        return [record for _, record in self._lines()]

    def truncate_metrics(self, epochs: Mapping[str, int]) -> None:
        """Drop the lines of epochs that will be repeated: those beyond the completed epochs of each fit."""
        kept = [line + "\n" for line, record in self._lines() if record.epoch <= epochs.get(record.fit, 0)]
        atomic_write(self.path / METRICS, "".join(kept))

    def _lines(self) -> list[tuple[str, EpochRecord]]:
        """The lines of metrics.jsonl and their content, without one that was cut short by a kill.

        A damaged line is reported and left out: the log must not prevent a run from being resumed.
        """
        try:
            *lines, rest = (self.path / METRICS).read_bytes().decode(errors="replace").split("\n")
        except FileNotFoundError:
            return []
        source = schema.Source(str(self.path / METRICS), "a record of an epoch", "remove the line", "metrics-damaged")
        found = []
        for number, line in enumerate([*lines, rest], 1):
            try:
                found.append((line, schema.parse(line, EpochRecord, source.at(number))))
            except TransitError as error:
                if number <= len(lines):
                    console.warn(f"{error.found}: the line is ignored")
        return found


@contextmanager
def open_run(plan: Plan, processes: ProcessGroup) -> Iterator[Run]:
    """The run of a plan, created or resumed by rank 0, and locked while the block runs.

    Raises:
        TransitError: the folder is not free, or in use; the view set is not the one that a resumed run began with.
    """
    from transit_cli.training.runs import checkpoint

    with ExitStack() as stack:

        def open_() -> Run:
            settings = plan.settings
            if settings.resume:
                stack.enter_context(locked(settings.resume))
                environment.check_resumable(settings.resume, plan.viewset, plan.device)
                run = Run(settings.resume)
            else:
                path = settings.out or _lock_new_name(stack)
                if settings.out:
                    stack.enter_context(locked(path))
                before = {file.name for file in path.iterdir()} if path.is_dir() else None
                run = create(settings, path, plan)
                stack.push(lambda kind, *_: kind is not None and _discard_empty(run, plan, before))
            run.truncate_metrics({t.name: checkpoint.completed_epochs(run.checkpoints(t.name)) for t in plan.tasks})
            return run

        yield processes.broadcast_from_rank0(open_)


def _discard_empty(run: Run, plan: Plan, before: Collection[str] | None) -> bool:
    """Remove what `create` wrote, after a failure before the first epoch and the first checkpoint; returns False.

    `before` names the files that were in the folder; None if there was no folder.
    """
    from transit_cli.training.runs import checkpoint

    if not run.history() and not any(checkpoint.files(run.checkpoints(task.name)) for task in plan.tasks):
        copy = Path(plan.settings.network.rpartition(":")[0]).name
        for name in {CONFIG, ENVIRONMENT, INIT, METRICS, copy} - {"", *(before or ())}:
            (run.path / name).unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # it has other files
            for folder in (*(run.checkpoints(task.name) for task in plan.tasks), run.path / CHECKPOINTS):
                if folder.is_dir():
                    folder.rmdir()
            if before is None:
                run.path.rmdir()
    return False


def _copy_network_source(settings: TrainSettings, run: Run) -> None:
    """Copy the file of a user's own network into the run: the trained network cannot be used without it."""
    if ":" in settings.network:
        source = Path(settings.network.rpartition(":")[0]).expanduser()
        if source.is_file():
            atomic_write(run.path / source.name, source.read_bytes())


def create(settings: TrainSettings, path: Path, plan: Plan) -> Run:
    """Create the folder of a new run, which this process owns, with its configuration and environment.

    Raises:
        TransitError: the folder exists and is not empty.
    """
    left = {file.name for file in path.iterdir() if not is_temporary(file)} if path.is_dir() else set()
    network = Path(settings.network.rpartition(":")[0]).name
    if left - {ENVIRONMENT, INIT, network} or (path.exists() and not path.is_dir()):  # CONFIG is written last
        is_run = CONFIG in left
        raise TransitError(
            f"{path} {'contains a run' if is_run else 'exists'} already",
            wanted="a new name, so that nothing is overwritten",
            fix=f"transit train --resume {path}" if is_run else "give another --out",
            exit_code=ExitCode.USAGE,
            code="run-exists",
        )
    about = environment.current(plan.viewset, plan.device)
    if plan.initial:
        about["init"] = {"from": plan.initial.name, "trained_on": plan.initial.card.trained_on, "taken": plan.taken}
        atomic_write(path / INIT, plan.initial.file.read_bytes())
    atomic_write(path / ENVIRONMENT, json.dumps(plain(about), indent=2) + "\n")
    run = Run(path)
    _copy_network_source(settings, run)
    given = settings.replace(viewset=remote.absolute(plan.viewset.path), out=path)
    atomic_write(path / CONFIG, config.to_yaml(given, "train"))
    return run


def resumed(settings: TrainSettings) -> TrainSettings:
    """The settings of the run that `--resume` names, with the given values of `RESUMABLE_OPTIONS`.

    Raises:
        TransitError: there is no run, or an option was given that differs from the run's.
    """
    path = settings.resume
    assert path is not None
    if not (path / CONFIG).is_file():
        raise missing_run(path, "transit train --resume ")
    before = config.resolve(TrainSettings, {}, path / CONFIG)
    given = [name for name, source in settings.sources.items() if source != "default"]
    changed = [
        f"{name} {_shown(getattr(before, name))} -> {_shown(getattr(settings, name))}"
        for name in given
        if name not in RESUMABLE_OPTIONS and getattr(before, name) != getattr(settings, name)
    ]
    if changed:
        raise TransitError(
            f"{path} was started with other options: {'; '.join(changed)}",
            wanted="the same options: a resumed run must equal an uninterrupted one",
            fix=f"transit train --resume {path}, or a new run with these options and another --out",
            exit_code=ExitCode.USAGE,
            code="run-changed",
        )
    kept = {name: getattr(settings, name) for name in given if name in RESUMABLE_OPTIONS}
    init = str(path / INIT) if before.init and (path / INIT).is_file() else before.init
    return before.replace(**kept, network=_own_copy(before.network, path), init=init)


def _own_copy(network: str, run: Path) -> str:
    """The name of a network, with a user's file replaced by the run's copy of it; warns if the two differ."""
    source, colon, function = network.rpartition(":")
    copy = run / Path(source).name
    if not colon or not copy.is_file():
        return network
    original = Path(source).expanduser()
    if original.is_file() and original.read_bytes() != copy.read_bytes():
        console.warn(f"{original} has changed since {run} was started: the copy in {copy} is used")
    return f"{copy}:{function}"


def _shown(value: object) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def missing_run(path: Path, command: str = "") -> TransitError:
    """The error for a folder that contains no run; its fix names runs that exist, after `command`."""
    return TransitError(
        f"{path} contains no run" if path.is_dir() else f"{path} does not exist",
        wanted=f"a folder that `transit train` wrote, with {CONFIG}",
        fix=(command or "give the folder of a run: ") + (", or ".join(map(str, runs_near(path))) or "RUN"),
        code="run-missing",
    )


def runs_near(path: Path) -> list[Path]:
    """Up to three runs beside a folder or in runs/, newest first."""
    found = {file.parent for folder in (path.parent, Path("runs")) for file in folder.glob(f"*/{CONFIG}")}
    return sorted(found, key=lambda run: (run / CONFIG).stat().st_mtime, reverse=True)[:3]


def _lock_new_name(stack: ExitStack) -> Path:
    """runs/YYYYMMDD-HHMMSS, with a number appended if it exists or another process owns it; locked on `stack`."""
    name = dt.datetime.now().astimezone().strftime("%Y%m%d-%H%M%S")
    for number in itertools.count(1):
        path = Path("runs", name + (f"-{number}" if number > 1 else ""))
        with ExitStack() as lock:
            try:
                lock.enter_context(locked(path))
            except TransitError:  # in use
                continue
            if not path.exists():
                stack.push(lock.pop_all())
                return path
    raise AssertionError


def seeds_text(figures: Mapping[str, Any]) -> str:
    """The average precision over the seeds of the members, of the figures in a run's card."""
    mean, std, low, high = (figure(figures[f"seed_average_precision_{name}"]) for name in ("mean", "std", "min", "max"))
    return f"average precision {mean}, standard deviation {std}, from {low} to {high}"


def figure(value: float | None) -> str:
    """A metric in four decimals, "-" if it is not measured."""
    return "-" if value is None or math.isnan(value) else f"{value:.4f}"
