"""report.html of a profile, one file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from transit_cli.plotting import figures, html
from transit_cli.profiling.profiler import Profile, median
from transit_cli.profiling.report.profile_result import advice, phase_table
from transit_cli.utils.files import atomic_write

if TYPE_CHECKING:
    from pathlib import Path


def require() -> None:
    """Raise the error for a missing matplotlib, before anything is measured."""
    figures.require_matplotlib("--report")


def write(profile: Profile, verdict: str, file: Path) -> None:
    """Write the page."""
    table = phase_table(profile)
    sections = [
        html.Section("Where a step's time goes", plots=[(_phases(profile), table.note)], wide=True),
        html.Section("Against this machine's limits", plots=[(_roofline(profile), "")], wide=True),
        html.Section("Memory", plots=[(_memory(profile), "")], wide=True),
        html.Section("What to do", code=advice(profile)),
    ]
    atomic_write(file, html.page(table.title, [verdict], sections))


def _phases(profile: Profile) -> str:
    times = profile.evidence.times
    figure, axes = figures.single_axes(9, 3.5, "milliseconds", "")
    names = [name for name, samples in times.phases.items() if any(samples)]
    values = [median(times.phases[name]) * 1e3 for name in names]
    bars = axes.barh(names[::-1], values[::-1], color=figures.BLUE)
    axes.bar_label(bars, fmt="%.2f", padding=3)
    axes.axvline(median(times.plain) * 1e3, color=figures.GREY, linestyle=":", label="unprofiled step")
    axes.legend(frameon=False)
    return figures.svg(figure, "phases")


def _roofline(profile: Profile) -> str:
    import numpy as np

    found, peaks, line = profile.evidence.inspection, profile.peaks, profile.evidence.roofline
    figure, axes = figures.single_axes(9, 4, "operations per byte", "GFLOP/s")
    here = max(found.flops, 1) / max(found.bytes, 1)
    knee = peaks.matmul / peaks.copy
    intensity = np.logspace(np.log10(min(here, knee) / 10), np.log10(max(here, knee) * 10), 100)
    axes.loglog(intensity, np.minimum(intensity * peaks.copy, peaks.matmul) / 1e9, color=figures.GREY, label="limit")
    axes.loglog([here], [max(found.flops, 1) / line.seconds / 1e9], "o", color=figures.ORANGE, label="this step")
    axes.legend(frameon=False)
    return figures.svg(figure, "roofline")


def _memory(profile: Profile) -> str:
    figure, axes = figures.single_axes(9, 4, "", "MiB")
    places = range(len(profile.timeline))
    for name, label in (("allocated", "tensors"), ("driver", "driver"), ("resident", "process")):
        axes.step(places, [getattr(s, name) / 2**20 for s in profile.timeline], where="post", label=label)
    axes.set_xticks(list(places), [sample.phase for sample in profile.timeline], rotation=60)
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False)
    return figures.svg(figure, "memory")
