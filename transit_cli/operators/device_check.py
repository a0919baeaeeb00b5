"""`transit fallback-test`: the operators of the training step, and whole steps, on this machine's device."""

from __future__ import annotations

import dataclasses
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from transit_cli import console
from transit_cli.device import precision as device_precision
from transit_cli.device.environment import FALLBACK
from transit_cli.device.select import select
from transit_cli.operators.device_process import run_in_child
from transit_cli.operators.step_factory import StepFactory
from transit_cli.results import ExitCode, Result, Table, TransitError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from transit_cli.device.base import Device
    from transit_cli.operators.settings import FallbackTestSettings


#: Crashes of the child after which the test is given up.
MAX_CRASHES = 8


@dataclass(frozen=True)
class OperatorResult:
    """One kind of call of the step, checked on the device.

    Attributes:
        precision: of the step.
        index: position among the step's kinds of calls.
        operator: its name with overload.
        phase: "forward", "backward" or "update".
        shapes: of its first tensors, for display.
        dtypes: of its tensors.
        status: "ok", "wrong", "fell back", "missing", "refused", "out of memory", "error", "aborted", "hung", or
            "not compared": the CPU has no such operator.
        variant: the memory layout in which it failed; "" if it did not.
        variants: the layouts that were checked.
        error: largest error against float64 on the CPU, relative to the largest value.
        bound: the largest error that rounding explains.
        elements: how many values were compared.
        fell_back: operators that ran on the CPU.
        milliseconds: of a call that fell back.
        random: whether it draws random numbers, which are not compared.
        message: of the error.
        calls: how often a step calls the operator.
        without_variable: the status without PYTORCH_ENABLE_MPS_FALLBACK, if it fell back.
    """

    precision: str
    index: int
    operator: str
    phase: str
    shapes: str
    dtypes: tuple[str, ...]
    status: str
    variant: str = ""
    variants: tuple[str, ...] = ()
    error: float = 0.0
    bound: float = 0.0
    elements: int = 0
    fell_back: tuple[str, ...] = ()
    milliseconds: float = 0.0
    random: bool = False
    message: str = ""
    calls: int = 1
    without_variable: str = ""


def check_device(settings: FallbackTestSettings) -> Result:
    """Check every operator of the step on the device, in each precision that it has; then many whole steps.

    Raises:
        TransitError: the device does not exist, or the network does not train on the CPU either.
    """
    device = select(settings.device)
    if device.kind != "mps":
        console.note(
            f"{device.kind} of this machine is tested, for some minutes; "
            "transit fallback-test predict says what MPS would do, on any machine"
        )
    factory = StepFactory.of(settings)
    results: list[OperatorResult] = []
    drifts: dict[str, Mapping[str, Any]] = {}
    precisions = _precisions(settings, device)
    with console.progress(f"operators on {device.kind}") as progress:
        for precision in precisions:
            job = _job(settings, factory, device, precision)
            for found in _check_operators(job, settings.timeout, progress):
                status = _without_variable(job, found, settings.timeout) if found.status == "fell back" else ""
                results.append(replace(found, without_variable=status))
    if settings.steps:
        for precision in precisions:
            drifts[precision] = _check_steps(settings, _job(settings, factory, device, precision))
    return _result(settings, device, results, drifts)


def _precisions(settings: FallbackTestSettings, device: Device) -> list[str]:
    """The precision asked for, or with auto each that the device has."""
    if settings.precision != "auto":
        return [device_precision.resolve(device, settings.precision)]
    return [name for name in device_precision.DTYPES if not device_precision.why_not(device, name)]


def _job(settings: FallbackTestSettings, factory: StepFactory, device: Device, precision: str) -> dict[str, Any]:
    import torch

    fields = {field.name: getattr(settings, field.name) for field in dataclasses.fields(settings)}
    fields.pop("sources")
    return {
        "part": "operators",
        "settings": fields | {"viewset": None},
        "lengths": dict(factory.lengths),
        "device": device.kind,
        "precision": precision,
        "skip": [],
        "threads": torch.get_num_threads(),
    }


def _check_operators(job: dict[str, Any], timeout: float, progress: console.Progress) -> list[OperatorResult]:
    """One result per kind of call. After a crash, a new child continues without the call that caused it."""
    results: dict[int, OperatorResult] = {}
    counts: Counter[str] = Counter()
    precision = job["precision"]
    while True:
        started: dict[str, Any] = {}

        def take(event: dict[str, Any], started: dict[str, Any] = started) -> None:
            if "start" in event:
                started.update(event)
            elif "index" in event:
                started.clear()
                if event["index"] not in results:
                    progress.update(advance=1, status=f"{precision} {event['operator']}")
                results[event["index"]] = OperatorResult(precision, **event)
            else:
                for operator, count in event["counts"]:
                    counts[operator] += count

        end = run_in_child(job, take, timeout=timeout)
        if end.kind == "done":
            break
        if not started or len(job["skip"]) >= MAX_CRASHES:
            raise TransitError(
                f"the test ended early: {end.message or end.kind}",
                wanted="a network whose training step runs on the CPU",
                fix=f"transit train --dry-run --device cpu --network {job['settings']['network']} VIEWSET",
                code="step-failed",
            )
        index = started.pop("start")
        status = "error" if end.kind == "failed" else end.kind
        results[index] = OperatorResult(precision, index, **started, status=status, message=end.message)
        job["skip"].append(index)
    return [replace(results[index], calls=counts.get(results[index].operator, 1)) for index in sorted(results)]


