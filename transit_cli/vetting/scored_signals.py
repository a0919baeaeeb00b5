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
from transit_cli.data.views import star
from transit_cli.data.views.ephemeris import epoch_in
from transit_cli.data.views.folding import Signal, UnusableError
from transit_cli.data.views.make import recipe_for
from transit_cli.data.viewset import ViewSet, write_table
from transit_cli.results import ExitCode, TransitError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from transit_cli.data.storage.stacked_rows import StackedRows
    from transit_cli.vetting.settings import PredictSettings

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
    """

    views: Mapping[str, NDArray[np.float32] | StackedRows]
    tces: Mapping[str, NDArray[Any]] | Columns
    errors: Sequence[str]
    other_periods: Mapping[str, Mapping[str, NDArray[np.float32] | StackedRows]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.errors)

    @property
    def lengths(self) -> dict[str, int]:
        """The length of each view."""
        return {name: values.shape[1] for name, values in self.views.items()}


def from_viewset(path: Path) -> Signals:
    """The signals of a view set, including those that were dropped when it was made."""
    viewset = ViewSet.open(path).checked()
    dropped = viewset.dropped
    reasons = dropped["reason"].tolist() if "reason" in dropped else []
    tces = viewset.tces
    if reasons:
        tces = joined([tces, dropped.take(slice(0, len(reasons)))]).only(tces)
    return Signals(
        viewset.views, tces, [""] * len(viewset) + [reason or "it could not be folded" for reason in reasons]
    )


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
    if not own.errors[0]:
        for doubt in _ephemeris_doubts(file, tce):
            console.warn(doubt)
    return Signals(own.views, own.tces, own.errors, {name: other.views for name, other in folded.items()})


def _ephemeris_doubts(file: Path, tce: Tce) -> list[str]:
    """Why the ephemeris may not be that of a signal in the light curve; a network scores any folded light curve."""
    try:
        curve = star_light.read_star([file], "")[0]
        epoch = epoch_in(curve, tce.epoch, tce.reference_jd)[0]
        return ephemeris_check.doubts(curve, Signal(tce.period, epoch, tce.duration))
    except UnusableError:
        return []


def _fold(tce: Tce, factor: float, files: tuple[Path, ...], lengths: Mapping[str, int]) -> Signals:
    """A signal folded at a multiple of its period; the views are NaN if that is impossible."""
    recipe = recipe_for(f"{lengths['global']}/{lengths['local']}", secondary=True, odd_even=True)
    task = star.Task(tce.star, ((0, replace(tce, period=tce.period * factor)),), files, recipe)
    done = star.prepare_star(task)
    rows = done.rows or done.dropped
    tces = {name: np.array([row[name] for row in rows]) for name in rows[0]}
    if done.rows:
        return Signals(done.views, tces, [""])
    empty = {name: np.full((1, length), np.nan, np.float32) for name, length in recipe.lengths.items()}
    return Signals(empty, tces, [str(rows[0]["reason"])])


def from_catalog(
    catalog: Path,
    light_curves: Path,
    folder: Path,
    lengths: Mapping[str, int],
    *,
    check: bool,
    mapping: tuple[str, ...] = (),
) -> Signals:
    """The signals of a catalog, folded from a folder of light curves into view sets that are kept in `folder`.

    Args:
        catalog: CSV or ECSV, as `transit data prepare` reads it.
        light_curves: the folder with the stars' light curves.
        folder: output folder of the view sets ("views", and with `check` "views-half" and "views-double").
        lengths: lengths of the network's views.
        check: also fold at half and double the period.
        mapping: columns that the user states, as in "period=P".
    """
    _prepare(catalog, light_curves, folder / "views", lengths, mapping)
    signals = from_viewset(folder / "views")
    own = ViewSet.open(folder / "views")
    others = {}
    for name, factor in OTHER_PERIODS.items() if check and len(own) else ():
        scaled = folder / f"views-{name}.csv"
        kept = ("star", "signal", "mission", "epoch_days", "time_system", "duration_hours", "depth_ppm", "snr", "label")
        write_table(scaled, {"period_days": own.tces["period_days"] * factor} | {key: own.tces[key] for key in kept})
        with console.repeating(f"{name} the period"):
            _prepare(scaled, light_curves, folder / f"views-{name}", lengths)
        others[name] = _in_catalog_order(ViewSet.open(folder / f"views-{name}"), len(signals))
    return replace(signals, other_periods=others)


def _prepare(
    catalog: Path, light_curves: Path, out: Path, lengths: Mapping[str, int], mapping: tuple[str, ...] = ()
) -> None:
    from transit_cli.data.prepare import prepare  # a single light curve needs none of it

    settings = PrepareSettings(
        catalog=catalog,
        light_curves=light_curves,
        out=out,
        map=mapping,
        bins=f"{lengths['global']}/{lengths['local']}",
        secondary=True,
        odd_even=True,
    )
    prepare(settings, overwrite=True)  # a light curve may have been replaced since the last call


def _in_catalog_order(viewset: ViewSet, count: int) -> dict[str, NDArray[np.float32]]:
    """The views in the order of the catalog; NaN for signals that could not be folded."""
    rows = viewset.tces["catalog_row"].astype(int)
    found = {}
    for name, values in viewset.views.items():
        found[name] = np.full((count, values.shape[1]), np.nan, np.float32)
        found[name][rows] = values
    return found
