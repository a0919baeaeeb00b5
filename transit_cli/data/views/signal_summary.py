"""Everything about one signal of one light curve: trend, folded light curve, views and measurements."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from transit_cli.data.lightcurves.time_reference import name_of
from transit_cli.data.views import detrend
from transit_cli.data.views.folding import Folded, Signal, UnusableError, fold
from transit_cli.data.views.make import Recipe, check_depth, make_views

if TYPE_CHECKING:
    from transit_cli.data.lightcurves.lightcurve import LightCurve


@dataclass(frozen=True)
class SignalSummary:
    """One signal of one light curve.

    Attributes:
        curve: the light curve as read.
        trend: [n] at the curve's points.
        spacing: between the trend's knots, in days.
        signal: in the time system of the curve.
        centres: [transits] expected transit times within the data.
        folded: the detrended light curve, folded.
        views: by name: global, local, secondary, odd, even.
        reach: half-width of the local views, in durations.
        time_system: of the curve.
        scalars: measurements (see `make_views`), and the depths of the odd and even views.
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
    scalars: dict[str, float]

    @property
    def caption(self) -> str:
        """Depth, S/N and number of transits in one line."""
        depth, snr = self.scalars["measured_depth_ppm"], self.scalars["measured_snr"]
        return f"depth {depth:,.0f} ppm, S/N {snr:.1f}, {self.scalars['transits']:.0f} transits"


def summarise(curve: LightCurve, signal: Signal, recipe: Recipe) -> SignalSummary:
    """Detrend, fold and measure one signal.

    Args:
        curve: the light curve.
        signal: in the time system of the curve.
        recipe: of the views, with secondary, odd and even.

    Raises:
        UnusableError: the signal cannot become views; the message is the reason.
    """
    signal.check()
    if len(curve.time) < 4:
        raise UnusableError("fewer than four cadences of good quality")
    flat = detrend.flatten(curve.time, curve.flux, [signal])
    time, flux = flat.time, flat.flux
    if not len(time):
        raise UnusableError("too few cadences for a trend")
    views, scalars = make_views(time, flux, signal, recipe)
    check_depth(scalars)
    middle = np.abs(np.linspace(-1, 1, recipe.local_bins)) * recipe.local_span < 0.25
    scalars |= {f"{name}_depth": -float(np.median(views[name][middle])) for name in ("odd", "even")}
    cycles = np.arange(
        np.ceil((time[0] - signal.epoch) / signal.period), 1 + (time[-1] - signal.epoch) // signal.period
    )
    return SignalSummary(
        curve=curve,
        trend=flat.trend.values,
        spacing=flat.trend.spacing,
        signal=signal,
        centres=signal.epoch + cycles * signal.period,
        folded=fold(time, flux, signal),
        views=views,
        reach=min(recipe.local_span, signal.period / 2 / signal.duration),
        time_system=name_of(curve.reference_jd),
        scalars=scalars,
    )
