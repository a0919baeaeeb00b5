"""`transit accumulate`: an effective batch without the memory for it, planned by running it and checked to be exact."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from transit_cli import console
from transit_cli.results import ExitCode, Result, Table, Text, TransitError
from transit_cli.tuning.batch_probe import spec_of, train_command, with_measured_execution
from transit_cli.tuning.trials import trial as trials

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transit_cli.tuning.batch_search import Trial
    from transit_cli.tuning.gradient_check import GradientCheck
    from transit_cli.tuning.settings import AccumulateSettings
    from transit_cli.tuning.trials.trial import TrialMachine

#: The plan tries up to so many divisions of the effective batch, in 1, 2, 4, ... micro-batches.
MAX_DIVISIONS = 6
#: Divisions within this of the best throughput count as equal: that with the smallest micro-batches takes least memory.
TOLERANCE = 0.05
#: Relative differences below this are rounding errors, in float64.
ROUNDING = 1e-10
#: Numbers of micro-batches that are checked across two processes.
DDP_COUNTS = (2, 7)


def accumulate(settings: AccumulateSettings) -> Result:
    """Plan the effective batch, and check that accumulation gives its gradients.

    Raises:
        TransitError: network or machine are unusable, or not even the smallest micro-batch fits.
    """
    data: dict[str, Any] = {"effective_batch": settings.effective_batch, "network": settings.network}
    blocks: list[Table | Text] = []
    verdict: list[str] = []
    exit_code = ExitCode.DONE
    if settings.proof:
        shown, proof, exact = _check(settings)
        data |= proof
        blocks += shown
        exit_code = ExitCode.DONE if exact else ExitCode.NEGATIVE
        double, single = proof["max_relative_error_float64"], proof["max_relative_error_device"]
        found = f"largest relative difference {double:.1e} in float64, {single:.1e} in float32 on {proof['device']}"
        verdict.append(f"{'exact' if exact else 'NOT exact'}: {found}")
    if settings.plan:
        measured, machine = _run_plans(settings)
        chosen = _choose(measured)
        command = train_command(
            with_measured_execution(settings, chosen.trial, machine), chosen.micro_batch, chosen.count
        )
        data |= {
            "plans": [_plan_record(plan, measured) for plan in measured],
            "micro_batch": chosen.micro_batch,
            "accumulate": chosen.count,
            "command": command,
        }
        blocks.append(_plan_table(measured, chosen))
        size = chosen.micro_batch * chosen.count
        verdict.append(f"choose: {chosen.count} micro-batches of {chosen.micro_batch} for an effective batch of {size}")
        verdict.append(f"next: {command}")
    return Result(data, blocks, "\n".join(verdict), exit_code=exit_code)


def micro_batches(effective: int) -> list[tuple[int, int, int]]:
    """Divisions of an effective batch: (samples of a micro-batch, number of them, samples of the last one)."""
    divisions = {}
    for power in range(MAX_DIVISIONS):
        size = math.ceil(effective / 2**power)
        count = math.ceil(effective / size)
        divisions[size] = (size, count, effective - size * (count - 1))
    return list(divisions.values())


@dataclass(frozen=True)
class _Plan:
    """A division of the effective batch that has been run.

    Attributes:
        micro_batch: samples of a micro-batch.
        count: number of micro-batches.
        effective_batch: samples of an optimizer step.
        trial: how it ran; its `samples_per_second` is of a micro-batch, and not used.
    """

    micro_batch: int
    count: int
    effective_batch: int
    trial: Trial

    @property
    def seconds(self) -> float:
        """Seconds per optimizer step; infinity if it did not fit."""
        return self.trial.seconds_per_step or math.inf


def _run_plans(settings: AccumulateSettings) -> tuple[list[_Plan], TrialMachine]:
    """Run all divisions, the smallest micro-batch first; returns them with the largest first.

    Raises:
        TransitError: none of them fits.
    """
    effective = settings.effective_batch
    measured: list[_Plan] = []
    machine: TrialMachine | None = None
    divisions = micro_batches(effective)
    with console.progress("accumulate: plan", total=len(divisions)) as bar:
        for size, count, last in reversed(divisions):
            limit = machine.limit_bytes if machine else None
            spec = replace(spec_of(settings), size=size, accumulate=count, last=last, limit_bytes=limit)
            trial, reported = trials.run(spec, settings.seconds)
            machine = machine or reported
            measured.insert(0, _Plan(size, count, effective, trial))
            bar.update(advance=1, status=f"{count} x {size}: {trial.verdict}")
    if machine is None or not any(plan.trial.fits for plan in measured):
        smallest = measured[-1]
        trial = smallest.trial
        raise TransitError(
            f"not even {smallest.count} micro-batches of {trial.size} fit: {trial.verdict} ({trial.detail})",
            wanted=f"memory below {console.size(trial.limit_bytes)}",
            fix="close other programs, or give a smaller --effective-batch or a larger --memory-limit",
            exit_code=ExitCode.MACHINE,
            code="nothing-fits",
        )
    return measured, machine


def _choose(measured: Sequence[_Plan]) -> _Plan:
    """The smallest micro-batch within `TOLERANCE` of the fastest."""
    fastest = _fastest(measured)
    return next(plan for plan in reversed(measured) if plan.trial.fits and plan.seconds <= fastest * (1 + TOLERANCE))


def _fastest(measured: Sequence[_Plan]) -> float:
    return min(plan.seconds for plan in measured if plan.trial.fits)


def _plan_record(plan: _Plan, measured: Sequence[_Plan]) -> dict[str, Any]:
    seconds, peak = plan.trial.seconds_per_step, plan.trial.peak_bytes
    most = max(other.trial.peak_bytes or 0 for other in measured if other.trial.fits)
    return {
        "micro_batch": plan.micro_batch,
        "accumulate": plan.count,
        "verdict": str(plan.trial.verdict),
        "seconds_per_step": seconds,
        "samples_per_second": plan.effective_batch / seconds if seconds else None,
        "peak_memory_bytes": peak,
        "memory_saved_bytes": most - peak if peak and plan.trial.fits else None,
        "time_paid": seconds / _fastest(measured) - 1 if seconds else None,
    }


def _plan_table(measured: Sequence[_Plan], chosen: _Plan) -> Table:
    rows: list[tuple[str, ...]] = []
    for plan in measured:
        record = _plan_record(plan, measured)
        seconds, peak, saved = (record[key] for key in ("seconds_per_step", "peak_memory_bytes", "memory_saved_bytes"))
        rows.append(
            (
                f"{plan.count} x {plan.micro_batch}",
                f"{record['samples_per_second']:,.0f}" if seconds else "-",
                f"{1000 * seconds:.4g}" if seconds else "-",
                f"{record['time_paid']:+.0%}" if seconds else "-",
                console.size(peak) if peak else "-",
                "-" if saved is None else console.size(saved),
                f"{plan.trial.verdict}{', chosen' if plan is chosen else ''}",
            )
        )
    columns = ("plan", "samples/s", "ms/step", "time paid", "peak", "saved", "verdict")
    return Table(columns, rows, title=f"an optimizer step of {chosen.effective_batch} samples")


def _check(settings: AccumulateSettings) -> tuple[list[Table | Text], dict[str, Any], bool]:
    import torch

    from transit_cli.device.cuda import without_tf32
    from transit_cli.device.select import select
    from transit_cli.tuning import gradient_check
    from transit_cli.tuning.ddp_check import check_two_processes
    from transit_cli.tuning.trials.work import network_for, shapes_of_settings

    shapes = shapes_of_settings(spec_of(settings))
    torch.manual_seed(0)
    network = network_for(settings.network, shapes)
    host, device = select("cpu"), select(settings.device)
    without_tf32()  # TF32 has three digits, and would hide a small error
    stages = 4 if settings.ddp else 3
    with console.progress("accumulate: proof", total=stages) as bar:
        double = network.double()
        batch = gradient_check.random_batch(shapes, host, torch.float64)
        exact = gradient_check.check_gradients(double, batch, host)
        bar.update(advance=1, status="float64 on the CPU")
        dependent = gradient_check.batch_dependent_layers(double, batch, host)
        unweighted = gradient_check.unweighted_error(double, batch, host)
        bar.update(advance=1, status="layers that depend on the batch")
        batch = gradient_check.random_batch(shapes, device, torch.float32)
        single = gradient_check.check_gradients(network.float(), batch, device, scalers=(device.kind != "cpu",))
        rounding = gradient_check.rounding_error(network, batch, device, host)
        bar.update(advance=1, status=f"float32 on {device.kind}")
        parallel = check_two_processes(settings.network, shapes, DDP_COUNTS) if settings.ddp else {}
    worst = max(*(check.difference.worst for check in exact), *parallel.values(), 0.0)
    on_device = max(check.difference.worst for check in single if check.what == "gradients")
    tolerance = gradient_check.device_tolerance(rounding)
    passed = worst < gradient_check.TOLERANCE_FLOAT64 and on_device < tolerance
    data = {
        "max_relative_error_float64": worst,
        "max_relative_error_device": on_device,
        "tolerance_float64": gradient_check.TOLERANCE_FLOAT64,
        "tolerance_device": tolerance,
        "rounding_device": rounding,
        "exact": passed,
        "device": device.kind,
        "samples": gradient_check.SAMPLES,
        "checks": [_record(check, "float64") for check in exact] + [_record(check, "float32") for check in single],
        "ddp_relative_error_float64": {str(count): error for count, error in parallel.items()},
        "batch_dependent_layers": dependent,
        "unweighted_relative_error": unweighted,
        "parameters": _by_parameter(exact),
    }
    blocks: list[Table | Text] = [
        _summary(exact, single, parallel, device.kind),
        _parameters(exact, single),
        _notes(dependent, unweighted, rounding, device.kind),
    ]
    return blocks, data, passed


def _record(check: GradientCheck, arithmetic: str) -> dict[str, Any]:
    return {
        "what": check.what,
        "arithmetic": arithmetic,
        "micro_batches": check.count,
        "clip": check.clip,
        "scaler": check.scaler,
        "max_relative_error": check.difference.worst,
    }


def _by_parameter(checks: list[GradientCheck]) -> dict[str, dict[str, float]]:
    """The largest differences of each parameter's gradient, over all checks."""
    gradients = [check.difference for check in checks if check.what == "gradients"]
    return {
        name: {
            "max_absolute_error": max(difference.absolute[name] for difference in gradients),
            "max_relative_error": max(difference.relative[name] for difference in gradients),
        }
        for name in gradients[0].relative
    }


