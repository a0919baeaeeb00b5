"""`transit runs list`, `show`, `best` and `remove-empty`."""

from __future__ import annotations

import datetime as dt
import shutil
from typing import TYPE_CHECKING, Any

from transit_cli import console
from transit_cli.results import Result, Table, TransitError
from transit_cli.runs import record
from transit_cli.training.runs.environment import CONFIG, ENVIRONMENT, INIT
from transit_cli.training.runs.run import CHECKPOINTS, METRICS, figure, seeds_text
from transit_cli.utils.files import locked

if TYPE_CHECKING:
    from pathlib import Path

    from transit_cli.runs.record import RunRecord
    from transit_cli.runs.settings import BestSettings, ListSettings, RemoveEmptySettings

COMPARABLE = "Average precision (AP) is comparable between runs on the same rows of one view set: transit runs compare."


def list_runs(settings: ListSettings) -> Result:
    """The runs in a folder, one per row."""
    runs, problems = record.read_all(settings.folder)
    if settings.sort == "ap":
        runs.sort(key=lambda run: -1.0 if run.average_precision is None else run.average_precision, reverse=True)
    columns = ("run", "state", "view set", "network", "epochs", "AP", "started")
    rows = [
        (
            run.path.name,
            run.state,
            run.viewset + (" (sim.)" if run.environment.viewset.simulated else ""),
            _network(run),
            f"{_epochs(run)}/{run.networks * run.settings.epochs}",
            figure(run.average_precision),
            _when(run.environment.started),
        )
        for run in runs
    ]
    counts = {state: sum(run.state == state for run in runs) for state in ("finished", "running", "stopped", "empty")}
    verdict = f"{settings.folder}: " + ", ".join(f"{count} {state}" for state, count in counts.items() if count)
    if counts["empty"]:
        verdict += f"\nnext: transit runs remove-empty {settings.folder}"
    data = {"folder": settings.folder, "runs": [document(run) for run in runs]}
    return Result(data, [Table(columns, rows, note=COMPARABLE)], verdict, problems)


def show_run(path: Path) -> Result:
    """One run: its state, its options, where it ran, and its epochs."""
    run = record.read(path)
    environment = run.environment
    facts: list[tuple[str, object]] = [
        ("state", run.state),
        ("started", _when(environment.started)),
        ("view set", environment.viewset.path + (" (simulated)" if environment.viewset.simulated else "")),
        ("network", _network(run)),
        ("positive labels", ",".join(run.settings.target)),
        ("device", f"{environment.device.name} ({environment.device.kind})"),
        ("trained by", f"transit {environment.transit}, {environment.resolved}"),
        ("average precision, held-out rows", figure(run.average_precision)),
        *(
            [("average precision, one network", f"{seeds_text(run.seeds)}; {run.seeds['seeds']} seeds")]
            if run.seeds
            else []
        ),
        ("training speed", f"{run.samples_per_second:,.0f} samples/s" if run.samples_per_second else "-"),
    ]
    options = [(name, _text(value)) for name, value in run.options().items()]
    epochs = [
        (
            epoch.fit,
            epoch.epoch,
            figure(epoch.loss),
            figure(epoch.validation_average_precision),
            console.duration(epoch.seconds),
        )
        for epoch in run.epochs[-10:]
    ]
    blocks = [Table(("", "value"), facts)]
    if options:
        blocks.append(Table(("option", "value"), options, title="options other than the defaults"))
    if epochs:
        blocks.append(Table(("fit", "epoch", "loss", "AP", "time"), epochs, title="the last epochs"))
    following = {
        "finished": f"next: transit evaluate {path}",
        "stopped": f"next: transit train --resume {path}",
        "running": f"next: transit watch {path}",
        "empty": f"next: transit train --resume {path}, or transit runs remove-empty {path.parent}",
    }[run.state]
    return Result(document(run), blocks, f"{path}: {run.state}\n{following}")


