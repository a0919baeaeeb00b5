"""`transit watch`: follow a run from another terminal, through the files that it writes; costs the run nothing."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import TYPE_CHECKING

from transit_cli import console
from transit_cli.results import ExitCode, Result, Text
from transit_cli.runs import record
from transit_cli.runs.listing import document
from transit_cli.training.runs.run import METRICS, missing_run, runs_near
from transit_cli.utils.files import in_use

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transit_cli.runs.record import RunRecord
    from transit_cli.runs.settings import WatchSettings
    from transit_cli.training.runs.run import EpochRecord

BARS = "▁▂▃▄▅▆▇█"


def watch(settings: WatchSettings) -> Result:
    """Show each epoch of a run until the process that trains it has ended.

    Raises:
        TransitError: there is no such run, or one of its files is damaged.
    """
    path = settings.run or next(iter(runs_near(Path("runs", "run"))), None)
    if path is None:
        raise missing_run(Path("runs"))
    run, seen = record.read(path), 0
    with console.progress(path.name, run.networks * run.settings.epochs) as bar:
        while True:
            for epoch in run.epochs[seen:]:
                seen += 1
                bar.update(seen)
                bar.print(describe(epoch, run.settings.epochs))
            if run.state != "running":
                break
            before = _size(path)
            while _size(path) == before and in_use(path):
                time.sleep(settings.interval)
            run = record.read(path)
    finished = run.state == "finished"
    following = f"transit evaluate {path}" if finished else f"transit train --resume {path}"
    ap = run.average_precision
    verdict = f"{path}: {run.state}" + (f", held-out average precision {ap:.4f}" if ap is not None else "")
    return Result(
        document(run),
        [Text(text)] if (text := curves(run)) else [],
        f"{verdict}\nnext: {following}",
        exit_code=ExitCode.DONE if finished else ExitCode.NEGATIVE,
    )


def describe(epoch: EpochRecord, epochs: int) -> str:
    """An epoch in one line."""
    parts = [f"{epoch.fit} epoch {epoch.epoch}/{epochs}"]
    parts += [f"loss {epoch.loss:.4f}"] if epoch.loss is not None else []
    precision = epoch.validation_average_precision
    parts += [f"AP {precision:.4f}"] if precision is not None else []
    parts += [f"{epoch.samples_per_second:,.0f} samples/s"] if epoch.samples_per_second else []
    parts += [console.size(epoch.memory_bytes)] if epoch.memory_bytes else []
    return "  ".join(parts)


def curves(run: RunRecord) -> str:
    """Loss and average precision of each fit as lines of bars; "" if there are none."""
    lines = []
    for fit in dict.fromkeys(epoch.fit for epoch in run.epochs):
        epochs = [epoch for epoch in run.epochs if epoch.fit == fit]
        for name, values in (
            ("loss", [epoch.loss for epoch in epochs]),
            ("AP", [epoch.validation_average_precision for epoch in epochs]),
        ):
            known = [value for value in values if value is not None]
            if len(known) > 1:
                lines.append(f"{fit:10} {name:4} {sparkline(known)}  {known[0]:.4f} to {known[-1]:.4f}")
    return "\n".join(lines)


def sparkline(values: Sequence[float], width: int = 40) -> str:
    """Values as a line of at most `width` bars from the smallest to the largest; long series are averaged."""
    step = max(1, math.ceil(len(values) / width))
    means = [sum(part) / len(part) for part in (values[i : i + step] for i in range(0, len(values), step))]
    low, high = min(means), max(means)
    scale = (len(BARS) - 1) / (high - low) if high > low else 0.0
    return "".join(BARS[round((value - low) * scale)] for value in means)


def _size(path: Path) -> int:
    try:
        return (path / METRICS).stat().st_size
    except FileNotFoundError:
        return 0
