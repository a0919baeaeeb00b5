"""A shard: one part of a large piece of work, which is done by one command and leaves one finished folder or file.

The same command does every shard, on any machine that sees the output, in any order and any number of times:

    transit data simulate OUT --tces 1000000 --shard 12/1000

so that a SLURM array, GNU parallel, a Dask cluster or a loop in a shell are all it takes to do many.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from transit_cli.results import ExitCode, TransitError
from transit_cli.utils import remote

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_TEXT = re.compile(r"(\d+)/(\d+)")
_NAME = re.compile(r"shard-\d+-of-\d+")
#: Most shards of one piece of work: their names have five digits.
MOST = 99_999


@dataclass(frozen=True)
class Shard:
    """Part `number`, from 1, of `count` parts."""

    number: int
    count: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """A shard from "12/400".

        Raises:
            TransitError: the text is something else.
        """
        found = _TEXT.fullmatch(text.strip())
        if not found or not 1 <= int(found[1]) <= int(found[2]) <= MOST:
            raise TransitError(
                f"--shard is {text!r}",
                wanted=f"I/N, the part I from 1 to N, with N up to {MOST:,}",
                fix="give it as in --shard 12/400",
                exit_code=ExitCode.USAGE,
                code="setting-invalid",
            )
        return cls(int(found[1]), int(found[2]))

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"

    @property
    def name(self) -> str:
        """The name of its folder; names sort in the order of the shards."""
        return f"shard-{self.number:05}-of-{self.count:05}"

    def part(self, total: int) -> slice:
        """Its part of `total` items; the parts of all shards differ by at most one item, and follow each other."""
        return slice(total * (self.number - 1) // self.count, total * self.number // self.count)

    def of(self, items: Sequence[Any]) -> Sequence[Any]:
        """Its part of a sequence."""
        return items[self.part(len(items))]


def all_shards(count: int) -> list[Shard]:
    """The shards of a piece of work."""
    return [Shard(number, count) for number in range(1, count + 1)]


def shard_folders(out: Path) -> list[str]:
    """The names of the shards' folders that are in a folder."""
    return [name for name in remote.names(out) if _NAME.fullmatch(name)]