def _summary(exact: list[GradientCheck], single: list[GradientCheck], parallel: dict[int, float], kind: str) -> Table:
    from transit_cli.tuning.gradient_check import MICRO_BATCH_COUNTS, SAMPLES

    rows: dict[str, list[str]] = {}
    for arithmetic, checks in (("float64, cpu", exact), (f"float32, {kind}", single)):
        for check in checks:
            marks = [mark for mark, on in (("clip", check.clip), ("scaler", check.scaler)) if on]
            label = f"{check.what}, {arithmetic}" + (f", {' + '.join(marks)}" if marks else "")
            rows.setdefault(label, []).append(f"{check.difference.worst:.1e}")
    table = [(label, *figures) for label, figures in rows.items()]
    if parallel:
        table.append(
            (
                "gradients, float64, 2 processes",
                *(f"{parallel[k]:.1e}" if k in parallel else "-" for k in MICRO_BATCH_COUNTS),
            )
        )
    columns = ("largest relative difference", *(f"k = {count}" for count in MICRO_BATCH_COUNTS))
    return Table(columns, table, title=f"k micro-batches against one batch of {SAMPLES}")


def _parameters(exact: list[GradientCheck], single: list[GradientCheck]) -> Table:
    double, float32 = _by_parameter(exact), _by_parameter(single)
    rows = [
        (
            name,
            f"{double[name]['max_absolute_error']:.1e}",
            f"{double[name]['max_relative_error']:.1e}",
            f"{float32[name]['max_relative_error']:.1e}",
        )
        for name in double
    ]
    note = "relative: the largest difference over the parameter's largest gradient"
    return Table(("gradient of", "absolute, f64", "relative, f64", "relative, f32"), rows, note=note)


def _notes(dependent: dict[str, float], unweighted: float, rounding: float, kind: str) -> Text:
    lines = [
        f"rounding: the gradients of one full batch in float32 on {kind} differ from float64 by {rounding:.1e}",
        f"averaging uneven micro-batches without weighting them by samples would give an error of {unweighted:.1e}",
    ]
    for label, error in dependent.items():
        same = " (this generator draws the same for the full batch and its parts)" if error < ROUNDING else ""
        lines.append(f"depends on the batch: {label}; gradients differ by {error:.1e}{same}")
    return Text("\n".join(lines) + "\n")
