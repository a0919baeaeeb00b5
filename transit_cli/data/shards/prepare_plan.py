"""The plan of a sharded `prepare`: the stars of each shard with their signals and files, and the options."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import astuple, dataclass
from typing import TYPE_CHECKING, Any

from transit_cli import console
from transit_cli.data.catalogs import catalog
from transit_cli.data.catalogs.catalog import Tce
from transit_cli.data.lightcurves.file_index import FileIndex, base_of
from transit_cli.data.shards import plan
from transit_cli.data.shards.plan import Draft, Plan
from transit_cli.data.shards.shard import all_shards
from transit_cli.data.views.star import Task
from transit_cli.utils import remote

if TYPE_CHECKING:
    from pathlib import Path

    from transit_cli.data.settings import PrepareSettings
    from transit_cli.data.shards.shard import Shard
    from transit_cli.data.views.make import Recipe

#: From the rows of a catalog and the light curves to the stars with both, and rows for those without.
Matcher = Callable[[Sequence[Tce], FileIndex], tuple[list[Task], list[dict[str, Any]]]]


@dataclass(frozen=True)
class ShardPlan:
    """A plan on the disk.

    Attributes:
        plan: as it is there.
        light_curves: the folder of the light curves.
    """

    plan: Plan
    light_curves: Path

    @property
    def notes(self) -> tuple[str, ...]:
        """What was decided about the catalog."""
        return tuple(self.plan.content["notes"])

    def part(self, shard: Shard, recipe: Recipe, settings: PrepareSettings) -> tuple[list[Task], list[dict[str, Any]]]:
        """The stars of a shard, and the rows that are dropped without a look at a light curve."""
        content = self.plan.part(shard)
        tasks = []
        for star, rows, files, named in content["stars"]:
            tces = tuple((number, tce_of(row)) for number, row in rows)
            own = {int(number): self._paths(names) for number, names in named.items()}
            tasks.append(
                Task(star, tces, self._paths(files), recipe, settings.flux_column, settings.detrend, own),
            )
        return tasks, content["dropped"]

    def _paths(self, names: Sequence[str]) -> tuple[Path, ...]:
        return tuple(self.light_curves / name for name in names)


def tce_of(row: Sequence[Any]) -> Tce:
    """A row of a catalog from JSON types, as `dataclasses.astuple` gives them."""
    return Tce(*row[:-1], other_names=tuple(row[-1]))


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

    def listed() -> dict[str, str]:
        return {"light_curves": FileIndex.of(settings.light_curves, skip=[settings.catalog]).digest}

    wanted = {"options": options, "catalog": plan.file_checksum(settings.catalog)}
    found = plan.open_plan(
        settings.out, count, wanted, lambda: _draft(settings, count, match), listed if check_files else None
    )
    return ShardPlan(found, base_of(settings.light_curves))


def _draft(settings: PrepareSettings, count: int, match: Matcher) -> Draft:
    signals = catalog.read(remote.local(settings.catalog), settings.mission or "", settings.map)
    index = FileIndex.of(settings.light_curves, skip=[settings.catalog])
    notes = list(signals.notes)
    if index.ignored:
        notes.append(f"{len(index.ignored):,} tables without time and flux columns are not light curves")
    for note in notes:
        console.note(note)
    tasks, dropped = match(signals.tces, index)
    return Draft({"light_curves": index.digest, "notes": notes}, _parts(tasks, dropped, index, count))


def _parts(
    tasks: Sequence[Task], dropped: Sequence[dict[str, Any]], index: FileIndex, count: int
) -> Iterator[dict[str, Any]]:
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
        yield {"stars": stars, "dropped": list(shard.of(dropped))}
