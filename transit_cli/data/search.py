"""A box search: where a pipeline that looks for transits would trigger on a light curve."""

from __future__ import annotations

import numpy as np

from transit_cli.data.views import Signal

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
    place = time * (1 / periods)[:, None]
    place -= np.floor(place)
    place *= BINS
    number = (place.astype(np.intp) + BINS * np.arange(len(periods))[:, None]).ravel()
    size = BINS * len(periods)
    counts = np.bincount(number, minlength=size).reshape(-1, BINS)
    sums = np.bincount(number, weights=np.tile(deviation, len(periods)), minlength=size).reshape(-1, BINS)
    counts = np.cumsum(np.concatenate([np.zeros((len(periods), 1)), counts, counts], axis=1), axis=1)
    sums = np.cumsum(np.concatenate([np.zeros((len(periods), 1)), sums, sums], axis=1), axis=1)
    best, found = 0.0, (0, 0, 1)
    for width in WIDTHS:
        step = max(1, width // 4)  # a wide box need not be placed to the bin
        inside = counts[:, width : width + BINS : step] - counts[:, :BINS:step]
        total = sums[:, width : width + BINS : step] - sums[:, :BINS:step]
        power = np.where((total < 0) & (inside >= 3), total**2 / np.maximum(inside * (len(time) - inside), 1), 0.0)
        at = int(power.argmax())
        if power.flat[at] > best:
            trial, place_in = divmod(at, power.shape[1])
            best, found = float(power.flat[at]), (trial, place_in * step, width)
    trial, begin, width = found
    period = float(periods[trial])
    epoch = (np.floor(time[0] / period) + 1 + (begin + width / 2) / BINS) * period
    significance = np.sqrt(best * len(time)) / max(float(deviation.std()), 1e-12)
    return Signal(period, float(epoch), period * width / BINS), float(significance)
