"""`transit search` in shards: each job searches a part of the stars, and the last one writes the catalog.

    .OUT.work/plan/                  the stars of each shard, and what the plan was made from
    .OUT.work/shard-00012-of-00400/  the finished blocks of a shard, and `done.json` once it has all

The catalog is put together from the blocks of all shards as from those of one process: stars that show the same signal
are looked for among all of them.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from functools import lru_cache, partial
from time import sleep
from typing import TYPE_CHECKING, Any

from transit_cli import console
from transit_cli.data.lightcurves.file_index import FileIndex, base_of
from transit_cli.data.shards.plan import PLAN, Draft, Plan, open_plan
from transit_cli.data.shards.shard import Shard, all_shards
from transit_cli.parallel import each
from transit_cli.results import Result, TransitError
from transit_cli.search import output, source
from transit_cli.search.blocks import Machine, search_blocks
from transit_cli.search.source import StarTask, star_tasks
from transit_cli.utils.files import atomic_write, locked, make_folder
from transit_cli.utils.packages import check_installed

if TYPE_CHECKING:
    from pathlib import Path

    from transit_cli.search.settings import SearchSettings

DONE = "done.json"


def search(settings: SearchSettings) -> Result:
    """Search one shard, or all; the last one writes the catalog.

    Raises:
        TransitError: as `search_run.search`; or another process searches the same shard.
    """
    if settings.scheduler:
        check_installed("distributed", "cluster", "--scheduler")
    work = output.work_folder(settings.out)
    if settings.out.exists():
        tasks = star_tasks(FileIndex.of(settings.light_curves, skip=[settings.out]), settings)
        if not output.replaceable(settings, output.digest_of(tasks, settings)):
            shutil.rmtree(work, ignore_errors=True)
            return output.result(settings, (output.COMPLETE,))
    shard = Shard.parse(settings.shard) if settings.shard else None
    count = shard.count if shard else settings.shards
    plan = _open_plan(settings, count, check_files=shard is None)
    if shard:
        search_shard(settings, shard)
    else:
        _search_all(settings, count)
    missing = sum(not (work / part.name / DONE).exists() for part in all_shards(count))
    if not missing or not (work / PLAN).exists():  # or another job has written the catalog meanwhile
        _finish(settings, plan, count)
        return output.result(settings)
    return _shard_result(settings, shard or Shard(1, count), missing)


def search_shard(settings: SearchSettings, shard: Shard) -> None:
    """Search the stars of a shard, unless that has been done."""
    plan = _open_plan(settings, shard.count, check_files=False)
    work = output.work_folder(settings.out) / shard.name
    if (work / DONE).exists():
        return
    folder, shortest = base_of(settings.light_curves), source.shortest_transit(settings)
    blocks = [
        [
            StarTask(star, tuple(folder / name for name in names), settings.flux_column, shortest)
            for star, names in block
        ]
        for block in plan.part(shard)
    ]
    with locked(work):
        make_folder(work)
        sizes, tasks = [len(block) for block in blocks], [task for block in blocks for task in block]
        files = search_blocks(tasks, sizes, settings, _machine(settings), work) if tasks else []
        atomic_write(work / DONE, json.dumps({"stars": len(tasks), "blocks": [file.name for file in files]}))


@lru_cache(maxsize=1)
def _machine(settings: SearchSettings) -> Machine:
    return Machine.open(settings)


def _search_all(settings: SearchSettings, count: int) -> None:
    work = output.work_folder(settings.out)
    todo = [shard for shard in all_shards(count) if not (work / shard.name / DONE).exists()]
    if len(todo) < count:
        console.note(f"{count - len(todo):,} of {count:,} shards were done before")
    if settings.scheduler:
        with console.progress("shards", count) as bar:
            bar.update(count - len(todo))
            one = settings.replace(workers=1)
            for shard, _ in each(partial(search_shard, one), todo, scheduler=settings.scheduler):
                bar.update(advance=1, status=shard.name)
        return
    for shard in todo:
        console.note(f"shard {shard}")
        search_shard(settings, shard)


def _open_plan(settings: SearchSettings, count: int, *, check_files: bool) -> Plan:
    def digest() -> dict[str, Any]:
        index = FileIndex.of(settings.light_curves, skip=[settings.out])
        return {"digest": output.digest_of(star_tasks(index, settings), settings)}

    options = {name: str(value) for name, value in output.options_of(settings).items()}
    work = output.work_folder(settings.out)
    return open_plan(
        work, count, {"options": options}, partial(_draft, settings, count), digest if check_files else None
    )


def _draft(settings: SearchSettings, count: int) -> Draft:
    index = FileIndex.of(settings.light_curves, skip=[settings.out])
    tasks = star_tasks(index, settings)
    blocks = output.blocks_of(tasks, _machine(settings))
    return Draft({"digest": output.digest_of(tasks, settings)}, _parts(blocks, index, count))


def _parts(blocks: Sequence[Sequence[StarTask]], index: FileIndex, count: int) -> Iterator[list[Any]]:
    """The blocks of each shard: what is searched together has an influence on the last digits of what is found."""
    for shard in all_shards(count):
        yield [[[task.star, [index.name(file) for file in task.files]] for task in block] for block in shard.of(blocks)]


def _finish(settings: SearchSettings, plan: Plan, count: int) -> None:
    """Write the catalog. Of several jobs that finish at once, one does it, and the others wait."""
    work = output.work_folder(settings.out)
    while (work / PLAN).exists():
        try:
            with locked(work):
                if (work / PLAN).exists():
                    _assemble(settings, plan, count)
                    shutil.rmtree(work)
        except TransitError as error:
            if error.code != "folder-busy":
                raise
            sleep(1)


def _assemble(settings: SearchSettings, plan: Plan, count: int) -> None:
    work = output.work_folder(settings.out)
    blocks: list[Path] = []
    for shard in all_shards(count):
        done = json.loads((work / shard.name / DONE).read_text(encoding="utf-8"))
        blocks += [work / shard.name / name for name in done["blocks"]]
    output.assemble(settings.out, blocks, str(plan.content["digest"]))


def _shard_result(settings: SearchSettings, shard: Shard, missing: int) -> Result:
    work = output.work_folder(settings.out)
    done = json.loads((work / shard.name / DONE).read_text(encoding="utf-8"))
    signals = sum(
        len(json.loads((work / shard.name / name).read_text(encoding="utf-8"))["rows"]) for name in done["blocks"]
    )
    data = {
        "catalog": str(settings.out),
        "shard": str(shard),
        "stars": done["stars"],
        "signals": signals,
        "missing_shards": missing,
    }
    return Result(
        data, [], f"shard {shard}: {signals:,} signals of {done['stars']:,} stars; {missing:,} shards are missing"
    )
