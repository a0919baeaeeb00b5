"""A box least-squares search: the signal that a transit search would report on a light curve."""

from __future__ import annotations

import numpy as np

from transit_cli.data.views.folding import Signal

#: Phase bins of a trial fold, and the widths of the boxes tried, in bins.
BINS = 160
WIDTHS = (1, 2, 4, 8, 16, 32, 64)


def deepest_box(time: np.ndarray, flux: np.ndarray, periods: np.ndarray) -> tuple[Signal, float]:
    """The most significant box-shaped dip among trial periods (Kovács, Zucker & Mazeh 2002).

    Args:
        time: [n] days.
        flux: [n] detrended.
        periods: [k] trial periods in days.

    Returns:
        The signal, and its signal residue in units of the scatter: about the S/N.
    """
    deviation = flux - flux.mean()
    place = np.multiply.outer(1 / periods, time)
    place -= np.floor(place)
    place *= BINS
    number = place.astype(np.intp)
    number += BINS * np.arange(len(periods))[:, None]
    counts = _running_sums(number, len(periods))
    sums = _running_sums(number, len(periods), np.broadcast_to(deviation, number.shape).ravel())
    best, found = 0.0, (0, 0, 1)
    for width in WIDTHS:
        step = max(1, width // 4)  # wide boxes need no single-bin resolution
        inside = counts[:, width : width + BINS : step] - counts[:, :BINS:step]
        total = sums[:, width : width + BINS : step] - sums[:, :BINS:step]
        power = np.minimum(total, 0, out=total)
        power *= total
        power *= inside >= 3
        inside *= len(time) - inside
        power /= np.maximum(inside, 1, out=inside)
        at = int(power.argmax())
        if power.flat[at] > best:
            trial, place_in = divmod(at, power.shape[1])
            best, found = float(power.flat[at]), (trial, place_in * step, width)
    trial, begin, width = found
    period = float(periods[trial])
    epoch = (np.floor(time[0] / period) + 1 + (begin + width / 2) / BINS) * period
    significance = np.sqrt(best * len(time)) / max(float(deviation.std()), 1e-12)
    return Signal(period, float(epoch), period * width / BINS), float(significance)


def _running_sums(number: np.ndarray, trials: int, weights: np.ndarray | None = None) -> np.ndarray:
    """[trials, 1 + BINS + widest box] cumulative sums over bins, periodic beyond the last bin."""
    sums = np.zeros((trials, 1 + BINS + WIDTHS[-1]))
    binned = np.bincount(number.ravel(), weights, minlength=BINS * trials).reshape(trials, BINS)
    sums[:, 1 : BINS + 1] = binned
    sums[:, BINS + 1 :] = binned[:, : WIDTHS[-1]]
    return np.cumsum(sums, axis=1, out=sums)
