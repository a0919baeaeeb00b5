"""`transit search`: from a folder of light curves to a catalog of signals.

Stars are read and detrended by worker processes and searched in blocks on the device. The result of each block is a
file in a work folder beside the catalog, written atomically, so that a run that was stopped resumes with the blocks
that are left; the catalog is put together from those files. At any moment a few blocks of stars are in memory.
"""

from __future__ import annotations

import csv
import functools
import hashlib
import json
import math
import shutil
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from transit_cli import __version__, console
from transit_cli.data.lightcurves.file_index import FileIndex
from transit_cli.device.select import select
from transit_cli.memory.limit import MemoryLimit
from transit_cli.parallel import each
from transit_cli.parsing import csv_text
from transit_cli.results import ExitCode, Result, Table, TransitError
from transit_cli.search import grid, signal_catalog, star_batch
from transit_cli.search.engine import Engine, SearchPlan
from transit_cli.search.source import Light, StarTask, Unsearched, read_star, tasks_of
from transit_cli.search.star_batch import Limits
from transit_cli.utils.files import atomic_output, atomic_write, locked
from transit_cli.utils.packages import check_installed

if TYPE_CHECKING:
    from pathlib import Path

    from transit_cli.device.base import Device
    from transit_cli.search.settings import SearchSettings

#: Stars of a block: what is lost when a run is killed, and the most that are searched together.
BLOCK = {"cpu": 64, "mps": 128, "cuda": 256}
#: Bytes for the sums and scores of a chunk of periods: what stays in a CPU's cache, what keeps a GPU busy.
BUDGET = {"cpu": 4 << 20, "mps": 128 << 20, "cuda": 512 << 20}
#: Cells of a light curve are rounded up to a multiple of this share of it, so that stars of one sector share a grid.
ROUNDING = 0.02
#: Rows of the table on the screen.
SHOWN = 20


def search(settings: SearchSettings) -> Result:
    """Write the catalog that the settings ask for, or report that it is complete already."""
    check_installed("astropy", "data", "reading FITS light curves")
    index = FileIndex.of(settings.light_curves, skip=[settings.out])
    shortest = float(grid.shortest(settings.min_period, settings.max_density))
    tasks = tasks_of(index.by_star, settings.flux_column, shortest)
    nameless = len(index.files) - sum(len(task.files) for task in tasks)
    if nameless:
        console.warn(f"{nameless:,} files do not say which star they are of, and are left out")
    digest = _digest(tasks, settings)
    work = settings.out.parent / f".{settings.out.name}.work"
    with locked(work):
        if settings.out.exists() and not _replaceable(settings, digest):
            return _result(settings, ("complete already: nothing to do",))
        _open_work(work, digest)
        machine = _Machine.open(settings)
        done = _search_blocks(tasks, settings, machine, work)
        _assemble(settings.out, done, digest)
        shutil.rmtree(work)
    return _result(settings)


def _digest(tasks: Sequence[StarTask], settings: SearchSettings) -> str:
    """Of all that the catalog depends on."""
    ignored = {"light_curves", "out", "sources", "batch_size", "device", "workers", "memory_limit", "overwrite"}
    digest = hashlib.sha256(repr({k: v for k, v in vars(settings).items() if k not in ignored}).encode())
    for task in tasks:
        stats = [
            (str(file.relative_to(settings.light_curves)), (stat := file.stat()).st_size, stat.st_mtime_ns)
            for file in task.files
        ]
        digest.update(repr((task.star, stats)).encode())
    return digest.hexdigest()


def _first_line(digest: str) -> str:
    return f"# transit {__version__} search, input {digest[:24]}"


def _replaceable(settings: SearchSettings, digest: str) -> bool:
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


def _open_work(work: Path, digest: str) -> None:
    """The folder of finished blocks; those of another run are removed."""
    note = work / "input"
    if work.exists() and (not note.is_file() or note.read_text(encoding="utf-8") != digest):
        console.note(f"{work} is of another run and starts afresh")
        shutil.rmtree(work)
    if not work.exists():
        atomic_write(note, digest)


