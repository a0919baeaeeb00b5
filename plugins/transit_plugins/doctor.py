"""Check whether this machine is ready to train, and how to fix it.

Every device that is present is checked by real training steps. Exits with 1 if a check fails.
"""

from __future__ import annotations

from dataclasses import asdict

import typer

from transit_cli import console
from transit_cli.command import command
from transit_cli.doctor import summary
from transit_cli.doctor.settings import DoctorSettings
from transit_cli.results import ExitCode, Result
from transit_cli.utils.files import atomic_write

app = typer.Typer()


@command(app, DoctorSettings, prepare=False)
def doctor(settings: DoctorSettings) -> Result:
    if settings.mac_report:
        from transit_cli.doctor.mac_report.report import report

        return report(settings.mac_report)
    from transit_cli.doctor.diagnosis import diagnose

    rows = diagnose(settings)
    statuses = [row.status for row in rows]
    verdict = summary.verdict(rows, everything=not settings.only)
    if settings.out:
        try:
            atomic_write(settings.out, summary.markdown(rows, verdict))
        except OSError as error:  # the checks took long: show them
            console.warn(f"{settings.out} cannot be written: {error.strerror}")
    if settings.fix:
        blocks, verdict = [summary.snippet(rows)], f"# {verdict}"
    else:
        blocks = [summary.table(rows), *([summary.advice(rows)] if {"warn", "fail"} & set(statuses) else [])]
    failed = "fail" in statuses or (settings.strict and "warn" in statuses)
    data = {
        "rows": [asdict(row) for row in rows],
        "ok": statuses.count("ok"),
        "warned": statuses.count("warn"),
        "failed": statuses.count("fail"),
        "skipped": statuses.count("skip"),
    }
    return Result(data, blocks, verdict, exit_code=ExitCode.NEGATIVE if failed else ExitCode.DONE)