def best_run(settings: BestSettings) -> Result:
    """The finished run with the highest held-out average precision on one view set.

    Raises:
        TransitError: no run has finished, or they are of several view sets and none was named.
    """
    runs, problems = record.read_all(settings.folder)
    finished = [run for run in runs if run.average_precision is not None]
    names = sorted({run.viewset for run in finished})
    if settings.viewset:
        finished = [run for run in finished if run.viewset == settings.viewset]
    elif len(names) > 1:
        raise TransitError(
            f"the runs in {settings.folder} are of several view sets: {', '.join(names)}",
            wanted="one view set: average precision is not comparable between different ones",
            fix=f"transit runs best {settings.folder} {names[0]}",
            code="runs-not-comparable",
        )
    questions = {tuple(run.settings.target) for run in finished}
    if len(questions) > 1:
        raise TransitError(
            "the runs have different positive labels: " + "; ".join(",".join(labels) for labels in sorted(questions)),
            wanted="runs that answer one question",
            fix=f"transit runs list {settings.folder} --sort ap",
            code="runs-not-comparable",
        )
    if not finished:
        raise TransitError(
            f"{settings.folder} has no finished run" + (f" on {settings.viewset}" if settings.viewset else ""),
            wanted="a run that has ended, with trained networks",
            fix=f"transit runs list {settings.folder}",
            code="run-missing",
        )
    ranked = sorted(finished, key=lambda run: run.average_precision or 0.0, reverse=True)
    best = ranked[0]
    warnings = [*problems]
    if len(ranked) > 1:
        warnings.append(
            f"the best of {len(ranked)} runs is partly lucky: its held-out average precision is optimistic; "
            f"is it better than the second? transit runs compare {best.path} {ranked[1].path}"
        )
    verdict = f"{best.path}: average precision {figure(best.average_precision)} on {best.viewset}"
    return Result(document(best), (), f"{verdict}\nnext: transit evaluate {best.path}", warnings)


def remove_empty(settings: RemoveEmptySettings) -> Result:
    """Remove runs without an epoch or a checkpoint; those that a process owns, and folders with other files, stay."""
    runs, problems = record.read_all(settings.folder)
    removed: list[Path] = []
    kept: list[str] = []
    for run in runs:
        if run.state != "empty":
            continue
        known = {CONFIG, ENVIRONMENT, INIT, METRICS, CHECKPOINTS}
        other = sorted(item.name for item in run.path.iterdir() if item.name not in known)
        if other:
            kept.append(f"{run.path} is empty, but has {', '.join(other[:3])}: kept")
            continue
        if not settings.dry_run:
            with locked(run.path):
                shutil.rmtree(run.path)
        removed.append(run.path)
    words = "would be removed" if settings.dry_run else "removed"
    shown = ", ".join(path.name for path in removed) or "none"
    return Result({"removed": removed, "dry_run": settings.dry_run}, (), f"{words}: {shown}", [*problems, *kept])


def document(run: RunRecord) -> dict[str, Any]:
    """A run as JSON."""
    last = run.epochs[-1] if run.epochs else None
    return {
        "run": run.path,
        "state": run.state,
        "started": run.environment.started,
        "viewset": run.environment.viewset.path,
        "simulated": run.environment.viewset.simulated,
        "network": run.settings.network,
        "networks": run.networks,
        "target": run.settings.target,
        "options": run.options(),
        "epochs": _epochs(run),
        "epochs_planned": run.networks * run.settings.epochs,
        "loss": last.loss if last else None,
        "average_precision": run.average_precision,
        **run.seeds,
        "samples_per_second": run.samples_per_second,
        "torch": run.environment.torch,
        "device": run.environment.device.name,
    }


def _network(run: RunRecord) -> str:
    name = run.settings.network.rpartition("/")[2]
    parts = [f"{run.settings.members} members" if run.settings.members > 1 else ""]
    parts += [f"{run.settings.folds} folds" if run.settings.folds else ""]
    return ", ".join([name, *filter(None, parts)])


def _epochs(run: RunRecord) -> int:
    return len({(epoch.fit, epoch.epoch) for epoch in run.epochs})


def _text(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _when(started: str) -> str:
    try:
        return dt.datetime.fromisoformat(started).astimezone().strftime("%Y-%m-%d %H:%M")
    except ValueError:
        return started or "-"
