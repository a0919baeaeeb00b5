"""The user's cache folder, and measurements of this machine that are kept in it."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transit_cli.utils.files import atomic_write


def cache_folder() -> Path:
    """This user's caches: ~/Library/Caches/transit on macOS, $XDG_CACHE_HOME/transit (~/.cache) elsewhere."""
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "transit"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "transit"


@dataclass(frozen=True)
class MeasurementCache:
    """Measurements of one kind, kept in a small JSON file of the cache folder.

    Attributes:
        kind: the name of the file, without its suffix.
    """

    kind: str

    def get(self, key: str) -> dict[str, Any] | None:
        """The entry that `put` stored for `key`; None if it is missing or cannot be read."""
        entry = self._read().get(key)
        return entry if isinstance(entry, dict) else None

    def put(self, key: str, entry: dict[str, Any]) -> None:
        """Store an entry of JSON types. A cache that cannot be written is ignored."""
        file = self._file
        content = self._read() | {key: entry}
        with contextlib.suppress(OSError):
            file.parent.mkdir(parents=True, exist_ok=True)
            atomic_write(file, json.dumps(content, indent=1, sort_keys=True))

    @property
    def _file(self) -> Path:
        return cache_folder() / f"{self.kind}.json"

    def _read(self) -> dict[str, Any]:
        try:
            content = json.loads(self._file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return content if isinstance(content, dict) else {}
