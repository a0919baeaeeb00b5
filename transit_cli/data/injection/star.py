"""From the light curves of one star to injected signals as rows of a view set.

The result depends only on the arguments and the files: any process, and a second run, gives the same.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from transit_cli.data import bulk
from transit_cli.data.injection.kinds import LABELS, SHARES, Injection, NotInjectedError, Star, inject
from transit_cli.data.lightcurves import readers
from transit_cli.data.lightcurves.lightcurve import LightCurve, UnreadableError, stitch
from transit_cli.data.lightcurves.time_reference import name_of
from transit_cli.data.split import split_of
from transit_cli.data.views.binning import median
from transit_cli.data.views.detrend import flatten, in_transit
from transit_cli.data.views.ephemeris import signal_or_none
from transit_cli.data.views.folding import UnusableError
from transit_cli.data.views.make import Recipe, check_depth, make_views
from transit_cli.data.views.measurements.centroid import centroid_scalars, centroid_view, detrend_centroids

if TYPE_CHECKING:
    from pathlib import Path

    from transit_cli.data.catalogs.catalog import Tce

#: Version of the random numbers: it changes whenever the same seed gives other signals.
STREAM = 1
#: How often a signal is drawn anew before it is given up.
TRIES = 12
#: Width of the cut around each known transit, in durations.
_KNOWN_WIDTH = 1.6
#: Least number of cadences, and of days, of a light curve that signals are injected into.
_LEAST_CADENCES, _LEAST_DAYS = 100, 2.0


@dataclass(frozen=True)
class Task:
    """Injections into the light curves of one star.

    Attributes:
        star: its name.
        files: its light curves.
        known: its known signals, which are cut out.
        numbers: of the injections; each has random numbers of its own.
        kinds: of the injections.
        seed: of the set.
        recipe: of the views.
        column: the flux column, or "" for the product's default.
    """

    star: str
    files: tuple[Path, ...]
    known: tuple[Tce, ...]
    numbers: range
    kinds: tuple[str, ...]
    seed: int
    recipe: Recipe
    column: str = ""


@dataclass(frozen=True)
class Injected:
    """The result of `inject_star`.

    Attributes:
        rows: one per injection that became views: the columns of tces.csv.
        views: [rows, length] float32 by name.
        dropped: one per injection that did not: columns and "reason".
    """

    rows: list[dict[str, Any]]
    views: dict[str, np.ndarray]
    dropped: list[dict[str, Any]]


def inject_star(task: Task) -> Injected:
    """Read the star's light curves and inject the task's signals, one at a time."""
    views: dict[str, list[np.ndarray]] = {name: [] for name in task.recipe.lengths}
    rows: list[dict[str, Any]] = []
    dropped: list[dict[str, Any]] = []
    try:
        curve, star = _open(task)
    except UnusableError as reason:
        dropped = [_identity(task, number) | {"reason": str(reason)} for number in task.numbers]
    else:
        for number in task.numbers:
            made = _one(task, number, curve, star)
            if made is None:
                reason = f"no signal was drawn in {TRIES} tries that the data cover"
                dropped.append(_identity(task, number) | {"reason": reason})
                continue
            rows.append(made[1])
            for name, view in made[0].items():
                views[name].append(view)
    shaped = {
        name: np.array(views[name], np.float32).reshape(-1, length) for name, length in task.recipe.lengths.items()
    }
    return Injected(rows, shaped, dropped)


def _identity(task: Task, number: int) -> dict[str, Any]:
    return {"star": task.star, "signal": f"I{number}"}


def _open(task: Task) -> tuple[LightCurve, Star]:
    """The stitched light curve without its known signals.

    Raises:
        UnusableError: no file can be read, or too little is left.
    """
    curves: list[LightCurve] = []
    why = ""
    for file in task.files:
        try:
            with bulk.opened(file) as here:
                curves.append(readers.read(here, task.column))
        except UnreadableError as reason:
            why = f"{file.name}: {reason}"
    if not curves:
        raise UnusableError(why or "no light curve")
    curve = stitch(curves)
    known = [signal for tce in task.known if (signal := signal_or_none(tce, curve)) is not None]
    curve = curve.where(~in_transit(curve.time, known, _KNOWN_WIDTH))
    if len(curve.time) < _LEAST_CADENCES or curve.time[-1] - curve.time[0] < _LEAST_DAYS:
        raise UnusableError(f"{len(curve.time)} cadences without known transits: too few")
    flat = flatten(curve.time, curve.flux)
    noise = 1.4826 * median(np.abs(flat.flux - median(flat.flux))) if len(flat.flux) else 0.0
    if not noise > 0:
        raise UnusableError("no noise: the light curve is constant, or too few cadences have a trend")
    cadence = median(np.diff(curve.time))
    return curve, Star(curve.time, curve.flux, cadence, noise, flat.time, flat.flux)


def _one(task: Task, number: int, curve: LightCurve, star: Star) -> tuple[dict[str, np.ndarray], dict[str, Any]] | None:
    """Views and row of one injection; None if none of the drawn signals could be used."""
    name = int.from_bytes(hashlib.sha256(task.star.encode()).digest()[:8], "big")
    rng = np.random.default_rng([STREAM, task.seed, name, number])
    shares = np.array([SHARES[kind] for kind in task.kinds])
    kind = str(rng.choice(list(task.kinds), p=shares / shares.sum()))
    for _ in range(TRIES):
        try:
            made = inject(rng, kind, star)
            flat = flatten(made.time, made.flux, [made.signal])
            views, scalars = make_views(flat.time, flat.flux, made.signal, task.recipe)
            check_depth(scalars)
        except (NotInjectedError, UnusableError):
            continue
        scalars |= {"depth_ppm": scalars["measured_depth_ppm"], "snr": scalars["measured_snr"]}
        scalars |= _centroid(task, curve, made, scalars["measured_depth_ppm"] * 1e-6, views)
        return views, _row(task, number, kind, curve, made) | scalars
    return None


def _centroid(
    task: Task, curve: LightCurve, made: Injection, depth: float, views: dict[str, np.ndarray]
) -> dict[str, float]:
    """The columns on the centroid; adds the view if the recipe has it."""
    moved = curve
    if curve.centroid is not None and made.shift is not None:
        moved = replace(curve, centroid=curve.centroid + made.shift)
    centroids = detrend_centroids(moved, [made.signal])
    recipe = task.recipe
    if "centroid" in recipe.extra:
        sizes = {"bins": recipe.local_bins, "span": recipe.local_span, "width": recipe.local_width}
        views["centroid"] = centroid_view(centroids, made.signal, **sizes).astype(np.float32)
    return {} if centroids is None else centroid_scalars(centroids, made.signal, depth)


def _row(task: Task, number: int, kind: str, curve: LightCurve, made: Injection) -> dict[str, Any]:
    return _identity(task, number) | {
        "mission": curve.mission,
        "period_days": made.signal.period,
        "epoch_days": made.signal.epoch,
        "time_system": name_of(curve.reference_jd),
        "duration_hours": 24 * made.signal.duration,
        "label": LABELS[kind],
        "split": split_of(task.star),
        "source": f"injected ({kind}) in {curve.source}",
        "kind": kind,
        **made.columns,
    }
