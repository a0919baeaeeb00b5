"""Period aliases: whether another period explains the transits as well."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from transit_cli.vetting.candidate_tests.candidate import TestInfo

if TYPE_CHECKING:
    from transit_cli.vetting.candidate_tests.candidate import Candidate, Outcome
    from transit_cli.vetting.candidate_tests.model_shift import ModelShift

INFO = TestInfo("period_alias", "Period aliases", "sigma", 3.0, False, "Kostov et al. 2019; Kunimoto et al. 2025")
#: Fractions of the period at whose other phases equal transits are looked for, and multiples that are tried.
PARTS, MULTIPLES = (2, 3), (2, 3)
#: Significance of a dip that counts as seen.
SEEN = 5.0


def period_alias(candidate: Candidate, found: ModelShift | None) -> Outcome:
    """Look for equal transits in between, and for transits that are missing."""
    depth = candidate.fit.depth
    if found is not None:
        for part in PARTS:
            dips = [found.at(step / part) for step in range(1, part)]
            if all(np.isfinite(dip) and dip > SEEN * error for dip, error in dips):
                differences = [abs(dip - depth) / np.hypot(error, candidate.fit.depth_error) for dip, error in dips]
                if max(differences) < INFO.threshold or min(dip for dip, _ in dips) > 0.9 * depth:
                    reason = (
                        f"equal dips in between: the period may be P/{part}, {candidate.signal.period / part:.6g} d"
                    )
                    return INFO.outcome("warn", max(differences), reason, period_factor=1 / part)
    transits = candidate.transits
    weakest = np.inf
    for multiple in MULTIPLES:
        groups = [transits.where(transits.cycles % multiple == rest) for rest in range(multiple)]
        means = [group.mean() for group in groups if len(group.cycles)]
        longer = f"{multiple} P, {multiple * candidate.signal.period:.6g} d"
        if len(means) == 1 and len(transits.cycles) > 1:
            reason = f"the period may be {longer}: the transits in between fall into gaps"
            return INFO.outcome("warn", np.nan, reason, period_factor=multiple)
        scores = [mean / error for mean, error in means]
        weakest = min(weakest, *scores)
        clear = len(means) == multiple and min(depth / error for _, error in means) > SEEN
        if clear and sum(score > SEEN for score in scores) == 1 and sorted(scores)[-2] < INFO.threshold:
            reason = f"only one of {multiple} transits is seen: the period may be {longer}"
            return INFO.outcome("warn", min(scores), reason, period_factor=multiple)
    return INFO.outcome("pass", weakest, "no other period explains the transits better")
