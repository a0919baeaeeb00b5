"""Results of parts of a long command, kept in a folder beside its output so that the command resumes from them."""

from __future__ import annotations

import io
import json
import shutil
import zipfile
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np

from transit_cli import console
from transit_cli.results import TransitError
from transit_cli.utils import machine_errors
from transit_cli.utils.files import atomic_write

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

Rows = list[dict[str, Any]]


def open_work(work: Path, made_of: str, note: str) -> None:
    """Make the folder, or keep it if it is of the same input and options; one of others is deleted.

    Args:
        work: the folder.
        made_of: what tells runs apart.
        note: the file in which that is kept.
    """
    file = work / note
    if work.exists() and (not file.is_file() or file.read_text(encoding="utf-8") != made_of):
        console.note(f"{work} is of a run with other input or options and is deleted")
        shutil.rmtree(work)
    if not work.exists():
        atomic_write(file, made_of)


def save(
    file: Path, rows: Sequence[Mapping[str, Any]], dropped: Sequence[Mapping[str, Any]], views: dict[str, np.ndarray]
) -> None:
    """Keep the rows and views that were made of one part, and the rows of what was dropped."""
    buffer = io.BytesIO()
    tables = np.frombuffer(json.dumps({"rows": rows, "dropped": dropped}).encode(), dtype=np.uint8)
    np.savez(buffer, allow_pickle=False, tables=tables, **views)
    atomic_write(file, buffer.getvalue())


def load(file: Path) -> tuple[Rows, Rows, dict[str, np.ndarray]]:
    """What `save` was given.

    Raises:
        TransitError: the file is damaged, and was removed.
    """
    try:
        with np.load(file) as content:
            tables = json.loads(content["tables"].tobytes())
            views = {name: content[name] for name in content.files if name != "tables"}
            return tables["rows"], tables["dropped"], views
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        machine_errors.raise_if_machine(error)
        file.unlink(missing_ok=True)
        raise TransitError(
            f"{file} is damaged and was removed",
            wanted="the result of one part of the work",
            fix="run the same command again: it makes this part again",
            code="work-damaged",
        ) from None
