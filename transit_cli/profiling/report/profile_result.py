"""A profile as a `Result`: tables, and the document for `--json`."""

from __future__ import annotations

import statistics
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from transit_cli.console import size
from transit_cli.device.host import busy_warnings
from transit_cli.profiling.profiler import Profile, median
from transit_cli.results import ExitCode, Result, Table, Text

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from transit_cli.profiling.report.compare import Change

CLOCKS = {
    "device": "time on the GPU",
    "cpu": "time on the CPU",
    "dispatch": "dispatch time, not GPU time: torch's profiler cannot see MPS",
}
SHOWN_OPERATORS, SHAPE_WIDTH = 10, 34


def result(profile: Profile, written: list[Path]) -> Result:
    """The result to print."""
    run = profile.workload
    growth = profile.growth
    blocks: list[Table | Text] = [phase_table(profile), operator_table(profile), limit_table(profile)]
    if profile.fallbacks:
        blocks.append(fallback_table(profile))
    blocks.append(memory_table(profile))
    blocks.append(Text(advice(profile)))
    if written:
        blocks.append(Text("\n".join(opening(file) for file in written)))
    main = profile.findings[0]
    return Result(
        data=document(profile) | {"written": [str(file) for file in written]},
        blocks=blocks,
        verdict=f"{run.samples / profile.step_seconds:,.0f} samples/s. {main.found[0].upper()}{main.found[1:]}.",
        warnings=busy_warnings(profile.busy_percent),
        exit_code=ExitCode.NEGATIVE if growth and growth.leaks else ExitCode.DONE,
    )


def phase_table(profile: Profile) -> Table:
    """Where the time of a step goes."""
    times = profile.evidence.times
    plain = median(times.plain)
    rows = []
    for name, samples in times.phases.items():
        if any(samples):
            spread = statistics.quantiles(samples, n=4)
            rows.append((name, ms(median(samples)), f"{median(samples) / plain:.0%}", ms(spread[2] - spread[0])))
    total = phase_sum(profile)
    rows.append(("sum", ms(total), f"{total / plain:.0%}", ""))
    rows.append(("step, unprofiled", ms(plain), "100%", ""))
    if as_trained := profile.as_trained:
        rows.append(
            (
                f"as trained: {as_trained.name}",
                ms(median(as_trained.seconds)),
                f"{median(as_trained.seconds) / plain:.0%}",
                "",
            )
        )
    run = profile.workload
    return Table(
        ("phase", "ms", "of step", "IQR ms"),
        rows,
        title=f"{profile.evidence.settings.network} on {run.device.facts.name}, {run.step.precision}, "
        f"{run.samples} samples per step, {run.source}",
        note=f"measuring costs {max(overhead(profile), 0):.1%}; the first step took {times.first:.2f} s",
    )


def phase_sum(profile: Profile) -> float:
    """The median over steps of the sum of the phases."""
    rows = zip(*profile.evidence.times.phases.values(), strict=True)
    return median([sum(row) for row in rows])


def overhead(profile: Profile) -> float:
    """The relative slowdown of a step by the marks."""
    times = profile.evidence.times
    return median(times.profiled) / median(times.plain) - 1


def operator_table(profile: Profile, *, whole: bool = False) -> Table:
    """The most expensive operators; all that were recorded, with all their shapes, if `whole`."""
    spots = profile.evidence.hotspots
    rows = [
        (
            item.name.removeprefix("aten::"),
            f"{item.calls:g}",
            ms(item.seconds),
            f"{item.share:.0%}",
            _shapes(item.shapes, whole),
        )
        for item in spots.operators[: None if whole else SHOWN_OPERATORS]
    ]
    return Table(
        ("operator", "calls", "ms", "share", "shapes"),
        rows,
        title=f"Operators by their own {CLOCKS[spots.clock]}",
        note=f"{profile.evidence.inspection.calls} operators per step",
    )


def _shapes(text: str, whole: bool) -> str:
    """The shapes that fit into a column, unbroken."""
    if whole or len(text) <= SHAPE_WIDTH:
        return text
    return text[: text.rfind("]", 0, SHAPE_WIDTH - 4) + 1] + " ..."


def limit_table(profile: Profile) -> Table:
    """The step against what the machine can do."""
    line, peaks, found = profile.evidence.roofline, profile.peaks, profile.evidence.inspection
    rows = [
        (
            "arithmetic",
            f"{found.flops / 1e9:.2f} GFLOP",
            f"{peaks.matmul / 1e9:,.0f} GFLOP/s",
            f"{line.flops_share:.0%}",
        ),
        ("bytes", size(found.bytes), f"{peaks.copy / 1e9:,.1f} GB/s", f"{line.bytes_share:.0%}"),
        ("calls", f"{found.calls:,}", f"{found.calls / line.by_calls:,.0f} /s", f"{line.calls_share:.0%}"),
    ]
    return Table(("limit", "per step", "measured peak", "of step"), rows, title="Against this machine's limits")


def fallback_table(profile: Profile) -> Table:
    """The operators that MPS runs on the CPU."""
    rows = [(item.name, f"{item.calls:.1f}", ms(item.seconds), item.copied) for item in profile.fallbacks or ()]
    return Table(("operator", "calls", "CPU ms", "copied"), rows, title="Operators that MPS runs on the CPU")


