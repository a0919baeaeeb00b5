"""`transit data prepare`: from a catalog and a folder of light curves to a view set.

Each star is one task, run by a local process or by a worker of a Dask cluster; its result is a file in a work folder
beside the output. An interrupted run resumes from these files. The set is assembled from them in the catalog's order,
so that its bytes do not depend on the number of workers or on interruptions.
"""

from __future__ import annotations

import hashlib
import json
import math
import shutil
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from transit_cli import console
from transit_cli.data import viewset
from transit_cli.data.catalogs import catalog
from transit_cli.data.lightcurves.file_index import FileIndex
from transit_cli.data.shards.prepare_shards import ShardedPrepare, columns_of
from transit_cli.data.shards.shard import Shard
from transit_cli.data.shards.sharded_set import shard_result
from transit_cli.data.split import FRACTIONS, split_of
from transit_cli.data.star_tasks import star_tasks
from transit_cli.data.storage import work_folder
from transit_cli.data.views import extra_views
from transit_cli.data.views.detrend import WOTAN_METHODS
from transit_cli.data.views.make import Recipe, recipe_for
from transit_cli.data.views.star import Task, prepare_star
from transit_cli.data.viewset import ViewSet
from transit_cli.parallel import each
from transit_cli.results import Result, Table, TransitError
from transit_cli.utils import remote
from transit_cli.utils.files import locked, remove_abandoned
from transit_cli.utils.packages import check_installed

if TYPE_CHECKING:
    from pathlib import Path

    from transit_cli.data.settings import PrepareSettings


def prepare(settings: PrepareSettings, *, overwrite: bool = False) -> Result:
    """Make the view set that the settings ask for, or report that it exists already.

    Args:
        settings: of the command.
        overwrite: replace a set that was made of other input, instead of refusing.

    Raises:
        TransitError: the input cannot be read, the output is another set, or another process is making it.
    """
    recipe = _recipe(settings)
    _check_packages(settings)
    if settings.shard or settings.shards:
        return _in_shards(settings)
    if remote.url(settings.out):
        viewset.refuse_existing(settings.out / viewset.INFO)
    with remote.staged(settings.out) as here, locked(here):
        result = _prepare(settings.replace(out=here), recipe, overwrite=overwrite)
    return _result(ViewSet.open(settings.out), ()) if remote.url(settings.out) else result


def _prepare(settings: PrepareSettings, recipe: Recipe, *, overwrite: bool) -> Result:
    signals = catalog.read(remote.local(settings.catalog), settings.mission or "", settings.map)
    for note in signals.notes:
        console.note(note)
    index = FileIndex.of(settings.light_curves, skip=[settings.catalog])
    if index.ignored:
        console.note(f"{len(index.ignored):,} tables without time and flux columns are not light curves")
    tasks, dropped = star_tasks(signals.tces, index, recipe, settings)
    plan = _plan(tasks, index, settings, recipe)
    if settings.out.exists() and not (overwrite and _is_other_set(settings.out, plan)):
        done = _existing(settings.out, plan)
        _clean(settings.out)
        return done
    work = settings.out.parent / f".{settings.out.name}.work"
    work_folder.open_work(work, json.dumps(plan), "plan.json")
    todo = [task for task in tasks if not zipfile.is_zipfile(_file_of(work, task.star))]  # a power cut may empty a file
    if len(todo) < len(tasks):
        console.note(f"{len(tasks) - len(todo):,} of {len(tasks):,} stars were done before")
    try:
        with console.progress("stars", len(tasks)) as bar:
            bar.update(len(tasks) - len(todo))
            for task, done in each(prepare_star, todo, settings.workers, settings.scheduler):
                work_folder.save(_file_of(work, task.star), done.rows, done.dropped, done.views)
                bar.update(advance=1, status=task.star)
    except KeyboardInterrupt as interrupt:
        interrupt.args = (f"run the same command again to resume from {work}",)
        raise
    if settings.out.exists():
        shutil.rmtree(settings.out)
    views = _assemble(settings.out, work, tasks, dropped, recipe, plan=plan)
    shutil.rmtree(work)
    return _result(views, signals.notes)


def in_shards(settings: PrepareSettings) -> ShardedPrepare:
    """The work of these settings, to be done in shards."""
    recipe = _recipe(settings)
    match = partial(star_tasks, recipe=recipe, settings=settings)
    return ShardedPrepare(settings, recipe, _options(settings, recipe), match)


def _in_shards(settings: PrepareSettings) -> Result:
    sharded = in_shards(settings)
    if settings.shard:
        shard = Shard.parse(settings.shard)
        return shard_result(settings.out, shard, sharded.shard(shard))
    views, notes = sharded.all()
    if not len(views):
        raise _nothing_made(views.dropped["reason"].tolist())
    return _result(views, notes)


def _recipe(settings: PrepareSettings) -> Recipe:
    lengths = settings.bins or ("201/61" if settings.mission == "tess" else "2001/201")
    try:
        recipe = recipe_for(lengths, secondary=settings.secondary, odd_even=settings.odd_even, extra=settings.views)
    except ValueError as wanted:
        settings.refuse("bins", str(wanted))
    if not set(settings.views) <= set(extra_views.NAMES):
        settings.refuse("views", ", ".join(extra_views.NAMES))
    return recipe


def _check_packages(settings: PrepareSettings) -> None:
    """Report missing packages before anything starts."""
    if settings.detrend not in {"spline", *WOTAN_METHODS}:
        settings.refuse("detrend", f"spline, {', '.join(WOTAN_METHODS)}")
    if settings.detrend != "spline":
        check_installed("wotan", "wotan", f"--detrend {settings.detrend}")
    if settings.scheduler:
        check_installed("distributed", "cluster", "--scheduler")


