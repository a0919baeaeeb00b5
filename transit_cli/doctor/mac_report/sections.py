"""The sections of the report: each a command of transit in a process of its own, with a limit on its time."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from typing import Any, Literal

from transit_cli.results import ExitCode
from transit_cli.utils import isolation

Status = Literal["ok", "problems", "failed", "out of time", "interrupted"]


@dataclass(frozen=True)
class Section:
    """A part of the report.

    Attributes:
        id: stable name, for JSON.
        title: heading.
        seconds: the longest that it may take.
        command: what runs: `python -m` and these words.
    """

    id: str
    title: str
    seconds: float
    command: tuple[str, ...]


@dataclass(frozen=True)
class Outcome:
    """What a section found.

    Attributes:
        section: which.
        status: "problems": it ran, and its verdict is negative.
        seconds: that it took.
        verdict: its answer in words, or why there is none.
        data: the command's data, see docs/result.schema.json.
    """

    section: Section
    status: Status
    seconds: float
    verdict: str
    data: dict[str, Any] = field(default_factory=dict)


def _transit(*words: str) -> tuple[str, ...]:
    return ("transit_cli", *words, "--device", "mps", "--json")


def _operators(precision: str, name: str, seconds: float) -> Section:
    options = ("--precision", precision, "--batch-size", "16", "--steps", "20", "--timeout", str(int(seconds)))
    title = f"Operators of a training step in {name}"
    return Section(precision, title, seconds, _transit("fallback-test", "run", *options))


#: What matters most comes first: if time runs out, the last are missing.
SECTIONS = (
    Section("doctor", "Checks of the machine", 60, _transit("doctor")),
    _operators("fp32", "float32", 75),
    Section("metal", "Metal kernels beside eager", 60, ("transit_cli.doctor.mac_report.metal_process",)),
    Section(
        "bench",
        "Speed and energy",
        75,
        _transit("bench", "--network", "two-branch", "--batch-size", "64,512", "--seconds", "30"),
    ),
    _operators("fp16", "float16", 60),
    _operators("bf16", "bfloat16", 60),
)


def run(section: Section, seconds: float) -> Outcome:
    """Run a section for at most so many seconds; Ctrl-C ends it and is raised again."""
    begun = time.monotonic()
    with tempfile.TemporaryFile("w+", encoding="utf-8") as errors:
        command = [sys.executable, "-m", *section.command]
        child = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors, text=True, start_new_session=True
        )
        try:
            printed, _ = child.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            return Outcome(section, "out of time", time.monotonic() - begun, f"it was ended after {seconds:.0f} s")
        finally:
            _end(child)
        errors.seek(0)
        complaint = isolation.last_line(errors.read())
    return _outcome(section, child.returncode, printed, complaint, time.monotonic() - begun)


def _end(child: subprocess.Popen[str]) -> None:
    """End a child and its own children, if it has not ended."""
    if child.poll() is None:
        os.killpg(child.pid, signal.SIGKILL)
        child.communicate()


def _outcome(section: Section, code: int, printed: str, complaint: str, seconds: float) -> Outcome:
    try:
        document = json.loads(printed)
        data, verdict, errors = document["data"], document["verdict"], document.get("errors") or []
    except (ValueError, KeyError, TypeError):
        end = f"died of {isolation.signal_name(-code)}" if code < 0 else f"ended with code {code}"
        return Outcome(section, "failed", seconds, f"its process {end}: {complaint}")
    if code in {ExitCode.DONE, ExitCode.NEGATIVE}:
        return Outcome(section, "ok" if code == ExitCode.DONE else "problems", seconds, verdict, data or {})
    words = errors[0]["found"] if errors else verdict or complaint
    return Outcome(section, "failed", seconds, words, data or {})
