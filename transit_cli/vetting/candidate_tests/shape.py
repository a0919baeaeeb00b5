"""Transit shape: a grazing or large companion makes a V rather than a U."""

from __future__ import annotations

from typing import TYPE_CHECKING

from transit_cli.vetting.candidate_tests.candidate import TestInfo
from transit_cli.vetting.candidate_tests.transit_fit import GRAZING

if TYPE_CHECKING:
    from transit_cli.vetting.candidate_tests.candidate import Candidate, Outcome

INFO = TestInfo("shape", "Transit shape (V)", "", GRAZING, True, "Thompson et al. 2018, Rp/R* + b")
#: A transit below the threshold must fit worse by this much in chi-square: 2 sigma.
GAIN = 4.0
#: A depth above this is no planet's, whatever the shape: half of the star's radius (Thompson et al. 2018 use Rp).
DEEPEST = 0.12


def shape(candidate: Candidate) -> Outcome:
    """Compare the sum of radius ratio and impact parameter with that of a grazing companion."""
    fit = candidate.fit
    total = fit.radius_ratio + fit.impact
    details = {
        "radius_ratio": fit.radius_ratio,
        "radius_ratio_error": fit.radius_ratio_error,
        "impact": fit.impact,
        "impact_error": fit.impact_error,
        "chi_square_gain": fit.grazing_gain,
    }
    text = f"Rp/R* {fit.radius_ratio:.3f}, b {fit.impact:.2f}"
    if fit.depth > DEEPEST:
        return INFO.outcome("fail", total, f"{fit.depth:.0%} deep: too deep for a planet ({text})", **details)
    points = fit.duration / fit.exposure
    if points < 2 and fit.radius_ratio + fit.impact > GRAZING:
        return INFO.not_made(f"the transit lasts {points:.1f} cadences, which hide its shape")
    if total > INFO.threshold and fit.grazing_gain < GAIN:
        reason = f"V-shaped ({text}), but a U fits nearly as well (by {fit.grazing_gain:.1f} in chi-square)"
        return INFO.outcome("warn", total, reason, **details)
    return INFO.judge(total, f"V-shaped: {text}", f"not V-shaped: {text}", **details)
