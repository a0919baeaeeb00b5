"""Finding the rows that need torch, in child processes that may die without taking the doctor with them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from typing import TYPE_CHECKING, Self

from transit_cli.device import environment
from transit_cli.doctor.check import DEVICE_CHECKS, Row

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

#: Seconds without a row before a child is taken to hang. Metal may compile for a while at the first step.
PATIENCE = 120.0


class CheckRunner:
    """Children that prove the rows `wanted`, started at once, so that torch is imported while others are looked at.

    Args:
        choice: the device asked for, or "auto".
        wanted: ids, of `DEVICE_CHECKS`.
        patience: seconds without a row before a child is taken to hang.
    """

    def __init__(self, choice: str, wanted: Sequence[str], patience: float = PATIENCE) -> None:
        self._choice, self._patience = choice, patience
        self._left = [row_id for row_id in DEVICE_CHECKS if row_id in wanted]
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - a pipe that nobody reads would stop the child
        self._child = self._start() if self._left else None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._child:
            _end(self._child)
        self._errors.close()

    def rows(self, progress: Callable[[str], None]) -> list[Row]:
        """Wait for the rows; `progress` gets the id of each that has begun."""
        rows: list[Row] = []
        while self._left:
            child = self._child or self._start()
            self._child = None
            begun, hung = self._read(child, rows, progress)
            if not self._left:
                break
            died = begun or self._left[0]
            self._errors.seek(0)
            errors = self._errors.read().decode(errors="replace")
            rows.append(_death(died, child.returncode, errors, hung=hung))
            if died == "torch":
                rows += [Row(row_id, "skip", "torch cannot be used") for row_id in self._left if row_id != "torch"]
                self._left = []
            else:
                lost = [died, *(row_id for row_id in self._left if row_id.startswith(f"{died}-"))]
                rows += [Row(row_id, "skip", f"{died} could not be opened") for row_id in lost[1:]]
                self._left = [row_id for row_id in self._left if row_id not in lost]
        return rows

    def _start(self) -> subprocess.Popen[str]:
        # -P: a file called torch.py in the current folder is not taken for torch
        command = [sys.executable, "-P", "-m", "transit_cli.doctor.check_process", self._choice, *self._left]
        self._errors.truncate(0)
        return subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=self._errors, text=True, env=_environment(), errors="replace"
        )

    def _read(self, child: subprocess.Popen[str], rows: list[Row], progress: Callable[[str], None]) -> tuple[str, bool]:
        """Take rows until the child ends: the row that it had begun, and whether it was killed for hanging."""
        begun, hung = "", threading.Event()

        def kill() -> None:
            hung.set()
            child.kill()

        timer = threading.Timer(self._patience, kill)
        timer.start()
        try:
            for line in child.stdout or ():
                try:
                    content = json.loads(line)
                except ValueError:  # something printed on stdout while it was imported
                    continue
                timer.cancel()
                timer = threading.Timer(self._patience, kill)
                timer.start()
                if "begin" in content:
                    begun = content["begin"]
                    progress(begun)
                else:
                    row = Row(**content)
                    begun = ""
                    if row.id in self._left:
                        rows.append(row)
                        self._left.remove(row.id)
            child.wait()
        finally:
            timer.cancel()
            _end(child)
        return begun, hung.is_set()


def _end(child: subprocess.Popen[str]) -> None:
    """Leave nothing of a child behind."""
    if child.poll() is None:
        child.kill()
        child.wait()
    if child.stdout:
        child.stdout.close()


def _environment() -> dict[str, str]:
    """The environment of the children: without values that would keep torch from starting.

    They have rows of their own.
    """
    fatal = {finding.variable for finding in environment.findings(os.environ) if finding.fatal}
    return {name: value for name, value in os.environ.items() if name not in fatal}


def _death(row_id: str, code: int, errors: str, *, hung: bool) -> Row:
    """The row in which a child ended without a word."""
    last = next((line.strip() for line in reversed(errors.splitlines()) if line.strip()), "")
    if hung:
        found = "no answer; the process was killed"
    elif code < 0:
        found = f"the process died of {signal.Signals(-code).name}"
    else:
        found = f"the process ended with code {code}"
    if row_id == "torch":
        why = f"torch cannot even be imported: {last}" if last else "torch cannot even be imported"
        return Row(row_id, "fail", found, "torch 2.8 or later", why, 'pip install --force-reinstall "torch>=2.8"')
    kind = row_id.partition("-")[0]
    return Row(row_id, "fail", found, "a training step", last, f"transit doctor --only {kind} --report report.md")
