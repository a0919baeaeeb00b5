"""Which light curves belong to which signals: the catalog's rows and the files, put together star by star."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from transit_cli.data import bulk
from transit_cli.data.views.star import Task, row_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from transit_cli.data.catalogs.catalog import Tce
    from transit_cli.data.lightcurves.file_index import FileIndex
    from transit_cli.data.settings import PrepareSettings
    from transit_cli.data.views.make import Recipe


def star_tasks(
    tces: Sequence[Tce], index: FileIndex, recipe: Recipe, settings: PrepareSettings
) -> tuple[list[Task], list[dict[str, Any]]]:
    """One task per star that has a light curve, in the catalog's order; and rows for what has none.

    Of light curves that are rows of Parquet files, in the order of the rows, so that each file is read once.
    """
    rows: dict[str, list[tuple[int, Tce]]] = defaultdict(list)
    dropped: list[dict[str, Any]] = []
    named: dict[int, tuple[Path, ...]] = {}
    for number, tce in enumerate(tces):
        files = index.named(tce.file) if tce.file else []
        if tce.file and len(files) != 1:
            found = f"{len(files)} files have this name" if files else "not among the light curves"
            dropped.append(row_of(number, tce) | {"reason": f"{tce.file}: {found}"})
            continue
        if tce.problem and not files:
            dropped.append(row_of(number, tce) | {"reason": tce.problem})
            continue
        star = tce.star or (index.star(files[0]) or files[0].name if files else "")
        if not files and star not in index.by_star:
            star = next((name for name in tce.other_names if name in index.by_star), star)
        if not star or not (files or star in index.by_star):
            reason = "no light curve of this star" if star else "the row names no star"
            dropped.append(row_of(number, tce) | {"reason": reason})
            continue
        if files:
            named[number] = tuple(files)
        rows[star].append((number, tce if tce.star == star else replace(tce, star=star)))
    tasks: list[Task] = []
    for star, found in rows.items():
        own = {number: named[number] for number, _ in found if number in named}
        files = tuple(sorted({*index.by_star.get(star, ()), *(path for paths in own.values() for path in paths)}))
        tasks.append(Task(star, tuple(found), files, recipe, settings.flux_column, settings.detrend, own))
    if index.has_rows:
        tasks.sort(key=lambda task: bulk.order(task.files[0]))
    used = {path for task in tasks for path in task.files}
    dropped += [
        {"star": "", "source": path.name, "reason": f"unreadable file: {reason}"}
        for path, reason in index.unreadable.items()
        if path not in used
    ]
    return tasks, dropped
