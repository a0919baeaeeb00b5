"""`transit data inject` in shards: each is some blocks of injections, in the order in which one process makes them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import astuple, dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from transit_cli import console
from transit_cli.data import viewset
from transit_cli.data.injection.star import Task, inject_star
from transit_cli.data.lightcurves.file_index import FileIndex, base_of
from transit_cli.data.shards.plan import Draft, Plan, file_checksum, open_plan
from transit_cli.data.shards.prepare_plan import tce_of
from transit_cli.data.shards.prepare_shards import columns_of, content_digest
from transit_cli.data.shards.shard import all_shards
from transit_cli.data.shards.sharded_set import INPUT, SHARD, prepare_folder, write_all, write_shard
from transit_cli.parallel import each

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from transit_cli.data.injection.star import Injected
    from transit_cli.data.settings import InjectSettings
    from transit_cli.data.shards.shard import Shard
    from transit_cli.data.views.make import Recipe
    from transit_cli.data.viewset import ViewSet

#: From the light curves to the blocks of injections, and the number of known signals that are cut out.
Planner = Callable[[FileIndex], tuple[list[Task], int]]


@dataclass(frozen=True)
class ShardedInject:
    """An `inject` that is done in shards; picklable.

    Attributes:
        settings: of the command.
        recipe: of the views.
        options: what shards are made with, as JSON types.
        plan: assigns injections to light curves.
    """

    settings: InjectSettings
    recipe: Recipe
    options: dict[str, Any]
    plan: Planner

    def shard(self, shard: Shard) -> ViewSet:
        """One shard, as it is there or made now."""
        prepare_folder(self.settings.out, shard.count)
        plan = self._open_plan(shard.count, check_files=False)
        return write_shard(self.settings.out, shard, self.options, partial(self._write, plan, shard))

    def all(self) -> tuple[ViewSet, int]:
        """All shards, and the number of known signals that were cut out."""
        settings = self.settings
        prepare_folder(settings.out, settings.shards)
        plan = self._open_plan(settings.shards, check_files=True)
        one = replace(self, settings=settings.replace(workers=1))
        made = write_all(settings.out, settings.shards, one.count, settings.workers, settings.scheduler)
        return made, int(plan.content["cut"])

    def count(self, shard: Shard) -> int:
        """Make a shard in a worker process; returns its number of TCEs."""
        return len(self.shard(shard))

    def _open_plan(self, count: int, *, check_files: bool) -> Plan:
        settings = self.settings
        wanted = {"options": self.options, "catalog": file_checksum(settings.catalog) if settings.catalog else ""}
        listed = (lambda: {"light_curves": self._index().digest}) if check_files else None
        return open_plan(settings.out, count, wanted, lambda: self._draft(count), listed)

    def _index(self) -> FileIndex:
        settings = self.settings
        return FileIndex.of(settings.light_curves, skip=[settings.catalog] if settings.catalog else [])

    def _draft(self, count: int) -> Draft:
        index = self._index()
        tasks, cut = self.plan(index)
        return Draft({"light_curves": index.digest, "cut": cut}, _parts(tasks, index, count))

    def _write(self, plan: Plan, shard: Shard, folder: Path) -> ViewSet:
        base = base_of(self.settings.light_curves)
        tasks = [
            replace(
                self._empty,
                star=star,
                files=tuple(base / name for name in files),
                known=tuple(map(tce_of, known)),
                numbers=range(*numbers),
            )
            for star, files, known, numbers in plan.part(shard)
        ]
        done: dict[tuple[str, int], Injected] = {}
        with console.progress(f"injections of shard {shard}", sum(len(task.numbers) for task in tasks)) as bar:
            for task, injected in each(inject_star, tasks, self.settings.workers):
                done[task.star, task.numbers.start] = injected
                bar.update(advance=len(task.numbers), status=task.star)
        results = [done[task.star, task.numbers.start] for task in tasks]
        views = {
            name: np.concatenate([np.empty((0, length), np.float32), *(result.views[name] for result in results)])
            for name, length in self.recipe.lengths.items()
        }
        about = self.options | {INPUT: _input_digest(tasks), SHARD: str(shard)}
        rows = [row for result in results for row in result.rows]
        lost = [row for result in results for row in result.dropped]
        return viewset.write(folder, views, columns_of(rows), about, columns_of(lost) if lost else None)

    @property
    def _empty(self) -> Task:
        """A task of no injections."""
        settings = self.settings
        kinds = tuple(self.options["kinds"])
        return Task("", (), (), range(0), kinds, settings.seed, self.recipe, settings.flux_column)


def _parts(tasks: Sequence[Task], index: FileIndex, count: int) -> Iterator[list[Any]]:
    for shard in all_shards(count):
        yield [
            [
                task.star,
                [index.name(path) for path in task.files],
                [astuple(tce) for tce in task.known],
                [task.numbers.start, task.numbers.stop],
            ]
            for task in shard.of(tasks)
        ]


def _input_digest(tasks: Sequence[Task]) -> str:
    """A digest of the injections of a shard and of the content of its light curves."""
    digest = hashlib.sha256()
    for task in tasks:
        files = [(path.name, content_digest(path)) for path in task.files]
        digest.update(repr((task.star, task.known, task.numbers, files)).encode())
    return digest.hexdigest()
