"""From the light-curve files of one star to its rows of a view set, for `transit data prepare`.

The result depends only on the arguments and the files, so that another process, a machine of a cluster or a second run
gives the same. Memory holds one star's light curves.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from transit_cli.data import bulk
from transit_cli.data.lightcurves import readers
from transit_cli.data.lightcurves.lightcurve import LightCurve, UnreadableError, stitch
from transit_cli.data.lightcurves.time_reference import name_of
from transit_cli.data.views.detrend import Flattened, flatten, in_transit
from transit_cli.data.views.ephemeris import epoch_in, signal_or_none
from transit_cli.data.views.folding import Signal, UnusableError, phases
from transit_cli.data.views.make import Recipe, check_depth, make_views
from transit_cli.data.views.measurements.centroid import (
    Centroids,
    centroid_scalars,
    centroid_view,
    detrend_centroids,
)

if TYPE_CHECKING:
    from pathlib import Path

    from transit_cli.data.catalogs.catalog import Tce


@dataclass(frozen=True)
class Task:
    """A star's signals and light curves.

    Attributes:
        star: its name.
        tces: the catalog's rows of the star, each with its index in the catalog.
        files: its light curves.
        named: the light curves of single rows, by the row's index; the other rows use all.
        recipe: of the views.
        column: the flux column, or "" for the product's default.
        detrend: "spline", or a method of wotan.
    """

    star: str
    tces: tuple[tuple[int, Tce], ...]
    files: tuple[Path, ...]
    recipe: Recipe
    column: str = ""
    detrend: str = "spline"
    named: Mapping[int, tuple[Path, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Prepared:
    """The result of `prepare_star`.

    Attributes:
        rows: one per TCE that became views: the columns of tces.csv.
        views: [rows, length] float32 by name.
        dropped: one per TCE that did not: columns and "reason".
    """

    rows: list[dict[str, Any]] = field(default_factory=list)
    views: dict[str, np.ndarray] = field(default_factory=dict)
    dropped: list[dict[str, Any]] = field(default_factory=list)


def prepare_star(task: Task) -> Prepared:
    """Read, stitch, detrend, fold and bin all signals of a star. Unreadable files are reported in the rows."""
    prepared = Prepared()
    curves, unreadable = _read_all(task)
    views: dict[str, list[np.ndarray]] = {name: [] for name in task.recipe.lengths}
    flattened: dict[tuple[Path, ...], tuple[LightCurve, Flattened, Centroids | None]] = {}
    for number, tce in task.tces:
        row = row_of(number, tce)
        files = task.named.get(number, task.files)
        try:
            _check(tce)
            if files not in flattened:
                flattened[files] = _flatten(task, files, curves, unreadable)
            made, scalars = _views_of(task, tce, flattened[files])
        except UnusableError as reason:
            prepared.dropped.append(row | {"reason": str(reason)})
            continue
        note = [scalars.pop("note", ""), *flattened[files][0].notes]
        note += [f"{file.name}: {why}" for file, why in unreadable.items() if file in files]
        prepared.rows.append(row | scalars | {"note": "; ".join(filter(None, note))})
        for name, view in made.items():
            views[name].append(view)
    for name, length in task.recipe.lengths.items():
        prepared.views[name] = np.array(views[name], np.float32).reshape(-1, length)
    return prepared


def _check(tce: Tce) -> None:
    if tce.problem:
        raise UnusableError(tce.problem)
    Signal(tce.period, tce.epoch, tce.duration).check()


def row_of(number: int, tce: Tce) -> dict[str, Any]:
    """The columns of tces.csv that come from the catalog."""
    return {
        "star": tce.star,
        "signal": tce.signal,
        "mission": tce.mission,
        "period_days": tce.period,
        "epoch_days": tce.epoch,
        "time_system": name_of(tce.reference_jd),
        "duration_hours": round(tce.duration * 24, 9),
        "depth_ppm": tce.depth_ppm,
        "snr": tce.snr,
        "label": tce.label,
        "catalog_row": number,
    }


def _read_all(task: Task) -> tuple[dict[Path, LightCurve], dict[Path, str]]:
    """The star's light curves by file, and the reason for each file that cannot be read."""
    curves: dict[Path, LightCurve] = {}
    unreadable: dict[Path, str] = {}
    for file in task.files:
        try:
            with bulk.opened(file) as here:
                curves[file] = readers.read(here, task.column)
        except UnreadableError as reason:
            unreadable[file] = str(reason)
    return curves, unreadable


def _flatten(
    task: Task, files: tuple[Path, ...], curves: dict[Path, LightCurve], unreadable: dict[Path, str]
) -> tuple[LightCurve, Flattened, Centroids | None]:
    """The stitched light curve, the same detrended, and its detrended centroids."""
    chosen = [curves[file] for file in files if file in curves]
    if not chosen:
        raise UnusableError(f"{files[0].name}: {unreadable[files[0]]}")
    curve = stitch(chosen)
    if not len(curve.time):
        raise UnusableError("no cadence with finite flux and good quality")
    signals = [signal for _, tce in task.tces if (signal := signal_or_none(tce, curve))]
    flat = flatten(curve.time, curve.flux, signals, method=task.detrend)
    if not len(flat.time):
        raise UnusableError("too few cadences for a trend")
    return curve, flat, detrend_centroids(curve, signals)