def _plan(tasks: Sequence[Task], index: FileIndex, settings: PrepareSettings, recipe: Recipe) -> dict[str, Any]:
    """What is to be made, as JSON types: two runs with the same plan make the same bytes."""
    digest = hashlib.sha256()
    content = index.checksums(list(dict.fromkeys(path for task in tasks for path in task.files)))
    for task in tasks:
        files = [(index.name(path), content[path]) for path in task.files]
        named = {number: [index.name(path) for path in paths] for number, paths in task.named.items()}
        digest.update(repr((task.star, task.tces, files, named)).encode())
    return _options(settings, recipe) | {"input": digest.hexdigest()}


def _options(settings: PrepareSettings, recipe: Recipe) -> dict[str, Any]:
    return {
        "command": "prepare",
        "simulated": False,
        "mission": settings.mission or "",
        "views": recipe.document(),
        "detrend": settings.detrend,
        "flux_column": settings.flux_column,
        "split": "star",
        "split_fractions": list(FRACTIONS),
    }


def _is_other_set(out: Path, plan: dict[str, Any]) -> bool:
    return (out / viewset.INFO).is_file() and dict(ViewSet.open(out).recipe) != plan


def _existing(out: Path, plan: dict[str, Any]) -> Result:
    """The result of a set that exists; `TransitError` if it was made of other input or with other options."""
    views = ViewSet.open(out)
    recipe = dict(views.recipe)
    if recipe != plan:
        other = "of other light curves or another catalog" if recipe | {"input": ""} == plan | {"input": ""} else ""
        raise TransitError(
            f"{out} exists already, made {other or 'with other options'}",
            wanted="a name that does not exist, so that nothing is overwritten",
            fix=f"give another name, or remove {out}",
            code="output-exists",
        )
    return _result(views, ("made before: nothing to do",))


def _clean(out: Path) -> None:
    """Remove what a process has left that was killed between writing the set and removing its work."""
    shutil.rmtree(out.parent / f".{out.name}.work", ignore_errors=True)
    remove_abandoned(out.parent)


def _file_of(work: Path, star: str) -> Path:
    return work / f"{hashlib.sha256(star.encode()).hexdigest()[:24]}.npz"


def _assemble(
    out: Path,
    work: Path,
    tasks: Sequence[Task],
    dropped: list[dict[str, Any]],
    recipe: Recipe,
    *,
    plan: dict[str, Any],
) -> ViewSet:
    """Assemble the view set from the stars' files, one star in memory at a time."""
    dropped = list(dropped)
    rows: list[dict[str, Any]] = []
    with viewset.writing(out) as folder:
        with _streams(folder, recipe.lengths) as add, console.progress("view set", len(tasks)) as bar:
            for task in tasks:
                made, lost, views = work_folder.load(_file_of(work, task.star))
                rows += [row | {"split": split_of(row["star"])} for row in made]
                dropped += lost
                add(views)
                bar.update(advance=1)
        if not rows:
            raise _nothing_made([row["reason"] for row in dropped])
        dropped.sort(key=lambda row: row.get("catalog_row", math.inf))
        viewset.finish(folder, recipe.lengths, columns_of(rows), plan, columns_of(dropped))
    return ViewSet.open(out)


@contextmanager
def _streams(folder: Path, lengths: dict[str, int]) -> Iterator[Callable[[dict[str, np.ndarray]], None]]:
    """Growing .npy files: the header is rewritten once the number of rows is known."""
    streams = {name: (folder / f"{name}.npy").open("wb") for name in lengths}
    count = 0

    def header(stream: Any, length: int, rows: int) -> None:
        stream.seek(0)
        shape = {"descr": "<f4", "fortran_order": False, "shape": (rows, length)}
        np.lib.format.write_array_header_1_0(stream, shape)

    def add(views: dict[str, np.ndarray]) -> None:
        nonlocal count
        for name, stream in streams.items():
            stream.write(np.ascontiguousarray(views[name], dtype="<f4").tobytes())
        count += len(next(iter(views.values())))

    try:
        for name, stream in streams.items():
            header(stream, lengths[name], 0)
        yield add
        for name, stream in streams.items():
            header(stream, lengths[name], count)
    finally:
        for stream in streams.values():
            stream.close()


def _nothing_made(reasons: Sequence[str]) -> TransitError:
    most = ", ".join(f"{reason} ({count})" for reason, count in Counter(reasons).most_common(3))
    return TransitError(
        f"none of the catalog's {len(reasons):,} signals became a view: {most}",
        wanted="a catalog whose stars have light curves in the folder",
        fix="compare the stars of the catalog with those of the files: transit data check FILES",
        code="nothing-prepared",
    )


def _result(views: ViewSet, recognised: Sequence[str]) -> Result:
    from transit_cli.data.inspection import info

    shown = info(views)
    notes, broken = views.tces.text("note") if "note" in views.tces else None, 0
    if notes is not None:
        is_broken = np.array(["breaks off" in note or "not a FITS" in note for note in notes.values.tolist()])
        broken = int(is_broken[notes.codes].sum())
    warnings = list(shown.warnings)
    if broken:
        warnings.append(f"{broken:,} TCEs lack a light curve that cannot be read (column `note`)")
    data = dict(shown.data) | {"recognised": list(recognised)}
    dropped = sum(shown.data["dropped"].values())
    verdict = f"{len(views):,} TCEs of {shown.data['stars']:,} stars in {views.path}"
    verdict += f"; {dropped:,} dropped, each with its reason in {viewset.DROPPED}" if dropped else ""
    table = next((block for block in shown.blocks if isinstance(block, Table) and block.title == "Dropped"), None)
    return Result(data, [shown.blocks[0], *([table] if table else [])], verdict, warnings)
