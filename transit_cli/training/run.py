"""A run's folder.

runs/NAME/
  config.yaml         every option with its source: `transit train --config` reads it back
  environment.json    versions, device, and the view set with its checksums
  metrics.jsonl       a line an epoch of every fit
  checkpoints/FIT/    see `training.checkpoint`
  scores.csv          the validation rows with their scores
  model.safetensors   the finished networks, see `model.saved`
"""

from __future__ import annotations

import datetime as dt
import json
import platform
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transit_cli import __version__, config, console
from transit_cli.files import atomic_write, is_temporary
from transit_cli.results import ExitCode, TransitError, plain
from transit_cli.training.settings import TrainSettings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from transit_cli.data.viewset import ViewSet
    from transit_cli.device.base import Device

CONFIG, ENVIRONMENT, METRICS, CHECKPOINTS, SCORES = (
    "config.yaml",
    "environment.json",
    "metrics.jsonl",
    "checkpoints",
    "scores.csv",
)

#: Options that change nothing that is learned: a run may be resumed with others.
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
        """The lines of metrics.jsonl; one that a kill cut short is left out."""
        try:
            lines = (self.path / METRICS).read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            return []
        return [record for line in lines if (record := _parsed(line))]

    def truncate_metrics(self, steps: Mapping[str, int]) -> None:
        """Drop the lines of metrics beyond the checkpoint (its steps, by fit) that is gone on from: they come again."""
        kept = [record for record in self.history() if record["step"] <= steps.get(record["fit"], 0)]
        text = "".join(json.dumps(record) + "\n" for record in kept)
        atomic_write(self.path / METRICS, text)


def _parsed(line: str) -> dict[str, Any] | None:
    try:
        return json.loads(line)
    except ValueError:
        return None


def create(settings: TrainSettings, viewset: ViewSet, device: Device) -> Run:
    """Make the folder of a new run, with its configuration and environment.

    Raises:
        TransitError: the folder holds a run already.
    """
    path = settings.out or _free_name()
    left = {file.name for file in path.iterdir() if not is_temporary(file)} if path.is_dir() else set()
    if left - {ENVIRONMENT} or (path.exists() and not path.is_dir()):  # a run killed at once leaves ENVIRONMENT only
        is_run = CONFIG in left
        raise TransitError(
            f"{path} {'holds a run' if is_run else 'exists'} already",
            wanted="a name that is free, so that nothing is overwritten",
            fix=f"transit train --resume {path}" if is_run else "give another --out",
            exit_code=ExitCode.USAGE,
            code="run-exists",
        )
    atomic_write(path / ENVIRONMENT, json.dumps(plain(environment(viewset, device)), indent=2) + "\n")
    atomic_write(path / CONFIG, config.to_yaml(settings.replace(viewset=viewset.path.absolute(), out=path), "train"))
    return Run(path)


def reopen(settings: TrainSettings) -> tuple[Run, TrainSettings]:
    """The run that `--resume` names, with its own settings; `RESUMABLE_OPTIONS` are taken from those given.

    Raises:
        TransitError: there is no run, or an option was given that differs from the run's.
    """
    path = settings.resume
    assert path is not None
    if not (path / CONFIG).is_file():
        raise TransitError(
            f"{path} holds no run" if path.is_dir() else f"{path} does not exist",
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
            f"{path} was begun with other options: {'; '.join(changed)}",
            wanted="the same options: what is resumed must equal a run that was never stopped",
            fix=f"transit train --resume {path}, or a new run with these options and another --out",
            exit_code=ExitCode.USAGE,
            code="run-changed",
        )
    return Run(path), before.replace(**{name: getattr(settings, name) for name in given if name in RESUMABLE_OPTIONS})


def _shown(value: object) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def check_viewset(run: Run, viewset: ViewSet) -> None:
    """Raise the error for a view set that is not the one that the run was begun with, naming what differs."""
    before = json.loads((run.path / ENVIRONMENT).read_text(encoding="utf-8"))["viewset"]
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
            f"{viewset.path} is not the view set that {run.path} was begun with: {'; '.join(changed)}",
            wanted="the same view set: what is resumed must equal a run that was never stopped",
            fix=f"put the view set back, or begin anew: transit train {viewset.path}",
            code="viewset-changed",
        )


def check_device(run: Run, device: Device) -> None:
    """Say when a run goes on with another kind of device: its numbers will not be those of an unbroken run."""
    before = json.loads((run.path / ENVIRONMENT).read_text(encoding="utf-8"))["device"]["kind"]
    if before != device.kind:
        console.warn(
            f"{run.path} was begun on {before} and goes on on {device.kind}: close to an unbroken run, not equal"
        )


def describe(viewset: ViewSet) -> dict[str, Any]:
    """A view set as a run remembers it; the table is checked as it is now, since people edit labels by hand."""
    from transit_cli.data.viewset import TCES, checksum

    return {
        "path": viewset.path.absolute(),
        "simulated": viewset.simulated,
        "sizes": {"rows": len(viewset)} | {f"{name} bins": length for name, length in viewset.lengths.items()},
        "sha256": dict(viewset.info["sha256"]) | {TCES: checksum(viewset.path / TCES)},
    }


def environment(viewset: ViewSet, device: Device) -> dict[str, Any]:
    """What a run was made with."""
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
    """Up to three runs beside a folder or in runs/, the newest first."""
    found = {file.parent for folder in (path.parent, Path("runs")) for file in folder.glob(f"*/{CONFIG}")}
    return sorted(found, key=lambda run: (run / CONFIG).stat().st_mtime, reverse=True)[:3]


def _free_name() -> Path:
    """runs/YYYYMMDD-HHMMSS, with a number after it where that is taken."""
    name = dt.datetime.now().astimezone().strftime("%Y%m%d-%H%M%S")
    return next(path for n in range(1, 10**6) if not (path := Path("runs", name + (f"-{n}" if n > 1 else ""))).exists())