@dataclass
class _Machine:
    """Where the search runs, and how many stars at once.

    Attributes:
        device: opened and capped.
        engine: on it.
        limit: bytes that this process may take.
        stars: the most that are searched together.
    """

    device: Device
    engine: Engine
    limit: int
    stars: int

    @classmethod
    def open(cls, settings: SearchSettings) -> _Machine:
        device = select(settings.device)
        limit = MemoryLimit(device, settings.memory_limit).bytes
        free = max(limit - device.memory().driver, 64 << 20)
        budget = min(BUDGET[device.kind], free // 4)
        engine = Engine(device.torch_device, budget)
        return cls(device, engine, limit, settings.batch_size or BLOCK[device.kind])

    def fitting(self, plan: SearchPlan, stars: int) -> int:
        """How many of `stars` light curves fit into the memory that is left."""
        free = max(self.limit - self.device.memory().driver, 64 << 20) // 2
        return max(1, min(stars, self.stars, free // plan.bytes_per_star))


def _search_blocks(tasks: Sequence[StarTask], settings: SearchSettings, machine: _Machine, work: Path) -> list[Path]:
    """Search every block that has no file yet; returns all blocks' files in order."""
    size = BLOCK["cpu"]
    blocks = [tasks[first : first + size] for first in range(0, len(tasks), size)]
    files = [work / f"block-{number:06}.json" for number in range(len(blocks))]
    left = [number for number, file in enumerate(files) if not file.exists()]
    before = sum(len(block) for block in blocks) - sum(len(blocks[number]) for number in left)
    if before:
        console.note(f"{before:,} of {len(tasks):,} stars were searched before")
    home = {task.star: number for number in left for task in blocks[number]}
    waiting: dict[int, list[Light | Unsearched]] = defaultdict(list)
    todo = [task for number in left for task in blocks[number]]
    try:
        with console.progress("stars", len(tasks)) as bar:
            bar.update(before)
            for task, light in each(read_star, todo, settings.workers):
                number = home[task.star]
                waiting[number].append(light)
                if len(waiting[number]) == len(blocks[number]):
                    block = sorted(waiting.pop(number), key=lambda item: item.star)
                    atomic_write(files[number], json.dumps(_search_block(block, settings, machine)))
                    bar.update(advance=len(block), status=task.star)
    except KeyboardInterrupt as interrupt:
        interrupt.args = (f"run the same command again: it resumes from {work}",)
        raise
    return files


def _search_block(block: Sequence[Light | Unsearched], settings: SearchSettings, machine: _Machine) -> dict[str, Any]:
    """Search the stars of a block, those on the same grid together; the block's rows in JSON types."""
    limits = Limits(settings.snr, settings.single_snr, settings.sde, settings.max_signals)
    together: dict[tuple[int, float], list[Light]] = defaultdict(list)
    for light in block:
        if isinstance(light, Light):
            together[_rounded(light.curve.cells), light.width].append(light)
    rows: dict[str, list[dict[str, Any]]] = {}
    for (cells, width), lights in together.items():
        plan = _plan(cells, width, settings)
        for some in _portions(lights, machine.fitting(plan, len(lights))):
            for light, found in zip(some, _search_some(some, plan, limits, machine), strict=True):
                rows[light.star] = signal_catalog.rows_of(light, found)
    return {
        "stars": len(rows),
        "rows": [row for star in sorted(rows) for row in rows[star]],
        "unsearched": [[item.star, item.reason] for item in block if isinstance(item, Unsearched)],
    }


def _search_some(
    lights: Sequence[Light], plan: SearchPlan, limits: Limits, machine: _Machine
) -> list[list[star_batch.Found]]:
    """Search light curves on the same grid; where they do not fit into the memory, in two halves."""
    curves, refits = [light.curve for light in lights], [light.detrended for light in lights]
    try:
        return star_batch.search(machine.engine, plan, curves, limits, refits)
    except (RuntimeError, MemoryError) as error:
        if len(lights) == 1 or not machine.device.is_out_of_memory(error):
            raise
    machine.device.empty_cache()
    half = len(lights) // 2
    machine.stars = min(machine.stars, half)
    return [item for some in (lights[:half], lights[half:]) for item in _search_some(some, plan, limits, machine)]


def _portions(lights: Sequence[Light], size: int) -> Iterator[Sequence[Light]]:
    for first in range(0, len(lights), size):
        yield lights[first : first + size]


def _rounded(cells: int) -> int:
    """A number of cells, rounded up so that light curves of about the same length share a grid."""
    step = 2 ** max(math.floor(math.log2(ROUNDING * cells)), 0)
    return step * math.ceil(cells / step)


@functools.lru_cache(maxsize=8)
def _plan(cells: int, width: float, settings: SearchSettings) -> SearchPlan:
    limits, densities = (settings.min_period, settings.max_period), (settings.min_density, settings.max_density)
    return star_batch.plan_for(cells, width, limits, densities, settings.oversampling)


def _assemble(out: Path, blocks: Sequence[Path], digest: str) -> None:
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


def _result(settings: SearchSettings, notes: Sequence[str] = ()) -> Result:
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
