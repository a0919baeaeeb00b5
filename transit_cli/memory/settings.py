"""The memory limit as a setting that every computing command shares."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from transit_cli.config import Range, Settings


@dataclass(frozen=True, kw_only=True)
class MemorySettings(Settings):
    """Base of the settings of a command that takes memory."""

    memory_limit: Annotated[float, Range(0, 1, open="left")] = 0.85
    """Share of the memory to stay under: of Metal's recommendation, of the GPU's, or of the machine's or container's.
    Beyond it an allocation fails as out of memory, rather than driving the system into swap."""
