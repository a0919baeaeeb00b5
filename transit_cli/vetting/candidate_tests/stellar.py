"""Transit duration and radius against the star."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from transit_cli.vetting.candidate_tests.candidate import TestInfo

if TYPE_CHECKING:
    from transit_cli.vetting.candidate_tests.candidate import Candidate, Outcome

DURATION = TestInfo(
    "duration", "Duration for the star", "", 2.0, True, "Seager & Mallen-Ornelas 2003; Valizadegan et al. 2022"
)
ANY_STAR = TestInfo(
    "duration", "Duration for any star", "", 1.0, True, "Seager & Mallen-Ornelas 2003; Kunimoto et al. 2025"
)
RADIUS = TestInfo("radius", "Companion radius", "R⊕", 22.0, True, "Kunimoto et al. 2025")
#: Period in days of an orbit at the surface of a star of solar density.
SURFACE_PERIOD = 0.1159
EARTH_RADII = 109.076  # in a radius of the Sun (IAU 2015)
#: A transit longer than this share of the period means an orbit within about one stellar radius of the surface.
LONGEST_SHARE = 0.25
#: Density of a large subgiant in units of the Sun's, for stars that nothing is known of.
LOWEST_DENSITY = 0.05


def scaled_distance(period: float, density: float) -> float:
    """Semi-major axis in stellar radii, for a density in units of the Sun's (Kepler's third law)."""
    return float((period / SURFACE_PERIOD) ** (2 / 3) * density ** (1 / 3))


def central_duration(period: float, distance: float, radius_ratio: float) -> float:
    """Days from first to last contact of a central transit on a circular orbit (Winn 2010, eq. 14)."""
    return period / np.pi * float(np.arcsin(min((1 + radius_ratio) / distance, 1.0)))


def duration(candidate: Candidate) -> Outcome:
    """Compare the duration with the longest one of a circular orbit about this star."""
    fit, star = candidate.fit, candidate.star
    share = fit.duration / fit.period
    details = {"duration_share": share}
    if share > LONGEST_SHARE:
        return DURATION.outcome("fail", np.nan, f"the transit lasts {share:.0%} of the period", **details)
    density = star.density
    if not (np.isfinite(density) and density > 0):
        distance = max(scaled_distance(fit.period, LOWEST_DENSITY), 1.0)
        expected = central_duration(fit.period, distance, min(fit.radius_ratio, 0.3))
        text = f"{24 * fit.duration:.2f} h; the star is not known, one of {LOWEST_DENSITY} solar densities would give "
        text += f"up to {24 * expected:.2f} h"
        details |= {"expected_hours": 24 * expected}
        return ANY_STAR.judge(fit.duration / expected, f"too long for a star: {text}", text, **details)
    distance = scaled_distance(fit.period, density)
    details |= {"a_over_rstar": distance, "density_solar": density}
    if distance < 1:
        reason = f"the orbit would lie within the star (a/R* = {distance:.2f})"
        return DURATION.outcome("fail", np.nan, reason, **details)
    expected = central_duration(fit.period, distance, min(fit.radius_ratio, 0.3))
    ratio = fit.duration / expected
    details |= {"expected_hours": 24 * expected}
    text = f"{24 * fit.duration:.2f} h; a central transit of a circular orbit takes {24 * expected:.2f} h"
    return DURATION.judge(ratio, f"too long for the star: {text}", text, **details)


def radius(candidate: Candidate) -> Outcome:
    """Compare the companion's radius with that of the largest planets."""
    star, fit = candidate.star, candidate.fit
    if not np.isfinite(star.radius):
        return RADIUS.not_made("the radius of the star is not known")
    ratio = min(fit.radius_ratio, 1.0) if fit.impact < 1 else np.sqrt(fit.depth)  # grazing: a lower limit
    found = ratio * star.radius * EARTH_RADII
    text = f"{found:.1f} R_Earth for a star of {star.radius:.2f} R_Sun ({star.source})"
    return RADIUS.judge(found, f"too large for a planet: {text}", text, star_radius_solar=star.radius)
