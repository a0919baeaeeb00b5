"""What a user should know of a signal: how it stands out, which other periods fit, how it relates to others."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from transit_cli.search.cells import Curve
    from transit_cli.search.signals.measurement import Measured

#: Trial periods over which the trend of the periodogram is taken (Hippke & Heller 2019, section 2.4).
TREND = 91
#: Two periods are harmonics of each other at ratios of whole numbers up to this.
HARMONIC = 4
#: Fractions of the period that are examined: would their other transits have been observed?
PARTS = 6


def detection_efficiency(spectrum: np.ndarray, points: float) -> np.ndarray:
    """The signal detection efficiency at each period (Hippke & Heller 2019, section 2.4; Kovacs et al. 2002).

    Args:
        spectrum: [periods] the best S/N.
        points: the sum of the weights, which is the chi-square without a signal.

    Returns:
        [periods] standard deviations of the signal residue above its running median.
    """
    from scipy.ndimage import median_filter

    power = np.maximum(spectrum.astype(float), 0) ** 2
    best = power.max()
    residue = (points - min(best, 0.999 * points)) / np.maximum(points - power, 0.001 * points)
    trend = median_filter(residue, min(TREND, len(residue)), mode="nearest")
    flat = residue - trend
    spread = float(flat.std())
    return (flat - flat.mean()) / spread if spread > 0 else np.zeros(len(flat))


def relation(signal: Measured, earlier: Measured) -> str | None:
    """How a period relates to an earlier signal's: None, "1/2 times the period", or that with " in phase"."""
    if signal.single or earlier.single:
        return None
    ratio = signal.period / earlier.period
    simple = Fraction(ratio).limit_denominator(HARMONIC)
    if not 1 / HARMONIC <= simple <= HARMONIC or simple.numerator > HARMONIC:
        return None
    reach = max(int(signal.cycles.max(initial=0)), 1)
    drift = abs(ratio - float(simple)) * earlier.period * reach
    if drift > 0.5 * (signal.duration + earlier.duration):
        return None
    step = earlier.period / simple.denominator
    offset = abs(float(np.remainder(signal.epoch - earlier.epoch + step / 2, step) - step / 2))
    words = f"{simple} times the period"
    return f"{words} in phase" if offset < 0.75 * (signal.duration + earlier.duration) else words


def notes_of(signal: Measured, curve: Curve) -> list[str]:
    """What a user should know of a signal: its place in the data, other periods that fit, odd and even transits."""
    time = curve.time[curve.weight > 0]
    notes = []
    if signal.single:
        notes.append("single transit: the period is a lower limit")
    centres = signal.epoch + signal.cycles * signal.period
    begins = np.concatenate([[0], np.flatnonzero(np.diff(time) > max(signal.duration, 3 * curve.width)) + 1])
    edges = np.concatenate([time[begins], time[np.append(begins[1:] - 1, len(time) - 1)]])
    distance = np.abs(centres[:, None] - edges).min(1)
    ends = np.abs(centres[:, None] - time[[0, -1]]).min(1)
    if np.mean(distance < signal.duration) >= 0.5:
        notes.append("at the data's end" if np.mean(ends < signal.duration) >= 0.5 else "near a gap")
    if not signal.single:
        parts = [f"1/{part}" for part in range(2, PARTS + 1) if _hidden(signal, curve, part)]
        if parts:
            notes.append(f"the period may be {' or '.join(parts)}: the other transits would fall into gaps")
        _, _, difference = signal.odd_even()
        if difference > 4:
            notes.append(f"odd and even transits differ by {difference:.1f} sigma")
    return notes


def _hidden(signal: Measured, curve: Curve, part: int) -> bool:
    """Whether transits at 1/part of the period would all fall where there is no data."""
    time = curve.time[curve.weight > 0]
    for step in range(1, part):
        phase = replace(signal, epoch=signal.epoch + step * signal.period / part).phases(time)
        if np.count_nonzero(np.abs(phase) < signal.duration / 2) > 0.3 * signal.duration / curve.width:
            return False
    return True
