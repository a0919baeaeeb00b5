"""The table of all signals from those of the shards, one row in memory at a time, besides a score per signal."""

from __future__ import annotations

import csv
import json
import math
from array import array
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from transit_cli.data.shards.shard import Shard, all_shards, shard_folders
from transit_cli.data.storage.table_file import TEXT
from transit_cli.parsing import csv_text
from transit_cli.results import TransitError
from transit_cli.utils import remote
from transit_cli.utils.files import atomic_output
from transit_cli.vetting.prediction.plots import plot, remove_former
from transit_cli.vetting.prediction.score_table import LISTED, SCORES, ranked
from transit_cli.vetting.scored_signals import from_viewset

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

#: What a shard was made from, written last; and the list of the shards, written when the table is complete.
ABOUT, SHARDS = "shard.json", "shards.json"
_TEXT = TEXT | {"doubt", "error", "plot", "impostor", "trained_on"}


@dataclass(frozen=True)
class Assembled:
    """What the table of all signals holds.

    Attributes:
        count: its rows.
        failed: those of them without a score.
        reasons: why not, and how often; of very many different ones, some.
        listed: the rows of highest score, at most `LISTED`, in the order of the table.
    """

    count: int
    failed: int
    reasons: Counter[str]
    listed: list[dict[str, Any]]


def about(out: Path, shard: Shard) -> dict[str, Any]:
    """The shard.json of a shard."""
    return json.loads(remote.read_text(out / shard.name / ABOUT))


def missing(out: Path, count: int) -> int:
    """The number of shards that are not there."""
    return len({shard.name for shard in all_shards(count)} - set(shard_folders(out)))


def refuse_other_counts(out: Path, count: int) -> None:
    """Raise the error for an output folder with shards of another number."""
    other = [name for name in shard_folders(out) if not name.endswith(f"-of-{count:05}")]
    if other:
        raise TransitError(
            f"{out} holds {other[0]}, which is not one of {count:,} shards",
            wanted="the same number of shards for every job",
            fix=f"give another --out, or remove {out}",
            code="output-exists",
        )


def is_complete(out: Path, count: int) -> bool:
    """Whether the table of all was made from the shards that are there."""
    return remote.exists(out / SHARDS) and json.loads(remote.read_text(out / SHARDS)) == _manifest(out, count)


def _manifest(out: Path, count: int) -> dict[str, Any]:
    return {shard.name: about(out, shard) for shard in all_shards(count)}


def assemble(out: Path, count: int, views: Path, max_plots: int) -> Assembled:
    """Write the table of all signals: first those with views, in the order of the view set, then those without.

    Args:
        out: the output folder.
        count: number of shards, all of which are there.
        views: the view set of the signals.
        max_plots: plots of the highest scores.

    Raises:
        TransitError: the shards were made from different input.
    """
    shards = _manifest(out, count)
    if len({about["made_from"] for about in shards.values()}) > 1:
        raise TransitError(
            f"the shards in {out} were made from different input, runs or options",
            wanted="shards of one prediction",
            fix=f"remove {out}, and make all of them again",
            code="output-exists",
        )
    header = _header(out, shards)
    scores, errors, reasons = array("d"), bytearray(), Counter[str]()
    for row in _rows(out, shards):
        scores.append(float(row["score"] or "nan"))
        errors.append(bool(row["error"]))
        if row["error"] and (len(reasons) < LISTED or csv_text.plain(row["error"]) in reasons):
            reasons[csv_text.plain(row["error"])] += 1
    order = ranked(np.frombuffer(scores)) if scores else np.empty(0, np.int64)
    drawn = {place for place in order[:max_plots].tolist() if not errors[place]}
    wanted = set(order[:LISTED].tolist())
    listed: list[dict[str, Any]] = []
    signals = from_viewset(views) if drawn else None
    with ExitStack() as stack:
        here = stack.enter_context(remote.staged(out))
        remove_former(here)
        temporary = stack.enter_context(atomic_output(here / SCORES))
        stream = stack.enter_context(temporary.open("w", encoding="utf-8", newline=""))
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(header)
        for place, row in enumerate(_rows(out, shards)):
            row["row"] = str(place)
            if place in wanted:
                typed = {name: _value(name, row.get(name, "")) for name in header}
                if signals and place in drawn:
                    typed["plot"] = row["plot"] = plot(here, signals, typed, place)
                listed.append(typed)
            writer.writerow([row.get(name, "") for name in header])
    remote.write_text(out / SHARDS, json.dumps(shards, indent=1))
    return Assembled(len(scores), sum(errors), reasons, listed)


def _header(out: Path, shards: Mapping[str, Any]) -> list[str]:
    """The columns of the shard that has most: one without signals has not all."""
    headers = [next(_cells(out, name)) for name in shards]
    return max(headers, key=len)


def _cells(out: Path, name: str) -> Iterator[list[str]]:
    with remote.local(out / name / SCORES).open(encoding="utf-8", newline="") as stream:
        yield from csv.reader(stream)


def _rows(out: Path, shards: Mapping[str, Any]) -> Iterator[dict[str, str]]:
    """The rows of all shards, first those of signals with views."""
    for with_views in (True, False):
        for name, about in shards.items():
            if not with_views and about["rows"] == about["with_views"]:
                continue
            cells = _cells(out, name)
            header = next(cells)
            for place, row in enumerate(cells):
                if (place < about["with_views"]) == with_views:
                    yield dict(zip(header, row, strict=True))


def _value(name: str, cell: str) -> Any:
    if name in _TEXT:
        return csv_text.plain(cell)
    return int(cell) if name == "row" else float(cell) if cell else math.nan
