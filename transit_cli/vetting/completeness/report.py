"""Completeness and reliability of a network on injected signals: tables, files and the picture.

Completeness is the share of injected planets that the network passes, given a search that reports them. The share of
false alarms of inverted and scrambled light curves that pass is 1 less the effectiveness of Thompson et al. (2018).
"""

from __future__ import annotations

from dataclasses import asdict
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from transit_cli.data.viewset import write_table
from transit_cli.plotting import figures
from transit_cli.plotting.figures import BLUE, GREY, ORANGE
from transit_cli.results import Table, TransitError
from transit_cli.utils.files import atomic_output
from transit_cli.vetting.completeness.cells import EDGES, TITLES, Cell, cells_of, interval, label_of

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from transit_cli.data.viewset import ViewSet
    from transit_cli.vetting.evaluation import Evaluation

#: Kinds of injections that are false alarms of the noise.
FALSE_ALARMS = ("inverted", "scrambled")
#: What the completeness and the passed false alarms are divided by.
_PLANETS = (("injected_snr",), ("period_days", "injected_snr"), ("period_days", "injected_radius_ratio"))
_ALARMS = (("measured_snr",), ("period_days", "measured_snr"))


def require_injected(views: ViewSet) -> None:
    """Raise `TransitError` for a set without injected planets."""
    if "injected_snr" not in views.tces or "kind" not in views.tces:
        raise TransitError(
            f"{views.path} holds no injected signals",
            wanted="a set of transit data inject, for --completeness",
            fix="transit data inject LIGHT_CURVES injected, then transit evaluate RUN injected --completeness",
            code="not-injected",
        )


class Completeness:
    """The cells of an evaluation.

    Attributes:
        planets: cells of injected planets, by the columns that divide them.
        alarms: cells of false alarms, likewise.
        threshold: from which a signal passes.
    """

    def __init__(self, evaluation: Evaluation, views: ViewSet) -> None:
        columns = {name: np.asarray(views.tces[name])[evaluation.rows] for name in views.tces}
        passed = evaluation.scores >= evaluation.threshold
        self.threshold = evaluation.threshold
        self.planets = _cells(columns, passed, columns["kind"] == "planet", _PLANETS)
        self.alarms = _cells(columns, passed, np.isin(columns["kind"], FALSE_ALARMS), _ALARMS)
        self.kinds = {
            kind: (int((columns["kind"] == kind).sum()), int((passed & (columns["kind"] == kind)).sum()))
            for kind in dict.fromkeys(columns["kind"].tolist())
        }

    def document(self) -> dict[str, Any]:
        """JSON types: cells of completeness, and of false alarms that pass."""
        return {
            "threshold": self.threshold,
            "passed": {kind: {"signals": n, "passed": k} for kind, (n, k) in self.kinds.items()},
            "planets": [asdict(cell) for cells in self.planets.values() for cell in cells],
            "false_alarms": [asdict(cell) for cells in self.alarms.values() for cell in cells],
        }

    def tables(self) -> list[Table]:
        """Shares that pass by kind, and completeness by S/N."""
        kinds = []
        for kind, (signals, passed) in self.kinds.items():
            low, high = interval(passed, signals)
            kinds.append((kind, f"{signals:,}", f"{passed / signals:.3f}", f"{low:.3f} to {high:.3f}"))
        columns = ("", "signals", "passed", "95 % interval")
        found = [Table(("kind", *columns[1:]), kinds, note=f"passed: score of at least {self.threshold:.3f}")]
        for title, cells, name in (
            ("planets: completeness by injected S/N", self.planets[("injected_snr",)], "injected_snr"),
            ("false alarms that pass, by measured S/N", self.alarms[("measured_snr",)], "measured_snr"),
        ):
            rows = [
                (
                    label_of(cell, name),
                    f"{cell.signals:,}",
                    f"{cell.share:.3f}",
                    f"{cell.share_low:.3f} to {cell.share_high:.3f}",
                )
                for cell in cells
            ]
            if rows:
                found.append(Table((TITLES[name], *columns[1:]), rows, title=title))
        return found

    def write(self, folder: Path, *, with_plots: bool) -> dict[str, str]:
        """Write completeness.csv, and completeness.png with plots; returns their paths by content."""
        files = {"completeness": folder / "completeness.csv"}
        rows: list[dict[str, Any]] = []
        for what, groups in (("planets", self.planets), ("false alarms", self.alarms)):
            for by, cells in groups.items():
                for cell in cells:
                    edges = {f"{name}_{side}": getattr(cell, side)[name] for name in by for side in ("low", "high")}
                    counts = {name: getattr(cell, name) for name in ("signals", "passed", "share")}
                    rows.append(
                        {"what": what} | edges | counts | {"share_low": cell.share_low, "share_high": cell.share_high}
                    )
        names = dict.fromkeys(name for row in rows for name in row)
        with atomic_output(files["completeness"]) as temporary:
            write_table(temporary, {name: [row.get(name, "") for row in rows] for name in names})
        if with_plots:
            files["completeness_plot"] = folder / "completeness.png"
            figures.save(self.figure(), files["completeness_plot"])
        return {name: str(path) for name, path in files.items()}

    def figure(self) -> Figure:
        """Completeness over period and S/N, over period and radius, over S/N; and the false alarms that pass."""
        drawn = figures.figure(11, 7.6)
        axes = drawn.subplots(2, 2)
        _grid(axes[0, 0], self.planets[("period_days", "injected_snr")], "planets that pass")
        _grid(axes[0, 1], self.planets[("period_days", "injected_radius_ratio")], "planets that pass")
        _curve(axes[1, 0], self.planets[("injected_snr",)], "injected_snr", "planets that pass", BLUE)
        _curve(axes[1, 1], self.alarms[("measured_snr",)], "measured_snr", "false alarms that pass", ORANGE)
        return drawn


