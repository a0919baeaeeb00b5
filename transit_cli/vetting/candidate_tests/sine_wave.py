"""Sine-wave variability (SWEET): a star that varies smoothly at the period makes dips that are no transits."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np

from transit_cli.vetting.candidate_tests.candidate import TestInfo

if TYPE_CHECKING:
    from transit_cli.vetting.candidate_tests.candidate import Candidate, Outcome

INFO = TestInfo("sine_wave", "Sine wave (SWEET)", "depths", 1.0, True, "Thompson et al. 2018; Kunimoto et al. 2025")
#: Significance above which a sine wave is taken seriously. Thompson et al. (2018) take 50, for four years of Kepler; a
#: sector of TESS has a fortieth of the cadences.
SIGNIFICANT = 10.0
#: Trial frequencies about that of the sine wave, relative to it: variability at another period leaks into a fit at P.
NEIGHBOURS = (0.7, 0.76, 0.82, 0.88, 0.94, 1.07, 1.14, 1.21, 1.28, 1.35)
#: Multiples of the period at which a sine wave is fitted.
MULTIPLES = (0.5, 1.0, 2.0)
#: Gap in days that separates two stretches, each with a straight trend of its own.
GAP = 0.75
#: Stretches must hold this many periods of the sine wave.
PERIODS = 1.5


def sine_wave(candidate: Candidate) -> Outcome:
    """Fit sine waves to the light curve before detrending, and one to the folded light curve after it."""
    outside = ~candidate.inside(1.25)
    if outside.sum() < 20:
        return INFO.not_made("too few cadences out of transit")
    time, raw = candidate.time, candidate.raw
    begins = np.concatenate([[0], np.flatnonzero(np.diff(time) > GAP) + 1, [len(time)]])
    longest = float(np.diff(time[np.clip(begins, 0, len(time) - 1)]).max())
    used = [multiple for multiple in MULTIPLES if multiple * candidate.signal.period * PERIODS < longest]
    if not used:
        return INFO.not_made(f"the period is too long for the light curve's stretches of at most {longest:.1f} d")
    flat = _straightened(time, raw, outside, begins)
    best = (0.0, 0.0, used[0])
    for multiple in used:
        amplitude, error = _amplitude(time[outside], flat[outside], multiple * candidate.signal.period)
        if error > 0 and amplitude / error > best[0] / max(best[1], 1e-12):
            best = (amplitude, error, multiple)
    amplitude, error, multiple = best
    period = multiple * candidate.signal.period
    beside = max(_amplitude(time[outside], flat[outside], period / factor)[0] for factor in NEIGHBOURS)
    significance = amplitude / error if error > 0 else 0.0
    ratio = 2 * amplitude / candidate.fit.depth  # a dip that is the trough of a wave is as deep as its full swing
    gain = _shape_gain(candidate)
    details = {
        "amplitude_ppm": 1e6 * amplitude,
        "amplitude_sigma": significance,
        "period_multiple": multiple,
        "neighbour_amplitude_ppm": 1e6 * beside,
        "transit_over_sine_chi_square": gain,
    }
    text = (
        f"{1e6 * amplitude:,.0f} ppm at {multiple:g} P ({significance:.0f} sigma), its swing {ratio:.2f} of the depth"
    )
    if gain < 0:
        reason = f"a sine wave fits the folded light curve better than a transit, by {-gain:.0f} in chi-square"
        return INFO.outcome("fail", ratio, f"{reason}; before detrending {text}", **details)
    if significance < SIGNIFICANT:
        return INFO.outcome("pass", ratio, f"no strong sine wave: {text}", **details)
    if ratio > INFO.threshold and beside > amplitude:
        reason = f"{text}; it is stronger at other periods, so that it is not of this signal"
        return INFO.outcome("warn", ratio, reason, **details)
    return INFO.judge(ratio, f"a sine wave of {text}", f"a sine wave of {text}", **details)


def _straightened(time: np.ndarray, flux: np.ndarray, outside: np.ndarray, begins: np.ndarray) -> np.ndarray:
    """The flux of every stretch minus a straight line."""
    flat = np.full(len(flux), np.nan)
    for first, last in itertools.pairwise(begins):
        part = slice(first, last)
        known = outside[part] & np.isfinite(flux[part])
        if known.sum() < 4:
            flat[part] = 0.0
            continue
        x = time[part] - time[part].mean()
        slope, level = np.polyfit(x[known], flux[part][known], 1)
        flat[part] = flux[part] - level - slope * x
    return flat


def _amplitude(time: np.ndarray, flux: np.ndarray, period: float) -> tuple[float, float]:
    """Amplitude of the sine wave that fits best, and its error from the scatter about it."""
    known = np.isfinite(flux)
    angle = 2 * np.pi * time[known] / period
    columns = np.stack([np.sin(angle), np.cos(angle), np.ones(len(angle))], 1)
    normal = np.linalg.pinv(columns.T @ columns, hermitian=True)
    place = normal @ (columns.T @ flux[known])
    rest = flux[known] - columns @ place
    return float(np.hypot(*place[:2])), float(1.4826 * np.median(np.abs(rest)) * np.sqrt(normal[0, 0] + normal[1, 1]))


def _shape_gain(candidate: Candidate) -> float:
    """By how much chi-square of the detrended light curve is smaller with the transit than with a sine wave at P."""
    angle = 2 * np.pi * candidate.phase / candidate.signal.period
    columns = np.stack([np.cos(angle), np.sin(angle), np.ones(len(angle))], 1)
    root = np.sqrt(candidate.weight)[:, None] / (candidate.sigma * candidate.red)
    flux = candidate.flux - candidate.level
    place, *_ = np.linalg.lstsq(root * columns, root[:, 0] * flux, rcond=None)
    dip = candidate.fit.lost(candidate.phase)
    rest = flux + dip
    rest -= np.average(rest, weights=candidate.weight)
    sine = float(((root[:, 0] * (flux - columns @ place)) ** 2).sum())
    return sine - float(((root[:, 0] * rest) ** 2).sum())
