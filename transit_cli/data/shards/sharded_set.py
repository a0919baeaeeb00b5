"""View sets in shards: `--shard I/N` writes one, `--shards N` all of them, and the last one the manifest."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from typing import TYPE_CHECKING, Any

from transit_cli import __version__, console
from transit_cli.data.shards.shard import Shard, all_shards, shard_folders
from transit_cli.data.viewset import INFO, SHARDED, ViewSet, checksum, refuse_existing
from transit_cli.parallel import each
from transit_cli.results import Result, TransitError
from transit_cli.utils import remote
from transit_cli.utils.files import locked, make_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

#: The keys of a shard's recipe that differ between the shards of one set.
SHARD, INPUT = "shard", "input"


def write_shard(out: Path, shard: Shard, recipe: Mapping[str, Any], make: Callable[[Path], ViewSet]) -> ViewSet:
    """One shard of a set: as it is there, or made now. The set's manifest is written if this was the last one.

    Args:
        out: the folder of the set.
        shard: which part.
        recipe: how the set is made; its key "input", if it has one, is each shard's own.
        make: writes the shard to a folder.

    Raises:
        TransitError: `out` is something else, the shard that is there was made otherwise, or another process makes it.
    """
    prepare_folder(out, shard.count)
    folder = out / shard.name
    if not remote.exists(folder / INFO):
        with remote.staged(folder) as here, locked(here):
            if not here.exists():
                make(here)
    views = ViewSet.open(folder)
    if _common(views.recipe) != _common(recipe):
        raise _other_set(out, f"its {shard.name}")
    assemble(out, shard.count)
    return views


def write_all(out: Path, count: int, make: Callable[[Shard], int], workers: int, scheduler: str = "") -> ViewSet:
    """All shards of a set, those that are there left as they are, and the manifest.

    Args:
        out: the folder of the set.
        count: number of shards.
        make: makes a shard, in any process; returns its number of TCEs.
        workers: processes; 0 for one per core.
        scheduler: address of a Dask scheduler whose workers see the same files.
    """
    prepare_folder(out, count)
    todo = [shard for shard in all_shards(count) if not remote.exists(out / shard.name / INFO)]
    if len(todo) < count:
        console.note(f"{count - len(todo):,} of {count:,} shards were done before")
    try:
        with console.progress("shards", count) as bar:
            bar.update(count - len(todo))
            for shard, _ in each(make, todo, workers, scheduler):
                bar.update(advance=1, status=shard.name)
    except KeyboardInterrupt as interrupt:
        interrupt.args = ("run the same command again to resume; finished shards are kept",)
        raise
    views = assemble(out, count)
    if views is None:
        raise _other_set(out, "a shard that was there a moment ago is gone: it")
    return views


def prepare_folder(out: Path, count: int) -> None:
    """Make the folder of a set in `count` shards, or raise the error for one that is something else."""
    if remote.exists(out / INFO) and not ViewSet.open(out).info.get("shards"):
        refuse_existing(out)
    other = [name for name in shard_folders(out) if not name.endswith(f"-of-{count:05}")]
    if other:
        raise _other_set(out, f"its {other[0]}")
    if not remote.url(out):
        make_folder(out)


def assemble(out: Path, count: int) -> ViewSet | None:
    """Write the manifest of a set whose shards are all there, or return None. Nothing is copied.

    Whoever finishes the last shard calls it; several at once write the same bytes.

    Raises:
        TransitError: the shards were made in different ways.
    """
    names = [shard.name for shard in all_shards(count)]
    if set(names) - set(shard_folders(out)):
        return None
    first = ViewSet.open(out / names[0])
    recipe, inputs = _common(first.recipe), hashlib.sha256()
    counts: dict[str, int] = {}
    for name in names:
        views = ViewSet.open(out / name)
        if _common(views.recipe) != recipe or views.lengths != first.lengths:
            raise _other_set(out, f"its {name}")
        counts[name] = len(views)
        inputs.update(str(views.recipe.get(INPUT, "")).encode())
    sums = {f"{name}/{INFO}": checksum(out / name / INFO) for name in names}
    recipe |= {INPUT: inputs.hexdigest()} if INPUT in first.recipe else {}
    info = {
        "viewset": SHARDED,
        "count": sum(counts.values()),
        "views": first.lengths,
        "recipe": recipe,
        "versions": {"transit": __version__},
        "shards": counts,
        "sha256": sums,
    }
    text = json.dumps(info, indent=2) + "\n"
    if not remote.exists(out / INFO) or remote.read_text(out / INFO) != text:
        remote.write_text(out / INFO, text)
    return ViewSet.open(out)


def shard_result(out: Path, shard: Shard, views: ViewSet) -> Result:
    """The result of `--shard`: one line, and counts."""
    missing = shard.count - len(shard_folders(out))
    dropped = views.dropped.rows
    verdict = f"shard {shard}: {len(views):,} TCEs" + (f", {dropped:,} dropped" if dropped else "")
    verdict += f" in {views.path}; " + (f"{missing:,} shards are missing" if missing else f"{out} is complete")
    reasons = Counter(views.dropped["reason"].tolist()) if "reason" in views.dropped else {}
    data = {
        "path": str(out),
        "shard": str(shard),
        "shard_path": str(views.path),
        "tces": len(views),
        "dropped": dict(reasons),
        "missing_shards": missing,
    }
    return Result(data, [], verdict)


def _common(recipe: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in json.loads(json.dumps(dict(recipe))).items() if key not in {SHARD, INPUT}}


def _other_set(out: Path, what: str) -> TransitError:
    return TransitError(
        f"{out} exists already: {what} is of another set, or was made with other options",
        wanted="a folder that does not exist, or shards of this set, made with the same options",
        fix=f"give another name, or remove {out}",
        code="output-exists",
    )
