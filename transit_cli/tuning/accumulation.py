"""`transit accumulate`: an effective batch without the memory for it, planned by running it and proven exact."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from transit_cli import console
from transit_cli.results import ExitCode, Result, Table, Text, TransitError
from transit_cli.tuning import trial as trials
from transit_cli.tuning.batch_probe import spec_of, train_command, with_measured_execution

if TYPE_CHECKING:
    from transit_cli.tuning.batch_search import Trial
    from transit_cli.tuning.gradient_check import Check
    from transit_cli.tuning.settings import AccumulateSettings
    from transit_cli.tuning.trial import Machine

#: The plan tries 1, 2, 4, ... micro-batches, up to so many ways.
WAYS = 6
#: Micro-batches within this of the best throughput are as good: the smallest of them takes the least memory.
TOLERANCE = 0.05
#: A difference that is rounding alone, in float64.
SAME = 1e-10


def accumulate(settings: AccumulateSettings) -> Result:
    """Plan the effective batch and prove that accumulation gives its gradients.

    Raises:
        TransitError: the network or the machine will not do, or not even the smallest micro-batch fits.
    """
    data: dict[str, Any] = {"effective_batch": settings.effective_batch, "network": settings.network}
    blocks: list[Table | Text] = []
    verdict: list[str] = []
    exit_code = ExitCode.DONE
    if settings.proof:
        shown, proof, exact = _prove(settings)
        data |= proof
        blocks += shown
        exit_code = ExitCode.DONE if exact else ExitCode.NEGATIVE
        double, single = proof["max_relative_error_float64"], proof["max_relative_error_device"]
        found = f"largest relative difference {double:.1e} in float64, {single:.1e} in float32 on {proof['device']}"
        verdict.append(f"{'exact' if exact else 'NOT exact'}: {found}")
    if settings.plan:
        table, plan, lines = _plan(settings)
        data |= plan
        blocks.append(table)
        verdict += lines
    return Result(data, blocks, "\n".join(verdict), exit_code=exit_code)


def micro_batches(effective: int) -> list[tuple[int, int, int]]:
    """Ways to cut an effective batch: (samples of a micro-batch, how many, samples of the last one)."""
    cuts = {}
    for power in range(WAYS):
        size = -(-effective // 2**power)
        count = -(-effective // size)
        cuts[size] = (size, count, effective - size * (count - 1))
    return list(cuts.values())


def _plan(settings: AccumulateSettings) -> tuple[Table, dict[str, Any], list[str]]:
    effective = settings.effective_batch
    ran: list[tuple[int, int, Trial]] = []
    limit: int | None = None
    machine: Machine | None = None
    ways = micro_batches(effective)
    with console.progress("accumulate: plan", total=len(ways)) as bar:
        for size, count, last in reversed(ways):
            spec = replace(spec_of(settings), size=size, accumulate=count, last=last, limit_bytes=limit)
            found, seen = trials.run(spec, settings.seconds)
            machine = machine or seen
            limit = machine.limit_bytes if machine else None
            ran.append((size, count, found))
            bar.update(advance=1, status=f"{count} x {size}: {found.verdict}")
    fitting = [row for row in ran if row[2].fits]
    if not fitting:
        smallest = ran[0][2]
        raise TransitError(
            f"not even {ran[0][1]} micro-batches of {smallest.size} will do: {smallest.verdict} ({smallest.detail})",
            wanted=f"memory below {console.size(smallest.limit_bytes)}",
            fix="close other programs, or give a smaller --effective-batch or a larger --memory-limit",
            exit_code=ExitCode.MACHINE,
            code="nothing-fits",
        )
    most = max(row[2].peak_bytes or 0 for row in fitting)
    fastest = min(row[2].seconds_per_step or 0.0 for row in fitting)
    chosen = next(row for row in fitting if (row[2].seconds_per_step or 0.0) <= fastest * (1 + TOLERANCE))
    rows: list[tuple[str, ...]] = []
    records: list[dict[str, Any]] = []
    for size, count, found in reversed(ran):
        seconds, peak = found.seconds_per_step, found.peak_bytes
        records.append(
            {
                "micro_batch": size,
                "accumulate": count,
                "verdict": str(found.verdict),
                "seconds_per_step": seconds,
                "samples_per_second": effective / seconds if seconds else None,
                "peak_memory_bytes": peak,
                "memory_saved_bytes": most - peak if peak and found.fits else None,
                "time_paid": seconds / fastest - 1 if seconds else None,
            }
        )
        rows.append(
            (
                f"{count} x {size}",
                f"{effective / seconds:,.0f}" if seconds else "-",
                f"{1000 * seconds:.4g}" if seconds else "-",
                f"{seconds / fastest - 1:+.0%}" if seconds else "-",
                console.size(peak) if peak else "-",
                console.size(most - peak) if peak and found.fits else "-",
                f"{found.verdict}{', chosen' if found is chosen[2] else ''}",
            )
        )
    columns = ("plan", "samples/s", "ms/step", "time paid", "peak", "saved", "verdict")
    assert machine is not None
    command = train_command(with_measured_execution(settings, chosen[2], machine), chosen[0], chosen[1])
    in_effect = chosen[0] * chosen[1]
    lines = [f"choose: {chosen[1]} micro-batches of {chosen[0]} for an effective batch of {in_effect}"]
    lines += [f"next: {command}"]
    data = {"plans": records, "micro_batch": chosen[0], "accumulate": chosen[1], "command": command}
    return Table(columns, rows, title=f"an optimizer step of {effective} samples"), data, lines


def _prove(settings: AccumulateSettings) -> tuple[list[Table | Text], dict[str, Any], bool]:
    import torch

    from transit_cli.device.cuda import without_tf32
    from transit_cli.device.select import select
    from transit_cli.tuning import ddp_check, gradient_check
    from transit_cli.tuning.work import network_for, shapes_of_settings

    shapes = shapes_of_settings(spec_of(settings))
    torch.manual_seed(0)
    network = network_for(settings.network, shapes)
    host, device = select("cpu"), select(settings.device)
    without_tf32()  # float32 is to be float32: TF32 has three digits, and would hide a small error
    stages = 4 if settings.ddp else 3
    with console.progress("accumulate: proof", total=stages) as bar:
        double = network.double()
        batch = gradient_check.sample(shapes, host, torch.float64)
        exact = gradient_check.prove(double, batch, host)
        bar.update(advance=1, status="float64 on the CPU")
        nature = gradient_check.batch_dependent_layers(double, batch, host)
        control = gradient_check.unweighted_error(double, batch, host)
        bar.update(advance=1, status="what is not equal by nature")
        batch = gradient_check.sample(shapes, device, torch.float32)
        single = gradient_check.prove(network.float(), batch, device, scalers=(device.kind != "cpu",))
        rounding = gradient_check.rounding(network, batch, device, host)
        bar.update(advance=1, status=f"float32 on {device.kind}")
        parallel = {k: ddp_check.prove(settings.network, shapes, k) for k in (2, 7)} if settings.ddp else {}
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
        "ddp_relative_error_float64": {str(parts): error for parts, error in parallel.items()},
        "unequal_by_nature": nature,
        "unweighted_relative_error": control,
        "parameters": _by_parameter(exact),
    }
    return (
        [
            _summary(exact, single, parallel, device.kind),
            _parameters(exact, single),
            _notes(nature, control, f"{rounding:.1e}", device.kind),
        ],
        data,
        passed,
    )


def _record(check: Check, arithmetic: str) -> dict[str, Any]:
    return {
        "what": check.what,
        "arithmetic": arithmetic,
        "micro_batches": check.parts,
        "clip": check.clip,
        "scaler": check.scaler,
        "max_relative_error": check.difference.worst,
    }


def _by_parameter(checks: list[Check]) -> dict[str, dict[str, float]]:
    """The largest differences of each parameter's gradient over all checks."""
    gradients = [check.difference for check in checks if check.what == "gradients"]
    return {
        name: {
            "max_absolute_error": max(difference.absolute[name] for difference in gradients),
            "max_relative_error": max(difference.relative[name] for difference in gradients),
        }
        for name in gradients[0].relative
    }