def memory_table(profile: Profile) -> Table:
    """The peak of each phase, and the largest tensors."""
    rows = []
    for phase in dict.fromkeys(sample.phase for sample in profile.timeline):
        here = [sample for sample in profile.timeline if sample.phase == phase]
        rows.append(
            (phase, *(size(max(getattr(s, name) for s in here)) for name in ("allocated", "driver", "resident")))
        )
    largest = ", ".join(
        f"{made.operator} {list(made.shape)} {size(made.bytes)}" for made in profile.evidence.inspection.largest[:2]
    )
    growth = profile.growth
    grown = f"; {size(growth.per_step)} per step remain over {len(growth.held)} steps" if growth else ""
    return Table(
        ("at the end of", "allocated", "driver", "process"), rows, title="Memory", note=f"largest: {largest}{grown}"
    )


def advice(profile: Profile) -> str:
    """The findings, with what to do about each."""
    lines = []
    for finding in profile.findings:
        lines.append(f"- {finding.found}\n  -> {finding.fix}")
        if finding.gain is not None:
            lines.append(f"     tried: {finding.gain:.2f} x the samples per second")
    return "\n".join(lines)


def opening(file: Path) -> str:
    """How to look at something that was written."""
    how = {
        ".gz": "open it at https://ui.perfetto.dev (it stays on your machine)",
        ".html": "open it in a browser",
        ".gputrace": "open it in Xcode",
    }
    return f"wrote {file}: {how.get(file.suffix, '')}"


def document(profile: Profile) -> dict[str, Any]:
    """The document for `--json`."""
    run, evidence = profile.workload, profile.evidence
    times, found = evidence.times, evidence.inspection
    step = median(times.plain)
    growth = profile.growth
    return {
        "network": profile.evidence.settings.network,
        "device": run.device.kind,
        "device_name": run.device.facts.name,
        "precision": run.step.precision,
        "batch_size": profile.evidence.settings.batch_size,
        "accumulate": profile.evidence.settings.accumulate,
        "inference": run.inference,
        "source": run.source,
        "steps_run": run.steps_run,
        "samples_per_second": run.samples / profile.step_seconds,
        "step_seconds": step,
        "execution": run.runner.execution or None,
        "train_execution": profile.as_trained.name if profile.as_trained else None,
        "train_step_seconds": profile.step_seconds,
        "first_step_seconds": times.first,
        "phase_seconds": {name: median(samples) for name, samples in times.phases.items()},
        "phase_sum_seconds": phase_sum(profile),
        "profiling_overhead": overhead(profile),
        "dispatch_seconds": median(times.dispatch),
        "step_samples_seconds": times.plain,
        "phase_samples_seconds": times.phases,
        "operators_per_step": found.calls,
        "operator_clock": evidence.hotspots.clock,
        "operators": [
            {
                "name": item.name,
                "calls": item.calls,
                "seconds": item.seconds,
                "share": item.share,
                "bytes": item.bytes,
                "shapes": item.shapes,
            }
            for item in evidence.hotspots.operators[:50]
        ],
        "flops_per_step": found.flops,
        "bytes_per_step": found.bytes,
        "peak_copy_bytes_per_second": profile.peaks.copy,
        "peak_matmul_flops_per_second": profile.peaks.matmul,
        "arithmetic_share": evidence.roofline.flops_share,
        "bandwidth_share": evidence.roofline.bytes_share,
        "launch_share": evidence.roofline.calls_share,
        "host_waits_per_step": sum(found.waits.values()),
        "host_wait_sites": {str(site): count for site, count in found.waits.items()},
        "peak_memory_bytes": evidence.memory_used,
        "memory_limit_bytes": evidence.memory_limit,
        "memory_growth_bytes_per_step": growth.per_step if growth else None,
        "memory_leaks": growth.leaks if growth else None,
        "memory_timeline": [vars(sample) for sample in profile.timeline],
        "largest_tensors": [vars(made) for made in found.largest],
        "fallbacks": None if profile.fallbacks is None else [vars(item) for item in profile.fallbacks],
        "findings": [
            {"id": item.id, "found": item.found, "fix": item.fix, "gain": item.gain} for item in profile.findings
        ],
    }


def with_comparison(found: Result, changes: Sequence[Change]) -> Result:
    """The result of a profile beside an earlier one."""
    rows = [
        (
            change.name,
            ms(change.before),
            ms(change.after),
            f"{change.ratio - 1:+.1%}" if change.before else "",
            "changed" if change.significant else "noise",
        )
        for change in changes
    ]
    note = "noise: a difference like this comes by chance at least once in a hundred runs, or is below 2 %"
    table = Table(("", "before ms", "now ms", "change", ""), rows, title="Compared with the earlier run", note=note)
    step = changes[0]
    verdict = (
        f"A step takes {step.ratio:.2f} x as long as before."
        if step.significant
        else "A step takes as long as before, as far as these runs can tell."
    )
    compared = [
        {
            "name": change.name,
            "before_seconds": change.before,
            "after_seconds": change.after,
            "ratio": change.ratio,
            "chance": change.chance,
            "significant": change.significant,
        }
        for change in changes
    ]
    data = {**found.data, "changes": compared}
    return replace(found, data=data, blocks=[*found.blocks, table], verdict=f"{found.verdict} {verdict}")


def ms(seconds: float) -> str:
    """Milliseconds with three figures where it matters."""
    value = seconds * 1e3
    return f"{value:.3f}" if value < 1 else f"{value:.2f}" if value < 100 else f"{value:,.0f}"
