"""Figures of one signal, and of the folded views of a view set."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from transit_cli.data.lightcurves.time_reference import name_of
from transit_cli.plotting import figures
from transit_cli.plotting.figures import BLUE, ORANGE
from transit_cli.results import ExitCode, TransitError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from transit_cli.data.lightcurves.lightcurve import LightCurve
    from transit_cli.data.views.signal_summary import SignalSummary
    from transit_cli.data.viewset import ViewSet

#: Supported file formats.
FORMATS = (".png", ".pdf", ".svg")
#: Rows and columns of TCEs on a page of `info --plot`.
ROWS, COLUMNS = 6, 4
#: Maximum number of points of a light curve that are drawn.
POINTS = 20000


def check_plot(file: Path) -> None:
    """Raise the error for a figure that cannot be drawn, before anything is computed."""
    figures.require_matplotlib("--plot")
    if file.suffix.lower() not in FORMATS:
        raise TransitError(
            f"--plot is {file}",
            wanted=f"a name ending in {', '.join(FORMATS)}",
            fix=f"--plot {file.with_suffix('.png')}",
            exit_code=ExitCode.USAGE,
            code="plot-format",
        )


def draw_signal(summary: SignalSummary, file: Path) -> None:
    """Draw the light curve with its trend, the folded light curve and every view."""
    signal, curve = summary.signal, summary.curve
    figure = figures.figure(11, 10)
    grid = figure.add_gridspec(4, 2, height_ratios=(1.2, 1, 1, 1))
    raw = figure.add_subplot(grid[0, :])
    thin = slice(None, None, max(len(curve.time) // POINTS, 1))
    raw.plot(curve.time[thin], curve.flux[thin], ".", color="0.6", markersize=2, rasterized=True)
    raw.plot(curve.time, summary.trend, color=ORANGE, linewidth=1, label=f"trend, knots {summary.spacing:.2f} d")
    raw.plot(summary.centres, np.full(len(summary.centres), raw.get_ylim()[0]), "^", color=BLUE, label="transits")
    raw.set(xlabel=f"days ({summary.time_system})", ylabel="relative flux")
    raw.legend(loc="upper right", fontsize="small")
    folded = figure.add_subplot(grid[1, 0])
    near = np.abs(summary.folded.phase) < min(4 * signal.duration, signal.period / 2)
    some = np.flatnonzero(near)[:: max(near.sum() // POINTS, 1)]
    level = float(np.median(summary.folded.flux))
    ppm = 1e6 * (summary.folded.flux[some] / level - 1)
    folded.plot(summary.folded.phase[some] * 24, ppm, ".", color="0.6", markersize=2, rasterized=True)
    folded.axvspan(-12 * signal.duration, 12 * signal.duration, color=BLUE, alpha=0.1)
    folded.set(xlabel="hours from the centre", ylabel="detrended flux (ppm)", title="folded")
    places = {"global": grid[1, 1], "local": grid[2, 0], "secondary": grid[2, 1], "odd": grid[3, 0], "even": grid[3, 1]}
    for name, place in places.items():
        counted = summary.scalars.get(f"{name}_transits")
        if counted == 0:
            continue  # the view is a copy of the local one
        axes = figure.add_subplot(place)
        view = summary.views[name]
        reach = 0.5 if name == "global" else 24 * summary.reach * signal.duration
        title = name if counted is None else f"{name} ({counted:.0f} transits)"
        if name == "secondary":
            title += f", {summary.scalars['secondary_phase_days'] / signal.period % 1:.3f} periods later"
        axes.plot(np.linspace(-reach, reach, len(view)), view, ".-", color=BLUE, markersize=3, linewidth=0.7)
        label = "phase (periods)" if name == "global" else "hours from the centre"
        axes.set(title=title, xlabel=label, ylabel="flux (depth = 1)")
    figure.suptitle(f"{curve.star or curve.source}: {signal.period:.6g} d, {summary.caption}", parse_math=False)
    figures.save(figure, file)


def draw_curves(curves: Sequence[LightCurve], file: Path) -> None:
    """Draw light curves as read, one panel each."""
    figure = figures.figure(11, 2.2 * len(curves))
    for index, curve in enumerate(curves, 1):
        axes = figure.add_subplot(len(curves), 1, index)
        thin = slice(None, None, max(len(curve.time) // POINTS, 1))
        axes.plot(curve.time[thin], curve.flux[thin], ".", color="0.4", markersize=2, rasterized=True)
        title = f"{curve.star or '?'}  {curve.source}  {curve.product} {curve.column}"
        axes.set(title=title, xlabel=f"days ({name_of(curve.reference_jd)})", ylabel="relative flux")
    figures.save(figure, file)


def draw_page(views: ViewSet, file: Path) -> None:
    """Draw a page of folded views with their labels and, if the table has them, scores."""
    chosen = _balanced_rows(views.labels, ROWS * COLUMNS)
    figure = figures.figure(11, 14)
    grid = figure.add_gridspec(ROWS, COLUMNS)
    scores = views.tces.get("score")
    for place, row in enumerate(chosen):
        inner = grid[divmod(place, COLUMNS)].subgridspec(2, 1)
        for part, name in enumerate(("global", "local")):
            axes = figure.add_subplot(inner[part])
            view = views.views[name][row]
            reach = 0.5 if name == "global" else _local_reach(views, row)
            axes.plot(np.linspace(-reach, reach, len(view)), view, ".", color=BLUE if part else "0.4", markersize=1.5)
            axes.tick_params(labelsize=5, pad=1, length=2)
            label = "phase (periods)" if name == "global" else "hours" if reach != 1 else "local view"
            axes.set_xlabel(label, fontsize=5, labelpad=1)
            if not place % COLUMNS:
                axes.set_ylabel("flux (depth = 1)", fontsize=5)
            if not part:
                score = f", score {scores[row]:.2f}" if scores is not None else ""
                star, period = views.tces["star"][row], views.tces["period_days"][row]
                axes.set_title(f"{views.labels[row]}{score}\n{star}, {period:.4g} d", fontsize=7, parse_math=False)
    simulated = " (simulated)" if views.simulated else ""
    figure.suptitle(
        f"{views.path.name}{simulated}: {len(chosen)} of {len(views):,} TCEs; global above local view", parse_math=False
    )
    figures.save(figure, file)


def _local_reach(views: ViewSet, row: int) -> float:
    """Half-width of the local view in hours; 1 if the recipe or the duration is not known."""
    hours = float(views.tces["duration_hours"][row]) * (views.local_span or np.nan)
    return hours if np.isfinite(hours) and hours > 0 else 1.0


def _balanced_rows(labels: np.ndarray, count: int) -> list[int]:
    """Row indices that alternate between labels, spread evenly over the set."""
    queues = []
    for label in sorted(set(map(str, labels))):
        rows = np.flatnonzero(labels == label)
        queues.append(list(rows[np.linspace(0, len(rows) - 1, min(count, len(rows))).astype(int)]))
    chosen: list[int] = []
    while any(queues) and len(chosen) < count:
        for queue in queues:
            if queue and len(chosen) < count:
                chosen.append(int(queue.pop(0)))
    return chosen
