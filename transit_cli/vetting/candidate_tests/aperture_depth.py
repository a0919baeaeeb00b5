"""Depth by aperture: a dip that is deeper in larger apertures comes from a neighbour or from scattered light."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from transit_cli.data.views.detrend import fit_spline
from transit_cli.vetting.candidate_tests.candidate import TestInfo

if TYPE_CHECKING:
    from transit_cli.vetting.candidate_tests.candidate import Candidate, Outcome

INFO = TestInfo(
    "aperture_depth",
    "Depth by aperture (ghost)",
    "sigma",
    3.0,
    True,
    "Thompson et al. 2018 (ghost diagnostic); Yu et al. 2019",
)
#: Depths in the largest and smallest aperture that differ by less than this share are not judged: dilution differs.
SMALLEST = 0.2


def aperture_depth(candidate: Candidate) -> Outcome:
    """Compare the depths in the smallest and the largest aperture."""
    apertures = candidate.extra.apertures
    if len(apertures) < 2:
        return INFO.not_made(candidate.extra.aperture_reason)
    found = {name: _depth(candidate, flux) for name, flux in apertures.items()}
    names = [name for name, (depth, error) in found.items() if np.isfinite(depth) and error > 0]
    if len(names) < 2:
        return INFO.not_made("fewer than two apertures have data in transit")
    (small, small_error), (large, large_error) = found[names[0]], found[names[-1]]
    sigma = (large - small) / float(np.hypot(small_error, large_error))
    share = (large - small) / max(abs(small), 1e-9)
    details = {f"depth_{name.lower()}_ppm": 1e6 * depth for name, (depth, _) in found.items()}
    text = f"{1e6 * small:,.0f} ± {1e6 * small_error:,.0f} ppm in {names[0]}, "
    text += f"{1e6 * large:,.0f} ± {1e6 * large_error:,.0f} ppm in {names[-1]}"
    if sigma > INFO.threshold and share < SMALLEST:
        return INFO.outcome("warn", sigma, f"slightly deeper in the large aperture: {text}", **details)
    return INFO.judge(sigma, f"deeper in the large aperture: {text}", f"not deeper outside: {text}", **details)


def _depth(candidate: Candidate, flux: np.ndarray) -> tuple[float, float]:
    """Depth and error in one aperture, after a trend of its own."""
    known = np.isfinite(flux)
    if known.sum() < 50:
        return np.nan, np.nan
    trend = fit_spline(candidate.time[known], flux[known], candidate.inside(1.5)[known], (0.8, 1.5, 3.0))
    flat = np.full(len(flux), np.nan)
    flat[known] = flux[known] / np.where(trend.values > 0, trend.values, np.nan)
    known = np.isfinite(flat)
    outside = known & ~candidate.inside(1.5)
    if not outside.any():
        return np.nan, np.nan
    sigma = 1.4826 * float(np.median(np.abs(flat[outside] - np.median(flat[outside]))))
    weighted = (candidate.weight * candidate.shape)[known]
    power = float((weighted * candidate.shape[known]).sum())
    if not power:
        return np.nan, np.nan
    depth = float((weighted * (np.median(flat[outside]) - flat[known])).sum() / power)
    return depth, candidate.red * sigma / power**0.5
