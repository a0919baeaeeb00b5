"""One star, from its files to its rows of a view set: what `transit data prepare` does for each.

A function of its arguments and its files alone, so that a process, a machine of a cluster or a second run does the
same. Memory is one star's light curve.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from transit_cli.data.lightcurves import lightcurve
from transit_cli.data.lightcurves.lightcurve import LightCurve, UnreadableError
from transit_cli.data.lightcurves.time_reference import name_of
from transit_cli.data.views import detrend
from transit_cli.data.views.make import Recipe, Signal, UnusableError, make_views, phases

if TYPE_CHECKING:
    from pathlib import Path

    from transit_cli.data.catalogs.catalog import Tce


@dataclass(frozen=True)
class Task:
    """A star's signals and light curves.

    Attributes:
        star: its name.
        tces: the catalog's rows of the star, each with its number in the catalog.
        files: its light curves, by name.
        recipe: of the views.
        column: the flux column, or "" for the preferred one.
        detrend: "spline", or a method of wotan.
    """

    star: str
    tces: tuple[tuple[int, Tce], ...]
    files: tuple[Path, ...]
    recipe: Recipe
    column: str = ""
    detrend: str = "spline"


@dataclass(frozen=True)
class Prepared:
    """What came of a star.

    Attributes:
        rows: one a TCE that became views: the columns of tces.csv.
        views: [rows, length] float32 by name.
        dropped: one a TCE that did not: columns and "reason".
    """

    rows: list[dict[str, Any]] = field(default_factory=list)
    views: dict[str, np.ndarray] = field(default_factory=dict)
    dropped: list[dict[str, Any]] = field(default_factory=list)


def prepare_star(task: Task) -> Prepared:
    """Read, stitch, detrend, fold and bin all signals of a star. Nothing that its files hold can make it fail."""
    done = Prepared()
    curves, broken = _read_all(task)
    views: dict[str, list[np.ndarray]] = {name: [] for name in task.recipe.lengths}
    flattened: dict[tuple[str, ...], tuple[LightCurve, np.ndarray, np.ndarray, float]] = {}
    for number, tce in task.tces:
        row = row_of(number, tce)
        files = tuple(name for name in (tce.file,) if name) or tuple(file.name for file in task.files)
        try:
            Signal(tce.period, tce.epoch, tce.duration).check()
            if files not in flattened:
                flattened[files] = _flatten(task, files, curves, broken)
            made, scalars = _views_of(task, tce, flattened[files])
        except UnusableError as reason:
            done.dropped.append(row | {"reason": str(reason)})
            continue
        note = [scalars.pop("note", ""), *flattened[files][0].notes]
        note += [f"{name}: {why}" for name, why in broken.items() if name in files]
        done.rows.append(row | scalars | {"note": "; ".join(filter(None, note))})
        for name, view in made.items():
            views[name].append(view)
    for name, length in task.recipe.lengths.items():
        done.views[name] = np.array(views[name], np.float32).reshape(-1, length)
    return done


def row_of(number: int, tce: Tce) -> dict[str, Any]:
    """The columns that come from the catalog."""
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


def _read_all(task: Task) -> tuple[dict[str, LightCurve], dict[str, str]]:
    """The star's light curves by file name, and why the others could not be read."""
    curves: dict[str, LightCurve] = {}
    broken: dict[str, str] = {}
    for file in task.files:
        try:
            curves[file.name] = lightcurve.read(file, task.column)
        except UnreadableError as reason:
            broken[file.name] = str(reason)
    return curves, broken


def _flatten(
    task: Task, files: Sequence[str], curves: dict[str, LightCurve], broken: dict[str, str]
) -> tuple[LightCurve, np.ndarray, np.ndarray, float]:
    """The stitched light curve, its detrended times and fluxes, and the knot spacing."""
    chosen = [curves[name] for name in files if name in curves]
    if not chosen:
        name = files[0]
        raise UnusableError(f"{name}: {broken[name]}" if name in broken else f"{name} is not among the light curves")
    curve = lightcurve.stitch(chosen)
    if not len(curve.time):
        raise UnusableError("no cadence with finite flux and good quality")
    signals = [_signal(tce, curve) for _, tce in task.tces]
    time, flux, spacing = detrend.flatten_by_method(task.detrend, curve.time, curve.flux, signals)
    if not len(time):
        raise UnusableError("too few cadences for a trend")
    return curve, time, flux, spacing


