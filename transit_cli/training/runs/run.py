"""A run's folder.

runs/NAME/
  config.yaml         every option with its source; `transit train --config` reads it
  environment.json    versions, device, and the view set with its checksums
  metrics.jsonl       one line per epoch of every fit
  checkpoints/FIT/    see `training.checkpoint`
  scores.csv          the held-out rows with their scores
  model.safetensors   the trained networks, see `model.saved`
"""

from __future__ import annotations

import datetime as dt
import json
import platform
import shutil
import sys
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transit_cli import __version__, config, console
from transit_cli.results import ExitCode, TransitError, plain
from transit_cli.training.settings import TrainSettings
from transit_cli.utils.files import atomic_write, is_temporary, locked

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from transit_cli.data.viewset import ViewSet
    from transit_cli.device.base import Device
    from transit_cli.training.distributed import ProcessGroup
    from transit_cli.training.plan import Plan

CONFIG, ENVIRONMENT, METRICS, CHECKPOINTS, SCORES = (
    "config.yaml",
    "environment.json",
    "metrics.jsonl",
    "checkpoints",
    "scores.csv",
)

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
        "tensorboard",
    }
)


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

    def history(self) -> list[dict[str, Any]]:
        """The lines of metrics.jsonl, without one that was cut short by a kill."""
        try:
            lines = (self.path / METRICS).read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            return []
        return [record for line in lines if (record := _parsed(line))]

    def truncate_metrics(self, steps: Mapping[str, int]) -> None:
        """Drop the lines beyond the checkpoint that is resumed from (its steps, by fit): those epochs are repeated."""
        kept = [record for record in self.history() if record["step"] <= steps.get(record["fit"], 0)]
        text = "".join(json.dumps(record) + "\n" for record in kept)
        atomic_write(self.path / METRICS, text)


def _parsed(line: str) -> dict[str, Any] | None:
    try:
        return json.loads(line)
    except ValueError:
        return None


@contextmanager
def open_run(plan: Plan, processes: ProcessGroup) -> Iterator[Run]:
    """The run of a plan, created or resumed by rank 0, and locked while the block runs.

    Raises:
        TransitError: the folder is not free, or in use; the view set is not the one that a resumed run began with.
    """
    from transit_cli.training.runs import checkpoint

    with ExitStack() as stack:

        def open_() -> Run:
            resume = plan.settings.resume
            if resume:
                check_viewset(resume, plan.viewset)
                check_device(resume, plan.device)
            run = Run(resume) if resume else create(plan.settings, plan.viewset, plan.device)
            _copy_network_source(plan.settings, run)
            stack.enter_context(locked(run.path))
            run.truncate_metrics({t.name: checkpoint.latest_steps(run.checkpoints(t.name)) for t in plan.tasks})
            return run

        yield processes.broadcast_from_rank0(open_)


def _copy_network_source(settings: TrainSettings, run: Run) -> None:
    """Copy the file of a user's own network into the run: the trained network cannot be used without it."""
    if ":" in settings.network:
        source = Path(settings.network.rpartition(":")[0]).expanduser()
        copy = run.path / source.name
        if source.is_file() and source.resolve() != copy.resolve():
            shutil.copyfile(source, copy)


def create(settings: TrainSettings, viewset: ViewSet, device: Device) -> Run:
    """Create the folder of a new run, with its configuration and environment.

    Raises:
        TransitError: the folder exists and is not empty.
    """
    path = settings.out or _free_name()
    left = {file.name for file in path.iterdir() if not is_temporary(file)} if path.is_dir() else set()
    if left - {ENVIRONMENT} or (path.exists() and not path.is_dir()):  # a run killed at once leaves ENVIRONMENT only
        is_run = CONFIG in left
        raise TransitError(
            f"{path} {'contains a run' if is_run else 'exists'} already",
            wanted="a new name, so that nothing is overwritten",
            fix=f"transit train --resume {path}" if is_run else "give another --out",
            exit_code=ExitCode.USAGE,
            code="run-exists",
        )
    atomic_write(path / ENVIRONMENT, json.dumps(plain(environment(viewset, device)), indent=2) + "\n")
    atomic_write(path / CONFIG, config.to_yaml(settings.replace(viewset=viewset.path.absolute(), out=path), "train"))
    return Run(path)