def _cells(
    columns: dict[str, np.ndarray], passed: np.ndarray, chosen: np.ndarray, divisions: tuple[tuple[str, ...], ...]
) -> dict[tuple[str, ...], list[Cell]]:
    kept = {name: values[chosen] for name, values in columns.items()}
    return {by: cells_of(kept, passed[chosen], by) for by in divisions}


def _grid(axes: Axes, cells: list[Cell], title: str) -> None:
    """Cells of two columns in colour, with the share and the number of signals in each."""
    axes.set_title(title, fontsize=10)
    if not cells:
        axes.text(0.5, 0.5, "no signals", ha="center", va="center", color=GREY, transform=axes.transAxes)
        return
    across, up = cells[0].low
    image = np.full((len(EDGES[up]) - 1, len(EDGES[across]) - 1), np.nan)
    for cell in cells:
        place = (EDGES[up].index(cell.low[up]), EDGES[across].index(cell.low[across]))
        image[place] = cell.share
        dark = cell.share > 0.55
        axes.text(
            place[1],
            place[0],
            f"{cell.share:.2f}\nn={cell.signals}",
            ha="center",
            va="center",
            fontsize=8,
            color="white" if dark else "black",
        )
    axes.imshow(image, origin="lower", aspect="auto", cmap="Blues", vmin=0, vmax=1)
    for name, set_ticks in ((across, axes.set_xticks), (up, axes.set_yticks)):
        edges = EDGES[name]
        labels = [
            f"< {high:g}" if low <= 0 else f"> {low:g}" if not np.isfinite(high) else f"{low:g}-{high:g}"
            for low, high in pairwise(edges)
        ]
        set_ticks(np.arange(len(labels)), labels, fontsize=8)
    axes.set_xlabel(TITLES[across])
    axes.set_ylabel(TITLES[up])
    axes.grid(visible=False)


def _curve(axes: Axes, cells: list[Cell], name: str, title: str, colour: str) -> None:
    """Shares with their intervals in order of one column."""
    place = np.arange(len(cells))
    share = np.array([cell.share for cell in cells])
    below = share - np.array([cell.share_low for cell in cells])
    above = np.array([cell.share_high for cell in cells]) - share
    axes.errorbar(place, share, yerr=[np.maximum(below, 0), np.maximum(above, 0)], fmt="o", color=colour, capsize=3)
    axes.set_xticks(place, [f"{label_of(cell, name)}\nn={cell.signals}" for cell in cells], fontsize=8)
    axes.set(ylim=(-0.03, 1.03), xlabel=TITLES[name], ylabel="share (95 % interval)")
    axes.set_title(title, fontsize=10)
