"""report.html of a profile, one file."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from transit_cli.console import duration, size
from transit_cli.plotting import html
from transit_cli.plotting.panel import Cell, Kind, Panel, Series, decade_ticks
from transit_cli.plotting.svg import svg
from transit_cli.profiling.profiler import Profile, median
from transit_cli.profiling.report.profile_result import (
    fallback_table,
    limit_table,
    memory_table,
    ms,
    operator_table,
    phase_table,
)
from transit_cli.results import Table
from transit_cli.utils.files import atomic_write

if TYPE_CHECKING:
    from pathlib import Path


def write(profile: Profile, verdict: str, file: Path) -> None:
    """Write the page."""
    table = phase_table(profile)
    fallbacks = [fallback_table(profile)] if profile.fallbacks else []
    findings = [(item.found, item.fix, "" if item.gain is None else f"{item.gain:.2f} x") for item in profile.findings]
    sections = [
        html.Section("What to do", tables=[Table(("found", "to do", "speed when tried"), findings)]),
        html.Section(
            "Where a step's time goes",
            tables=[_untitled(table), _untitled(limit_table(profile))],
            plots=[_drawn(phases(profile)), _drawn(roofline(profile))],
            wide=True,
        ),
        html.Section("Memory", tables=[_untitled(memory_table(profile))], plots=[_drawn(memory(profile))]),
        html.Section("Operators", tables=[*fallbacks, operator_table(profile, whole=True)]),
    ]
    run, evidence = profile.workload, profile.evidence
    step = profile.step_seconds
    cards = [
        ("speed", f"{run.samples / step:,.0f}/s", "samples, as trained"),
        ("step", duration(step) if step >= 1 else f"{ms(step)} ms", f"{run.samples} samples"),
        ("arithmetic", f"{evidence.roofline.flops_share:.0%}", "of the measured peak"),
        ("memory bandwidth", f"{evidence.roofline.bytes_share:.0%}", "of the measured peak"),
        (
            "peak memory",
            size(evidence.memory_used),
            f"limit {size(evidence.memory_limit)}" if evidence.memory_limit else "of the process",
        ),
    ]
    atomic_write(
        file, html.page(f"Profile of {evidence.settings.network}", [table.title, verdict], sections, cards=cards)
    )


def _untitled(table: Table) -> Table:
    return Table(table.columns, table.rows, note=table.note)


def _drawn(panel: Panel) -> tuple[str, str]:
    return svg(panel), panel.title


def phases(profile: Profile) -> Panel:
    """Bars of the median time of each phase, from the first at the top."""
    times = profile.evidence.times
    found = [(name, median(samples) * 1e3) for name, samples in times.phases.items() if any(samples)]
    step = median(times.plain) * 1e3
    cells = [
        Cell((0.0, value), (place - 0.35, place + 0.35), text=(f"{value:.3g}",), beside=True)
        for place, (_, value) in enumerate(reversed(found))
    ]
    ticks = [(float(place), name) for place, (name, _) in enumerate(reversed(found))]
    alt = ", ".join(f"{name} {value:.3g} ms" for name, value in found)
    limits = (0.0, 1.15 * max(step, *(value for _, value in found)))
    return Panel(
        "Median time of each phase; dotted: the step without profiling",
        f"Time of each phase: {alt}; the step without profiling takes {step:.3g} ms.",
        "milliseconds",
        "",
        [],
        limits,
        (-0.6, len(found) - 0.4),
        lines=[step],
        cells=cells,
        yticks=ticks,
    )


def roofline(profile: Profile) -> Panel:
    """The step below the limits of arithmetic and bandwidth (Williams et al. 2009, CACM 52, 65)."""
    found, peaks, line = profile.evidence.inspection, profile.peaks, profile.evidence.roofline
    here = max(found.flops, 1) / max(found.bytes, 1)
    knee = peaks.matmul / peaks.copy
    x = np.linspace(np.log10(min(here, knee)) - 1, np.log10(max(here, knee)) + 1, 100)
    limit = np.log10(np.minimum(10**x * peaks.copy, peaks.matmul) / 1e9)
    reached = max(found.flops, 1) / line.seconds / 1e9
    y = np.log10(reached)
    heights = (min(float(limit.min()), float(y)) - 0.2, float(limit.max()) + 0.2)
    return Panel(
        "Arithmetic against the limits of this machine",
        f"The step does {here:.2g} operations per byte at {reached:.3g} GFLOP/s; the limit is "
        f"{min(here * peaks.copy, peaks.matmul) / 1e9:.3g} GFLOP/s.",
        "operations per byte",
        "GFLOP/s",
        [
            Series(x, limit, "line", "data", label="limit", size=2),
            Series(np.log10([here]), np.array([y]), "points", "second", label="this step", size=3),
        ],
        (float(x[0]), float(x[-1])),
        heights,
        xticks=decade_ticks(float(x[0]), float(x[-1])),
        yticks=decade_ticks(*heights),
    )


def memory(profile: Profile) -> Panel:
    """Memory at the end of each phase."""
    timeline = profile.timeline
    series = []
    kinds: dict[str, tuple[str, str, Kind]] = {
        "resident": ("process", "data", "line"),
        "driver": ("driver", "second", "dashed"),
        "allocated": ("tensors", "first", "line"),
    }
    x = np.arange(len(timeline))
    for name, (label, colour, kind) in kinds.items():
        y = np.array([getattr(sample, name) for sample in timeline]) / 2**20
        edges = np.stack([x - 0.5, x + 0.5], 1).ravel()
        series.append(Series(edges, np.repeat(y, 2), kind, colour, label=label, size=2))
    highest = max(float(one.y.max()) for one in series)
    several = len({sample.step for sample in timeline}) > 1
    shown = timeline if len(timeline) <= 12 else ()
    ticks = [(float(place), sample.phase) for place, sample in enumerate(shown)]
    return Panel(
        "Memory at the end of each phase"
        + (f" of {len({sample.step for sample in timeline})} steps" if several else ""),
        f"Memory at the end of each phase: at most {highest:,.0f} MiB.",
        "" if ticks else "phases, in order",
        "MiB",
        series,
        (-0.5, len(timeline) - 0.5),
        (0.0, 1.1 * highest or 1.0),
        xticks=ticks,
        wide=True,
    )
