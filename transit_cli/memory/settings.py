"""The memory limit as a setting that every computing command shares."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, ClassVar

from transit_cli.config import Flag, Range, Settings


@dataclass(frozen=True, kw_only=True)
class MemorySettings(Settings):
    """The memory limit of a command that trains."""

    panel: ClassVar[str] = "Device"

    memory_limit: Annotated[float | str, Range(0, 1, open="left"), Flag(metavar="LIMIT")] = 0.85
    """Memory to stay under: a share of the device's, or a size such as 4GiB; beyond it allocations fail as out of
    memory."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.memory_limit, str) and parse_size(self.memory_limit) is None:
            self.refuse("memory_limit", "a share such as 0.85, or a size such as 512MiB or 4GiB")


def parse_size(text: str) -> int | None:
    """Bytes for a size with a unit, "512MiB", "4 GB" or "1.5g"; None for anything else.

    Units are binary in either spelling, as memory is sold.
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT])(?:I?B)?\s*", text.upper())
    return int(float(found[1]) * 2 ** (10 * (1 + "KMGT".index(found[2])))) if found else None
