"""Light curves with planted transits."""

import numpy as np

from transit_cli.search import template
from transit_cli.search.cells import Curve
from transit_cli.search.signals.measurement import phase_of

WIDTH = 10 / 1440


def times(days=27.0, gap=1.0, width=WIDTH, start=1400.0):
    """A sector: cells of ten minutes, a gap in the middle."""
    time = start + width * np.arange(int(days / width))
    return time[np.abs(time - start - days / 2) > gap / 2]


def planted(time, signals, noise=1e-3, seed=0):
    """White noise with transits, each (period, epoch, duration, depth)."""
    flux = 1 + noise * np.random.default_rng(seed).standard_normal(len(time))
    for period, epoch, duration, depth in signals:
        flux -= depth * template.shape(phase_of(time, period, epoch) / (duration / 2))
    return flux


def curve(time, flux, width=WIDTH):
    return Curve.of(time, flux, np.ones(len(time)), width)
