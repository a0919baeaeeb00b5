"""Folding a light curve at a signal. Times, periods and durations are in days."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


class UnusableError(ValueError):
    """A signal that cannot become a view; its message is the reason written to dropped.csv."""


@dataclass(frozen=True)
class Signal:
    """A periodic signal: period, epoch (centre of a transit) and duration, all in days."""

    period: float
    epoch: float
    duration: float

    def check(self) -> None:
        """Raise `UnusableError` if the values cannot be those of a transit."""
        for name in ("period", "epoch", "duration"):
            value = getattr(self, name)
            if not np.isfinite(value):
                raise UnusableError(f"{name} is not a finite number")
            if value <= 0 and name != "epoch":
                raise UnusableError(f"{name} is not positive")
        if self.duration >= self.period:
            raise UnusableError("duration is longer than period")


@dataclass(frozen=True)
class Folded:
    """A light curve folded at a signal and sorted by phase.

    Attributes:
        phase: [n] days from the nearest transit's centre, ascending, in [-period/2, period/2).
        flux: [n].
        cycle: [n] number of the nearest transit; 0 for the transit at the epoch.
        signal: period, epoch and duration.
    """

    phase: np.ndarray
    flux: np.ndarray
    cycle: np.ndarray
    signal: Signal

    def where(self, chosen: np.ndarray | slice) -> Folded:
        """A subset of the points, in the same order."""
        return Folded(self.phase[chosen], self.flux[chosen], self.cycle[chosen], self.signal)


def phases(time: np.ndarray, signal: Signal) -> tuple[np.ndarray, np.ndarray]:
    """Days from the nearest transit's centre, in [-period/2, period/2), and that transit's number."""
    since = time - signal.epoch
    cycle = np.floor(since / signal.period + 0.5)
    phase = since - cycle * signal.period
    half = signal.period / 2
    np.clip(phase, -half, np.nextafter(half, 0), out=phase)  # rounding may exceed the range by the last digit
    return phase, cycle


def fold(time: np.ndarray, flux: np.ndarray, signal: Signal) -> Folded:
    """Fold a light curve at a signal.

    Args:
        time: [n] days, in the same system as the signal's epoch.
        flux: [n] finite fluxes.
        signal: period and epoch to fold at.
    """
    phase, cycle = phases(time, signal)
    order = np.argsort(phase, kind="stable")  # timsort: a folded light curve is a few ascending runs
    return Folded(phase[order], flux[order], cycle[order], signal)
