"""The pictures of a profile: report.html, one file that opens from disk."""

from __future__ import annotations

import html
import io
from typing import TYPE_CHECKING, Any

from transit_cli.profiling.profile_result import advice, phase_table
from transit_cli.profiling.profiler import Profile, median
from transit_cli.results import ExitCode, TransitError

if TYPE_CHECKING:
    from pathlib import Path

PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222 }}
svg {{ max-width: 100%; height: auto }} pre {{ white-space: pre-wrap; background: #f4f4f4; padding: 1rem }}
</style>
<h1>{title}</h1>
<p>{verdict}</p>
<h2>Where a step's time goes</h2>{phases}<p>{note}</p>
<h2>Against this machine's limits</h2>{roofline}
<h2>Memory</h2>{memory}
<h2>What to do</h2><pre>{advice}</pre>
</html>
"""


def require() -> None:
    """Make sure that pictures can be drawn, before anything is measured.

    Raises:
        TransitError: matplotlib is not installed.
    """
    import importlib.util

    if importlib.util.find_spec("matplotlib") is None:
        raise TransitError(
            "--report draws pictures, and matplotlib is not installed",
            wanted="the extra `report`",
            fix='pip install "transit-cli[report]"',
            exit_code=ExitCode.MACHINE,
            code="package-missing",
        )


def write(profile: Profile, verdict: str, file: Path) -> None:
    """Write the page."""
    table = phase_table(profile)
    page = PAGE.format(
        title=html.escape(table.title),
        verdict=html.escape(verdict),
        note=html.escape(table.note),
        phases=_phases(profile),
        roofline=_roofline(profile),
        memory=_memory(profile),
        advice=html.escape(advice(profile)),
    )
    file.write_text(page, encoding="utf-8")


def _svg(draw: Any, height: float) -> str:
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "transit"}):
        figure = Figure(figsize=(9, height), layout="constrained")
        draw(figure.add_subplot())
        text = io.StringIO()
        figure.savefig(text, format="svg", metadata={"Date": None})
    return text.getvalue().partition("<svg")[2].join(("<svg", ""))


def _phases(profile: Profile) -> str:
    times = profile.evidence.times

    def draw(axes: Any) -> None:
        names = [name for name, samples in times.phases.items() if any(samples)]
        values = [median(times.phases[name]) * 1e3 for name in names]
        bars = axes.barh(names[::-1], values[::-1], color="#4477aa")
        axes.bar_label(bars, fmt="%.2f", padding=3)
        axes.axvline(median(times.plain) * 1e3, color="#222", linestyle=":", label="unprofiled step")
        axes.set_xlabel("milliseconds")
        axes.legend(frameon=False)

    return _svg(draw, 3.5)


def _roofline(profile: Profile) -> str:
    found, peaks, line = profile.evidence.inspection, profile.peaks, profile.evidence.roofline

    def draw(axes: Any) -> None:
        import numpy as np

        here = max(found.flops, 1) / max(found.bytes, 1)
        knee = peaks.matmul / peaks.copy
        intensity = np.logspace(np.log10(min(here, knee) / 10), np.log10(max(here, knee) * 10), 100)
        axes.loglog(intensity, np.minimum(intensity * peaks.copy, peaks.matmul) / 1e9, color="#222", label="limit")
        axes.loglog([here], [max(found.flops, 1) / line.seconds / 1e9], "o", color="#cc3311", label="this step")
        axes.set_xlabel("operations per byte")
        axes.set_ylabel("GFLOP/s")
        axes.legend(frameon=False)

    return _svg(draw, 4)


def _memory(profile: Profile) -> str:
    def draw(axes: Any) -> None:
        places = range(len(profile.timeline))
        for name, label in (("allocated", "tensors"), ("driver", "driver"), ("resident", "process")):
            axes.step(places, [getattr(s, name) / 2**20 for s in profile.timeline], where="post", label=label)
        axes.set_xticks(list(places), [sample.phase for sample in profile.timeline], rotation=60)
        axes.set_ylabel("MiB")
        axes.set_ylim(bottom=0)
        axes.legend(frameon=False)

    return _svg(draw, 4)
