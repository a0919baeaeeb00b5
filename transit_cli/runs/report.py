"""report.html of a run: how the training went, on what, with which options, and how to cite it."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from transit_cli import console
from transit_cli.plotting import html
from transit_cli.plotting.panel import Kind, Panel, Series
from transit_cli.plotting.svg import svg
from transit_cli.results import Result, Table, TransitError
from transit_cli.runs import record
from transit_cli.training.runs.run import seeds_text
from transit_cli.utils.files import atomic_write, locked

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from transit_cli.runs.record import RunRecord
    from transit_cli.training.runs.run import EpochRecord

REPORT = "report.html"
CITE = (
    "Cite transit by its CITATION.cff, the networks by their papers (two-branch and astronet: Shallue & Vanderburg "
    "2018, AJ 155, 94), and the catalog and light curves that the view set was made from."
)


def write_report(path: Path) -> Path:
    """Write report.html of a run; returns its path.

    Raises:
        TransitError: the folder contains no run, or one of its files is damaged.
    """
    run = record.read(path)
    if not run.epochs:
        raise TransitError(
            f"{path} has no completed epoch",
            wanted="a run that has trained",
            fix=f"transit train --resume {path}",
            code="run-unfinished",
        )
    with locked(path):
        atomic_write(path / REPORT, page(run))
    return path / REPORT


def report(path: Path) -> Result:
    """`transit runs report`: write report.html of a run."""
    file = write_report(path)
    return Result({"run": path, "report": file}, (), f"report: {file}")


def with_report(result: Result) -> Result:
    """The result of `transit train` with the report of its run, which rank 0 writes once the run has finished."""
    if "average_precision" not in result.data:
        return result
    file = write_report(Path(result.data["out"]))
    head, _, tail = result.verdict.partition("\nnext:")
    return replace(result, data={**result.data, "report": file}, verdict=f"{head}\nreport: {file}\nnext:{tail}")


def page(run: RunRecord) -> str:
    """The report as an HTML document."""
    environment = run.environment
    simulated = "The training set is simulated: the figures do not hold for real stars."
    sections = [
        html.Section("Learning curves", plots=[(svg(panel), panel.title) for panel in panels(run.epochs)]),
        html.Section("Networks", tables=[_fits(run)], text=[_held_out(run)]),
        html.Section(
            "Options",
            ["Options that differ from the defaults; config.yaml has all of them."],
            [Table(("option", "value"), [(name, _text(value)) for name, value in run.options().items()])],
        ),
        html.Section("Data", tables=[Table(("", "value"), _data(run))]),
        html.Section("Machine and software", tables=[Table(("", "value"), _machine(run))]),
        html.Section(
            "Repeat, evaluate, cite",
            [CITE],
            code="\n".join(
                [
                    shlex.join(["transit", *environment.command]),
                    f"transit train --config {run.path}/config.yaml --out runs/again",
                    f"transit evaluate {run.path}",
                ]
            ),
        ),
    ]
    return html.page(
        f"Training of {run.path.name}",
        [
            f"{_networks(run)} on {run.viewset}, positive labels {','.join(run.settings.target)}.",
            f"Started {environment.started}, torch {environment.torch}.",
        ],
        sections,
        cards=_cards(run),
        warning=simulated if environment.viewset.simulated else "",
    )


def panels(epochs: Sequence[EpochRecord]) -> list[Panel]:
    """Loss, average precision and speed over epochs, a line per network."""
    quantities: list[tuple[str, str, Callable[[EpochRecord], float | None], Callable[[EpochRecord], float | None]]] = [
        ("Loss", "loss", lambda epoch: epoch.loss, lambda epoch: epoch.validation_loss),
        (
            "Average precision on held-out rows",
            "average precision",
            lambda epoch: epoch.validation_average_precision,
            lambda _: None,
        ),
        ("Training speed", "samples/s", lambda epoch: epoch.samples_per_second or None, lambda _: None),
    ]
    found = []
    for title, label, first, second in quantities:
        names = ("training", "held out") if title == "Loss" else ("", "")
        series = [*_lines(epochs, first, "first", names[0]), *_lines(epochs, second, "second", names[1])]
        if not series:
            continue
        low = min(float(one.y.min()) for one in series)
        high = max(float(one.y.max()) for one in series)
        margin = 0.06 * (high - low) or 0.05 * abs(high) or 0.1
        last = max(float(one.x.max()) for one in series)
        alt = f"{title} over epochs: from {series[0].y[0]:.4g} to {series[0].y[-1]:.4g}."
        ylim = (low - margin, high + 4 * margin)
        found.append(Panel(title, alt, "epoch", label, series, (0.5, last + 0.5), ylim))
    return found


def _lines(
    epochs: Sequence[EpochRecord], value: Callable[[EpochRecord], float | None], colour: str, label: str
) -> list[Series]:
    lines = []
    for fit in dict.fromkeys(epoch.fit for epoch in epochs):
        known = [(epoch.epoch, found) for epoch in epochs if epoch.fit == fit and (found := value(epoch)) is not None]
        if known:
            x, y = np.array(known, float).T
            kind: Kind = "line" if len(x) > 1 else "points"
            lines.append(Series(x, y, kind, colour, label="" if lines else label, size=1 if len(x) > 1 else 3))
    return lines


def _cards(run: RunRecord) -> list[tuple[str, str, str]]:
    seconds = sum(_last(run).values())
    ap = run.average_precision
    return [
        ("average precision", "-" if ap is None else f"{ap:.4f}", "on rows held out from training"),
        ("networks", str(run.networks), run.settings.network.rpartition("/")[2]),
        ("training time", console.duration(seconds), f"{len(run.epochs)} epochs"),
        ("speed", f"{run.samples_per_second:,.0f}/s" if run.samples_per_second else "-", "samples, median epoch"),
        ("memory", console.size(max(epoch.memory_bytes for epoch in run.epochs)), "highest at the end of an epoch"),
    ]


def _last(run: RunRecord) -> dict[str, float]:
    return {epoch.fit: epoch.seconds for epoch in run.epochs}


def _networks(run: RunRecord) -> str:
    name = run.settings.network.rpartition("/")[2]
    return name if run.networks == 1 else f"{run.networks} networks {name}"


def _held_out(run: RunRecord) -> str:
    """What average precision was measured on, and how much it differs between seeds."""
    seeds = f" One network, over {run.seeds['seeds']} seeds: {seeds_text(run.seeds)}." if run.seeds else ""
    return _held_out_rows(run) + seeds


def _held_out_rows(run: RunRecord) -> str:
    if run.settings.folds:
        return "Average precision is that of the fold held out from each network."
    if run.settings.patience:
        return "Average precision is that of the validation rows, which also chose the epoch: it is optimistic."
    return "Average precision is that of the validation rows, which did not influence training."


def _fits(run: RunRecord) -> Table:
    rows = []
    for fit in dict.fromkeys(epoch.fit for epoch in run.epochs):
        last = [epoch for epoch in run.epochs if epoch.fit == fit][-1]
        precision = last.validation_average_precision
        rows.append(
            (
                fit,
                last.epoch,
                last.step,
                "-" if last.loss is None else f"{last.loss:.4f}",
                "-" if precision is None else f"{precision:.4f}",
                console.duration(last.seconds),
                ", ".join(filter(None, (last.execution, last.precision))) or "-",
            )
        )
    return Table(("network", "epochs", "steps", "loss", "average precision", "time", "execution"), rows)


def _data(run: RunRecord) -> list[tuple[str, str]]:
    viewset = run.environment.viewset
    rows = [("view set", viewset.path + (" (simulated)" if viewset.simulated else ""))]
    rows += [(name, f"{size:,}") for name, size in viewset.sizes.items()]
    if run.card:
        rows += [("trained on", run.card.trained_on)]
        rows += [("views", ", ".join(f"{name} {length}" for name, length in run.card.views.items()))]
        rows += [("scalars", ", ".join(scalar.column for scalar in run.card.scalars) or "none")]
    return rows + [(f"SHA-256 of {name}", digest) for name, digest in viewset.sha256.items()]


def _machine(run: RunRecord) -> list[tuple[str, str]]:
    environment = run.environment
    return [
        ("device", f"{environment.device.name} ({environment.device.kind})"),
        ("system", environment.system),
        ("transit", environment.transit),
        ("torch", environment.torch),
        ("execution", ", ".join((*environment.executions, *environment.precisions)) or "-"),
        ("random seed", str(run.settings.seed)),
    ]


def _text(value: object) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
