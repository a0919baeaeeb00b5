"""The plan of a sharded `prepare`: what each shard has to do, worked out once from the catalog and the light curves.

    OUT/plan/plan.json                    options, the catalog's checksum, the light curves' stamps as a digest
    OUT/plan/shard-00012-of-00400.json    the stars of a shard with their signals and files

A shard's job reads its own part only, so that the catalog is read and the folder of light curves listed once.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import astuple, dataclass
from time import sleep
from typing import TYPE_CHECKING, Any

from transit_cli import console
from transit_cli.data.catalogs import catalog
from transit_cli.data.catalogs.catalog import Tce
from transit_cli.data.lightcurves.file_index import FileIndex
from transit_cli.data.shards.shard import all_shards
from transit_cli.data.views.star import Task
from transit_cli.results import TransitError
from transit_cli.utils import remote
from transit_cli.utils.files import locked

if TYPE_CHECKING:
    from pathlib import Path

    from transit_cli.data.settings import PrepareSettings
    from transit_cli.data.shards.shard import Shard
    from transit_cli.data.views.make import Recipe

PLAN = "plan"
#: Changes when plans of an earlier version must not be used.
VERSION = 1
#: From the rows of a catalog and the light curves to the stars with both, and rows for those without.
Matcher = Callable[[Sequence[Tce], FileIndex], tuple[list[Task], list[dict[str, Any]]]]


@dataclass(frozen=True)
class ShardPlan:
    """A plan on the disk.

    Attributes:
        folder: where it lies.
        light_curves: the folder of the light curves.
        notes: what was decided about the catalog.
    """

    folder: Path
    light_curves: Path
    notes: tuple[str, ...]

    def part(self, shard: Shard, recipe: Recipe, settings: PrepareSettings) -> tuple[list[Task], list[dict[str, Any]]]:
        """The stars of a shard, and the rows that are dropped without a look at a light curve."""
        content = json.loads(remote.read_text(self.folder / f"{shard.name}.json"))
        tasks = []
        for star, rows, files, named in content["stars"]:
            tces = tuple((number, Tce(*row[:-1], other_names=tuple(row[-1]))) for number, row in rows)
            own = {int(number): self._paths(names) for number, names in named.items()}
            tasks.append(
                Task(star, tces, self._paths(files), recipe, settings.flux_column, settings.detrend, own),
            )
        return tasks, content["dropped"]

    def _paths(self, names: Sequence[str]) -> tuple[Path, ...]:
        return tuple(self.light_curves / name for name in names)


def open_plan(
    settings: PrepareSettings, options: dict[str, Any], count: int, match: Matcher, *, check_files: bool
) -> ShardPlan:
    """The plan of a set, made by the first job that needs it; the others wait.

    Args:
        settings: of the command.
        options: what shards are made with, as JSON types.
        count: number of shards.
        match: assigns light curves to the rows of the catalog.
        check_files: also list the light curves again, and compare them with the plan's.

    Raises:
        TransitError: the input cannot be read, or the plan that is there is of other input or options.
    """
    options |= {"map": list(settings.map)} if settings.map else {}
    folder = settings.out / PLAN
    file, made = folder / "plan.json", False
    while not remote.exists(file):
        try:
            with _owned(folder):
                if not remote.exists(file):
                    _make(settings, options, count, match)
                    made = True
        except TransitError as error:
            if error.code != "folder-busy":
                raise
            sleep(1)  # another job is making it
    found = json.loads(remote.read_text(file))
    wanted = {"plan": VERSION, "shards": count, "options": json.loads(json.dumps(options))}
    wanted["catalog"] = _checksum(settings.catalog)
    if check_files and not made:
        wanted["light_curves"] = FileIndex.of(settings.light_curves, skip=[settings.catalog]).digest
    changed = [key for key, value in wanted.items() if found.get(key) != value]
    if changed:
        raise TransitError(
            f"{settings.out} was begun with another {' and '.join(key.replace('_', ' ') for key in changed)}",
            wanted="the same catalog, light curves, options and number of shards for every shard",
            fix=f"give another name, or remove {settings.out}",
            code="output-exists",
        )
    return ShardPlan(folder, settings.light_curves, tuple(found["notes"]))


def _make(settings: PrepareSettings, options: dict[str, Any], count: int, match: Matcher) -> None:
    signals = catalog.read(remote.local(settings.catalog), settings.mission or "", settings.map)
    index = FileIndex.of(settings.light_curves, skip=[settings.catalog])
    notes = list(signals.notes)
    if index.ignored:
        notes.append(f"{len(index.ignored):,} tables without time and flux columns are not light curves")
    for note in notes:
        console.note(note)
    tasks, dropped = match(signals.tces, index)
    folder = settings.out / PLAN
    with console.progress("plan", count) as bar:
        for shard in all_shards(count):
            stars = [
                [
                    task.star,
                    [(number, astuple(tce)) for number, tce in task.tces],
                    [index.name(path) for path in task.files],
                    {number: [index.name(path) for path in paths] for number, paths in task.named.items()},
                ]
                for task in shard.of(tasks)
            ]
            content = {"stars": stars, "dropped": list(shard.of(dropped))}
            remote.write_text(folder / f"{shard.name}.json", json.dumps(content))
            bar.update(advance=1)
    content = {
        "plan": VERSION,
        "shards": count,
        "options": options,
        "catalog": _checksum(settings.catalog),
        "light_curves": index.digest,
        "notes": notes,
    }
    remote.write_text(folder / "plan.json", json.dumps(content, indent=1))


def _owned(folder: Path) -> AbstractContextManager[None]:
    """Own a local folder; by URL two jobs may make the same plan, with the same bytes."""
    return nullcontext() if remote.url(folder) else locked(folder)


def _checksum(file: Path) -> str:
    with remote.local(file).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
