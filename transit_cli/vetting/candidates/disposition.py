"""From the outcomes of all tests to one disposition with its reasons, in the order of the Kepler Robovetter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from transit_cli.vetting.candidate_tests import model_shift
from transit_cli.vetting.candidate_tests.aperture_depth import aperture_depth
from transit_cli.vetting.candidate_tests.centroid import centroid
from transit_cli.vetting.candidate_tests.coverage import gaps, segments
from transit_cli.vetting.candidate_tests.depth_consistency import depth_consistency
from transit_cli.vetting.candidate_tests.odd_even import odd_even
from transit_cli.vetting.candidate_tests.period_alias import period_alias
from transit_cli.vetting.candidate_tests.shape import shape
from transit_cli.vetting.candidate_tests.sine_wave import sine_wave
from transit_cli.vetting.candidate_tests.stellar import duration, radius

if TYPE_CHECKING:
    from transit_cli.vetting.candidate_tests.candidate import Candidate, Outcome
    from transit_cli.vetting.candidate_tests.model_shift import ModelShift

#: Dispositions, in the order in which a list shows them.
DISPOSITIONS = {"PC": "planet candidate", "FP": "false positive", "FA": "false alarm", "": "no verdict"}
#: Tests whose failure means that the signal is no transit at all (Thompson et al. 2018, "not transit-like").
NOT_TRANSIT_LIKE = ("uniqueness", "sine_wave", "depth_consistency", "gaps")
#: Tests that a real but weak signal fails too.
OF_NOISE = frozenset({"uniqueness", "depth_consistency"})
#: S/N below which a failure of these is no verdict: the detection limit of Kepler (Jenkins et al. 2010).
DETECTION = 7.1


@dataclass(frozen=True)
class Disposition:
    """What a signal is taken for.

    Attributes:
        code: a key of `DISPOSITIONS`.
        reasons: one sentence per failed test; for a candidate, per warning.
    """

    code: str
    reasons: tuple[str, ...]


def run_tests(candidate: Candidate) -> tuple[list[Outcome], ModelShift | None]:
    """All tests of a signal, and the model-shift that two of them and a plot use."""
    found = model_shift.model_shift(candidate)
    outcomes = [
        odd_even(candidate),
        model_shift.secondary(candidate, found),
        shape(candidate),
        depth_consistency(candidate),
        model_shift.uniqueness(found),
        sine_wave(candidate),
        centroid(candidate),
        aperture_depth(candidate),
        period_alias(candidate, found),
        gaps(candidate),
        segments(candidate),
        duration(candidate),
        radius(candidate),
    ]
    return outcomes, found


def decide(outcomes: Sequence[Outcome], snr: float) -> Disposition:
    """The disposition: a false alarm if the signal is not transit-like, a false positive if any other test fails.

    A deeper secondary than the transit makes it a false positive whatever else fails: the signal is the other eclipse.
    """
    failed = [outcome for outcome in outcomes if outcome.verdict == "fail"]
    if not failed:
        warned = [outcome for outcome in outcomes if outcome.verdict == "warn"]
        weak = (f"S/N {snr:.1f} in these data, below {DETECTION}",) if snr < DETECTION else ()
        return Disposition("PC", (*weak, *_sentences(warned)))
    names = {outcome.name for outcome in failed}
    if names <= OF_NOISE and snr < DETECTION:
        weak = f"S/N {snr:.1f} in these data, below {DETECTION}: it cannot be told from noise"
        return Disposition("", (weak, *_sentences(failed)))
    deeper = any(outcome.name == "secondary" and outcome.details.get("depth_share", 0) > 1 for outcome in failed)
    code = "FA" if names & set(NOT_TRANSIT_LIKE) and not deeper else "FP"
    return Disposition(code, _sentences(failed))


def _sentences(outcomes: Sequence[Outcome]) -> tuple[str, ...]:
    return tuple(f"{outcome.title}: {outcome.reason}" for outcome in outcomes)