def _signal(tce: Tce, curve: LightCurve) -> Signal:
    """The signal in the time of the light curve."""
    said = (tce.reference_jd or tce.epoch > 2.4e6) and (curve.zero or curve.time[0] > 2.4e6)
    return Signal(tce.period, tce.epoch + (tce.reference_jd - curve.zero if said else 0.0), tce.duration)


def _views_of(
    task: Task, tce: Tce, flattened: tuple[LightCurve, np.ndarray, np.ndarray, float]
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Views and columns of one TCE, its epoch brought to the data."""
    curve, time, flux, spacing = flattened
    signal = _signal(tce, curve)
    cycles = np.ceil((time[0] - signal.epoch) / signal.period)
    signal = Signal(signal.period, float(signal.epoch + cycles * signal.period), signal.duration)
    error = float(np.hypot(tce.epoch_error, cycles * tce.period_error))
    kept, blend = _without_others(task, tce, curve, time, signal)
    views, scalars = make_views(time[kept], flux[kept], signal, task.recipe)
    notes = [blend] if blend else []
    if error > signal.duration / 2:
        notes.append(f"epoch uncertain by {error * 24:.1f} h at the data, {abs(cycles):.0f} periods from the catalog's")
    notes += _departures(views["local"], scalars, tce, signal, task.recipe, cadence=float(np.median(np.diff(time))))
    scalars |= {
        "epoch_days": signal.epoch,
        "time_system": name_of(curve.zero),
        "source": curve.source,
        "segment": curve.segment,
        "cadences": float(len(curve.time)),
        "knot_spacing_days": spacing,
        "epoch_error_days": error,
    }
    return views, scalars | {"note": "; ".join(notes)}


def _departures(
    local: np.ndarray, scalars: dict[str, Any], tce: Tce, signal: Signal, recipe: Recipe, *, cadence: float
) -> list[str]:
    """In words, where the views depart from what the catalog says; and the offset of the minimum, among `scalars`."""
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


def _without_others(
    task: Task, tce: Tce, curve: LightCurve, time: np.ndarray, signal: Signal
) -> tuple[np.ndarray, str]:
    """The cadences outside the transits of the star's other signals, and in words what is shared with them.

    A signal of the same period, or of half, a third, twice or three times it, may be the same one again or its
    secondary eclipse, and stays. So does one that is less than half as deep, and all of them where they would take more
    than three quarters of the cadences in transit.
    """
    kept = np.ones(len(time), dtype=bool)
    inside = np.abs(phases(time, signal)[0]) < signal.duration / 2
    shared: dict[str, None] = {}
    for _, other in task.tces:
        if other.signal in {tce.signal, *shared} or not other.period > 0 or _related(other.period, tce.period):
            continue
        taken = detrend.in_transit(time, [_signal(other, curve)], width=1.0)
        if (taken & inside).any():
            shared[other.signal] = None
        if not other.depth_ppm < 0.5 * tce.depth_ppm:
            kept &= ~taken
    if not shared:
        return kept, ""
    lost, of = int((inside & ~kept).sum()), int(inside.sum())
    words = f"blended with {', '.join(shared)}"
    if lost > 0.75 * of:
        return np.ones(len(time), dtype=bool), f"{words}, which cannot be taken out"
    return kept, f"{words}: {lost} of {of} cadences in transit left out" if lost else words


def _related(one: float, other: float) -> bool:
    ratio = max(one, other) / min(one, other)
    return abs(ratio - round(ratio)) < 2e-3 * ratio and round(ratio) <= 3
