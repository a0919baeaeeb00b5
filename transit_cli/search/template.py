"""The shape of a transit: a small planet across a limb-darkened star."""

from __future__ import annotations

import functools

import numpy as np

#: Quadratic limb darkening of a solar-type star in the Kepler band (Claret & Bloemen 2011), as in Hippke & Heller 2019.
LIMB_DARKENING = (0.4804, 0.1867)
#: Radius of the planet in radii of the star, and impact parameter, of the template.
RADIUS, IMPACT = 0.05, 0.3
#: Points of the tabulated shape from first to last contact.
POINTS = 401


@functools.cache
def _table() -> tuple[np.ndarray, np.ndarray]:
    """Offsets from the centre in half durations, and the light lost there, 1 at the centre."""
    offsets = np.linspace(-1, 1, POINTS)
    across = np.sqrt((1 + RADIUS) ** 2 - IMPACT**2) * offsets
    radius = RADIUS * np.sqrt((np.arange(24) + 0.5) / 24)  # equal areas of the planet's disc
    angle = 2 * np.pi * (np.arange(48) + 0.5) / 48
    x = across[:, None, None] + radius[:, None] * np.cos(angle)
    y = IMPACT + radius[:, None] * np.sin(angle)
    squared = x**2 + y**2
    fall = 1 - np.sqrt(np.maximum(1 - squared, 0))
    light = np.where(squared < 1, 1 - LIMB_DARKENING[0] * fall - LIMB_DARKENING[1] * fall**2, 0).mean(axis=(1, 2))
    return offsets, light / light[POINTS // 2]


def shape(offset: np.ndarray) -> np.ndarray:
    """The light that a transit of depth 1 takes, at times from its centre in half durations: 1 at 0, 0 beyond 1."""
    return np.interp(offset, *_table(), left=0.0, right=0.0)


def kernel(width: float, length: int) -> np.ndarray:
    """A transit of `width` bins in the middle of `length` bins, averaged over each bin, [length]."""
    fine = 32
    places = (np.arange(length * fine) + 0.5) / fine - length / 2
    return shape(places / (width / 2)).reshape(length, fine).mean(axis=1)
