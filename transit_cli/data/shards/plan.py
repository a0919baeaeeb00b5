"""The plan of a piece of work in shards: what each shard has to do, worked out once and kept with the output.

    FOLDER/plan.json                    what the plan was made from, and what was found out on the way
    FOLDER/shard-00012-of-00400.json    what the job of a shard needs to know

A shard's job reads its own file only, so that a catalog is read and a folder of light curves listed once.
"""

from __future__ import annotations

import hashlib
import json
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from time import sleep
from typing import TYPE_CHECKING, Any

from transit_cli import console
from transit_cli.data.shards.shard import all_shards
from transit_cli.results import TransitError
from transit_cli.utils import remote
from transit_cli.utils.files import locked

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from transit_cli.data.shards.shard import Shard

PLAN = "plan"
#: Changes when plans of an earlier version must not be used.
VERSION = 2


@dataclass(frozen=True)
class Plan:
    """A plan on the disk.

    Attributes:
        folder: where it lies.
        content: of plan.json.
    """

    folder: Path
    content: Mapping[str, Any]

    def part(self, shard: Shard) -> Any:
        """What a shard has to do, as it was written."""
        return json.loads(remote.read_text(self.folder / f"{shard.name}.json"))


@dataclass(frozen=True)
class Draft:
    """A plan that has just been worked out, in JSON types.

    Attributes:
        found: further content of plan.json.
        parts: what each shard has to do, in the order of the shards.
    """

    found: Mapping[str, Any]
    parts: Iterable[Any]


def open_plan(
    out: Path,
    count: int,
    wanted: Mapping[str, Any],
    make: Callable[[], Draft],
    recheck: Callable[[], Mapping[str, Any]] | None = None,
) -> Plan:
    """The plan of some work, made by the first job that needs it; the others wait.

    Args:
        out: the output, as the user calls it; the plan lies in its folder "plan".
        count: number of shards.
        wanted: what the plan must have been made from, as JSON types by name.
        make: works it out.
        recheck: more that is wanted and takes longer to find out; a plan that was made just now is not asked.

    Raises:
        TransitError: the input cannot be read, or the plan that is there is of other input or options.
    """
    folder, made = out / PLAN, False
    file = folder / "plan.json"
    needed = json.loads(json.dumps({"plan": VERSION, "shards": count, **wanted}))
    while not remote.exists(file):
        try:
            with _owned(folder):
                if not remote.exists(file):
                    _write(folder, count, needed, make())
                    made = True
        except TransitError as error:
            if error.code != "folder-busy":
                raise
            sleep(1)  # another job is making it
    found = json.loads(remote.read_text(file))
    needed |= {} if made or recheck is None else json.loads(json.dumps(dict(recheck())))
    changed = [key for key, value in needed.items() if found.get(key) != value]
    if changed:
        raise TransitError(
            f"{out} was begun with another {' and '.join(key.replace('_', ' ') for key in changed)}",
            wanted="the same catalog, light curves, options and number of shards for every shard",
            fix=f"give another name, or remove {out}",
            code="output-exists",
        )
    return Plan(folder, found)


def _write(folder: Path, count: int, needed: Mapping[str, Any], draft: Draft) -> None:
    with console.progress("plan", count) as bar:
        for shard, part in zip(all_shards(count), draft.parts, strict=True):
            remote.write_text(folder / f"{shard.name}.json", json.dumps(part))
            bar.update(advance=1)
    remote.write_text(folder / "plan.json", json.dumps({**needed, **draft.found}, indent=1))


def _owned(folder: Path) -> AbstractContextManager[None]:
    """Own a local folder; by URL two jobs may make the same plan, with the same bytes."""
    return nullcontext() if remote.url(folder) else locked(folder)


def file_checksum(file: Path) -> str:
    """The SHA-256 of a file, which may be given by URL."""
    with remote.local(file).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
