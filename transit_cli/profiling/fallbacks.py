"""Which operators MPS runs on the CPU, and their cost, from torch's own statistics in a child process.

PYTORCH_MPS_LOG_PROFILE_INFO is read once, when MPS is first used, and the table is printed as the process ends
(PyTorch, aten/src/ATen/mps/MPSProfiler.mm): so a child runs a few steps, and its stderr is read.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from transit_cli.config import to_yaml
from transit_cli.results import ExitCode

if TYPE_CHECKING:
    from pathlib import Path

    from transit_cli.profiling.settings import ProfileSettings

PROFILE_INFO = "PYTORCH_MPS_LOG_PROFILE_INFO"
#: Its bit for the table of CPU fallbacks at exit.
FALLBACK_STATISTICS = 64
CHILD_STEPS = 5

_TITLE = "CPU Fallback Profiling"
_NONE = "There are no CPU Fallbacks"
_ROW = re.compile(
    r"^\s*\d+\s+(?P<runs>\d+)\s+[\d.]+\s+(?P<total>[\d.]+)\s+(?P<copied>[\d.]+ \w+)\s+(?P<name>\S+)\s*$",
)


@dataclass(frozen=True)
class Fallback:
    """An operator that ran on the CPU.

    Attributes:
        name: "aten::heaviside".
        calls: per step.
        seconds: CPU time per step.
        copied: bytes copied to the CPU and back in the whole run, as torch writes them ("1.25 MB").
    """

    name: str
    calls: float
    seconds: float
    copied: str


def measure(settings: ProfileSettings, folder: Path, timeout: float = 300) -> tuple[Fallback, ...] | None:
    """Run a few steps in a child and read torch's table; None if torch printed none."""
    child = settings.replace(
        steps=CHILD_STEPS, growth_steps=0, trace=False, report=False, try_=False, compare=None, out=folder
    )
    file = folder / "fallbacks.yaml"
    file.write_text(to_yaml(child, "profile"), encoding="utf-8")
    environment = os.environ | {PROFILE_INFO: str(FALLBACK_STATISTICS)}
    command = [sys.executable, "-P", "-m", "transit_cli", "profile", "--config", str(file), "--json"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=timeout, check=False)
    file.unlink()
    if done.returncode not in {ExitCode.DONE, ExitCode.NEGATIVE}:
        return None
    return parse(done.stderr, json.loads(done.stdout)["data"]["steps_run"])


def parse(text: str, steps: int) -> tuple[Fallback, ...] | None:
    """The rows of torch's table, most expensive first; None if the text contains no such table."""
    if _TITLE not in text:
        return () if _NONE in text else None
    rows = [match for line in text.rsplit(_TITLE, maxsplit=1)[-1].splitlines() if (match := _ROW.match(line))]
    found = [Fallback(m["name"], int(m["runs"]) / steps, float(m["total"]) / 1e3 / steps, m["copied"]) for m in rows]
    return tuple(sorted(found, key=lambda item: -item.seconds))


def is_enabled() -> bool:
    """Whether torch's statistics are already enabled, as in the child."""
    return PROFILE_INFO in os.environ
