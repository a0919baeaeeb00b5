"""Bring the epoch of a signal to the time system of a light curve, or say why it cannot be."""

from __future__ import annotations

from typing import TYPE_CHECKING

from transit_cli.data.lightcurves.time_reference import FULL_JD, REFERENCE_JD, name_of, systems_within
from transit_cli.data.views.folding import Signal, UnusableError

if TYPE_CHECKING:
    from transit_cli.data.catalogs.catalog import Tce
    from transit_cli.data.lightcurves.lightcurve import LightCurve

#: Days between epoch and data above which they cannot be of one time system.
MAX_DISTANCE = 30 * 365.25


def epoch_in(curve: LightCurve, epoch: float, reference_jd: float) -> tuple[float, str]:
    """The epoch in the time system of a light curve, and a doubt about it.

    Args:
        curve: the light curve.
        epoch: days since `reference_jd`.
        reference_jd: 0 for a full Julian Date, or for days whose reference is not stated: they are those of the curve.

    Raises:
        UnusableError: epoch and light curve are not of one time system, or there are no cadences.
    """
    if not len(curve.time):
        raise UnusableError("no cadence with finite flux and good quality")
    first, last = float(curve.time[0]), float(curve.time[-1])
    stated = reference_jd != 0 or epoch > FULL_JD
    if curve.reference_jd is None:
        if not stated:
            return epoch, ""
        found = reference_jd + epoch
        like = [name for name, jd in REFERENCE_JD.items() if jd and first <= found - jd <= last]
        hint = f"; as {like[0]} they would contain it" if like else ""
        raise UnusableError(
            f"the epoch is BJD {found:.4f}, and the times of the light curve, {first:.2f} to {last:.2f}, have no "
            f"reference{hint}"
        )
    here = epoch + (reference_jd - curve.reference_jd) if stated else epoch
    covered = f"{name_of(curve.reference_jd)} {first:.2f} to {last:.2f}"
    like = [
        name
        for name in systems_within(epoch, curve.reference_jd + first, curve.reference_jd + last)
        if REFERENCE_JD[name] != (reference_jd if stated else curve.reference_jd)
    ]
    hint = f"as {like[0]} it would lie within the data" if like and not first <= here <= last else ""
    distance = max(first - here, here - last)
    if distance > MAX_DISTANCE:
        raise UnusableError(
            f"the epoch {epoch:.10g} is {distance / 365.25:,.0f} years from the data, {covered}"
            + (f"; {hint}" if hint else "")
        )
    doubt = f"epoch {epoch:.10g} lies outside of the data, {covered}; {hint}" if hint else ""
    return here, doubt


def signal_or_none(tce: Tce, curve: LightCurve) -> Signal | None:
    """The signal in the time system of the light curve; None if its ephemeris is invalid."""
    try:
        Signal(tce.period, tce.epoch, tce.duration).check()
        return Signal(tce.period, epoch_in(curve, tce.epoch, tce.reference_jd)[0], tce.duration)
    except UnusableError:
        return None
