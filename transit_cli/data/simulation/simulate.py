"""`transit data simulate`: a simulated view set.

Every TCE depends only on the seed and its number, so that the set does not depend on the number of processes.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from time import sleep
from typing import TYPE_CHECKING, Any

import numpy as np

from transit_cli import console
from transit_cli.data import viewset
from transit_cli.data.settings import SimulateSettings
from transit_cli.data.shards.shard import Shard
from transit_cli.data.shards.sharded_set import SHARD, shard_result, write_all, write_shard
from transit_cli.data.split import split_of
from transit_cli.data.views import extra_views
from transit_cli.data.views.folding import UnusableError
from transit_cli.data.views.make import KEPLER, TESS, Recipe, make_views, recipe_for
from transit_cli.data.views.measurements.centroid import centroid_scalars, centroid_view
from transit_cli.memory.requirement import require
from transit_cli.parallel import each
from transit_cli.results import Result, Table, TransitError
from transit_cli.utils.files import locked
from transit_cli.utils.packages import check_installed

if TYPE_CHECKING:
    from pathlib import Path

    from transit_cli.data.viewset import ViewSet

#: Changes whenever the same seed no longer gives the same set.
VERSION = 5
#: Seeds the random numbers of every TCE. Version 5 has more causes of junk, chance alignments and lopsided dips;
#: version 4 more columns and labels for causes of junk; version 2 determined the depth of one row in 1,000 only to
#: rounding.
STREAM = 2
#: Labels and their fractions; some causes of junk have labels of their own.
SHARES = {"PC": 0.25, "EB": 0.25, "J": 0.5}
#: Labels by cause: a variable star is astrophysical (O), a wrong period or epoch is no transiting phenomenon (NTP).
LABEL_OF_KIND = {"variable star": "O", "wrong ephemeris": "NTP", "multiple of the cadence": "NTP"}
#: TCEs per task of a process: about 0.1 s of work, so that all processes finish together.
BLOCK = 10
#: Bytes in memory of a row of the table, measured: about 2 kB while the table is assembled.
ROW_BYTES = 2048
#: Maximum number of light curves per TCE.
TRIES = 50
#: Decimal places of a view; beyond them the results of different processors differ.
DIGITS = 4
#: TCEs of the default training set: enough to learn from, made in seconds.
EMBEDDED_TCES = 3000

_Row = dict[str, Any]


def simulate(settings: SimulateSettings) -> Result:
    """Make a simulated view set.

    Raises:
        TransitError: `settings.out` exists, or a worker process died.
    """
    if settings.shard:
        shard = Shard.parse(settings.shard)
        return shard_result(settings.out, shard, _make_shard(settings, shard))
    made = make(settings)
    labels = made.labels
    known = (*SHARES, *dict.fromkeys(LABEL_OF_KIND.values()))
    counts = {label: int((labels == label).sum()) for label in known}
    table = Table(
        ("label", "TCEs", "median period, days", "median S/N"),
        [
            (
                label,
                f"{count:,}",
                *(f"{np.nanmedian(made.tces[c][labels == label]):.3g}" for c in ("period_days", "snr")),
            )
            for label, count in counts.items()
            if count
        ],
        title=f"{settings.out}: simulated {settings.mission.upper() if settings.mission == 'tess' else 'Kepler'}-like "
        f"views of {'/'.join(map(str, made.lengths.values()))} bins",
    )
    data = {
        "path": str(made.path),
        "simulated": True,
        "tces": len(made),
        "seed": settings.seed,
        "mission": settings.mission,
        "views": made.lengths,
        "labels": counts,
    }
    return Result(data, [table], f"{len(made):,} simulated TCEs in {settings.out}\nnext: transit train {settings.out}")


def embedded(cache: Path) -> Path:
    """The default view set, from an earlier call or simulated now.

    Args:
        cache: folder in which it is kept.

    Returns:
        The view set's folder in `cache`. Its name contains the version, so that a later version simulates its own.
    """
    out = cache / f"simulated-tess-{EMBEDDED_TCES}-v{VERSION}"
    while not (out / viewset.INFO).exists():
        console.note(f"no view set was given: simulating {EMBEDDED_TCES:,} TCEs once, into {out}")
        try:
            make(SimulateSettings(out=out, tces=EMBEDDED_TCES, mission="tess"))
        except TransitError as error:
            if error.code == "folder-busy":  # another process is making it
                sleep(1)
            elif error.code != "output-exists":  # another process has made it
                raise
    return out


def make(settings: SimulateSettings) -> ViewSet:
    """Simulate and write a view set.

    Raises:
        TransitError: `settings.out` exists, or another process is making it.
    """
    recipe = _recipe(settings)
    if settings.scheduler:
        check_installed("distributed", "cluster", "--scheduler")
    if settings.shards:
        return write_all(
            settings.out, settings.shards, partial(_count_shard, settings), settings.workers, settings.scheduler
        )
    views = 4 * settings.tces * sum(recipe.lengths.values())
    require(
        f"{settings.tces:,} TCEs of {'/'.join(map(str, recipe.lengths.values()))} bins",
        "give fewer --tces or --bins",
        memory=2 * views + ROW_BYTES * settings.tces,
        disk=views + ROW_BYTES // 4 * settings.tces,
        folder=settings.out,
    )
    with locked(settings.out):
        viewset.refuse_existing(settings.out)
        return _make(settings, recipe)


def _count_shard(settings: SimulateSettings, shard: Shard) -> int:
    """Make a shard in a worker process; returns its number of TCEs."""
    return len(_make_shard(settings, shard))


def _make_shard(settings: SimulateSettings, shard: Shard) -> ViewSet:
    recipe = _recipe(settings)
    about = _about(settings, recipe) | {SHARD: str(shard)}
    numbers = range(settings.tces)[shard.part(settings.tces)]

    def write(folder: Path) -> ViewSet:
        rows: list[_Row] = []
        views: dict[str, list[np.ndarray]] = {name: [np.empty((0, n))] for name, n in recipe.lengths.items()}
        with console.progress(f"simulating shard {shard}", len(numbers)) as bar:
            for number in numbers:
                made, row = one(settings.seed, number, settings.mission, recipe)
                rows.append(row)
                for name, view in made.items():
                    views[name].append(view[None])
                bar.update(advance=1)
        columns = {name: np.array([row[name] for row in rows]) for name in (rows[0] if rows else ())}
        return viewset.write(folder, {name: np.concatenate(parts) for name, parts in views.items()}, columns, about)

    return write_shard(settings.out, shard, about, write)


def _make(settings: SimulateSettings, recipe: Recipe) -> ViewSet:
    one_block = partial(_block, settings.seed, settings.tces, settings.mission, recipe)
    blocks: dict[int, tuple[dict[str, np.ndarray], list[_Row]]] = {}
    with console.progress("simulating", settings.tces) as bar:
        for first, block in each(one_block, range(0, settings.tces, BLOCK), settings.workers, settings.scheduler):
            blocks[first] = block
            bar.update(advance=len(block[1]))
    made = [block for _, block in sorted(blocks.items())]
    rows = [row for _, block_rows in made for row in block_rows]
    views = {name: np.concatenate([block_views[name] for block_views, _ in made]) for name in recipe.lengths}
    columns = {name: np.array([row[name] for row in rows]) for name in rows[0]}
    return viewset.write(settings.out, views, columns, _about(settings, recipe))


def _about(settings: SimulateSettings, recipe: Recipe) -> dict[str, Any]:
    return {
        "simulated": True,
        "simulation": VERSION,
        "seed": settings.seed,
        "mission": settings.mission,
        "views": recipe.document(),
    }


def _recipe(settings: SimulateSettings) -> Recipe:
    standard = TESS if settings.mission == "tess" else KEPLER
    if not set(settings.views) <= set(extra_views.NAMES):
        settings.refuse("views", ", ".join(extra_views.NAMES))
    if not settings.bins:
        return replace(standard, secondary=settings.secondary, odd_even=settings.odd_even, extra=settings.views)
    try:
        return recipe_for(settings.bins, secondary=settings.secondary, odd_even=settings.odd_even, extra=settings.views)
    except ValueError as wanted:
        settings.refuse("bins", str(wanted), "--bins 201/61")


def _block(seed: int, tces: int, mission: str, recipe: Recipe, first: int) -> tuple[dict[str, np.ndarray], list[_Row]]:
    """The TCEs `first`, `first` + 1, ...: their views, and their rows of the table."""
    made = [one(seed, number, mission, recipe) for number in range(first, min(first + BLOCK, tces))]
    return {name: np.stack([views[name] for views, _ in made]) for name in recipe.lengths}, [row for _, row in made]


def one(seed: int, number: int, mission: str, recipe: Recipe) -> tuple[dict[str, np.ndarray], _Row]:
    """One TCE: its views and its row."""
    from transit_cli.data.simulation import centroids, signals

    rng, own = (np.random.default_rng([STREAM, seed, number, *more]) for more in ((), (1,)))
    label = str(rng.choice(list(SHARES), p=list(SHARES.values())))
    for _ in range(TRIES):
        try:
            found = signals.simulate_signal(rng, label, mission)
            blend = centroids.draw_blend(own, found.label)
            if blend is not None:
                diluted = 1 + blend.light * (found.flux - 1)
                found = replace(found, flux=diluted, kind="background binary")
            views, scalars = make_views(found.time, found.flux, found.signal, recipe)
        except (signals.NothingFoundError, UnusableError):
            continue
        moved = centroids.simulate_centroids(own, found, blend)
        scalars |= centroid_scalars(moved, found.signal, scalars["measured_depth_ppm"] * 1e-6)
        if "centroid" in recipe.extra:
            sizes = {"bins": recipe.local_bins, "span": recipe.local_span, "width": recipe.local_width}
            views["centroid"] = centroid_view(moved, found.signal, **sizes)
        star = f"SIM {seed}-{number:06}"
        row = {
            "star": star,
            "signal": "1",
            "mission": mission,
            "period_days": _digits(found.signal.period),
            "epoch_days": _digits(found.signal.epoch, 9),
            "time_system": "BTJD" if mission == "tess" else "BKJD",
            "duration_hours": _digits(24 * found.signal.duration, 5),
            "depth_ppm": _digits(scalars["measured_depth_ppm"], 5),
            "snr": _digits(scalars["measured_snr"], 5),
            "label": LABEL_OF_KIND.get(found.kind, label),
            "split": split_of(star),
            "source": f"simulated ({found.kind})",
        }
        row |= {name: _digits(value, 5) for name, value in scalars.items() if not name.startswith("measured")}
        return {name: np.round(view, DIGITS) for name, view in views.items()}, row
    raise AssertionError(f"TCE {number} of seed {seed}: no {label} was found in {TRIES} light curves")


def _digits(value: float, digits: int = 7) -> float:
    return float(f"{value:.{digits}g}")
