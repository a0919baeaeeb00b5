"""Signal-to-noise of a box at trial periods, for a plot: coarse where a complete search would take long."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from transit_cli.vetting.candidate_tests.candidate import Candidate

#: Products of cells and trial periods at most: about 0.03 s.
WORK = 1_500_000
#: Multiples of the period about which periods are tried if not all can be.
MULTIPLES = (1 / 3, 0.5, 2 / 3, 1.0, 1.5, 2.0, 3.0)
#: Range of trial periods, as multiples of the period.
LOWEST, HIGHEST = 0.29, 3.4


def box_spectrum(candidate: Candidate) -> tuple[np.ndarray, np.ndarray, bool]:
    """Trial periods in days, the best S/N of a box at each, and whether the periods cover the whole range."""
    duration, own = candidate.signal.duration, candidate.signal.period
    width = max(duration / 2, candidate.cell)
    number = np.floor((candidate.time - candidate.time[0]) / width).astype(np.int64)
    weight = np.bincount(number, candidate.weight)
    dips = np.bincount(number, candidate.weight * (candidate.level - candidate.flux))
    held = np.flatnonzero(weight)
    weight, dips, middle = weight[held], dips[held], (held + 0.5) * width
    span = max(float(middle[-1] - middle[0]), own)
    step = 0.5 * duration / (own * span)  # the phase of a transit drifts by half a duration over the data
    low, high = 1 / (min(HIGHEST * own, span)), 1 / max(LOWEST * own, 4 * duration)
    high = max(high, 1.05 / own)
    count = int((high - low) / step) + 1
    allowed = max(WORK // len(held), 350)
    if count <= allowed:
        frequencies = np.linspace(low, high, max(count, 50))
    else:
        each = allowed // len(MULTIPLES)
        near = np.arange(each) - each // 2
        frequencies = np.concatenate([1 / (own * multiple) + step * near for multiple in MULTIPLES])
        frequencies = np.sort(frequencies[(frequencies > low) & (frequencies < 1.2 * high)])
    frequencies = np.union1d(frequencies, [1 / own])
    score = np.array([_best(middle, weight, dips, 1 / frequency, width) for frequency in frequencies])
    return 1 / frequencies[::-1], score[::-1] / (candidate.sigma * candidate.red), count <= allowed


def _best(middle: np.ndarray, weight: np.ndarray, dips: np.ndarray, period: float, width: float) -> float:
    """The largest sum of dips over the root of the weight, of two neighbouring phase bins."""
    bins = max(int(period / width), 4)
    place = (middle * (bins / period)).astype(np.int64) % bins
    total, lost = np.bincount(place, weight, bins), np.bincount(place, dips, bins)
    total[:-1] += total[1:]
    lost[:-1] += lost[1:]
    return float((lost / np.sqrt(np.maximum(total, 0.5))).max())
