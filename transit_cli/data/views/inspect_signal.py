"""`transit data fold`: fold one light curve at one signal, measure it and draw it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from transit_cli.data.lightcurves import readers
from transit_cli.data.lightcurves.lightcurve import UnreadableError
from transit_cli.data.lightcurves.time_reference import name_of
from transit_cli.data.starlight import ephemeris_check, star_light
from transit_cli.data.views import plots
from transit_cli.data.views.ephemeris import epoch_in
from transit_cli.data.views.folding import Signal, UnusableError
from transit_cli.data.views.make import recipe_for
from transit_cli.data.views.signal_summary import SignalSummary, summarise
from transit_cli.results import Result, Table, TransitError

if TYPE_CHECKING:
    from transit_cli.data.lightcurves.lightcurve import LightCurve
    from transit_cli.data.settings import FoldSettings


def inspect_signal(settings: FoldSettings) -> Result:
    """Fold one light curve at one signal, measure it, and draw it if `settings.plot` is given.

    Raises:
        TransitError: the file is not a light curve, or the signal cannot become views.
    """
    if settings.plot:
        plots.check_plot(settings.plot)
    try:
        recipe = recipe_for(settings.bins, secondary=True, odd_even=True)
    except ValueError as wanted:
        settings.refuse("bins", str(wanted))
    curve = _read(settings)
    system = name_of(curve.reference_jd)
    doubt = ""
    try:
        epoch, doubt = epoch_in(curve, settings.epoch, 0.0)
        signal = Signal(settings.period, epoch, settings.duration / 24)
        summary = summarise(curve, signal, recipe)
        light = star_light.light_of(curve, {}, [signal])
        doubts = [*([doubt] if doubt else []), *ephemeris_check.doubts(light, signal)]
    except UnusableError as reason:
        first, last = (curve.time[0], curve.time[-1]) if len(curve.time) else (np.nan, np.nan)
        raise TransitError(
            f"the signal cannot become a view: {reason}{f' ({doubt})' if doubt else ''}",
            wanted=f"a signal with a transit in the data, which cover {first:.2f} to {last:.2f} ({system})",
            fix=f"check --epoch (in {system} or as BJD), --period in days and --duration in hours",
            code="signal-unusable",
        ) from None
    if settings.plot:
        plots.draw_signal(summary, settings.plot)
    return replace(_result(summary, settings), warnings=[*curve.notes, *doubts])


def _read(settings: FoldSettings) -> LightCurve:
    try:
        return readers.read(settings.light_curve, settings.flux_column)
    except UnreadableError as reason:
        raise TransitError(
            f"{settings.light_curve}: {reason}",
            wanted="a light curve: FITS, or a table with time and flux",
            fix=f"transit data check {settings.light_curve}",
            code="light-curve-unreadable",
        ) from None


def _result(summary: SignalSummary, settings: FoldSettings) -> Result:
    curve, scalars, system = summary.curve, summary.scalars, summary.time_system
    data = {
        "star": curve.star,
        "source": curve.source,
        "flux_column": curve.column,
        "time_system": system,
        "cadences": curve.cadences,
        "finite": curve.finite,
        "used": len(curve.time),
        "knot_spacing_days": summary.spacing,
        **scalars,
        "plot": str(settings.plot) if settings.plot else None,
    }
    rows = [
        ("light curve", f"{curve.star or '?'} {curve.segment}, {curve.column}, {system}"),
        ("cadences", f"{curve.cadences:,}; {curve.finite:,} finite, {len(curve.time):,} of good quality"),
        ("trend", f"knots every {summary.spacing:.2f} d"),
        ("transits", f"{scalars['transits']:.0f}, {scalars['odd_transits']:.0f} of them odd"),
        ("depth", f"{scalars['measured_depth_ppm']:.0f} ppm, S/N {scalars['measured_snr']:.1f}"),
        ("odd, even", f"{scalars['odd_depth']:.2f} and {scalars['even_depth']:.2f} of the depth"),
        ("secondary", f"{scalars['secondary_depth_ppm']:.0f} ppm at {scalars['secondary_phase_days']:.3f} d"),
    ]
    drawn = f"; drawn in {settings.plot}" if settings.plot else ""
    return Result(data, [Table(("", "found"), rows)], summary.caption + drawn)
