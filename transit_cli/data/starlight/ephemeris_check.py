"""Whether a catalog's ephemeris fits the light curve, and what it may be instead."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from transit_cli.data.lightcurves.time_reference import REFERENCE_JD
from transit_cli.data.views.folding import Signal, phases

if TYPE_CHECKING:
    from transit_cli.data.starlight.star_light import StarLight

#: Least S/N for a verdict, and of a dip at another ephemeris that is worth a hint.
LEAST, HINT = 3.0, 7.0
#: A dip at another ephemeris is worth a warning beside a verdict from this multiple of the S/N.
STRONGER = 1.5
#: Share of the S/N of the strongest dip at a period that an epoch in another time system must reach.
CENTRED = 0.8
#: How a doubt begins that makes a score meaningless.
NO_SIGNAL = "a score of this ephemeris means nothing"
#: Periods between epoch and data from which an error of the period matters.
MANY = 50
#: A transit is observed if this share of its cells is there.
COVERED = 0.4


@dataclass(frozen=True)
class EphemerisCheck:
    """The result of `check`.

    Attributes:
        problem: why there can be no verdict; "" if there can.
        warnings: doubts.
        snr: S/N of a box at the ephemeris.
        transits: observed.
    """

    problem: str
    warnings: tuple[str, ...]
    snr: float
    transits: int


def check(light: StarLight, signal: Signal, usable: np.ndarray) -> EphemerisCheck:
    """Compare an ephemeris with the light curve.

    Args:
        light: of the star.
        signal: in the time system of the light curve.
        usable: [n] bool, cells that are not in transits of other signals.
    """
    warnings: list[str] = []
    time = light.time[usable]
    first, last = float(time[0]), float(time[-1])
    away = max(first - signal.epoch, signal.epoch - last)
    if away > 0:
        cycles = int(np.ceil(away / signal.period))
        side = "before" if signal.epoch < first else "after"
        text = f"the epoch lies {away:,.1f} d ({cycles:,} period{'s' if cycles > 1 else ''}) {side} the data"
        if cycles > MANY:
            drift = 86400 * signal.duration / 2 / cycles
            text += f": {drift:.2g} s of error in the period move the transits by half a duration"
        warnings.append(text)
    if signal.period > last - first:
        found = f"the period, {signal.period:.6g} d, is longer than the data, {last - first:.1f} d"
        return EphemerisCheck("; ".join([found, *_hints(light, signal, usable)]), tuple(warnings), np.nan, 0)
    transits = observed(light, signal, usable)
    snr = box_snr(light, signal, usable)
    if transits == 0:
        found = "no transit falls on data"
    elif transits == 1:
        found = "only one transit is observed, so that nothing can be compared"
    elif not snr >= LEAST:
        found = f"no dip at this ephemeris: S/N {snr:.1f}, less than {LEAST:g}"
    else:
        return EphemerisCheck("", (*warnings, *_stronger(light, signal, usable, snr)), snr, transits)
    return EphemerisCheck("; ".join([found, *_hints(light, signal, usable)]), tuple(warnings), snr, transits)


def doubts(light: StarLight, signal: Signal) -> list[str]:
    """Why a light curve, scored as it is, may not have this signal; what forbids a verdict comes first."""
    found = check(light, signal, np.ones(len(light.time), bool))
    problem = [f"{NO_SIGNAL}: {found.problem}"] if found.problem else []
    return [*problem, *found.warnings]


def observed(light: StarLight, signal: Signal, usable: np.ndarray) -> int:
    """The number of transits with data."""
    phase, cycle = phases(light.time, signal)
    inside = usable & (np.abs(phase) < signal.duration / 2)
    counts = np.unique(cycle[inside], return_counts=True)[1]
    return int((counts >= max(1.0, COVERED * signal.duration / light.cell)).sum())


def box_snr(light: StarLight, signal: Signal, usable: np.ndarray) -> float:
    """S/N of the mean dip within a duration, over that of the cells beside it, by the noise of one duration."""
    phase, _ = phases(light.time, signal)
    inside = usable & (np.abs(phase) < 0.5 * signal.duration)
    beside = usable & (np.abs(phase) > 0.75 * signal.duration) & (np.abs(phase) < 4 * signal.duration)
    if not inside.any() or not beside.any():
        return np.nan
    sigma, red = light.noise(usable & (np.abs(phase) > 0.75 * signal.duration), signal.duration)
    dip = np.average(light.flux[beside], weights=light.weight[beside]) - np.average(
        light.flux[inside], weights=light.weight[inside]
    )
    return float(dip / (sigma * red) * np.sqrt(light.weight[inside].sum()))


def _hints(light: StarLight, signal: Signal, usable: np.ndarray) -> list[str]:
    """Other readings of the ephemeris at which there is a clear dip."""
    hints = _as_hours(light, signal, usable, HINT)
    if signal.period < light.span:
        names = [name for name in REFERENCE_JD if name not in {"JD", "HJD"}]
        strongest = strongest_offset(light, signal, usable)[1]
        own = REFERENCE_JD.get("BJD") if light.curve.reference_jd is None else light.curve.reference_jd
        for name in names:
            shift = (REFERENCE_JD[name] - (own or 0.0)) % signal.period
            if min(shift, signal.period - shift) < 0.25 * signal.duration:
                continue
            other = Signal(signal.period, signal.epoch + shift, signal.duration)
            snr = box_snr(light, other, usable)
            if snr > max(HINT, CENTRED * strongest) and _repeats(light, other, usable):
                hints.append(f"with the epoch as {name} there would be a dip of S/N {snr:.1f}")
                break
        hints = hints or _off_centre(light, signal, usable, HINT)
    return hints


def _stronger(light: StarLight, signal: Signal, usable: np.ndarray, snr: float) -> list[str]:
    """Other readings of an ephemeris that has a dip, at which there is a much clearer one."""
    least = max(HINT, STRONGER * snr)
    return _as_hours(light, signal, usable, least) or _off_centre(light, signal, usable, least)


def _as_hours(light: StarLight, signal: Signal, usable: np.ndarray, least: float) -> list[str]:
    """Whether the period may be in hours."""
    hours = signal.period / 24
    if hours <= max(4 * light.cell, 0.1):
        return []
    other = Signal(hours, signal.epoch, min(signal.duration, 0.2 * hours))
    snr = box_snr(light, other, usable)
    if snr > least and _repeats(light, other, usable):
        return [f"as hours the period would be {hours:.6g} d, with S/N {snr:.1f}"]
    return []


def _off_centre(light: StarLight, signal: Signal, usable: np.ndarray, least: float) -> list[str]:
    """Whether the strongest dip at this period is elsewhere."""
    offset, snr = strongest_offset(light, signal, usable)
    if snr > least and abs(offset) > 0.5 * signal.duration:
        return [f"the strongest dip at this period, S/N {snr:.1f}, lies {24 * offset:+.2f} h from the epoch"]
    return []


def _repeats(light: StarLight, signal: Signal, usable: np.ndarray) -> bool:
    """Whether at least half of the observed transits, and at least two, show a dip of 2 sigma."""
    phase, cycle = phases(light.time, signal)
    inside = usable & (np.abs(phase) < 0.5 * signal.duration)
    sigma, red = light.noise(usable & (np.abs(phase) > 0.75 * signal.duration), signal.duration)
    _, number = np.unique(cycle[inside], return_inverse=True)
    weight = np.bincount(number, light.weight[inside])
    dips = np.bincount(number, light.weight[inside] * (np.median(light.flux[usable]) - light.flux[inside]))
    clear = dips / np.sqrt(np.maximum(weight, 1e-9)) > 2 * sigma * red
    return int(clear.sum()) >= max(2, len(clear) / 2)


def strongest_offset(light: StarLight, signal: Signal, usable: np.ndarray) -> tuple[float, float]:
    """Where the folded light curve is lowest over one duration: days from the epoch, and the S/N there."""
    phase, _ = phases(light.time, signal)
    sigma, red = light.noise(usable, signal.duration)
    count = max(int(4 * signal.period / signal.duration), 8)
    number = np.minimum(((phase / signal.period + 0.5) * count).astype(np.int64), count - 1)[usable]
    weight = np.bincount(number, light.weight[usable], count)
    dips = np.bincount(number, light.weight[usable] * (np.median(light.flux[usable]) - light.flux[usable]), count)
    four = [np.roll(weight, -step) for step in range(4)], [np.roll(dips, -step) for step in range(4)]
    total, lost = np.sum(four[0], axis=0), np.sum(four[1], axis=0)
    score = np.where(total > 0, lost / np.sqrt(np.maximum(total, 1e-9)), -np.inf) / (sigma * red)
    best = int(score.argmax())
    middle = ((best + 2) / count - 0.5) * signal.period
    return float((middle + signal.period / 2) % signal.period - signal.period / 2), float(score[best])
