"""The files of a search: the folder of finished blocks while it runs, and the catalog."""

from __future__ import annotations

import csv
import hashlib
import json
import shutil
from collections import Counter
from collections.abc import Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import numpy as np

from transit_cli import __version__, console
from transit_cli.data import bulk
from transit_cli.data.lightcurves.file_index import base_of
from transit_cli.data.shards.plan import PLAN
from transit_cli.parsing import csv_text
from transit_cli.results import ExitCode, Result, Table, TransitError
from transit_cli.search import signal_catalog
from transit_cli.search.blocks import Machine, block_sizes
from transit_cli.utils import machine_errors
from transit_cli.utils.files import atomic_output, atomic_write

if TYPE_CHECKING:
    from pathlib import Path

    from transit_cli.search.settings import SearchSettings
    from transit_cli.search.source import StarTask

#: Rows of the table on the screen.
SHOWN = 20
#: What is said of a catalog that is there.
COMPLETE = "complete already: nothing to do"
#: Settings that say where and how to work.
_IGNORED = {"light_curves", "out", "sources", "batch_size", "device", "workers", "memory_limit", "overwrite"}
_IGNORED |= {"shard", "shards", "scheduler"}


def work_folder(out: Path) -> Path:
    """The folder of what is found while a search runs."""
    return out.parent / f".{out.name}.work"


def digest_of(tasks: Sequence[StarTask], settings: SearchSettings) -> str:
    """Of all that the catalog depends on."""
    digest, folder = hashlib.sha256(repr(options_of(settings)).encode()), base_of(settings.light_curves)
    for task in tasks:
        stats = [(str(file.relative_to(folder)), *bulk.stamp(file)) for file in task.files]
        digest.update(repr((task.star, stats)).encode())
    return digest.hexdigest()


def options_of(settings: SearchSettings) -> dict[str, Any]:
    """The settings that the catalog depends on."""
    return {name: value for name, value in vars(settings).items() if name not in _IGNORED}


def _first_line(digest: str) -> str:
    return f"# transit {__version__} search, input {digest[:24]}"


def replaceable(settings: SearchSettings, digest: str) -> bool:
    """Whether an existing catalog is to be written again; False if it is the one asked for."""
    with settings.out.open(encoding="utf-8", errors="replace") as file:
        first = file.readline().rstrip("\n")
    if first.rpartition("input ")[2] == digest[:24]:
        return False
    if not settings.overwrite:
        raise TransitError(
            f"{settings.out} exists and is of other light curves or options",
            wanted="a new file",
            fix="give another OUT, or --overwrite",
            exit_code=ExitCode.USAGE,
            code="output-exists",
        )
    return True


def blocks_of(tasks: Sequence[StarTask], machine: Machine) -> list[Sequence[StarTask]]:
    """The stars that are held and searched together."""
    sizes = block_sizes([sum(bulk.stamp(file)[0] for file in task.files) for task in tasks], machine)
    return [tasks[end - size : end] for size, end in zip(sizes, accumulate(sizes), strict=True)]


def refuse_shards(work: Path) -> None:
    """Raise the error for a search that was begun in shards and is now called without."""
    if (work / PLAN).exists():
        raise TransitError(
            f"{work} holds shards of a search that is not complete",
            wanted="the options that it was begun with",
            fix=f"give --shards as before, or remove {work}",
            exit_code=ExitCode.USAGE,
            code="output-exists",
        )


def open_work(work: Path, digest: str, tasks: Sequence[StarTask], machine: Machine) -> list[int]:
    """Open the folder of finished blocks, and return how many stars each block has.

    The blocks of a run that is resumed are those that it began with. Blocks of another run are removed.
    """
    note = work / "input.json"
    if work.exists():
        try:
            before = json.loads(note.read_text(encoding="utf-8"))
            if before["digest"] == digest:
                return [int(size) for size in before["sizes"]]
        except (OSError, ValueError, KeyError, TypeError) as error:
            machine_errors.raise_if_machine(error)
        console.note(f"{work} is of another run and starts afresh")
        shutil.rmtree(work)
    sizes = [len(block) for block in blocks_of(tasks, machine)]
    atomic_write(note, json.dumps({"digest": digest, "sizes": sizes}))
    return sizes


