"""Centroids of simulated stars: photon noise, and the pull of a background binary during its eclipses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from transit_cli.data.views.measurements.centroid import Centroids

if TYPE_CHECKING:
    from transit_cli.data.simulation.signals import SimulatedSignal

#: Share of the eclipsing binaries that are beside the star; their distance in pixels, and their share of the light.
BACKGROUND, DISTANCES, LIGHT = 0.4, (0.2, 3.0), (0.003, 0.5)
#: Scatter of a centroid in pixels per relative scatter of the flux (about the width of the star's image), its spread
#: from star to star in natural logarithms, and the least scatter.
IMAGE_WIDTH, SPREAD, FLOOR = 0.8, 0.4, 2e-5


@dataclass(frozen=True)
class Blend:
    """A background binary.

    Attributes:
        light: its share of the light.
        distance: from the star, in pixels.
    """

    light: float
    distance: float


def draw_blend(rng: np.random.Generator, label: str) -> Blend | None:
    """Whether an eclipsing binary lies beside the star, and where."""
    if label != "EB" or rng.random() > BACKGROUND:
        return None
    return Blend(float(np.exp(rng.uniform(*np.log(LIGHT)))), float(rng.uniform(*DISTANCES)))


def simulate_centroids(rng: np.random.Generator, found: SimulatedSignal, blend: Blend | None) -> Centroids:
    """Detrended centroids at the times of a light curve, whose lost light moves them if it is that of a blend.

    Args:
        rng: source of all random numbers.
        found: the light curve, with the blend's eclipses diluted already.
        blend: the background binary, if there is one.
    """
    deviation = found.flux - np.median(found.flux)
    scatter = 1.4826 * float(np.median(np.abs(deviation)))
    sigma = max(IMAGE_WIDTH * scatter * float(np.exp(rng.normal(0, SPREAD))), FLOOR)
    shift = sigma * rng.standard_normal((len(found.time), 2))
    if blend is not None:
        angle = rng.uniform(0, 2 * np.pi)
        shift += deviation[:, None] * blend.distance * np.array([np.cos(angle), np.sin(angle)])
    return Centroids(found.time, shift, np.zeros(len(found.time), np.intp))
