"""Flux scales and missing values: relative flux from counts, relative units or magnitudes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

#: Values that stand for "no value" in published tables.
SENTINELS = (-99.0, -99.9, -99.99, -999.0, -999.9, -999.99, -9999.0, -9999.9, -9999.99, -99999.0, -999999.0)
#: The same for magnitudes.
MAGNITUDE_SENTINELS = (99.0, 99.9, 99.99, 99.999, 99.9999, 999.0, 999.99, 9999.0)
#: Larger absolute values of any unit are fill values of array formats.
FILL = 1e15
#: Robust standard deviations below zero from which a flux is impossible.
IMPOSSIBLE = 5.0
#: Fluxes above this, in medians, are impossible too.
BRIGHTEST = 1e4
#: Fraction of impossible or missing fluxes above which a file is refused.
MAX_IMPOSSIBLE = 0.05
#: Scatter above which a flux about 0 without a unit may be in another unit than relative flux.
MAX_RELATIVE_SCATTER = 0.05

_MAGNITUDES = {"mag", "mags", "magnitude", "magnitudes"}
#: Relative units, and the value of the star's mean flux in them where it is included.
_RELATIVE = {"ppm": 1e6, "parts per million": 1e6, "ppt": 1e3, "ppth": 1e3, "parts per thousand": 1e3, "mmag": 0.0}
_RELATIVE |= {"%": 1e2, "percent": 1e2, "pct": 1e2}
_UNITLESS = {"", "relative", "normalized", "normalised", "dimensionless", "1", "none", "adimensional", "-"}


@dataclass(frozen=True)
class Scaled:
    """Fluxes relative to their median.

    Attributes:
        flux: [n] relative to the median; NaN where it is missing or impossible.
        scale: how it was made relative, such as "ppm about 0".
        notes: doubts.
    """

    flux: np.ndarray
    scale: str
    notes: tuple[str, ...] = ()


def missing(flux: np.ndarray, unit: str) -> np.ndarray:
    """[n] bool: fill values of tables and array formats, in finite fluxes."""
    found = np.abs(flux) > FILL
    lowest = flux.min(initial=0.0)
    sentinels = MAGNITUDE_SENTINELS if unit.lower() in _MAGNITUDES else ()
    if lowest <= SENTINELS[0]:
        sentinels += SENTINELS
    if sentinels:
        single = flux.astype(np.float32)
        found |= np.isin(single, np.array(sentinels, np.float32))
    return found


def relative(flux: np.ndarray, unit: str) -> Scaled:
    """Flux relative to its median.

    Args:
        flux: [n] finite, good cadences.
        unit: as the file states it or the product documents it; "" if neither does.

    Raises:
        ValueError: the scale cannot be decided, or the flux is not that of a star; the message says why.
    """
    if not len(flux):
        return Scaled(flux, "no cadences")
    word = unit.strip().lower()
    notes: list[str] = []
    level = float(np.median(flux))
    if _constant(flux, level):
        raise ValueError("the flux is 0 throughout" if level == 0 else f"the flux is constant ({level:g})")
    if word in _MAGNITUDES or word in {"mmag", "millimag"}:
        factor = -0.4 if word in _MAGNITUDES else -0.4e-3
        with np.errstate(over="ignore"):
            values = 10 ** (factor * (flux - level))
        scale = f"{unit.strip()}, relative to the median {level:.6g}"
    elif word in _RELATIVE:
        values, scale = _from_parts(flux, level, word)
    elif word in _UNITLESS:
        values, scale = _without_unit(flux, level, notes)
    else:
        values, scale = flux, f"{unit.strip()}, relative to the median {level:.6g}"
    level = float(np.median(values))
    if not 0 < level < np.inf:
        raise ValueError("the median flux is not positive")
    values = np.asarray(values / level)
    return _possible(np.where(np.isfinite(values), values, np.nan), scale, notes)


def _constant(flux: np.ndarray, level: float) -> bool:
    """Whether nothing but rounding of float32 varies."""
    return len(flux) > 1 and float(np.ptp(flux)) <= 4 * float(np.finfo(np.float32).eps) * abs(level)


def _from_parts(flux: np.ndarray, level: float, unit: str) -> tuple[np.ndarray, str]:
    """Relative flux from parts per something, about 0 or with the mean flux included (lightkurve's `normalize`)."""
    full = _RELATIVE[unit]
    if abs(level) < 0.1 * full:
        return 1 + flux * {"ppm": 1e-6, "ppt": 1e-3}.get(unit, 1 / full), f"{unit} about 0"
    if 0.5 * full < level < 2 * full:
        return flux / full, f"{unit} about {full:g}"
    raise ValueError(f"the unit is {unit}, but the median is {level:g}, neither about 0 nor about {full:g}")


def _without_unit(flux: np.ndarray, level: float, notes: list[str]) -> tuple[np.ndarray, str]:
    """Relative flux of values without a unit: counts, or relative flux about 1 or 0."""
    scatter = 1.4826 * float(np.median(np.abs(flux - level)))
    if abs(level) < 0.1 and float(np.quantile(np.abs(flux - level), 0.99)) < 2:
        if scatter > MAX_RELATIVE_SCATTER:
            raise ValueError(f"the flux has no unit and is about 0 with a scatter of {scatter:.2g}: relative or ppt?")
        notes.append("flux: about 0, taken as relative to 1")
        return flux + 1, "relative about 0"
    if abs(level) < 3 * scatter:
        raise ValueError(f"the flux has no unit and is about 0 (median {level:.4g}): ppm, ppt or counts?")
    if 0.5 < level < 2:
        return flux, "relative about 1"
    return flux, f"counts, relative to the median {level:.6g}"


def _possible(flux: np.ndarray, scale: str, notes: list[str]) -> Scaled:
    """Without fluxes that no star has: nothing is deeper than its light, nor brighter than `BRIGHTEST`."""
    if not np.nanmin(flux) >= 0 or not np.nanmax(flux) <= BRIGHTEST:
        scatter = 1.4826 * float(np.nanmedian(np.abs(flux - 1)))
        impossible = ~((flux >= -IMPOSSIBLE * max(scatter, 1e-6)) & (flux <= BRIGHTEST))
        count = int(impossible.sum())
        if count > MAX_IMPOSSIBLE * len(flux):
            raise ValueError(f"{count:,} of {len(flux):,} fluxes are far below zero or above the median ({scale})")
        if count:
            notes.append(f"flux: {count:,} values far below zero or above the median are left out")
            flux = np.where(impossible, np.nan, flux)
    return Scaled(flux, scale, tuple(notes))