def _without_variable(job: dict[str, Any], result: OperatorResult, timeout: float) -> str:
    """The status of the same call in a child without the fallback to the CPU."""
    found: list[str] = []

    def take(event: dict[str, Any]) -> None:
        if event.get("index") == result.index:
            found.append(event["status"])

    run_in_child(job | {"only": result.index}, take, timeout=timeout, fallback=False)
    return found[0] if found else "unknown"


def _check_steps(settings: FallbackTestSettings, job: dict[str, Any]) -> Mapping[str, Any]:
    found: list[dict[str, Any]] = []
    with console.progress(f"{settings.steps} steps in {job['precision']}, {job['device']} against the CPU"):
        timeout = max(settings.timeout, 10.0 * settings.steps)
        end = run_in_child(job | {"part": "steps"}, found.append, timeout=timeout)
    return found[0] if found else {"status": end.kind, "message": end.message, "worst": None}


def _result(
    settings: FallbackTestSettings,
    device: Device,
    results: list[OperatorResult],
    drifts: dict[str, Mapping[str, Any]],
) -> Result:
    import torch

    data = {
        "target": "here",
        "device": device.kind,
        "device_name": device.facts.name,
        "system": device.facts.software,
        "torch": torch.__version__,
        "network": settings.network,
        "batch_size": settings.batch_size,
        "operators": [dataclasses.asdict(result) for result in results],
        "whole_step": drifts,
    }
    bad = [result for result in results if result.status not in {"ok", "fell back", "not compared"}]
    slow = [result for result in results if result.status == "fell back"]
    blocks = [_summary_table(results, settings, device)]
    if bad or slow:
        blocks.append(_problem_table(bad + slow))
    if drifts:
        blocks.append(_drift_table(drifts, device))
    drifting = [name for name, found in drifts.items() if found["status"] != "ok"]
    exit_code = ExitCode.NEGATIVE if bad or drifting else ExitCode.DONE
    return Result(data, blocks, _verdict(bad, slow, drifting), exit_code=exit_code)


def _summary_table(results: list[OperatorResult], settings: FallbackTestSettings, device: Device) -> Table:
    rows = []
    for precision in dict.fromkeys(result.precision for result in results):
        own = [result for result in results if result.precision == precision]
        worst = max(own, key=lambda result: result.error / (result.bound or 1))
        good = sum(result.status == "ok" for result in own)
        values = f"{sum(result.elements for result in own):,}"
        rows.append([precision, len(own), good, values, f"{worst.error:.1e} of {worst.bound:.1e} ({worst.operator})"])
    return Table(
        ("precision", "calls", "ok", "values", "largest error of its bound"),
        rows,
        title=f"Operators of one training step of {settings.network} on {device.kind} ({device.facts.name})",
        note=f"batch {settings.batch_size}; each as called, strided and expanded, against float64 on the CPU",
    )


def _problem_table(results: list[OperatorResult]) -> Table:
    def why(result: OperatorResult) -> str:
        if result.status == "wrong":
            return f"error {result.error:.1e}, rounding explains {result.bound:.1e} ({result.variant})"
        if result.status == "fell back":
            cost = result.milliseconds * result.calls
            return f"{cost:.1f} ms per step on the CPU; without {FALLBACK}: {result.without_variable}"
        return result.message[:160]

    rows = [[item.operator, item.phase, item.precision, item.shapes, item.status, why(item)] for item in results]
    return Table(("operator", "phase", "precision", "shapes", "verdict", "why"), rows, title="Problems")


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


def _verdict(bad: list[OperatorResult], slow: list[OperatorResult], drifting: list[str]) -> str:
    lines = []
    for status, advice in (
        ("wrong", "do not train with {names} in {precisions} on this device: wrong results"),
        ("missing", "the device lacks {names}: set " + FALLBACK + "=1, or replace it"),
        ("refused", "change the network: the device refuses {names} at these shapes"),
        ("aborted", "{names} aborts the process: use --device cpu, and report it to PyTorch"),
        ("hung", "{names} does not return: use --device cpu, and report it to PyTorch"),
        ("out of memory", "not enough memory for {names}: reduce --batch-size"),
        ("error", "{names} fails: see the table"),
    ):
        those = [result for result in bad if result.status == status]
        if those:
            names = ", ".join(dict.fromkeys(result.operator for result in those))
            precisions = ", ".join(dict.fromkeys(result.precision for result in those))
            lines.append(advice.format(names=names, precisions=precisions))
    if slow:
        cost = sum(result.milliseconds * result.calls for result in slow)
        names = ", ".join(dict.fromkeys(result.operator for result in slow))
        lines.append(
            f"{names} runs on the CPU, about {cost:.1f} ms per step; it needs {FALLBACK}=1, which transit sets"
        )
    lines += [
        f"do not trust {name}: its losses differ from the CPU's by more than rounding explains" for name in drifting
    ]
    return "\n".join(lines) or "nothing to do: every operator of the step computes correct results"
