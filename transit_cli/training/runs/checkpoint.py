"""Checkpoints: written atomically, verified when read; the last few and the best are kept.

A checkpoint is what `torch.save` writes, loadable with `weights_only=True`. Its name carries the optimizer step and the
first half of its content's SHA-256 ("step-000001200-0f3a....pt"), so that one rename makes both file and checksum
appear, and a corrupt file is recognised by a name that does not match. Nothing is overwritten.
"""

from __future__ import annotations

import hashlib
import io
import re
from typing import TYPE_CHECKING, Any

import torch

from transit_cli import console
from transit_cli.results import TransitError
from transit_cli.utils.files import atomic_write, remove_abandoned

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

_NAME = re.compile(r"step-(\d+)-([0-9a-f]{32})\.pt")


def save(folder: Path, steps: int, state: dict[str, Any]) -> Path:
    """Write a checkpoint and wait until it is on the disk.

    Args:
        folder: the run's folder of checkpoints for this fit.
        steps: optimizer steps taken.
        state: tensors, numbers, text, lists and dicts.

    Raises:
        OSError: the disk is full or gone; the checkpoints before are as they were.
    """
    buffer = io.BytesIO()
    torch.save(state, buffer)
    content = buffer.getbuffer()
    file = folder / f"step-{steps:09d}-{_digest(content)}.pt"
    atomic_write(file, content)
    return file


def load(file: Path) -> dict[str, Any] | None:
    """A checkpoint's state, on the CPU; None if the file's content is not what its name says.

    Raises:
        TransitError: the content is what its name says, but no checkpoint.
    """
    name = _NAME.fullmatch(file.name)
    content = file.read_bytes()
    if name is None or _digest(content) != name[2]:
        return None
    try:
        state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # of many types, by what is in the file
        raise invalid(file, f"cannot be loaded: {next(iter(str(error).splitlines()), type(error).__name__)}") from error
    if not isinstance(state, dict):
        raise invalid(file, f"holds {type(state).__name__}")
    return state


def invalid(path: Path, problem: str) -> TransitError:
    """The error for a checkpoint, or a folder of them, that was not written by `save` for this run."""
    return TransitError(
        f"{path} {problem}",
        wanted="a checkpoint that `transit train` wrote for this run",
        fix=f"remove {path}, then resume: an earlier checkpoint is used",
        code="checkpoint-invalid",
    )


def latest(folder: Path) -> dict[str, Any] | None:
    """The state of the last valid checkpoint, None if there is none.

    Corrupt checkpoints are reported and deleted; partial files of a killed process are deleted.
    """
    remove_abandoned(folder)
    for file in reversed(files(folder)):
        if load(file) is not None:
            break
        console.warn(f"the checkpoint {file} is corrupt: resuming from the previous one")
        file.unlink()
    return _last(folder)


def completed_epochs(folder: Path) -> int:
    """The completed epochs of the last valid checkpoint, 0 if there is none."""
    state = _last(folder)
    return _epochs(state) if state else 0


def _last(folder: Path) -> dict[str, Any] | None:
    """The valid checkpoint of most steps; of two after the same step, that of more completed epochs.

    Times do not decide: clocks are set back.
    """
    found: list[tuple[int, dict[str, Any]]] = []
    for file in reversed(files(folder)):
        if found and steps_of(file) != found[0][0]:
            break
        if (state := load(file)) is not None:
            found.append((steps_of(file), state))
    return max((state for _, state in found), key=_epochs, default=None)


def _epochs(state: dict[str, Any]) -> int:
    """The completed epochs of a checkpoint, 0 if it does not say."""
    position = state.get("position")
    epoch = position.get("epoch") if isinstance(position, dict) else None
    return epoch if type(epoch) is int else 0


def at(folder: Path, steps: int) -> dict[str, Any] | None:
    """The state of the valid checkpoint after `steps` optimizer steps; None if there is none."""
    return next(filter(None, (load(file) for file in files(folder) if steps_of(file) == steps)), None)


def prune(folder: Path, keep: int, best: Collection[int]) -> None:
    """Remove all but the last `keep` checkpoints and those after the `best` numbers of steps."""
    for file in files(folder)[:-keep]:
        if steps_of(file) not in best:
            file.unlink()


def files(folder: Path) -> list[Path]:
    """The checkpoints in a folder, in the order of their steps."""
    found = [file for file in folder.glob("step-*.pt") if _NAME.fullmatch(file.name)]
    return sorted(found, key=lambda file: (steps_of(file), file.name))


def steps_of(file: Path) -> int:
    """The optimizer steps in a checkpoint's name."""
    return int(file.name.split("-")[1])


def _digest(content: bytes | memoryview) -> str:
    return hashlib.sha256(content).hexdigest()[:32]
