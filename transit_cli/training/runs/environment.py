"""Where and on what a run was trained: environment.json."""

from __future__ import annotations

import datetime as dt
import json
import platform
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from transit_cli import __version__, console
from transit_cli.parsing import schema
from transit_cli.results import TransitError
from transit_cli.utils import remote
from transit_cli.utils.files import atomic_write

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from transit_cli.data.viewset import ViewSet
    from transit_cli.device.base import Device

CONFIG, ENVIRONMENT = "config.yaml", "environment.json"
#: Copy of the networks that a run began from.
INIT = "init.safetensors"


@dataclass(frozen=True)
class RecordedDevice:
    """The device of a run: its kind ("cuda") and name."""

    kind: str
    name: str = ""


@dataclass(frozen=True)
class RecordedViewSet:
    """The view set of a run: numbers of rows and bins, and checksums of its files."""

    sizes: dict[str, int]
    sha256: dict[str, str]
    path: str = ""
    simulated: bool = False


@dataclass(frozen=True)
class Environment:
    """What is read of environment.json.

    Attributes:
        device: where it was trained.
        viewset: what it was trained on.
        started: ISO time at which the run was started.
        transit: version of transit.
        torch: version of torch.
        system: operating system.
        command: the words of the command.
        executions: how the steps were executed, as resolved; empty before the run has finished.
        precisions: arithmetic of the forward pass, as resolved.
    """

    device: RecordedDevice
    viewset: RecordedViewSet
    started: str = ""
    transit: str = ""
    torch: str = ""
    system: str = ""
    command: tuple[str, ...] = ()
    executions: tuple[str, ...] = ()
    precisions: tuple[str, ...] = ()

    @property
    def resolved(self) -> str:
        """What the run was trained with, in words."""
        parts = [f"torch {self.torch}", f"execution {', '.join(self.executions)}" if self.executions else ""]
        parts += [f"precision {', '.join(self.precisions)}" if self.precisions else "", f"on {self.device.kind}"]
        return ", ".join(filter(None, parts))


def read(run: Path, fix: str = "") -> Environment:
    """The recorded environment of a run.

    Raises:
        TransitError: the file is missing or damaged.
    """
    source = schema.Source(str(run / ENVIRONMENT), "the file that `transit train` wrote", fix, "run-damaged")
    return schema.read(run / ENVIRONMENT, Environment, source)


def check_resumable(run: Path, viewset: ViewSet, device: Device) -> None:
    """Compare view set and device with those that the run was started with.

    Warns on another kind of device: the run will not equal an uninterrupted one exactly.

    Raises:
        TransitError: the view set is another one (the error names the differences), or environment.json is damaged.
    """
    fix = f"restore it, or start a new run: transit train {viewset.path}"
    recorded = read(run, fix)
    before, now = recorded.viewset, describe(viewset)
    changed = [
        f"{key} {before.sizes.get(key)} -> {size}"
        for key, size in now["sizes"].items()
        if before.sizes.get(key) != size
    ]
    changed += [
        f"{name} has other content"
        for name in sorted({*before.sha256, *now["sha256"]})
        if before.sha256.get(name) != now["sha256"].get(name)
    ]
    if changed:
        raise TransitError(
            f"{viewset.path} is not the view set that {run} was started with: {'; '.join(changed)}",
            wanted="the same view set: a resumed run must equal an uninterrupted one",
            fix=f"restore the view set, or start a new run: transit train {viewset.path}",
            code="viewset-changed",
        )
    if recorded.device.kind != device.kind:
        console.warn(
            f"{run} was started on {recorded.device.kind} and is resumed on {device.kind}: "
            "close to an uninterrupted run, not equal"
        )


def describe(viewset: ViewSet) -> dict[str, Any]:
    """A view set as recorded in a run, with the current checksum of its table, whose labels users edit."""
    return {
        "path": remote.absolute(viewset.path),
        "simulated": viewset.simulated,
        "sizes": {"rows": len(viewset)} | {f"{name} bins": length for name, length in viewset.lengths.items()},
        "sha256": viewset.checksums(),
    }


def current(viewset: ViewSet, device: Device) -> dict[str, Any]:
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


def record_execution(run: Path, executions: Iterable[str], precisions: Iterable[str]) -> None:
    """Add to environment.json how the epochs of a run were executed, which `auto` leaves to the machine."""
    content = json.loads((run / ENVIRONMENT).read_text(encoding="utf-8"))
    content["executions"] = sorted({*executions} - {""})
    content["precisions"] = sorted({*precisions} - {""})
    atomic_write(run / ENVIRONMENT, json.dumps(content, indent=2) + "\n")
