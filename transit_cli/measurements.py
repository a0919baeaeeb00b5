"""What was measured on this machine and is worth knowing next time: one small JSON file in the user's cache."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, Any

from transit_cli.cache import cache_folder
from transit_cli.files import atomic_write

if TYPE_CHECKING:
    from pathlib import Path


def recall(kind: str, key: str) -> dict[str, Any] | None:
    """What `remember` was told about `key`; None where there is nothing, or nothing that can be read."""
    found = _read(_file(kind)).get(key)
    return found if isinstance(found, dict) else None


def remember(kind: str, key: str, entry: dict[str, Any]) -> None:
    """Keep an entry of JSON types. A cache that cannot be written is no reason to stop."""
    file = _file(kind)
    content = _read(file) | {key: entry}
    with contextlib.suppress(OSError):
        atomic_write(file, json.dumps(content, indent=1, sort_keys=True))


def _file(kind: str) -> Path:
    return cache_folder() / f"{kind}.json"


def _read(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
