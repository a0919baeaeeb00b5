"""Runs the sections one after the other and writes the report after each: whatever ends it leaves what was found."""

from __future__ import annotations

import platform
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from transit_cli import console
from transit_cli.device import machine
from transit_cli.doctor.mac_report import markdown, sections
from transit_cli.doctor.mac_report.redact import Redactor
from transit_cli.doctor.mac_report.sections import SECTIONS, Outcome, Section
from transit_cli.results import ExitCode, Result, Table, TransitError
from transit_cli.utils.files import atomic_write

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from transit_cli.device.machine import Machine

#: Seconds that the whole report may take.
SECONDS = 300.0
#: A section is not begun with less.
LEAST_SECONDS = 5.0


def report(
    path: Path,
    parts: Sequence[Section] = SECTIONS,
    run: Callable[[Section, float], Outcome] = sections.run,
    facts: Machine | None = None,
) -> Result:
    """Write the report.

    Args:
        path: of the Markdown file.
        parts: its sections, the most valuable first.
        run: runs one of them for at most so many seconds.
        facts: a recorded machine; by default this one.

    Raises:
        TransitError: this is no Mac with Apple silicon, or the file cannot be written.
    """
    facts = facts or machine.read()
    _check_machine(facts)
    redactor = Redactor.of_this_machine()
    outcomes: list[Outcome] = []
    begun = time.monotonic()

    def write() -> None:
        try:
            atomic_write(path, redactor.text(markdown.page(facts, outcomes)))
        except OSError as error:
            raise TransitError(
                f"the report cannot be written: {error.strerror}",
                wanted="a file that you may write",
                fix="transit doctor --mac-report report.md",
                code="report-unwritable",
            ) from error

    write()
    with console.progress("Mac report", total=len(parts)) as progress:
        for section in parts:
            left = SECONDS - (time.monotonic() - begun)
            progress.update(status=f"{section.title}; at most {console.duration(max(left, 0))} in all", line=True)
            if left < LEAST_SECONDS:
                outcomes.append(Outcome(section, "out of time", 0.0, "not begun: the five minutes were over"))
            else:
                try:
                    outcomes.append(run(section, min(section.seconds, left)))
                except KeyboardInterrupt:
                    outcomes.append(Outcome(section, "interrupted", 0.0, "interrupted by Ctrl-C"))
                    write()
                    console.warn(f"{path} has what was found until now")
                    raise
                except Exception as error:  # noqa: BLE001 - the other sections are still of use
                    outcomes.append(Outcome(section, "failed", 0.0, f"{type(error).__name__}: {error}"))
            progress.update(advance=1)
            write()
    return _result(path, outcomes, redactor)


def _check_machine(facts: Machine) -> None:
    if facts.system == "Darwin" and facts.apple:
        return
    if facts.system != "Darwin" and _simulated():
        return
    what = f"a Mac with {facts.chip or 'an Intel processor'}" if facts.system == "Darwin" else facts.system
    raise TransitError(
        f"this is {what}, and the report is about MPS",
        wanted="a Mac with Apple silicon",
        fix="transit doctor --out report.md",
        exit_code=ExitCode.MACHINE,
        code="mac-required",
    )


def _simulated() -> bool:
    """Whether torch has an MPS device elsewhere: the simulated one of the tests."""
    from transit_cli.device.select import available

    return platform.system() != "Darwin" and not available()["mps"]


def _result(path: Path, outcomes: Sequence[Outcome], redactor: Redactor) -> Result:
    rows = [
        (one.section.title, one.status, f"{one.seconds:.0f} s", redactor.text(one.verdict.splitlines()[0][:90]))
        for one in outcomes
    ]
    data: dict[str, Any] = {
        "out": str(path),
        "sections": [redactor.values({"id": one.section.id, **_document(one)}) for one in outcomes],
    }
    ran = sum(one.status in {"ok", "problems"} for one in outcomes)
    verdict = f"{path}: {ran} of {len(outcomes)} sections. Read it, and paste it into an issue."
    return Result(
        data,
        [Table(("section", "status", "time", "verdict"), rows)],
        verdict,
        exit_code=ExitCode.DONE if ran == len(outcomes) else ExitCode.NEGATIVE,
    )


def _document(outcome: Outcome) -> dict[str, Any]:
    fields = asdict(outcome)
    return {name: fields[name] for name in ("status", "seconds", "verdict", "data")}
