"""How hard the system works to find memory: macOS's pressure level, Linux's pressure-stall information.

Available memory means little on a Mac, which compresses and swaps long before it refuses; macOS itself acts on the
level. Linux reports the share of time in which programs were stalled waiting for memory.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from transit_cli.device import host
from transit_cli.device.container import read_text

Level = Literal["normal", "warn", "critical", "unknown"]

#: kern.memorystatus_vm_pressure_level, as dispatch/source.h names its values.
APPLE_LEVELS: dict[int, Level] = {1: "normal", 2: "warn", 4: "critical"}

#: Per cent of the last 10 s in which some (or all) programs waited for memory. A machine at rest shows 0;
#: systemd-oomd begins to kill where all of them wait for 60 % over 30 s.
SOME_IS_WARN, ALL_IS_CRITICAL = 10.0, 40.0

PSI = Path("/proc/pressure/memory")


@dataclass(frozen=True)
class Pressure:
    """The pressure now: a level, and its origin ("macOS level 2", "stalled 3 % of 10 s")."""

    level: Level
    detail: str


def read() -> Pressure:
    """Read the pressure. It starts no process, and takes less than 0.1 ms."""
    if sys.platform == "darwin":
        return from_apple(host.sysctl("kern.memorystatus_vm_pressure_level"))
    if sys.platform == "linux":
        own = (folder / "memory.pressure" for folder in host.CONTAINER.folders("memory"))
        texts = (read_text(path) for path in (*own, PSI))
        return from_psi(next(filter(None, texts), ""))
    return Pressure("unknown", f"{sys.platform} does not tell")


def from_apple(value: object) -> Pressure:
    """The pressure by macOS's number: 1, 2 or 4."""
    level = APPLE_LEVELS.get(value, "unknown") if isinstance(value, int) else "unknown"
    return Pressure(level, f"macOS level {value}" if level != "unknown" else "macOS does not tell")


def from_psi(text: str) -> Pressure:
    """The pressure by the text of a pressure-stall file."""
    tenths: dict[str, float] = {}
    for line in text.splitlines():
        name, *fields = line.split()
        average = next((field for field in fields if field.startswith("avg10=")), "avg10=0")
        tenths[name] = float(average.removeprefix("avg10="))
    if "some" not in tenths:
        return Pressure("unknown", "this kernel keeps no pressure-stall information")
    some, everything = tenths["some"], tenths.get("full", 0.0)
    level: Level = "critical" if everything >= ALL_IS_CRITICAL else "warn" if some >= SOME_IS_WARN else "normal"
    return Pressure(level, f"stalled {some:.0f} % of 10 s")
