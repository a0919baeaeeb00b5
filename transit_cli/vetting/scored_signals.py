"""The signals that `transit predict` scores, with folded views: from a view set, a light curve or a catalog."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from transit_cli import console
from transit_cli.data.catalogs.catalog import Tce
from transit_cli.data.lightcurves import readers
from transit_cli.data.lightcurves.lightcurve import UnreadableError
from transit_cli.data.settings import PrepareSettings
from transit_cli.data.starlight import ephemeris_check, star_light
from transit_cli.data.storage.columns import Columns, joined
from transit_cli.data.storage.stacked_rows import RowRange, StackedRows, StoredView
from transit_cli.data.views import star
from transit_cli.data.views.ephemeris import epoch_in
from transit_cli.data.views.folding import Signal, UnusableError
from transit_cli.data.views.make import recipe_for
from transit_cli.data.viewset import ViewSet, write_table
from transit_cli.results import ExitCode, TransitError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from transit_cli.data.shards.prepare_shards import ShardedPrepare
    from transit_cli.data.shards.shard import Shard
    from transit_cli.data.starlight.star_light import StarLight
    from transit_cli.vetting.settings import PredictSettings

#: The view set of a catalog's signals, in the output folder.
VIEWS = "views"
#: Factors of the period at which a signal is also folded.
OTHER_PERIODS = {"half": 0.5, "double": 2.0}


@dataclass(frozen=True)
class Signals:
    """Signals to score.

    Attributes:
        views: [N, L] by name; NaN for signals without views, or fewer rows if these are the last ones.
        tces: [N] columns by name.
        errors: [N] why a signal has no views, or "".
        other_periods: views folded at half and double the period, by "half" and "double"; empty without light curves.
        light: the star's light and the signal in it, of a single light curve; None otherwise.
        span: half-width of the local view, in durations; None if it is not known.
    """

    views: Mapping[str, StoredView]
    tces: Mapping[str, NDArray[Any]] | Columns
    errors: Sequence[str]
    other_periods: Mapping[str, Mapping[str, StoredView]] = field(default_factory=dict)
    light: tuple[StarLight, Signal] | None = None
    span: float | None = None

    def __len__(self) -> int:
        return len(self.errors)

    @property
    def lengths(self) -> dict[str, int]:
        """The length of each view."""
        return {name: values.shape[1] for name, values in self.views.items()}


def from_viewset(path: Path) -> Signals:
    """The signals of a view set, including those that were dropped when it was made."""
    viewset = ViewSet.open(path).checked()
    signals = Signals(viewset.views, viewset.tces, [""] * len(viewset), span=viewset.local_span)
    return _with_dropped(signals, viewset)


def _with_dropped(signals: Signals, viewset: ViewSet) -> Signals:
    dropped, tces = viewset.dropped, signals.tces
    reasons = dropped["reason"].tolist() if "reason" in dropped else []
    if not reasons:
        return signals
    own = tces if isinstance(tces, Columns) else Columns.of(tces)
    table = joined([own, dropped.take(slice(0, len(reasons)))]).only(own)
    errors = [*signals.errors, *(reason or "it could not be folded" for reason in reasons)]
    return replace(signals, tces=table, errors=errors)


def from_rows(viewset: ViewSet, part: slice, *, dropped: bool) -> Signals:
    """Consecutive signals of a view set, of which no other is read.

    Args:
        viewset: the set.
        part: its rows.
        dropped: also those that were dropped when the set was made.
    """
    if "shards" not in viewset.info:
        whole = viewset.checked()
        signals = Signals({n: v[part] for n, v in whole.views.items()}, whole.tces.take(part), [""] * _length(part))
    else:
        ends = np.cumsum(list(viewset.info["shards"].values()))
        first, last = (
            int(np.searchsorted(ends, row, side)) for row, side in ((part.start, "right"), (part.stop, "left"))
        )
        names = list(viewset.info["shards"])
        names = names[first : last + 1] if part.stop > part.start else names[:1]
        sets = [ViewSet.open(viewset.path / name).checked() for name in names]
        begin = part.start - (int(ends[first - 1]) if first and part.stop > part.start else 0)
        here = slice(begin, begin + _length(part))
        stacked = {
            name: StackedRows([one.path / f"{name}.npy" for one in sets], [len(one) for one in sets], length)
            for name, length in viewset.lengths.items()
        }
        tces = joined([one.tces for one in sets]).take(here)
        signals = Signals({n: RowRange(rows, here) for n, rows in stacked.items()}, tces, [""] * _length(part))
    return _with_dropped(signals, viewset) if dropped else signals


def _length(part: slice) -> int:
    return part.stop - part.start


def from_light_curve(file: Path, settings: PredictSettings, lengths: Mapping[str, int]) -> Signals:
    """One signal of one light curve, folded for the network, with secondary, odd and even views for the plot.

    Raises:
        TransitError: the period, epoch or duration is missing, or the file is not a light curve.
    """
    absent = [f"--{name}" for name in ("period", "epoch", "duration") if getattr(settings, name) is None]
    if settings.period is None or settings.epoch is None or settings.duration is None:
        raise TransitError(
            f"{' and '.join(absent)} {'is' if len(absent) == 1 else 'are'} missing",
            wanted="period and epoch in days and duration in hours, to fold a light curve",
            fix="add --period DAYS --epoch DAYS --duration HOURS",
            exit_code=ExitCode.USAGE,
            code="setting-missing",
        )
    try:
        star = readers.star_of_file(file) or file.name
    except UnreadableError as reason:
        raise TransitError(
            f"{file} cannot be read as a light curve: {reason}",
            wanted="a light curve, a view set's folder, or a catalog with --light-curves",
            fix=f"transit data check {file}",
            code="light-curve-unreadable",
        ) from None
    unknown = float("nan")
    tce = Tce(
        star,
        "1",
        "",
        settings.period,
        settings.epoch,
        0.0,
        settings.duration / 24,
        *4 * (unknown,),
        label="UNK",
        file="",
    )
    factors = {"": 1.0} | (OTHER_PERIODS if settings.check_periods else {})
    folded = {name: _fold(tce, factor, (file,), lengths) for name, factor in factors.items()}
    own = folded.pop("")
    for note in filter(None, map(str, own.tces.get("note", ()))):
        console.note(note)
    found = None if own.errors[0] else _light(file, tce)
    if found:  # a network scores any folded light curve
        for doubt in ephemeris_check.doubts(*found):
            console.warn(doubt)
    others = {name: other.views for name, other in folded.items()}
    return replace(own, other_periods=others, light=found)


def _light(file: Path, tce: Tce) -> tuple[StarLight, Signal] | None:
    """The star's light and the signal in it; None if there is too little."""
    try:
        curve = star_light.read_star([file], "")[0]
        signal = Signal(tce.period, epoch_in(curve, tce.epoch, tce.reference_jd)[0], tce.duration)
        return star_light.light_of(curve, {}, [signal]), signal
    except UnusableError:
        return None


