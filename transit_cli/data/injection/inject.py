"""`transit data inject`: signals injected into a user's own light curves, as a labelled view set.

Each block of injections into one star is a task; its result is a file in a work folder beside the output, from which an
interrupted run resumes. The set does not depend on the number of processes or on interruptions.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections import Counter, defaultdict
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from transit_cli import console
from transit_cli.data import bulk, viewset
from transit_cli.data.catalogs import catalog
from transit_cli.data.injection.inject_shards import ShardedInject
from transit_cli.data.injection.kinds import LABELS, PERIODS, SHARES, SNR
from transit_cli.data.injection.star import STREAM, Injected, Task, inject_star
from transit_cli.data.lightcurves.file_index import FileIndex
from transit_cli.data.shards.prepare_shards import columns_of
from transit_cli.data.shards.shard import Shard
from transit_cli.data.shards.sharded_set import shard_result
from transit_cli.data.storage import work_folder
from transit_cli.data.views import extra_views
from transit_cli.data.views.make import Recipe, recipe_for
from transit_cli.parallel import each
from transit_cli.results import Result, Table, TransitError
from transit_cli.utils import remote
from transit_cli.utils.files import locked
from transit_cli.utils.packages import check_installed

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from transit_cli.data.catalogs.catalog import Tce
    from transit_cli.data.settings import InjectSettings
    from transit_cli.data.viewset import ViewSet

#: Injections per task: seconds of work, lost at most if a run is killed.
BLOCK = 25


def inject(settings: InjectSettings) -> Result:
    """Make the view set that the settings ask for.

    Raises:
        TransitError: the input cannot be read, the output exists, or another process is making it.
    """
    recipe = _recipe(settings)
    if settings.scheduler:
        check_installed("distributed", "cluster", "--scheduler")
    if settings.shard or settings.shards:
        return _in_shards(settings, recipe)
    with remote.staged(settings.out) as here, locked(here):
        viewset.refuse_existing(settings.out)
        return _inject(settings.replace(out=here), recipe)


def _in_shards(settings: InjectSettings, recipe: Recipe) -> Result:
    sharded = ShardedInject(settings, recipe, _options(settings, recipe), partial(_planned, settings, recipe))
    if settings.shard:
        shard = Shard.parse(settings.shard)
        return shard_result(settings.out, shard, sharded.shard(shard))
    made, cut = sharded.all()
    if not len(made):
        raise _nothing_injected(made.dropped["reason"].tolist())
    return _result(settings, made, cut=cut)


def _planned(settings: InjectSettings, recipe: Recipe, index: FileIndex) -> tuple[list[Task], int]:
    """The blocks of injections, and the number of known signals that are cut out."""
    stars = {star: tuple(sorted(files)) for star, files in sorted(index.by_star.items()) if star}
    if not stars:
        raise TransitError(
            f"{settings.light_curves} holds no light curve whose star is known",
            wanted="a folder of light curves",
            fix=f"transit data check {settings.light_curves}",
            code="no-light-curves",
        )
    if index.has_rows:
        stars = dict(sorted(stars.items(), key=lambda item: bulk.order(item[1][0])))
    known = _known(settings)
    tasks = _tasks(stars, known, settings, recipe)
    return tasks, sum(len(rows) for star, rows in known.items() if star in stars)


def _recipe(settings: InjectSettings) -> Recipe:
    if unknown := [kind for kind in settings.kinds if kind not in LABELS]:
        settings.refuse("kinds", ", ".join(LABELS), f"--kinds {','.join(k for k in LABELS if k not in unknown)}")
    if not settings.kinds:
        settings.refuse("kinds", f"one or more of {', '.join(LABELS)}")
    if not set(settings.views) <= set(extra_views.NAMES):
        settings.refuse("views", ", ".join(extra_views.NAMES))
    lengths = settings.bins or ("201/61" if settings.mission == "tess" else "2001/201")
    try:
        return recipe_for(lengths, secondary=settings.secondary, odd_even=settings.odd_even, extra=settings.views)
    except ValueError as wanted:
        settings.refuse("bins", str(wanted), "--bins 201/61")


def _inject(settings: InjectSettings, recipe: Recipe) -> Result:
    index = FileIndex.of(settings.light_curves, skip=[settings.catalog] if settings.catalog else [])
    tasks, cut = _planned(settings, recipe, index)
    plan = _plan(tasks, index, settings, recipe)
    work = settings.out.parent / f".{settings.out.name}.work"
    work_folder.open_work(work, json.dumps(plan), "plan.json")
    todo = [task for task in tasks if not _file_of(work, task).exists()]
    if len(todo) < len(tasks):
        console.note(f"{len(tasks) - len(todo):,} of {len(tasks):,} blocks were done before")
    try:
        with console.progress("injections", settings.tces) as bar:
            bar.update(settings.tces - sum(len(task.numbers) for task in todo))
            for task, done in each(inject_star, todo, settings.workers, settings.scheduler):
                work_folder.save(_file_of(work, task), done.rows, done.dropped, done.views)
                bar.update(advance=len(task.numbers), status=task.star)
    except KeyboardInterrupt as interrupt:
        interrupt.args = (f"run the same command again to resume from {work}",)
        raise
    made = _assemble(settings.out, [_load(_file_of(work, task)) for task in tasks], recipe, plan)
    shutil.rmtree(work)
    return _result(settings, made, cut=cut)


def _known(settings: InjectSettings) -> dict[str, tuple[Tce, ...]]:
    """The known signals of each star."""
    found: dict[str, list[Tce]] = defaultdict(list)
    if settings.catalog:
        signals = catalog.read(remote.local(settings.catalog), settings.mission or "", settings.map)
        for note in signals.notes:
            console.note(note)
        for tce in signals.tces:
            for star in dict.fromkeys((tce.star, *tce.other_names)):
                found[star].append(tce)
    return {star: tuple(tces) for star, tces in found.items()}


def _tasks(
    stars: dict[str, tuple[Path, ...]], known: dict[str, tuple[Tce, ...]], settings: InjectSettings, recipe: Recipe
) -> list[Task]:
    """Blocks of injections, the same number for every star, and one more for the first ones."""
    tasks = []
    for place, (star, files) in enumerate(stars.items()):
        count = settings.tces // len(stars) + (place < settings.tces % len(stars))
        for first in range(0, count, BLOCK):
            numbers = range(first, min(first + BLOCK, count))
            kinds = tuple(kind for kind in LABELS if kind in settings.kinds)
            tasks.append(
                Task(star, files, known.get(star, ()), numbers, kinds, settings.seed, recipe, settings.flux_column)
            )
    return tasks


def _plan(tasks: Sequence[Task], index: FileIndex, settings: InjectSettings, recipe: Recipe) -> dict[str, Any]:
    """What is to be made, as JSON types: two runs with the same plan make the same set."""
    content = index.checksums(list(dict.fromkeys(path for task in tasks for path in task.files)))
    digest = hashlib.sha256()
    for task in tasks:
        files = [(index.name(path), content[path]) for path in task.files]
        digest.update(repr((task.star, task.known, task.numbers, files)).encode())
    return _options(settings, recipe) | {"input": digest.hexdigest()}


def _options(settings: InjectSettings, recipe: Recipe) -> dict[str, Any]:
    return {
        "command": "inject",
        "simulated": True,
        "injection": STREAM,
        "seed": settings.seed,
        "tces": settings.tces,
        "kinds": [kind for kind in LABELS if kind in settings.kinds],
        "shares": {kind: share for kind, share in SHARES.items() if kind in settings.kinds},
        "periods_days": list(PERIODS),
        "snr": list(SNR),
        "mission": settings.mission or "",
        "views": recipe.document(),
        "flux_column": settings.flux_column,
    }


def _file_of(work: Path, task: Task) -> Path:
    return work / f"{hashlib.sha256(task.star.encode()).hexdigest()[:24]}-{task.numbers.start}.npz"


def _load(file: Path) -> Injected:
    rows, dropped, views = work_folder.load(file)
    return Injected(rows, views, dropped)


def _assemble(out: Path, blocks: Sequence[Injected], recipe: Recipe, plan: dict[str, Any]) -> ViewSet:
    rows = [row for block in blocks for row in block.rows]
    dropped = [row for block in blocks for row in block.dropped]
    if not rows:
        raise _nothing_injected([row["reason"] for row in dropped])
    views = {name: np.concatenate([block.views[name] for block in blocks]) for name in recipe.lengths}
    return viewset.write(out, views, columns_of(rows), plan, columns_of(dropped) if dropped else None)


def _nothing_injected(reasons: Sequence[str]) -> TransitError:
    return TransitError(
        f"no signal could be injected: {Counter(reasons).most_common(1)[0][0]}",
        wanted="light curves of at least 2 days and 100 cadences without known transits",
        fix="transit data check LIGHT_CURVES",
        code="nothing-injected",
    )


def _result(settings: InjectSettings, made: ViewSet, *, cut: int) -> Result:
    tces, kinds = made.tces, made.tces["kind"]
    rows = []
    for kind in dict.fromkeys(LABELS):
        chosen = kinds == kind
        if chosen.any():
            medians = (np.median(tces[name][chosen]) for name in ("period_days", "measured_snr"))
            rows.append((kind, LABELS[kind], f"{chosen.sum():,}", *(f"{value:.3g}" for value in medians)))
    parts = Counter(made.splits.tolist())
    stars = len(set(tces["star"].tolist()))
    table = Table(
        ("kind", "label", "TCEs", "median period, days", "median S/N"),
        rows,
        title=f"{settings.out}: injected into the light curves of {stars:,} stars",
        note=f"{cut:,} known signals cut out; splits: {', '.join(f'{part} {n:,}' for part, n in parts.items())}",
    )
    warnings = []
    if settings.catalog is None:
        warnings.append("no --catalog: transits of known planets stay in the light curves")
    if missing := sorted({"train", "val"} - set(parts)):
        warnings.append(
            f"{stars} stars are too few for a split by star: no {' and no '.join(missing)} signals. "
            "Add light curves, or train with --folds"
        )
    data = {
        "path": str(made.path),
        "tces": len(made),
        "dropped": len(made.dropped.get("star", ())),
        "stars": stars,
        "kinds": {kind: int((kinds == kind).sum()) for kind in LABELS},
        "splits": dict(parts),
        "known_signals_cut": cut,
        "seed": settings.seed,
    }
    return Result(data, [table], f"{len(made):,} TCEs in {settings.out}\nnext: transit train {settings.out}", warnings)
