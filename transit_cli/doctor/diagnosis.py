"""Runs all checks in order; a check that raises becomes a result too."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from transit_cli import console
from transit_cli.device import environment, machine
from transit_cli.doctor import environment_checks, machine_checks
from transit_cli.doctor.check import DEVICE_CHECKS, CheckResult
from transit_cli.doctor.check_runner import CheckRunner
from transit_cli.parsing.convert import nearest
from transit_cli.results import ExitCode, TransitError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from transit_cli.device.machine import Machine
    from transit_cli.doctor.settings import DoctorSettings

#: Every check, in the order in which they are shown.
IDS = (
    "python",
    "torch",
    "system",
    "chip",
    "memory",
    "pressure",
    "swap",
    "disk",
    "workers",
    "start-method",
    "power",
    "plugins",
    "packages",
    "fallback",
    "watermark",
    "fast-math",
    "matmul",
    "metal",
    *DEVICE_CHECKS[1:],
)

MACHINE_CHECKS: dict[str, Callable[[Machine], CheckResult]] = {
    "python": machine_checks.python,
    "system": machine_checks.system,
    "chip": machine_checks.chip,
    "memory": machine_checks.memory,
    "pressure": machine_checks.memory_pressure,
    "swap": machine_checks.swap,
    "workers": machine_checks.workers,
    "start-method": machine_checks.start_method,
    "power": machine_checks.power,
    "fallback": environment_checks.fallback,
    "watermark": environment_checks.watermark,
    "fast-math": environment_checks.fast_math,
    "matmul": environment_checks.prefer_metal,
    "metal": environment_checks.metal_version,
}


def select_checks(only: Sequence[str]) -> tuple[str, ...]:
    """The checks to run: all, or those named; a device's name includes its parts.

    Raises:
        TransitError: there is no check of that name.
    """
    for name in only:
        if name not in IDS:
            raise TransitError(
                f"there is no check {name!r}",
                wanted=f"{guess}?" if (guess := nearest(name, IDS)) else f"one of {', '.join(IDS)}",
                fix=f"transit doctor --only {guess}" if guess else "transit doctor --json",
                exit_code=ExitCode.USAGE,
                code="check-unknown",
            )
    return tuple(row_id for row_id in IDS if not only or row_id in only or row_id.split("-")[0] in only)


def diagnose(settings: DoctorSettings, facts: Machine | None = None) -> list[CheckResult]:
    """Run the selected checks.

    Args:
        settings: which checks, which device.
        facts: a recorded machine; by default this one.
    """
    wanted = select_checks(settings.only)
    if settings.device != "auto":
        others = {"mps", "cuda", "cpu"} - {settings.device}
        wanted = tuple(row_id for row_id in wanted if row_id.split("-")[0] not in others)
    if not wanted:
        raise TransitError(
            f"--only {','.join(settings.only)} and --device {settings.device} select no check",
            wanted="checks of the same device",
            fix=f"transit doctor --only {','.join(settings.only)}",
            exit_code=ExitCode.USAGE,
            code="check-none",
        )
    with contextlib.suppress(TransitError):  # a variable that breaks torch has a check of its own
        environment.prepare()
    rows: dict[str, CheckResult] = {}
    with (
        CheckRunner(settings.device, [] if facts else wanted) as runner,
        console.progress("Checking", total=len(wanted)) as progress,
    ):
        try:
            facts = facts or machine.read()
        except Exception as error:  # noqa: BLE001 - a failure of the doctor is a result too
            facts = machine.Machine(os.name, "")
            rows["system"] = _broken("system", error)
        for row_id in wanted:
            if row_id not in DEVICE_CHECKS and row_id not in rows:
                progress.update(advance=1, status=row_id)
                rows[row_id] = _run_check(row_id, facts, settings)
        rows |= {row.id: row for row in runner.rows(lambda row_id: progress.update(advance=1, status=row_id))}
    return [rows.get(row_id) or CheckResult(row_id, "skip", "not run on a recorded machine") for row_id in wanted]


def _run_check(row_id: str, facts: Machine, settings: DoctorSettings) -> CheckResult:
    try:
        if row_id == "disk":
            return environment_checks.disk(settings.runs)
        if row_id == "plugins":
            return environment_checks.plugins()
        if row_id == "packages":
            return environment_checks.optional_packages()
        return MACHINE_CHECKS[row_id](facts)
    except Exception as error:  # noqa: BLE001 - a failure of the doctor is a result too
        return _broken(row_id, error)


def _broken(row_id: str, error: Exception) -> CheckResult:
    why = "this is an error of the doctor, not of the machine"
    return CheckResult(
        row_id, "warn", f"{type(error).__name__}: {error}", "an answer", why, "transit doctor --out report.md"
    )