def _fold(tce: Tce, factor: float, files: tuple[Path, ...], lengths: Mapping[str, int]) -> Signals:
    """A signal folded at a multiple of its period; the views are NaN if that is impossible."""
    recipe = recipe_for(f"{lengths['global']}/{lengths['local']}", secondary=True, odd_even=True)
    task = star.Task(tce.star, ((0, replace(tce, period=tce.period * factor)),), files, recipe)
    done = star.prepare_star(task)
    rows = done.rows or done.dropped
    tces = {name: np.array([row[name] for row in rows]) for name in rows[0]}
    if done.rows:
        return Signals(done.views, tces, [""], span=recipe.local_span)
    empty = {name: np.full((1, length), np.nan, np.float32) for name, length in recipe.lengths.items()}
    return Signals(empty, tces, [str(rows[0]["reason"])])


def from_catalog(
    signals_file: Path,
    light_curves: Path,
    folder: Path,
    lengths: Mapping[str, int],
    *,
    check: bool,
    mapping: tuple[str, ...] = (),
) -> Signals:
    """The signals of a catalog, folded from a folder of light curves into view sets that are kept in `folder`.

    Args:
        signals_file: CSV or ECSV, as `transit data prepare` reads it.
        light_curves: the folder with the stars' light curves.
        folder: output folder of the view sets ("views", and with `check` "views-half" and "views-double").
        lengths: lengths of the network's views.
        check: also fold at half and double the period.
        mapping: columns that the user states, as in "period=P".
    """
    from transit_cli.data.prepare import prepare  # a single light curve needs none of it

    # Overwritten, since a light curve may have been replaced since the last call.
    prepare(prepare_settings(signals_file, light_curves, folder / VIEWS, lengths, mapping), overwrite=True)
    signals = from_viewset(folder / VIEWS)
    own = ViewSet.open(folder / VIEWS)
    others = {}
    for name, factor in OTHER_PERIODS.items() if check and len(own) else ():
        scaled, out = folder / f"{VIEWS}-{name}.csv", folder / f"{VIEWS}-{name}"
        _write_scaled(scaled, own, factor)
        with console.repeating(f"{name} the period"):
            prepare(prepare_settings(scaled, light_curves, out, lengths), overwrite=True)
        made = ViewSet.open(out)
        others[name] = _in_catalog_order(made.views, made.tces["catalog_row"], len(signals))
    return replace(signals, other_periods=others)


