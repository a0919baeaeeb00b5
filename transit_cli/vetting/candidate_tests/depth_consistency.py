"""Depth consistency: transits of a planet are equally deep, and none of them makes the signal alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from transit_cli.vetting.candidate_tests.candidate import TestInfo

if TYPE_CHECKING:
    from transit_cli.vetting.candidate_tests.candidate import Candidate, Outcome

INFO = TestInfo(
    "depth_consistency", "Equal depths", "", 0.8, True, "Thompson et al. 2018 (depth mean to median, max SES/MES)"
)
#: Ratio of the mean to the median depth above which a few transits make the signal (Thompson et al. 2018).
MEAN_TO_MEDIAN = 1.5
#: Probability of the depths' scatter below which they are not equal.
PROBABLE = 1e-4
#: Scatter in units of the depth below which unequal depths are not remarked.
SMALLEST = 0.1


def depth_consistency(candidate: Candidate) -> Outcome:
    """Compare the depths of single transits with each other."""
    from scipy.stats import chi2

    transits = candidate.transits
    count = len(transits.cycles)
    if count < 3:
        return INFO.not_made(f"{count} transit{'s' if count != 1 else ''} observed, fewer than three")
    mean, _ = transits.mean()
    scores = np.maximum(transits.depths, 0) / transits.errors
    total = float(np.sqrt((scores**2).sum()))
    largest = float(scores.max() / total) if total else 1.0
    middle = float(np.median(transits.depths))
    ratio = mean / middle if middle > 0 else np.inf
    squares = float((((transits.depths - mean) / transits.errors) ** 2).sum())
    probability = float(chi2.sf(squares, count - 1))
    scatter = float(np.sqrt(max(np.var(transits.depths) - np.mean(transits.errors**2), 0))) / max(mean, 1e-12)
    details = {
        "mean_to_median": ratio,
        "chi_square": squares,
        "transits": count,
        "probability": probability,
        "scatter_share": scatter,
    }
    if not mean > 0:
        return INFO.outcome("fail", largest, "the mean of the single depths is not positive", **details)
    if ratio > MEAN_TO_MEDIAN:
        reason = f"the mean depth is {ratio:.2f} times the median: a few transits make the signal"
        return INFO.outcome("fail", largest, reason, **details)
    if largest <= INFO.threshold and probability < PROBABLE and scatter > SMALLEST:
        reason = f"depths scatter by {scatter:.0%} more than their errors (chi-square {squares:.0f} of {count - 1})"
        return INFO.outcome("warn", largest, reason, **details)
    return INFO.judge(
        largest,
        f"one of {count} transits gives {largest:.0%} of the significance",
        f"{count} transits, chi-square {squares:.1f} of {count - 1}, mean to median {ratio:.2f}",
        **details,
    )
