"""Model-shift: the transit is fitted at every phase, which shows other dips, brightenings and a secondary eclipse.

After Coughlin (2017, KSCI-19105-002). Significances are divided by F_red, the scatter of the significance outside the
primary and secondary events, so that correlated noise does not count as an event. FA1 is the significance that noise
exceeds in one of 20,000 searched signals, FA2 the one that it exceeds in one light curve.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from transit_cli.vetting.candidate_tests.candidate import TestInfo

if TYPE_CHECKING:
    from transit_cli.vetting.candidate_tests.candidate import Candidate, Outcome

UNIQUE = TestInfo(
    "uniqueness", "Uniqueness (model-shift)", "sigma", 0.0, False, "Coughlin 2017 (KSCI-19105); Kostov et al. 2019"
)
SECONDARY = TestInfo(
    "secondary", "Secondary eclipse", "sigma", 0.0, True, "Coughlin 2017 (KSCI-19105); Thompson et al. 2018"
)
#: Signals of a search, for FA1.
SEARCHED = 20_000
#: Phase bins of one duration, and the most bins.
BINS, MOST = 8, 6000
#: Half-width about an event that belongs to it, in durations: the first that leaves phases to compare with.
APART = (1.5, 1.0)
#: Share of the period that must be left outside the primary and the secondary event.
LEFT = 0.04
#: Significance that a secondary keeps without its deepest event.
SEEN = 2.0
#: Significance of a secondary eclipse at half the period, where that of a circular orbit lies: no search needs paying.
HALF_PERIOD = 4.0
#: Brightening of more than this share of the transit's significance is that of a variable star (the shape metric of
#: Thompson et al. 2018 takes 0.5 for a sine wave).
BRIGHT = 0.5
#: A dip that is as strong as noise only rarely makes is not rejected below this margin, in sigma.
TOLERANCE = 1.0
#: Secondaries up to this share of the transit's depth can be the light of a planet (Thompson et al. 2018).
PLANET_SHARE = 0.1


@dataclass(frozen=True)
class ModelShift:
    """The result of fitting the transit at every phase.

    Attributes:
        phase: [m] of the fitted centre, in periods; 0 is the transit.
        depth: [m] fractions; NaN where there are too few data.
        error: [m] with F_red.
        primary, secondary, tertiary, positive: significances over F_red.
        secondary_phase: in periods.
        fred: ratio of the correlated to the white noise.
        fa1, fa2: thresholds.
    """

    phase: np.ndarray
    depth: np.ndarray
    error: np.ndarray
    primary: float
    secondary: float
    tertiary: float
    positive: float
    secondary_phase: float
    fred: float
    fa1: float
    fa2: float

    def at(self, phase: float) -> tuple[float, float]:
        """Depth and error at a phase in periods; NaN without data."""
        place = round(phase % 1 * len(self.phase)) % len(self.phase)
        return float(self.depth[place]), float(self.error[place])


def model_shift(candidate: Candidate) -> ModelShift | None:
    """Fit the transit at every phase; None if the transit is too long for its period."""
    from scipy.special import erfcinv

    period, duration = candidate.signal.period, candidate.fit.duration
    width = duration / period
    count = min(max(round(BINS / width), 3 * BINS), MOST)
    apart = next((apart for apart in APART if 1 - 4 * apart * width > LEFT), None)
    if apart is None:
        return None
    number = np.rint(candidate.phase / period * count).astype(np.int64) % count
    weight = np.bincount(number, candidate.weight, count)
    dips = np.bincount(number, candidate.weight * (candidate.level - candidate.flux), count)
    offsets = np.arange(count) / count
    shape = candidate.fit.shape(np.where(offsets < 0.5, offsets, offsets - 1) * period)
    # The transit at shift s covers bin j with shape[j - s], which is a circular correlation.
    first = np.fft.irfft(np.fft.rfft(dips) * np.conj(np.fft.rfft(shape)), count)
    power = np.fft.irfft(np.fft.rfft(weight) * np.conj(np.fft.rfft(shape**2)), count)
    usable = power > 0.3 * float(np.median(power))
    depth = np.where(usable, first / np.where(usable, power, 1), np.nan)
    error = candidate.sigma / np.sqrt(np.where(usable, power, np.nan))
    score = depth / error
    from_primary = np.minimum(offsets, 1 - offsets)
    away = usable & (from_primary > apart * width)
    if away.sum() < 2 * BINS:
        return None
    secondary = int(np.argmax(np.where(away, score, -np.inf)))
    from_secondary = np.abs(offsets - offsets[secondary])
    from_secondary = np.minimum(from_secondary, 1 - from_secondary)
    rest = away & (from_secondary > apart * width)
    spread = 1.4826 * float(np.median(np.abs(score[rest] - np.median(score[rest])))) if rest.any() else 1.0
    fred = max(1.0, spread)
    own = score[usable & (from_primary <= 0.25 * width)]
    return ModelShift(
        phase=offsets,
        depth=depth,
        error=error * fred,
        primary=float(own.max() / fred) if len(own) else np.nan,
        secondary=float(score[secondary] / fred),
        tertiary=float(score[rest].max() / fred) if rest.any() else 0.0,
        positive=float(-score[rest].min() / fred) if rest.any() else 0.0,
        secondary_phase=float(offsets[secondary]),
        fred=fred,
        fa1=float(np.sqrt(2) * erfcinv(width / SEARCHED)),
        fa2=float(np.sqrt(2) * erfcinv(width)),
    )


def uniqueness(found: ModelShift | None) -> Outcome:
    """Whether the transit stands out from noise, other dips and brightenings at the same period."""
    if found is None:
        return UNIQUE.not_made("the transit lasts too long for its period to leave phases to compare with")
    margins = {
        "the noise of a search": found.primary - found.fa1,
        "the third deepest dip": found.primary - found.tertiary - found.fa2,
        "the highest brightening": found.primary - found.positive - found.fa2,
    }
    weakest = min(margins, key=lambda name: margins[name])
    details = {
        "primary_sigma": found.primary,
        "tertiary_sigma": found.tertiary,
        "positive_sigma": found.positive,
        "fred": found.fred,
        "fa1_sigma": found.fa1,
        "fa2_sigma": found.fa2,
    }
    numbers = f"transit {found.primary:.1f}, third dip {found.tertiary:.1f}, brightening {found.positive:.1f} sigma"
    margin = margins[weakest]
    if found.positive > max(BRIGHT * found.primary, found.fa1):
        reason = f"brightens as much as it dims, like a variable star: {numbers}"
        return UNIQUE.outcome("fail", min(margin, 0.0), reason, **details)
    if margin >= 0:
        return UNIQUE.outcome("pass", margin, f"stands out from the rest: {numbers}", **details)
    verdict = "warn" if margin > -TOLERANCE else "fail"
    return UNIQUE.outcome(verdict, margin, f"not above {weakest}: {numbers}", **details)


def secondary(candidate: Candidate, found: ModelShift | None) -> Outcome:
    """Whether there is a second event at another phase that cannot be the light of a planet."""
    if found is None:
        return SECONDARY.not_made("the transit lasts too long for its period to leave phases to look at")
    margin = min(
        found.secondary - found.fa1,
        found.secondary - found.tertiary - found.fa2,
        found.secondary - found.positive - found.fa2,
    )
    depth, error = found.at(found.secondary_phase)
    from_half = abs(found.secondary_phase - 0.5) * candidate.signal.period
    if from_half < 0.25 * candidate.fit.duration:
        margin = max(margin, found.secondary - max(HALF_PERIOD, found.tertiary))
    share = depth / candidate.fit.depth
    details = {
        "secondary_depth_ppm": 1e6 * depth,
        "secondary_depth_error_ppm": 1e6 * error,
        "secondary_phase": found.secondary_phase,
        "secondary_sigma": found.secondary,
        "depth_share": share,
    }
    text = f"{1e6 * depth:,.0f} ± {1e6 * error:,.0f} ppm at phase {found.secondary_phase:.3f}"
    if margin <= 0:
        return SECONDARY.outcome("pass", margin, f"none is significant; the deepest is {text}", **details)
    if share < PLANET_SHARE:
        reason = f"{text}, {share:.1%} of the transit: shallow enough for the light of a planet"
        return SECONDARY.outcome("warn", margin, reason, **details)
    events = candidate.events_at(found.secondary_phase)
    scores = np.sort(np.maximum(events.depths, 0) / events.errors)
    # One dip by chance at this phase is no eclipse: without it, the others must still show one.
    if len(scores) < 2 or float(np.sqrt((scores[:-1] ** 2).sum())) < SEEN * found.fred:
        reason = f"{text}, but in one of {len(scores)} cycles only: a single dip, no eclipse"
        return SECONDARY.outcome("warn", margin, reason, **details)
    return SECONDARY.outcome("fail", margin, f"a secondary eclipse of {text}", **details)