def prepare_settings(
    signals_file: Path, light_curves: Path, out: Path, lengths: Mapping[str, int], mapping: tuple[str, ...] = ()
) -> PrepareSettings:
    """The settings with which a catalog is folded for a network."""
    bins = f"{lengths['global']}/{lengths['local']}"
    return PrepareSettings(
        map=mapping, catalog=signals_file, light_curves=light_curves, out=out, bins=bins, secondary=True, odd_even=True
    )


def from_shard(sharded: ShardedPrepare, shard: Shard, folder: Path, *, check: bool) -> Signals:
    """The signals of a shard of a catalog, folded into a shard of a view set.

    Args:
        sharded: the work of `prepare_settings`.
        shard: which part.
        folder: for temporary files.
        check: also fold at half and double the period.
    """
    from transit_cli.data import bulk
    from transit_cli.data.catalogs import catalog
    from transit_cli.data.lightcurves.file_index import FileIndex, base_of
    from transit_cli.data.star_tasks import star_tasks
    from transit_cli.parallel import each

    own = sharded.shard(shard)
    signals = from_viewset(own.path)
    if not check or not len(own):
        return signals
    stars = {task.star: task for task in sharded.stars(shard)}
    files = sorted({file for task in stars.values() for file in task.files}, key=bulk.order)
    index = FileIndex(base_of(sharded.settings.light_curves), files, {n: list(t.files) for n, t in stars.items()})
    others = {}
    for name, factor in OTHER_PERIODS.items():
        scaled = folder / f"{VIEWS}-{name}.csv"
        _write_scaled(scaled, own, factor)
        tasks, _ = star_tasks(catalog.read(scaled).tces, index, sharded.recipe, sharded.settings)
        scaled.unlink()
        tasks.sort(key=lambda task: bulk.order(task.files[0]))
        made = [done for _, done in each(star.prepare_star, tasks, sharded.settings.workers)]
        rows = np.array([row["catalog_row"] for done in made for row in done.rows], int)
        views = {view: np.concatenate([done.views[view] for done in made]) for view in own.views}
        others[name] = _in_catalog_order(views, rows, len(signals))
    return replace(signals, other_periods=others)


def _write_scaled(file: Path, views: ViewSet, factor: float) -> None:
    """The signals of a view set as a catalog, at a multiple of their periods."""
    kept = ("star", "signal", "mission", "epoch_days", "time_system", "duration_hours", "depth_ppm", "snr", "label")
    write_table(file, {"period_days": views.tces["period_days"] * factor} | {key: views.tces[key] for key in kept})


def _in_catalog_order(
    views: Mapping[str, StoredView], places: NDArray[Any], count: int
) -> dict[str, NDArray[np.float32]]:
    """The views in the order of the catalog; NaN for signals that could not be folded."""
    found = {}
    for name, values in views.items():
        found[name] = np.full((count, values.shape[1]), np.nan, np.float32)
        found[name][places.astype(int)] = values
    return found
