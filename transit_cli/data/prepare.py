"""`transit data prepare`: from a catalog and a folder of light curves to a view set.

Each star is one task, done by a process here or by a worker of a Dask cluster, and its result is a file in a work
folder beside the output. A run that was stopped, however, finds the stars that are done and goes on; the set is put
together from those files in the catalog's order, so that it has the same bytes whoever did what and when.
"""

from __future__ import annotations

import hashlib
import json
import math
import shutil
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from transit_cli import console
from transit_cli.data import viewset
from transit_cli.data.catalogs import catalog
from transit_cli.data.lightcurves import readers
from transit_cli.data.lightcurves.lightcurve import UnreadableError
from transit_cli.data.lightcurves.target import star_in_name, star_of_name
from transit_cli.data.split import FRACTIONS, split_of
from transit_cli.data.views.detrend import WOTAN_METHODS
from transit_cli.data.views.make import Recipe, recipe_for
from transit_cli.data.views.star import Prepared, Task, prepare_star, row_of
from transit_cli.data.viewset import ViewSet
from transit_cli.files import atomic_write
from transit_cli.packages import check_installed
from transit_cli.parallel import each
from transit_cli.results import Result, Table, TransitError

if TYPE_CHECKING:
    from pathlib import Path

    from transit_cli.data.catalogs.catalog import Tce
    from transit_cli.data.settings import PrepareSettings


def prepare(settings: PrepareSettings) -> Result:
    """Make the view set that the settings ask for, or say that it is made already."""
    recipe = _recipe(settings)
    _check_packages(settings)
    signals = catalog.read(settings.catalog, settings.mission or "")
    console.note("; ".join(signals.notes))
    files, unreadable = _files_by_star(settings.lightcurves)
    tasks, dropped = _tasks(signals.tces, files, unreadable, recipe, settings)
    plan = _plan(tasks, settings, recipe)
    if settings.out.exists():
        return _made_already(settings.out, plan)
    work = _work_folder(settings.out, plan)
    todo = [task for task in tasks if not _file_of(work, task.star).exists()]
    if len(todo) < len(tasks):
        console.note(f"{len(tasks) - len(todo):,} of {len(tasks):,} stars were done before")
    try:
        with console.progress("stars", len(tasks)) as bar:
            bar.update(len(tasks) - len(todo))
            for task, done in each(prepare_star, todo, settings.workers, settings.scheduler):
                _save(_file_of(work, task.star), done)
                bar.update(advance=1, status=task.star)
    except KeyboardInterrupt as interrupt:
        interrupt.args = (f"run the same command again: it goes on from {work}",)
        raise
    views = _assemble(settings.out, work, tasks, dropped, recipe, plan=plan)
    shutil.rmtree(work)
    return _result(views, signals.notes)


def _recipe(settings: PrepareSettings) -> Recipe:
    lengths = settings.views or ("201/61" if settings.mission == "tess" else "2001/201")
    try:
        return recipe_for(lengths, secondary=settings.secondary, odd_even=settings.odd_even)
    except ValueError as wanted:
        settings.refuse("views", str(wanted))


def _check_packages(settings: PrepareSettings) -> None:
    """Say what is missing before anything starts."""
    check_installed("astropy", "data", "reading light curves")
    if settings.detrend != "spline":
        check_installed("wotan", "wotan", f"--detrend {settings.detrend}")
    if settings.scheduler:
        check_installed("distributed", "cluster", "--scheduler")
    if settings.detrend not in {"spline", *WOTAN_METHODS}:
        settings.refuse("detrend", f"spline, {', '.join(WOTAN_METHODS)}")


@dataclass(frozen=True)
class _Files:
    """The light curves of each star, and of each name."""

    by_star: dict[str, list[Path]]
    by_name: dict[str, Path]


def _files_by_star(folder: Path) -> tuple[_Files, dict[str, str]]:
    """The light curves under a folder; and the files of which not even the star could be read, with the reason."""
    if not folder.is_dir():
        raise TransitError(
            f"{folder} is not a folder",
            wanted="a folder with light curves (.fits, .fits.gz), also in folders of its own",
            fix="give the folder of your light curves, or get some: transit data fetch TARGETS OUT",
            code="lightcurves-missing",
        )
    endings = readers.suffixes()
    found = sorted(file for file in folder.rglob("*") if file.name.lower().endswith(endings) and file.is_file())
    if not found:
        raise TransitError(
            f"{folder} holds no light curve",
            wanted=f"files ending in {', '.join(endings)}",
            fix="give the folder of your light curves, or get some: transit data fetch TARGETS OUT",
            code="lightcurves-missing",
        )
    by_star: dict[str, list[Path]] = defaultdict(list)
    unreadable = {}
    with console.progress("headers", len(found)) as bar:
        for file in found:
            star = star_of_name(file)
            try:
                star = star or readers.star_of_file(file)
            except UnreadableError as reason:
                star = star_in_name(file)
                unreadable[file.name] = str(reason)
            by_star[star].append(file)
            bar.update(advance=1)
    return _Files(dict(by_star), {file.name: file for file in found}), unreadable