def assemble(out: Path, blocks: Sequence[Path], digest: str) -> None:
    """The catalog from the blocks' files, of which one is in memory at a time, besides four figures per signal."""
    figures: list[tuple[float, float, float, float]] = []
    stars: list[int] = []
    unsearched: list[list[str]] = []
    searched = 0
    numbers: Counter[str] = Counter()
    for file in blocks:
        block = json.loads(file.read_text(encoding="utf-8"))
        searched += block["stars"]
        unsearched += block["unsearched"]
        for row in block["rows"]:
            figures.append(signal_catalog.figures_of(row))
            stars.append(numbers.setdefault(row["star"], len(numbers)))
    others = iter(signal_catalog.shared(np.array(figures).reshape(-1, 4), np.array(stars, dtype=np.int64)))
    with atomic_output(out) as temporary, temporary.open("w", encoding="utf-8", newline="") as stream:
        stream.write(f"{_first_line(digest)}\n")
        stream.write(f"# {json.dumps({'searched': searched, 'unsearched': len(unsearched)})}\n")
        stream.write(",".join(signal_catalog.COLUMNS) + "\n")
        for file in blocks:
            rows = json.loads(file.read_text(encoding="utf-8"))["rows"]
            for row in rows:
                if count := int(next(others)):
                    plural = "star shows" if count == 1 else "stars show"
                    flag = f"shared: {count} other {plural} it at the same time"
                    row["flags"] = "; ".join(filter(None, (row["flags"], flag)))
            stream.write(signal_catalog.text(rows))
    beside = _unsearched_file(out)
    if unsearched:
        atomic_write(beside, signal_catalog.lines([["star", "reason"], *unsearched]))
    else:
        beside.unlink(missing_ok=True)


def _unsearched_file(out: Path) -> Path:
    return out.with_name(f"{out.stem}-unsearched.csv")


def result(settings: SearchSettings, notes: Sequence[str] = ()) -> Result:
    """What the catalog holds."""
    out = settings.out
    with out.open(encoding="utf-8", newline="") as stream:
        stream.readline()
        counts = json.loads(stream.readline()[1:])
        best: list[dict[str, str]] = []
        signals, singles = 0, 0
        stars: set[str] = set()
        for cells in csv.DictReader(stream):
            row = {name: csv_text.plain(cell) for name, cell in cells.items()}
            signals += 1
            singles += row["single"] == "1"
            stars.add(row["star"])
            best.append(row)
            if len(best) > 4 * SHOWN:
                best = sorted(best, key=lambda item: -float(item["snr"]))[:SHOWN]
    best = sorted(best, key=lambda item: -float(item["snr"]))[:SHOWN]
    table = Table(
        ("star", "signal", "period (d)", "epoch", "duration (h)", "depth (ppm)", "S/N", "SDE", "transits", "flags"),
        [
            (
                row["star"],
                row["signal"],
                ">" * (row["single"] == "1") + f"{float(row['period_days']):.6g}",
                f"{float(row['epoch_days']):.4f}",
                f"{float(row['duration_hours']):.2f}",
                f"{float(row['depth_ppm']):.0f}",
                f"{float(row['snr']):.1f}",
                f"{float(row['sde']):.1f}" if row["sde"] else "-",
                row["transits"],
                row["flags"],
            )
            for row in best
        ],
        title="Signals" + (f" (the {SHOWN} of highest S/N)" if signals > SHOWN else ""),
    )
    data = {
        "catalog": str(out),
        "stars": counts["searched"],
        "unsearched": counts["unsearched"],
        "stars_with_signals": len(stars),
        "signals": signals,
        "single_transits": singles,
        "best": [{key: value for key, value in row.items() if value != ""} for row in best],
        "notes": list(notes),
    }
    verdict = f"{signals:,} signals on {len(stars):,} of {counts['searched']:,} stars in {out}"
    warnings = []
    if counts["unsearched"]:
        warnings.append(f"{counts['unsearched']:,} stars could not be searched: {_unsearched_file(out)}")
    return Result(data, [table] if signals else [], verdict + "".join(f"; {note}" for note in notes), warnings)
