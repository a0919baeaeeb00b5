"""Stars in blocks: read by worker processes, searched on the device, one file of rows for each block."""

from __future__ import annotations

import functools
import json
import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from transit_cli import console
from transit_cli.device.select import select
from transit_cli.memory.limit import MemoryLimit
from transit_cli.parallel import each
from transit_cli.search import signal_catalog, star_batch
from transit_cli.search.engine import Engine, SearchPlan
from transit_cli.search.source import Light, StarTask, Unsearched, read_star
from transit_cli.search.star_batch import Limits
from transit_cli.utils.files import atomic_write

if TYPE_CHECKING:
    from pathlib import Path

    from transit_cli.device.base import Device
    from transit_cli.search.settings import SearchSettings

#: Stars of a block at most: what is lost when a run is killed, and the most that are searched together.
BLOCK = {"cpu": 64, "mps": 128, "cuda": 256}
#: The files of a block take at most this share of the memory limit: up to four blocks are held, and read by workers.
BLOCK_SHARE = 1 / 32
#: Bytes for the sums and scores of a chunk of periods: what stays in a CPU's cache, what keeps a GPU busy.
BUDGET = {"cpu": 4 << 20, "mps": 128 << 20, "cuda": 512 << 20}
#: Cells of a light curve are rounded up to a multiple of this share of it, so that stars of one sector share a grid.
ROUNDING = 0.02


@dataclass
class Machine:
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
    def open(cls, settings: SearchSettings) -> Machine:
        """The device and the memory limit of the settings."""
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


def block_sizes(weights: Sequence[int], machine: Machine) -> list[int]:
    """Numbers of consecutive stars whose files, of so many bytes each, are held together."""
    sizes: list[int] = []
    held = 0
    for weight in weights:
        if not sizes or sizes[-1] >= machine.stars or held + weight > BLOCK_SHARE * machine.limit:
            sizes.append(0)
            held = 0
        sizes[-1] += 1
        held += weight
    return sizes


def search_blocks(
    tasks: Sequence[StarTask], sizes: Sequence[int], settings: SearchSettings, machine: Machine, work: Path
) -> list[Path]:
    """Search every block that has no file yet; returns all blocks' files in order."""
    ends = np.cumsum(sizes).tolist()
    blocks = [tasks[end - size : end] for size, end in zip(sizes, ends, strict=True)]
    files = [work / f"block-{number:06}.json" for number in range(len(blocks))]
    left = [number for number, file in enumerate(files) if not file.exists()]
    before = len(tasks) - sum(len(blocks[number]) for number in left)
    if before:
        console.note(f"{before:,} of {len(tasks):,} stars were searched before")
    home = {task.star: number for number in left for task in blocks[number]}
    waiting: dict[int, list[Light | Unsearched]] = defaultdict(list)
    todo = [task for number in left for task in blocks[number]]
    beside = machine.device.kind != "cpu"  # a CPU searches with the cores that read
    try:
        with console.progress("stars", len(tasks)) as bar, _Background(beside) as background:
            bar.update(before)
            for task, light in each(read_star, todo, settings.workers, busy=beside):
                number = home[task.star]
                waiting[number].append(light)
                if len(waiting[number]) == len(blocks[number]):
                    block = sorted(waiting.pop(number), key=lambda item: item.star)
                    background.run(_finish_block, block, files[number], settings, machine)
                    bar.update(advance=len(block), status=task.star)
    except KeyboardInterrupt as interrupt:
        interrupt.args = (f"run the same command again: it resumes from {work}",)
        raise
    return files


class _Background:
    """Runs one call after the other, in a thread if asked to: then `run` waits for the call before, not for its own."""

    def __init__(self, thread: bool) -> None:
        self._pool = ThreadPoolExecutor(1) if thread else None
        self._last: Future[None] | None = None

    def __enter__(self) -> Self:
        return self

    def run(self, function: Callable[..., None], *arguments: object) -> None:
        """Call a function, in its turn."""
        if self._pool is None:
            function(*arguments)
            return
        if self._last is not None:
            self._last.result()
        self._last = self._pool.submit(function, *arguments)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=True)
        if self._last is not None and kind is None:
            self._last.result()


def _finish_block(block: Sequence[Light | Unsearched], file: Path, settings: SearchSettings, machine: Machine) -> None:
    """Search a block and write its file."""
    atomic_write(file, json.dumps(_search_block(block, settings, machine)))


def _search_block(block: Sequence[Light | Unsearched], settings: SearchSettings, machine: Machine) -> dict[str, Any]:
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
    lights: Sequence[Light], plan: SearchPlan, limits: Limits, machine: Machine
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