def _tasks(
    tces: Sequence[Tce], files: _Files, unreadable: dict[str, str], recipe: Recipe, settings: PrepareSettings
) -> tuple[list[Task], list[dict[str, Any]]]:
    """One task per star that has a light curve, in the catalog's order; and rows for what has none."""
    rows: dict[str, list[tuple[int, Tce]]] = defaultdict(list)
    for number, tce in enumerate(tces):
        rows[tce.star].append((number, tce))
    tasks: list[Task] = []
    dropped: list[dict[str, Any]] = []
    for star, found in rows.items():
        named = {files.by_name[tce.file] for _, tce in found if tce.file in files.by_name}
        light_curves = tuple(sorted({*files.by_star.get(star, ()), *named}))
        if light_curves:
            tasks.append(Task(star, tuple(found), light_curves, recipe, settings.flux_column, settings.detrend))
        else:
            dropped += [row_of(number, tce) | {"reason": "no light curve of this star"} for number, tce in found]
    used = {file.name for task in tasks for file in task.files}
    dropped += [
        {"star": "", "source": name, "reason": f"unreadable file: {reason}"}
        for name, reason in unreadable.items()
        if name not in used
    ]
    return tasks, dropped


def _plan(tasks: Sequence[Task], settings: PrepareSettings, recipe: Recipe) -> dict[str, Any]:
    """What is to be made, in JSON types: two runs with the same plan make the same bytes."""
    digest = hashlib.sha256()
    for task in tasks:
        files = [(file.name, file.stat().st_size) for file in task.files]
        digest.update(repr((task.star, task.tces, files)).encode())
    return {
        "command": "prepare",
        "simulated": False,
        "mission": settings.mission or "",
        "views": recipe.document(),
        "detrend": settings.detrend,
        "flux_column": settings.flux_column,
        "split": "star",
        "split_fractions": list(FRACTIONS),
        "input": digest.hexdigest(),
    }


def _made_already(out: Path, plan: dict[str, Any]) -> Result:
    views = ViewSet.open(out)
    if dict(views.recipe) != plan:
        viewset.refuse_existing(out)
    return _result(views, ("made before: nothing to do",))


def _work_folder(out: Path, plan: dict[str, Any]) -> Path:
    """Where the stars' results gather: what is there from another plan is thrown away."""
    work = out.parent / f".{out.name}.work"
    note = work / "plan.json"
    text = json.dumps(plan)
    if work.exists() and (not note.is_file() or note.read_text(encoding="utf-8") != text):
        console.note(f"{work} is of another run and starts afresh")
        shutil.rmtree(work)
    if not work.exists():
        atomic_write(note, text)
    return work


def _file_of(work: Path, star: str) -> Path:
    return work / f"{hashlib.sha256(star.encode()).hexdigest()[:24]}.npz"


def _save(file: Path, done: Prepared) -> None:
    import io

    buffer = io.BytesIO()
    tables = np.frombuffer(json.dumps({"rows": done.rows, "dropped": done.dropped}).encode(), dtype=np.uint8)
    np.savez(buffer, allow_pickle=False, tables=tables, **done.views)
    atomic_write(file, buffer.getvalue())


def _load(file: Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]], dict[str, np.ndarray]]:
    with np.load(file) as content:
        tables = json.loads(content["tables"].tobytes())
        return tables["rows"], tables["dropped"], {name: content[name] for name in content.files if name != "tables"}


def _assemble(
    out: Path,
    work: Path,
    tasks: Sequence[Task],
    dropped: list[dict[str, Any]],
    recipe: Recipe,
    *,
    plan: dict[str, Any],
) -> ViewSet:
    """The view set from the stars' files, one star in memory at a time."""
    dropped = list(dropped)
    rows: list[dict[str, Any]] = []
    with viewset.writing(out) as folder:
        with _streams(folder, recipe.lengths) as add, console.progress("view set", len(tasks)) as bar:
            for task in tasks:
                made, lost, views = _load(_file_of(work, task.star))
                rows += [row | {"split": split_of(row["star"])} for row in made]
                dropped += lost
                add(views)
                bar.update(advance=1)
        if not rows:
            raise _nothing_made(dropped)
        dropped.sort(key=lambda row: row.get("catalog_row", math.inf))
        viewset.finish(folder, recipe.lengths, _columns(rows), plan, _columns(dropped))
    return ViewSet.open(out)


@contextmanager
def _streams(folder: Path, lengths: dict[str, int]) -> Iterator[Callable[[dict[str, np.ndarray]], None]]:
    """.npy files that grow: the header is written again, in its place, once the number of rows is known."""
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


def _columns(rows: Sequence[dict[str, Any]]) -> dict[str, list[Any]]:
    """Rows as columns; what a row does not have is empty."""
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: [row.get(name, "") for row in rows] for name in names}


def _nothing_made(dropped: Sequence[dict[str, Any]]) -> TransitError:
    reasons = Counter(row["reason"] for row in dropped)
    most = ", ".join(f"{reason} ({count})" for reason, count in reasons.most_common(3))
    return TransitError(
        f"none of the catalog's {len(dropped):,} signals became a view: {most}",
        wanted="a catalog whose stars have light curves in the folder",
        fix="compare the catalog's star numbers with the files' (--mission kepler, k2 or tess for bare numbers)",
        code="nothing-prepared",
    )


def _result(views: ViewSet, said: Sequence[str]) -> Result:
    from transit_cli.data.inspection import info

    shown = info(views)
    broken = [str(note) for note in views.tces.get("note", ()) if "breaks off" in note or "not a FITS" in note]
    warnings = list(shown.warnings)
    if broken:
        warnings.append(f"{len(broken):,} TCEs lack a light curve that cannot be read (column `note`)")
    data = dict(shown.data) | {"recognised": list(said)}
    dropped = sum(shown.data["dropped"].values())
    verdict = f"{len(views):,} TCEs of {shown.data['stars']:,} stars in {views.path}"
    verdict += f"; {dropped:,} dropped, each with its reason in {viewset.DROPPED}" if dropped else ""
    table = next((block for block in shown.blocks if isinstance(block, Table) and block.title == "Dropped"), None)
    return Result(data, [shown.blocks[0], *([table] if table else [])], verdict, warnings)
