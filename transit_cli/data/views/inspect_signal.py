"""One signal of one light curve, looked at: `transit data fold`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from transit_cli import console
from transit_cli.data.lightcurves import lightcurve
from transit_cli.data.lightcurves.time_reference import name_of
from transit_cli.data.views import detrend
from transit_cli.data.views.make import Folded, Recipe, Signal, UnusableError, fold, make_views, recipe_for
from transit_cli.results import Result, Table, TransitError

if TYPE_CHECKING:
    from transit_cli.data.lightcurves.lightcurve import LightCurve
    from transit_cli.data.settings import FoldSettings


@dataclass(frozen=True)
class SignalSummary:
    """Everything about one signal that is drawn.

    Attributes:
        curve: the light curve as read.
        trend: [n] of the curve's points.
        spacing: between the trend's knots, in days.
        signal: in the time of the curve.
        centres: [transits] times at which a transit is expected within the data.
        folded: the detrended light curve, folded.
        views: by name; global, local, secondary, odd, even.
        reach: of the local views either side of the centre, in durations.
        time_system: of the curve.
        caption: what was measured, in words.
    """

    curve: LightCurve
    trend: np.ndarray
    spacing: float
    signal: Signal
    centres: np.ndarray
    folded: Folded
    views: dict[str, np.ndarray]
    reach: float
    time_system: str
    caption: str


def look(settings: FoldSettings) -> Result:
    """Fold one light curve at one signal, measure it, and draw it where a file is given."""
    if settings.plot:
        from transit_cli.data.views.plots import check_plot

        check_plot(settings.plot)
    try:
        recipe = recipe_for(settings.bins, secondary=True, odd_even=True)
    except ValueError as wanted:
        settings.refuse("bins", str(wanted))
    try:
        curve = lightcurve.read(settings.light_curve, settings.flux_column)
    except lightcurve.UnreadableError as reason:
        raise TransitError(
            f"{settings.light_curve}: {reason}",
            wanted="a FITS light curve of Kepler, K2 or TESS",
            fix="give another file, or fetch it again: transit data fetch",
            code="light-curve-unreadable",
        ) from None
    system = name_of(curve.zero)
    for note in curve.notes:
        console.note(note)
    epoch = settings.epoch - curve.zero if settings.epoch > 2.4e6 and curve.zero else settings.epoch
    signal = Signal(settings.period, epoch, settings.duration / 24)
    try:
        looked, scalars = _look(curve, signal, recipe)
    except UnusableError as reason:
        first, last = (curve.time[0], curve.time[-1]) if len(curve.time) else (np.nan, np.nan)
        raise TransitError(
            f"the signal cannot become a view: {reason}",
            wanted=f"a signal with a transit in the data, which reach from {first:.2f} to {last:.2f} ({system})",
            fix=f"check --epoch (in {system} or as BJD), --period in days and --duration in hours",
            code="signal-unusable",
        ) from None
    if settings.plot:
        from transit_cli.data.views.plots import draw_fold

        draw_fold(looked, settings.plot)
    data = {
        "star": curve.star,
        "source": curve.source,
        "flux_column": curve.column,
        "time_system": system,
        "cadences": curve.cadences,
        "finite": curve.finite,
        "used": len(curve.time),
        "knot_spacing_days": looked.spacing,
        **scalars,
        "plot": str(settings.plot) if settings.plot else None,
    }
    rows = [
        ("light curve", f"{curve.star or '?'} {curve.segment}, {curve.column}, {system}"),
        ("cadences", f"{curve.cadences:,}; {curve.finite:,} finite, {len(curve.time):,} of good quality"),
        ("trend", f"knots every {looked.spacing:.2f} d"),
        ("transits", f"{scalars['transits']:.0f}, of them odd {scalars['odd_transits']:.0f}"),
        ("depth", f"{scalars['measured_depth_ppm']:.0f} ppm, S/N {scalars['measured_snr']:.1f}"),
        ("odd, even", f"{scalars['odd_depth']:.2f} and {scalars['even_depth']:.2f} of the depth"),
        ("secondary", f"{scalars['secondary_depth_ppm']:.0f} ppm at {scalars['secondary_phase_days']:.3f} d"),
    ]
    drawn = f"; drawn in {settings.plot}" if settings.plot else ""
    return Result(data, [Table(("", "found"), rows)], looked.caption + drawn)


def _look(curve: LightCurve, signal: Signal, recipe: Recipe) -> tuple[SignalSummary, dict[str, float]]:
    signal.check()
    if len(curve.time) < 4:
        raise UnusableError("fewer than four cadences of good quality")
    trend = detrend.fit_trend(curve.time, curve.flux, detrend.in_transit(curve.time, [signal]))
    good = trend.values > 0
    time, flux = curve.time[good], curve.flux[good] / trend.values[good]
    views, scalars = make_views(time, flux, signal, recipe)
    middle = np.abs(np.linspace(-1, 1, recipe.local_bins)) * recipe.local_span < 0.25
    scalars |= {f"{name}_depth": -float(np.median(views[name][middle])) for name in ("odd", "even")}
    cycles = np.arange(
        np.ceil((time[0] - signal.epoch) / signal.period), 1 + (time[-1] - signal.epoch) // signal.period
    )
    caption = f"depth {scalars['measured_depth_ppm']:.0f} ppm, S/N {scalars['measured_snr']:.1f}"
    return (
        SignalSummary(
            curve=curve,
            trend=trend.values,
            spacing=trend.spacing,
            signal=signal,
            centres=signal.epoch + cycles * signal.period,
            folded=fold(time, flux, signal),
            views=views,
            reach=min(recipe.local_span, signal.period / 2 / signal.duration),
            time_system=name_of(curve.zero),
            caption=caption,
        ),
        scalars,
    )