def resumed(settings: TrainSettings) -> TrainSettings:
    """The settings of the run that `--resume` names, with the given values of `RESUMABLE_OPTIONS`.

    Raises:
        TransitError: there is no run, or an option was given that differs from the run's.
    """
    path = settings.resume
    assert path is not None
    if not (path / CONFIG).is_file():
        raise TransitError(
            f"{path} contains no run" if path.is_dir() else f"{path} does not exist",
            wanted=f"a folder that `transit train` wrote, with {CONFIG}",
            fix="transit train --resume " + (", or ".join(map(str, runs_near(path))) or "RUN"),
            code="run-missing",
        )
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
    return before.replace(**{name: getattr(settings, name) for name in given if name in RESUMABLE_OPTIONS})


def _shown(value: object) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def check_viewset(run: Path, viewset: ViewSet) -> None:
    """Raise the error for a view set other than the one that the run was started with, naming the differences."""
    before = json.loads((run / ENVIRONMENT).read_text(encoding="utf-8"))["viewset"]
    now = describe(viewset)
    changed = [
        f"{key} {before['sizes'].get(key)} -> {now['sizes'].get(key)}"
        for key in now["sizes"]
        if before["sizes"].get(key) != now["sizes"].get(key)
    ]
    changed += [
        f"{name} has other content"
        for name in sorted({*before["sha256"], *now["sha256"]})
        if before["sha256"].get(name) != now["sha256"].get(name)
    ]
    if changed:
        raise TransitError(
            f"{viewset.path} is not the view set that {run} was started with: {'; '.join(changed)}",
            wanted="the same view set: a resumed run must equal an uninterrupted one",
            fix=f"restore the view set, or start a new run: transit train {viewset.path}",
            code="viewset-changed",
        )


def check_device(run: Path, device: Device) -> None:
    """Warn when a run is resumed on another kind of device: it will not equal an uninterrupted run exactly."""
    before = json.loads((run / ENVIRONMENT).read_text(encoding="utf-8"))["device"]["kind"]
    if before != device.kind:
        console.warn(
            f"{run} was started on {before} and is resumed on {device.kind}: close to an uninterrupted run, not equal"
        )


def describe(viewset: ViewSet) -> dict[str, Any]:
    """A view set as recorded in a run, with the current checksum of its table, whose labels users edit."""
    from transit_cli.data.viewset import TCES, checksum

    return {
        "path": viewset.path.absolute(),
        "simulated": viewset.simulated,
        "sizes": {"rows": len(viewset)} | {f"{name} bins": length for name, length in viewset.lengths.items()},
        "sha256": dict(viewset.info["sha256"]) | {TCES: checksum(viewset.path / TCES)},
    }


def environment(viewset: ViewSet, device: Device) -> dict[str, Any]:
    """Versions, command, device and view set of a run."""
    from importlib.metadata import version

    import numpy as np
    import torch

    return {
        "started": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "command": sys.argv[1:],
        "transit": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "scikit-learn": version("scikit-learn"),
        "system": platform.platform(),
        "device": {"kind": device.kind, "name": device.facts.name, "software": device.facts.software},
        "viewset": describe(viewset),
    }


def runs_near(path: Path) -> list[Path]:
    """Up to three runs beside a folder or in runs/, newest first."""
    found = {file.parent for folder in (path.parent, Path("runs")) for file in folder.glob(f"*/{CONFIG}")}
    return sorted(found, key=lambda run: (run / CONFIG).stat().st_mtime, reverse=True)[:3]


def _free_name() -> Path:
    """runs/YYYYMMDD-HHMMSS, with a number appended if it exists."""
    name = dt.datetime.now().astimezone().strftime("%Y%m%d-%H%M%S")
    return next(path for n in range(1, 10**6) if not (path := Path("runs", name + (f"-{n}" if n > 1 else ""))).exists())
