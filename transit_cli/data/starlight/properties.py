"""What files tell of a star besides its flux: its properties, centroids and further apertures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True)
class StarProperties:
    """What is known of the star; NaN where nothing is.

    Attributes:
        radius, radius_error: in radii of the Sun.
        logg, logg_error: of cm/s^2.
        teff: K.
        tmag: magnitude in the mission's band.
        source: where the values are from.
    """

    radius: float = np.nan
    radius_error: float = np.nan
    logg: float = np.nan
    logg_error: float = np.nan
    teff: float = np.nan
    tmag: float = np.nan
    source: str = ""

    @property
    def density(self) -> float:
        """Mean density in units of the Sun's, from surface gravity and radius."""
        return 10 ** (self.logg - 4.438) / self.radius


@dataclass(frozen=True)
class ExtraColumns:
    """Columns of the files besides time and flux, averaged over the cells of the light curve; NaN where missing.

    Attributes:
        centroids: [2, n] column and row in pixels, without the motion of the spacecraft; None with a reason.
        centroid_reason: where they are from, or why there are none.
        pixel: arcseconds per pixel.
        apertures: [n] relative flux by name, from the smallest aperture to the largest; fewer than two is none.
        aperture_reason: where they are from, or why there are none.
    """

    centroids: np.ndarray | None = None
    centroid_reason: str = "the files have no centroids"
    pixel: float = np.nan
    apertures: Mapping[str, np.ndarray] = field(default_factory=dict)
    aperture_reason: str = "the files have one aperture only"
