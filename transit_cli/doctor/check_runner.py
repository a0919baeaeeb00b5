"""Runs the checks that need torch in child processes, which may die without ending the doctor."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Self

from transit_cli.device import environment
from transit_cli.doctor.check import DEVICE_CHECKS, CheckResult
from transit_cli.utils import isolation

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

#: Seconds without an event after which a child counts as hung. Metal may compile for a while at the first step.
TIMEOUT = 120.0


class CheckRunner:
    """Runs checks in a child, which is started at once, so that it imports torch while other checks run here.

    Args:
        device: the device asked for, or "auto".
        checks: ids, of `DEVICE_CHECKS`.
        timeout: seconds without an event after which a child counts as hung.
    """

    def __init__(self, device: str, checks: Sequence[str], timeout: float = TIMEOUT) -> None:
        self._device, self._timeout = device, timeout
        self._left = [row_id for row_id in DEVICE_CHECKS if row_id in checks]
        self._child = self._start() if self._left else None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._child:
            self._child.close()

    def rows(self, progress: Callable[[str], None]) -> list[CheckResult]:
        """Wait for the results; `progress` is called with the id of each check that begins."""
        rows: list[CheckResult] = []
        begun = ""

        def take(event: dict[str, Any]) -> None:
            nonlocal begun
            if "begin" in event:
                begun = event["begin"]
                progress(begun)
            else:
                begun = ""
                rows.append(CheckResult(**event))
                self._left.remove(event["id"])

        while self._left:
            begun = ""
            self._child = self._child or self._start()
            end = self._child.follow(take, timeout=self._timeout)
            self._child.close()
            self._child = None
            if self._left:
                rows += self._lost(begun or self._left[0], end)
        return rows

    def _lost(self, died: str, end: isolation.ChildExit) -> list[CheckResult]:
        """The check that a child died in, and those that cannot be run because of it."""
        if died == "torch":
            lost, why = [row_id for row_id in self._left if row_id != died], "torch cannot be used"
        else:
            lost = [row_id for row_id in self._left if row_id.startswith(f"{died}-")]
            why = f"{died} could not be opened"
        self._left = [row_id for row_id in self._left if row_id not in {died, *lost}]
        return [_crash_result(died, end), *(CheckResult(row_id, "skip", why) for row_id in lost)]

    def _start(self) -> isolation.Child:
        child = isolation.Child("transit_cli.doctor.check_process", env=_environment())
        child.send({"device": self._device, "checks": self._left})
        return child


def _environment() -> dict[str, str]:
    """The environment of the children, without the values that keep torch from starting: these have checks too."""
    fatal = {finding.variable for finding in environment.variable_problems(os.environ) if finding.fatal}
    return {name: value for name, value in os.environ.items() if name not in fatal}


def _crash_result(row_id: str, end: isolation.ChildExit) -> CheckResult:
    """The result of a check in which the child died."""
    last = isolation.last_line(end.stderr)
    if end.kind == "hung":
        found = "no answer; the process was killed"
    elif end.kind == "aborted":
        found = f"the process died of {isolation.signal_name(-(end.returncode or 0))}"
    else:
        found = f"the process ended with code {end.returncode}"
    if row_id == "torch":
        why = f"torch cannot be imported: {last}" if last else "torch cannot be imported"
        return CheckResult(
            row_id, "fail", found, "torch 2.8 or later", why, 'pip install --force-reinstall "torch>=2.8"'
        )
    kind = row_id.partition("-")[0]
    return CheckResult(row_id, "fail", found, "a training step", last, f"transit doctor --only {kind} --out report.md")
