"""Odd-even depth: an eclipsing binary found at half its period has transits of two depths."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from transit_cli.vetting.candidate_tests.candidate import TestInfo

if TYPE_CHECKING:
    from transit_cli.vetting.candidate_tests.candidate import Candidate, Outcome

INFO = TestInfo("odd_even", "Odd and even depth", "sigma", 3.0, True, "Thompson et al. 2018; Kostov et al. 2019")
#: Differences below this share of the depth are not judged: spots and detrending change depths by as much.
SMALLEST = 0.05


def odd_even(candidate: Candidate) -> Outcome:
    """Compare the mean depths of the odd and the even transits."""
    transits = candidate.transits
    odd = transits.cycles % 2 == 1
    counts = int(odd.sum()), int((~odd).sum())
    if not min(counts):
        kind = "odd" if counts[1] else "even"
        return INFO.not_made(f"no {kind} transit was observed")
    (first, first_error), (second, second_error) = (transits.where(some).mean() for some in (odd, ~odd))
    difference = first - second
    sigma = abs(difference) / float(np.hypot(first_error, second_error))
    share = abs(difference) / max(candidate.fit.depth, 1e-12)
    found = f"odd {1e6 * first:,.0f} ± {1e6 * first_error:,.0f} ppm, even {1e6 * second:,.0f} ± "
    found += f"{1e6 * second_error:,.0f} ppm"
    details = {
        "odd_depth_ppm": 1e6 * first,
        "odd_depth_error_ppm": 1e6 * first_error,
        "even_depth_ppm": 1e6 * second,
        "even_depth_error_ppm": 1e6 * second_error,
        "difference_share": share,
    }
    if sigma > INFO.threshold and share < SMALLEST:
        text = f"{found}: they differ by {share:.1%} of the depth, too little to tell from starspots"
        return INFO.outcome("warn", sigma, text, **details)
    return INFO.judge(sigma, f"the depths differ: {found}", f"equal depths: {found}", **details)