def _views_of(
    task: Task, tce: Tce, flattened: tuple[LightCurve, Flattened, Centroids | None]
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Views and columns of one TCE, with its epoch moved to the first transit in the data."""
    curve, flat, centroids = flattened
    time, flux = flat.time, flat.flux
    epoch, doubt = epoch_in(curve, tce.epoch, tce.reference_jd)
    signal = Signal(tce.period, epoch, tce.duration)
    cycles = np.ceil((time[0] - signal.epoch) / signal.period)
    signal = Signal(signal.period, float(signal.epoch + cycles * signal.period), signal.duration)
    error = float(np.hypot(tce.epoch_error, cycles * tce.period_error))
    unblended, blend = _mask_other_signals(task, tce, curve, time, signal)
    try:
        views, scalars = make_views(time[unblended], flux[unblended], signal, task.recipe)
        check_depth(scalars)
    except UnusableError as reason:
        raise UnusableError(f"{reason}; {doubt}" if doubt else str(reason)) from None
    notes = [note for note in (blend, doubt) if note]
    if error > signal.duration / 2:
        notes.append(f"epoch uncertain by {error * 24:.1f} h at the data, {abs(cycles):.0f} periods from the catalog's")
    notes += _departures(views["local"], scalars, tce, signal, task.recipe, cadence=float(np.median(np.diff(time))))
    scalars |= {
        "epoch_days": signal.epoch,
        "time_system": name_of(curve.reference_jd),
        "source": curve.source,
        "segment": curve.segment,
        "cadences": float(len(curve.time)),
        "knot_spacing_days": flat.trend.spacing,
        "epoch_error_days": error,
    }
    if centroids is not None:
        scalars |= centroid_scalars(centroids, signal, float(scalars["measured_depth_ppm"]) * 1e-6)
    if "centroid" in task.recipe.extra:
        views["centroid"] = centroid_view(
            centroids,
            signal,
            bins=task.recipe.local_bins,
            span=task.recipe.local_span,
            width=task.recipe.local_width,
        )
    return views, scalars | {"note": "; ".join(notes)}


def _departures(
    local: np.ndarray, scalars: dict[str, Any], tce: Tce, signal: Signal, recipe: Recipe, *, cadence: float
) -> list[str]:
    """Notes on differences between views and catalog; adds the offset of the minimum to `scalars`."""
    half = min(signal.period / 2, recipe.local_span * signal.duration)
    width = recipe.local_width * signal.duration
    centres = np.linspace(-half + width / 2, half - width / 2, len(local)) / signal.duration
    offset = scalars["minimum_offset_durations"] = float(centres[np.argmin(local)])
    notes = []
    expected = scalars["transits"] * signal.duration / cadence
    if scalars["points_in_transit"] < 0.6 * expected:
        notes.append(f"transits cut short: {scalars['points_in_transit']:.0f} of {expected:.0f} cadences")
    middle, outside = local[np.abs(centres) <= 0.25], local[np.abs(centres) > 1]
    if abs(offset) > 0.25 and len(middle) and len(outside):
        noise = 1.4826 * float(np.median(np.abs(outside - np.median(outside))))
        why = "within the noise of" if middle.min() + 1 < 3 * noise else "deeper than"
        notes.append(f"minimum {offset:+.2f} durations off, {why} the centre")
    depth = scalars["measured_depth_ppm"]
    if abs(depth / tce.depth_ppm - 1) > 0.25:
        notes.append(f"depth {depth:.0f} ppm, catalog {tce.depth_ppm:.0f}")
    return notes


def _mask_other_signals(
    task: Task, tce: Tce, curve: LightCurve, time: np.ndarray, signal: Signal
) -> tuple[np.ndarray, str]:
    """A mask that is False in transits of the star's other signals, and a note on cadences shared with them.

    A signal of the same period, or of a half, a third, twice or three times it, may be the same signal or its secondary
    eclipse, and is not masked. Neither is one that is less than half as deep; and none is masked if that would remove
    more than three quarters of the cadences in transit.
    """
    unblended = np.ones(len(time), dtype=bool)
    inside = np.abs(phases(time, signal)[0]) < signal.duration / 2
    shared: dict[str, None] = {}
    for _, other in task.tces:
        neighbour = signal_or_none(other, curve)
        if other.signal in {tce.signal, *shared} or neighbour is None or _related(other.period, tce.period):
            continue
        masked = in_transit(time, [neighbour], width=1.0)
        if (masked & inside).any():
            shared[other.signal] = None
        if not other.depth_ppm < 0.5 * tce.depth_ppm:
            unblended &= ~masked
    if not shared:
        return unblended, ""
    lost, total = int((inside & ~unblended).sum()), int(inside.sum())
    note = f"blended with {', '.join(shared)}"
    if lost > 0.75 * total:
        return np.ones(len(time), dtype=bool), f"{note}, which cannot be taken out"
    return unblended, f"{note}: {lost} of {total} cadences in transit left out" if lost else note


def _related(one: float, other: float) -> bool:
    ratio = max(one, other) / min(one, other)
    return abs(ratio - round(ratio)) < 2e-3 * ratio and round(ratio) <= 3
