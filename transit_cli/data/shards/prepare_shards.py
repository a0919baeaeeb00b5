"""`transit data prepare` in shards."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from transit_cli import console
from transit_cli.data import bulk, viewset
from transit_cli.data.shards.prepare_plan import open_plan
from transit_cli.data.shards.sharded_set import INPUT, SHARD, prepare_folder, write_all, write_shard
from transit_cli.data.split import split_of
from transit_cli.data.views.star import prepare_star
from transit_cli.parallel import each
from transit_cli.utils import remote

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from transit_cli.data.settings import PrepareSettings
    from transit_cli.data.shards.prepare_plan import Matcher, ShardPlan
    from transit_cli.data.shards.shard import Shard
    from transit_cli.data.views.make import Recipe
    from transit_cli.data.views.star import Prepared, Task
    from transit_cli.data.viewset import ViewSet


@dataclass(frozen=True)
class ShardedPrepare:
    """A `prepare` that is done in shards; picklable.

    Attributes:
        settings: of the command.
        recipe: of the views.
        options: what shards are made with, as JSON types.
        match: assigns light curves to the rows of the catalog.
    """

    settings: PrepareSettings
    recipe: Recipe
    options: dict[str, Any]
    match: Matcher

    def shard(self, shard: Shard) -> ViewSet:
        """One shard, as it is there or made now."""
        prepare_folder(self.settings.out, shard.count)
        plan = open_plan(self.settings, self.options, shard.count, self.match, check_files=False)
        return write_shard(self.settings.out, shard, self.options, partial(self._write, plan, shard))

    def stars(self, shard: Shard) -> list[Task]:
        """The stars of a shard that have light curves."""
        plan = open_plan(self.settings, self.options, shard.count, self.match, check_files=False)
        return plan.part(shard, self.recipe, self.settings)[0]

    def all(self) -> tuple[ViewSet, tuple[str, ...]]:
        """All shards, and what was decided about the catalog."""
        settings = self.settings
        prepare_folder(settings.out, settings.shards)
        plan = open_plan(settings, self.options, settings.shards, self.match, check_files=True)
        one = replace(self, settings=settings.replace(workers=1))
        return write_all(settings.out, settings.shards, one.count, settings.workers, settings.scheduler), plan.notes

    def count(self, shard: Shard) -> int:
        """Make a shard in a worker process; returns its number of TCEs."""
        return len(self.shard(shard))

    def _write(self, plan: ShardPlan, shard: Shard, folder: Path) -> ViewSet:
        tasks, dropped = plan.part(shard, self.recipe, self.settings)
        done: dict[str, Prepared] = {}
        with console.progress(f"stars of shard {shard}", len(tasks)) as bar:
            for task, prepared in each(prepare_star, tasks, self.settings.workers):
                done[task.star] = prepared
                bar.update(advance=1, status=task.star)
        results = [done[task.star] for task in tasks]
        rows = [row | {"split": split_of(row["star"])} for result in results for row in result.rows]
        lost = [*dropped, *(row for result in results for row in result.dropped)]
        lost.sort(key=lambda row: row.get("catalog_row", math.inf))
        views = {
            name: np.concatenate([np.empty((0, length), np.float32), *(result.views[name] for result in results)])
            for name, length in self.recipe.lengths.items()
        }
        about = self.options | {INPUT: _input_digest(tasks, plan), SHARD: str(shard)}
        return viewset.write(folder, views, columns_of(rows), about, columns_of(lost))


def _input_digest(tasks: Sequence[Task], plan: ShardPlan) -> str:
    """A digest of the signals of a shard and of the content of its light curves."""
    digest = hashlib.sha256()
    for task in tasks:
        named = {number: [_name(path, plan) for path in paths] for number, paths in task.named.items()}
        files = [(_name(path, plan), content_digest(path)) for path in task.files]
        digest.update(repr((task.star, task.tces, files, named)).encode())
    return digest.hexdigest()


def content_digest(path: Path) -> str:
    """A text that changes with the content of a light curve."""
    if bulk.split(path):
        return bulk.digest(path)
    return remote.tag(path) if remote.url(path) else viewset.checksum(path)


def _name(path: Path, plan: ShardPlan) -> str:
    return path.relative_to(plan.light_curves).as_posix()


def columns_of(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Rows as columns; missing values are empty."""
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: [row.get(name, "") for row in rows] for name in names}
