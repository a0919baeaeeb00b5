"""Data about the transits: gaps beside them, and in how many sectors or quarters the signal is seen."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from transit_cli.vetting.candidate_tests.candidate import TestInfo

if TYPE_CHECKING:
    from transit_cli.vetting.candidate_tests.candidate import Candidate, Outcome

GAPS = TestInfo("gaps", "Gaps near transits", "", 0.5, True, "Thompson et al. 2018; Kunimoto et al. 2025")
SEGMENTS = TestInfo("segments", "Sectors or quarters", "sigma", 3.0, True, "Kunimoto et al. 2025; Guerrero et al. 2021")
#: A gap is this many days without data, or half a duration if that is more.
GAP = 0.2


def gaps(candidate: Candidate) -> Outcome:
    """The share of observed transits with a gap within one duration of the centre."""
    transits = candidate.transits
    time, signal = candidate.time, candidate.signal
    if not len(transits.cycles):
        return GAPS.not_made("no transit is observed")
    least = max(GAP, 0.5 * signal.duration, 3 * candidate.cell)
    edges = np.concatenate([[time[0]], *[time[i : i + 2] for i in np.flatnonzero(np.diff(time) > least)], [time[-1]]])
    centres = signal.epoch + transits.cycles * signal.period
    distance = np.abs(centres[:, None] - edges).min(axis=1)
    near = distance < signal.duration
    share = float(near.mean())
    possible = int((time[-1] - signal.epoch) // signal.period - np.ceil((time[0] - signal.epoch) / signal.period)) + 1
    details = {"transits_near_gaps": near.sum(), "transits": len(near), "transits_possible": possible}
    text = f"{int(near.sum())} of {len(near)} observed transits lie beside a gap"
    covered = f"; {len(near)} of {possible} possible transits are observed"
    return GAPS.judge(share, text + covered, text + covered, **details)


def segments(candidate: Candidate) -> Outcome:
    """Whether the depth is the same in all sectors or quarters."""
    names = candidate.segment_names
    transits = candidate.transits
    if len(names) < 2:
        return SEGMENTS.not_made("the light curve is one sector or quarter")
    centres = candidate.signal.epoch + transits.cycles * candidate.signal.period
    place = np.clip(np.searchsorted(candidate.time, centres), 0, len(candidate.time) - 1)
    number = candidate.segments[place]
    means = {
        name: transits.where(number == index).mean() for index, name in enumerate(names) if (number == index).any()
    }
    details = {"segments_with_transits": len(means), "segments": len(names)}
    seen = [name for name, (depth, error) in means.items() if depth > 3 * error]
    text = f"transits in {len(means)} of {len(names)}, seen in {len(seen)}"
    if len(means) < 2:
        return SEGMENTS.outcome("pass", 0.0, f"{text}: {', '.join(means)}", **details)
    depths, errors = np.array([*means.values()]).T
    centre = float(np.average(depths, weights=errors**-2.0))
    worst = int(np.argmax(np.abs(depths - centre) / errors))
    sigma = float(abs(depths[worst] - centre) / errors[worst])
    share = abs(depths[worst] - centre) / candidate.fit.depth
    found = f"{text}; {list(means)[worst]} has {1e6 * depths[worst]:,.0f} ± {1e6 * errors[worst]:,.0f} ppm"
    if sigma > SEGMENTS.threshold:  # crowding and apertures differ between sectors: no reason to reject by itself
        verdict = "warn" if share > 0.2 else "pass"
        return SEGMENTS.outcome(verdict, sigma, f"{found} instead of {1e6 * centre:,.0f}", **details)
    return SEGMENTS.outcome("pass", sigma, text, **details)