def _summary(exact: list[Check], single: list[Check], parallel: dict[int, float], kind: str) -> Table:
    from transit_cli.tuning.gradient_check import PARTS, SAMPLES

    rows: dict[str, list[str]] = {}
    for arithmetic, checks in (("float64, cpu", exact), (f"float32, {kind}", single)):
        for check in checks:
            marks = [mark for mark, on in (("clip", check.clip), ("scaler", check.scaler)) if on]
            label = f"{check.what}, {arithmetic}" + (f", {' + '.join(marks)}" if marks else "")
            rows.setdefault(label, []).append(f"{check.difference.worst:.1e}")
    table = [(label, *figures) for label, figures in rows.items()]
    if parallel:
        table.append(
            ("gradients, float64, 2 processes (DDP)", *(f"{parallel[k]:.1e}" if k in parallel else "-" for k in PARTS))
        )
    columns = ("largest relative difference", *(f"k = {parts}" for parts in PARTS))
    return Table(columns, table, title=f"k micro-batches against one batch of {SAMPLES}")


def _parameters(exact: list[Check], single: list[Check]) -> Table:
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


def _notes(nature: dict[str, float], control: float, rounding: str, kind: str) -> Text:
    lines = [
        f"one whole batch in float32 on {kind} differs from float64 by {rounding}, by rounding alone",
        f"counting uneven micro-batches alike would make an error of {control:.1e}; here each counts by its samples",
    ]
    for label, error in nature.items():
        same = " (this generator gives the whole batch and its parts the same draws)" if error < SAME else ""
        lines.append(f"not equal by nature: {label}; gradients differ by {error:.1e}{same}")
    return Text("\n".join(lines) + "\n")
