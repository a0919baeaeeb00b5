"""Question 2: what does this machine's device do with the network's operators, and with its training?"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transit_cli import console
from transit_cli.device import precision as precisions
from transit_cli.device.environment import FALLBACK
from transit_cli.device.select import select
from transit_cli.operators.device_process import run_in_child
from transit_cli.operators.step_factory import StepFactory
from transit_cli.results import ExitCode, Result, Table, TransitError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from transit_cli.device.base import Device
    from transit_cli.operators.settings import FallbackTestSettings


#: A device that ends more children than this is not worth more questions.
MOST_DEATHS = 8

Row = dict[str, Any]


def check_device(settings: FallbackTestSettings) -> Result:
    """Every operator of the step on the device, in each precision that it has; then the step itself, many times.

    Raises:
        TransitError: there is no such device, or the network does not train on the CPU either.
    """
    device = select(settings.device)
    factory = StepFactory.of(settings)
    wanted = _precisions(settings, device)
    rows: list[Row] = []
    planted: dict[str, str] = {}
    with console.progress(f"operators on {device.kind}") as progress:
        for precision in wanted:
            job = _job(settings, factory, device, precision)

            def note(row: Row, precision: str = precision) -> None:
                progress.update(advance=1, status=f"{precision} {row['operator']}")

            found, plants = _ask_for_operators(job, settings.timeout, note)
            rows += [{"precision": precision, **row} for row in found]
            planted |= plants
    for row in rows:
        if row["status"] == "fell back":
            row["without_variable"] = _without_variable(settings, factory, device, row)
    drifts = {precision: _ask_for_drift(settings, factory, device, precision) for precision in wanted}
    return _result(settings, device, rows, {name: found for name, found in drifts.items() if found}, planted)


def _precisions(settings: FallbackTestSettings, device: Device) -> list[str]:
    """The precision asked for, or with auto each that the device has."""
    if settings.precision != "auto":
        return [precisions.resolve(device, settings.precision)]
    return [precision for precision in precisions.DTYPES if not precisions.why_not(device, precision)]


def _job(settings: FallbackTestSettings, factory: StepFactory, device: Device, precision: str) -> dict[str, Any]:
    fields = {field.name: getattr(settings, field.name) for field in dataclasses.fields(settings)}
    fields.pop("sources")
    given = {name: str(value) if isinstance(value, Path) else value for name, value in fields.items()}
    import torch

    return {
        "part": "operators",
        "settings": given | {"viewset": None, "out": None, "compare": None},
        "lengths": dict(factory.lengths),
        "device": device.kind,
        "precision": precision,
        "skip": [],
        "threads": torch.get_num_threads(),
    }


def _ask_for_operators(job: dict[str, Any], timeout: float, note: Any) -> tuple[list[Row], dict[str, str]]:
    """One row a call. A child that dies is asked again without the call that it died of."""
    rows: dict[int, Row] = {}
    counts: dict[str, int] = {}
    planted: dict[str, str] = {}
    while True:
        started: Row = {}

        def take(event: Row, started: Row = started) -> None:
            if "start" in event:
                started.clear()
                started.update(event)
            elif "index" in event:
                started.clear()
                if event["index"] not in rows:
                    note(event)
                rows[event["index"]] = event
            else:
                planted.update(event["planted"])
                for operator, count in event["counts"]:
                    counts[operator] = counts.get(operator, 0) + count

        end = run_in_child(job, take, timeout=timeout)
        if end.kind == "done":
            break
        if not started or len(job["skip"]) >= MOST_DEATHS:
            raise TransitError(
                f"the test ended early: {end.message or end.kind}",
                wanted="a network whose training step runs on the CPU",
                fix=f"transit train --dry-run --device cpu --network {job['settings']['network']} VIEWSET",
                code="step-failed",
            )
        index = started.pop("start")
        rows[index] = {"index": index, **started, "status": end.kind, "words": end.message, "elements": 0}
        job["skip"].append(index)
    for row in rows.values():
        row["calls"] = counts.get(row["operator"], 1)
    return [rows[index] for index in sorted(rows)], planted


def _without_variable(settings: FallbackTestSettings, factory: StepFactory, device: Device, row: Row) -> str:
    """What the same operator does where the variable is off, asked in a process of its own."""
    job = _job(settings, factory, device, row["precision"]) | {"only": row["index"]}
    seen: list[Row] = []

    def take(event: Row) -> None:
        if event.get("index") == row["index"]:
            seen.append(event)

    run_in_child(job, take, timeout=settings.timeout, fallback=False)
    return str(seen[0]["status"]) if seen else "unknown"


def _ask_for_drift(
    settings: FallbackTestSettings, factory: StepFactory, device: Device, precision: str
) -> Mapping[str, Any] | None:
    if not settings.steps or settings.inject:
        return None
    job = _job(settings, factory, device, precision) | {"part": "steps"}
    found: list[Row] = []
    with console.progress(f"{settings.steps} steps in {precision}, {device.kind} against the CPU"):
        end = run_in_child(job, found.append, timeout=max(settings.timeout, 10.0 * settings.steps))
    return found[0] if found else {"status": end.kind, "words": end.message, "worst": None}


def _result(
    settings: FallbackTestSettings,
    device: Device,
    rows: list[Row],
    drifts: dict[str, Mapping[str, Any]],
    planted: dict[str, str],
) -> Result:
    import torch

    caught = [_caught(kind, operator, rows) for kind, operator in sorted(planted.items())]
    data = {
        "target": "here",
        "device": device.kind,
        "device_name": device.facts.name,
        "system": device.facts.software,
        "torch": torch.__version__,
        "network": settings.network,
        "batch_size": settings.batch_size,
        "operators": rows,
        "whole_step": drifts,
        "injected": caught,
    }
    bad = [row for row in rows if row["status"] not in {"ok", "fell back"}]
    slow = [row for row in rows if row["status"] == "fell back"]
    blocks = [_summary(rows, settings, device)]
    if bad or slow:
        blocks.append(_trouble(bad + slow))
    if drifts:
        blocks.append(_drift_table(drifts, device))
    wrong_steps = [name for name, found in drifts.items() if found["status"] != "ok"]
    negative = bool(bad or wrong_steps)
    verdict = _verdict(bad, slow, wrong_steps, caught)
    return Result(data, blocks, verdict, exit_code=ExitCode.NEGATIVE if negative else ExitCode.DONE)


def _caught(kind: str, operator: str, rows: list[Row]) -> Row:
    status = {"missing": "missing", "refuse": "refused", "wrong": "wrong"}[kind]
    found = any(row["operator"] == operator and row["status"] == status for row in rows)
    return {"kind": kind, "operator": operator, "caught": found}


def _summary(rows: list[Row], settings: FallbackTestSettings, device: Device) -> Table:
    table = []
    for precision in dict.fromkeys(row["precision"] for row in rows):
        mine = [row for row in rows if row["precision"] == precision]
        worst = max(mine, key=lambda row: row.get("error", 0) / (row.get("bound") or 1))
        good = sum(row["status"] == "ok" for row in mine)
        numbers = f"{sum(row['elements'] for row in mine):,}"
        figure = f"{worst.get('error', 0):.1e} of {worst.get('bound', 0):.1e}"
        table.append([precision, len(mine), good, numbers, f"{figure} ({worst['operator']})"])
    return Table(
        ("precision", "calls", "ok", "numbers", "worst error of its bound"),
        table,
        title=f"Operators of one training step of {settings.network} on {device.kind} ({device.facts.name})",
        note=f"batch {settings.batch_size}; each as called, strided and expanded, against float64 on the CPU",
    )


def _trouble(rows: list[Row]) -> Table:
    def why(row: Row) -> str:
        if row["status"] == "wrong":
            return f"error {row['error']:.1e}, rounding would be {row['bound']:.1e} ({row['variant']})"
        if row["status"] == "fell back":
            each = row["milliseconds"] * row["calls"]
            return f"{each:.1f} ms a step on the CPU; without {FALLBACK} it is {row['without_variable']}"
        return str(row.get("words", ""))[:160]

    cells = [[row["operator"], row["phase"], row["precision"], row["shapes"], row["status"], why(row)] for row in rows]
    return Table(("operator", "phase", "precision", "shapes", "verdict", "why"), cells, title="Not as it should be")


def _drift_table(drifts: dict[str, Mapping[str, Any]], device: Device) -> Table:
    cells = []
    for precision, found in drifts.items():
        if found.get("losses"):
            last = f"{found['losses'][-1]:.5f}", f"{found['cpu_losses'][-1]:.5f}", f"{found['bound'][-1]:.1e}"
            cells.append([precision, found["steps"], *last, f"{found['worst']:.2f}", found["status"]])
        else:
            cells.append([precision, "", "", "", "", "", found["status"]])
    columns = ("precision", "steps", f"loss on {device.kind}", "on the CPU", "bound", "worst / bound", "verdict")
    return Table(columns, cells, title="The whole step, same seed, no dropout")


def _verdict(bad: list[Row], slow: list[Row], wrong_steps: list[str], caught: list[Row]) -> str:
    lines = []
    if caught:
        number = sum(row["caught"] for row in caught)
        lines.append(f"{number} of {len(caught)} planted faults were found")
    for status, advice in (
        ("wrong", "do not train with {names} in {precisions} on this device: wrong numbers"),
        ("missing", "the device lacks {names}: set " + FALLBACK + "=1, or replace it"),
        ("refused", "change the network: the device refuses {names} at these shapes"),
        ("aborted", "the process dies of {names}: use --device cpu, and report it to PyTorch"),
        ("hung", "{names} does not return: use --device cpu, and report it to PyTorch"),
        ("out of memory", "not enough memory for {names}: give a smaller --batch-size"),
        ("error", "{names} fails: see the table"),
    ):
        those = [row for row in bad if row["status"] == status]
        if those:
            names = ", ".join(dict.fromkeys(row["operator"] for row in those))
            lines.append(advice.format(names=names, precisions=", ".join(dict.fromkeys(r["precision"] for r in those))))
    if slow:
        cost = sum(row["milliseconds"] * row["calls"] for row in slow)
        names = ", ".join(dict.fromkeys(row["operator"] for row in slow))
        lines.append(f"{names} runs on the CPU, about {cost:.1f} ms a step; it needs {FALLBACK}=1, which transit sets")
    lines += [f"do not trust {name}: the losses leave the CPU's further than rounding explains" for name in wrong_steps]
    return "\n".join(lines) or "nothing to do: every operator of the step computes what it should"
