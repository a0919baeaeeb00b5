"""Trial periods and durations of a search, from the density of the star.

A planet on a circular orbit crosses the disc of a star of mean density rho in D(P) = (3 P / (pi^2 G rho))^(1/3) days.
Periods are spaced so that two neighbours drift apart by a set share of that duration over the whole light curve (Ofir
2014, A&A 561, A138, eq. 4 to 7), which makes them even in the cube root of frequency.
"""

from __future__ import annotations

import numpy as np

#: Days from first to last contact of a central transit of the Sun by a small planet of a period of one day:
#: (3 / (pi^2 G rho))^(1/3) with rho = 1,408 kg/m3.
SOLAR_DURATION = 0.07566
#: The shortest transit that is searched is that of this impact parameter, across the densest star.
IMPACT = 0.8


def duration(period: np.ndarray | float, density: float) -> np.ndarray:
    """Days that a central transit lasts, for periods in days and a density in units of the Sun's."""
    return np.asarray(SOLAR_DURATION * np.cbrt(np.asarray(period) / density))


def shortest(period: np.ndarray | float, density: float) -> np.ndarray:
    """Days of a transit at impact parameter `IMPACT`, for the densest star of a search."""
    return duration(period, density) * np.sqrt(1 - IMPACT**2)


def periods(span: float, low: float, high: float, density: float = 1.0, oversampling: float = 3.0) -> np.ndarray:
    """Trial periods, ascending (Ofir 2014).

    Args:
        span: days from the first to the last cadence.
        low: the shortest period, in days.
        high: the longest, in days.
        density: of the star, in units of the Sun's.
        oversampling: steps in which two neighbouring periods drift apart by one duration over the span.

    Returns:
        [n] days, at least one.
    """
    step = SOLAR_DURATION * density ** (-1 / 3) / (span * oversampling)
    first, last = high ** (-1 / 3), low ** (-1 / 3)
    count = max(int(np.ceil((last - first) * 3 / step)) + 1, 1)
    return np.linspace(last, first, count) ** -3.0
