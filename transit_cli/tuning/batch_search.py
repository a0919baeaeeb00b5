"""The search for the largest and the best batch: a pure function over `trial(size, long) -> Trial`.

Small sizes are run first. A line through the memory peaks of two of them predicts where the memory ends; the prediction
is tried, and the bracket bisected where it was wrong; the answer is verified by a longer run. The remaining trials look
for the best throughput. Only sizes that have run are returned.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

#: The most trials of a search, and those of them reserved for the longer run at the end.
MAX_TRIALS, RESERVED_TRIALS = 12, 2

#: The first size, and how much larger the next may be: a line through two small sizes predicts little about a large
#: one, and where memory is shared a size far beyond the end makes the whole machine swap before it fails.
START, FIRST_GROWTH, GROWTH = 8, 4, 8

#: The size to aim at, as a share of that at which the line meets the memory limit. Peaks of one size differ between
#: processes by 10 % of what the batch needs and more, mostly by fragmentation of the C library's heap. The answer stays
#: safe at a peak 17 % higher; that 1.3 times the answer does not fit is tried.
AIM = 0.85
#: A size of this share of it ends the search; one beyond the second share is not accepted as verified.
CLOSE_ENOUGH, SAFE = 0.80, 0.92
#: How far apart, as a ratio of sizes, two points of the line are.
APART = 0.75
#: The bracket between what ran and what did not is closed to this ratio: 1.3 times the answer must not fit.
BRACKET = 1.08

#: No batch is larger, on any device: from 65,536 on MPS computes wrong weight gradients (pytorch issue 96225).
LARGEST = 65_535

#: The best batch is the smallest within this of the best throughput; throughput grows if it gains more than that.
THROUGHPUT_TOLERANCE, GAIN = 0.05, 1.03


class Verdict(StrEnum):
    """The outcome of a trial."""

    FITS = "fits"
    OVER_LIMIT = "over the limit"
    OUT_OF_MEMORY = "out of memory"
    SWAPS = "swaps"
    TOO_SLOW = "too slow"
    CRASHED = "crashed"


#: The reasons that the search reports for each outcome.
STOPPED_BY = {
    Verdict.OVER_LIMIT: "the memory limit",
    Verdict.OUT_OF_MEMORY: "memory ran out",
    Verdict.SWAPS: "the machine began to swap",
    Verdict.TOO_SLOW: "the time limit of a trial",
    Verdict.CRASHED: "the process crashed",
}


@dataclass(frozen=True)
class Trial:
    """One batch size, run in a child process.

    Attributes:
        size: samples of a batch.
        verdict: the outcome.
        limit_bytes: the memory limit.
        peak_bytes: the most memory that it held; None if it ended before reporting it.
        samples_per_second: throughput after warming up; None if it did not get so far.
        seconds_per_step: likewise.
        steps: optimizer steps that it took.
        long: whether this was the longer run that verifies an answer.
        execution: how the steps were executed (`training.execution`).
        detail: the message of the error or of the system, if it did not fit.
        seconds: duration of the trial, including the start of its process.
    """

    size: int
    verdict: Verdict
    limit_bytes: int
    peak_bytes: int | None = None
    samples_per_second: float | None = None
    seconds_per_step: float | None = None
    steps: int = 0
    long: bool = False
    execution: str = ""
    detail: str = ""
    seconds: float = 0.0

    @property
    def fits(self) -> bool:
        """Whether it finished within the limit."""
        return self.verdict is Verdict.FITS


@dataclass(frozen=True)
class Answer:
    """The result of a search.

    Attributes:
        largest: the trial of the largest safe size.
        best: a trial of the smallest size within 5 % of the best throughput.
        verified: whether `largest` passed the longer run.
        stopped_by: why there is no larger one.
        trials: all trials, in order.
    """

    largest: Trial
    best: Trial
    verified: bool
    stopped_by: str
    trials: tuple[Trial, ...]


class NothingFitsError(Exception):
    """Not even a batch of one sample fits; `trials` are those that have run."""

    def __init__(self, trials: tuple[Trial, ...]) -> None:
        super().__init__(f"a batch of {trials[-1].size}: {trials[-1].verdict}")
        self.trials = trials


@dataclass
class _Search:
    trial: Callable[[int, bool], Trial]
    ceiling: int
    max_trials: int
    trials: list[Trial] = field(default_factory=list)

    def run(self, size: int, *, long: bool = False) -> Trial:
        self.trials.append(self.trial(size, long))
        return self.trials[-1]

    @property
    def left(self) -> int:
        return self.max_trials - len(self.trials)

    @property
    def fitting(self) -> list[Trial]:
        """Trials that fit, smallest first; of two of one size the one that took more memory."""
        by_size = {item.size: item for item in sorted(self.trials, key=lambda item: item.peak_bytes or 0) if item.fits}
        return [by_size[size] for size in sorted(by_size) if size < self.failed_size]

    @property
    def failed_size(self) -> float:
        """The smallest size that did not fit; infinity if all did."""
        return min((trial.size for trial in self.trials if not trial.fits), default=math.inf)

    @property
    def largest(self) -> Trial:
        return self.fitting[-1]


def search(
    trial: Callable[[int, bool], Trial],
    *,
    ceiling: int,
    ceiling_reason: str = "the largest size allowed",
    stop_at_best: bool = False,
    max_trials: int = MAX_TRIALS,
) -> Answer:
    """Find the largest safe batch and the best one.

    Args:
        trial: runs a size, for longer if its second argument is true. Errors that are not about the machine's limits
            propagate and end the search.
        ceiling: the largest size that may be tried.
        ceiling_reason: the reason for it.
        stop_at_best: grow only while throughput does; `largest` is then the largest that was tried.
        max_trials: the most trials to run.

    Raises:
        NothingFitsError: not even one sample fits.
    """
    state = _Search(trial, ceiling, max_trials)
    if not _start(state):
        raise NothingFitsError(tuple(state.trials))
    plateau = _climb(state, stop_at_best=stop_at_best)
    if not plateau:
        _bisect(state)
    stopped_by = _why(state, ceiling_reason) if not plateau else "no more throughput"
    if stop_at_best:
        _refine_throughput(state, state.largest.size, keep=RESERVED_TRIALS)
        proven = _prove(state, _best(state.fitting).size)
    else:
        proven = _prove(state, _candidate(state))
        while proven and (size := _headroom_trial(state, proven)):
            proven = (state.run(size).fits and _prove(state, _candidate(state), above=proven.size)) or proven
        if proven:
            _refine_throughput(state, proven.size)
    if proven is None:  # nothing passed the longer run: the smallest that ran is the safest
        smallest = min((item for item in state.trials if item.fits), key=lambda item: item.size)
        return Answer(smallest, smallest, False, stopped_by, tuple(state.trials))
    if stop_at_best:
        return Answer(state.largest if state.fitting else proven, proven, True, stopped_by, tuple(state.trials))
    best = _best([item for item in state.fitting if item.size <= proven.size] or [proven])
    return Answer(proven, best, True, stopped_by, tuple(state.trials))


def _start(state: _Search) -> bool:
    """Find a first size that fits; False if not even one sample does."""
    size = min(START, state.ceiling)
    while not state.run(size).fits:
        if size == 1:
            return False
        size = max(size // 4, 1)
    return True


def _climb(state: _Search, *, stop_at_best: bool) -> bool:
    """Grow until a trial fails, the limit is near or the ceiling is reached; True if throughput stopped it."""
    while state.failed_size == math.inf and state.largest.size < state.ceiling and state.left > RESERVED_TRIALS:
        largest, before = state.largest, state.fitting[:-1]
        if stop_at_best and before and _speed(largest) < GAIN * max(map(_speed, before)):
            return True
        capacity = _capacity(state)
        if largest.size >= CLOSE_ENOUGH * capacity:
            return False
        growth = FIRST_GROWTH if not before or stop_at_best else GROWTH
        size = min(largest.size * growth, _aim(capacity), state.ceiling)
        state.run(max(size, largest.size + 1))
    return False


def _capacity(state: _Search) -> float:
    """The size whose peak would be the limit, by a line through two that fit; infinity without a line.

    They are the largest and the largest below `APART` of it: between neighbours, noise would dominate the slope.
    """
    if len(state.fitting) < 2:
        return math.inf
    *smaller, high = state.fitting
    low = next((item for item in reversed(smaller) if item.size <= APART * high.size), smaller[0])
    rise = ((high.peak_bytes or 0) - (low.peak_bytes or 0)) / (high.size - low.size)
    if rise <= 0:
        return math.inf
    return high.size + (high.limit_bytes - (high.peak_bytes or 0)) / rise


def _aim(capacity: float) -> int:
    """The size to aim at for this capacity."""
    if capacity >= LARGEST:
        return LARGEST
    size = AIM * capacity
    return _rounded(size) if size >= 64 else max(int(size), min(math.ceil(size), int(SAFE * capacity)), 1)


def _rounded(size: float) -> int:
    """Round down to a multiple of a power of two, by at most 3 %."""
    whole = max(int(size), 1)
    unit = 2 ** max(whole.bit_length() - 6, 0)
    return whole // unit * unit


def _bisect(state: _Search) -> None:
    """Close the bracket between the largest that fits and the smallest that does not."""
    while state.failed_size < math.inf and state.left > RESERVED_TRIALS:
        low, high = state.largest, int(state.failed_size)
        capacity = _capacity(state)
        if low.size >= CLOSE_ENOUGH * capacity or high <= max(low.size * BRACKET, low.size + 1):
            return
        size = min(_aim(capacity), high)
        if not low.size * BRACKET < size < high / BRACKET:  # the line was wrong here, or adds nothing
            size = _rounded(math.sqrt(low.size * high))
        if not low.size < size < high:
            size = low.size + max((high - low.size) // 2, 1)
        state.run(size)


def _why(state: _Search, ceiling_reason: str) -> str:
    """The reason why there is no larger size."""
    failed = [trial for trial in state.trials if not trial.fits]
    if failed:
        return STOPPED_BY[min(failed, key=lambda trial: trial.size).verdict]
    if state.largest.size >= state.ceiling:
        return ceiling_reason
    return STOPPED_BY[Verdict.OVER_LIMIT] if _capacity(state) < math.inf else "the number of trials"


def _candidate(state: _Search) -> int:
    """The size to verify: the largest that fits, with a margin below the limit and below what failed."""
    failed = state.failed_size
    below = _rounded(BRACKET**-0.5 * failed) if failed < math.inf else state.ceiling
    return min(state.largest.size, _aim(_capacity(state)), below)


def _headroom_trial(state: _Search, proven: Trial) -> int:
    """1.3 times a verified size, to see it fail; 0 if that is known, or no trial is left to verify a larger one."""
    size = min(max(_rounded(1.3 * proven.size), proven.size + 1), state.ceiling)
    news = state.largest.size < size < state.failed_size
    return size if news and state.left >= RESERVED_TRIALS else 0


def _prove(state: _Search, size: int, above: int = 0) -> Trial | None:
    """Run a size for longer, and smaller ones if it fails, until one passes or no trials are left."""
    while state.left > 0 and size > above:
        proof = state.run(size, long=True)
        if proof.fits and size <= max(SAFE * _capacity(state), 1):
            return proof
        size = min(_rounded(size * 0.9), size - 1)
    return None


def _speed(trial: Trial) -> float:
    return trial.samples_per_second or 0.0


def _best(fitting: list[Trial]) -> Trial:
    """The smallest within `THROUGHPUT_TOLERANCE` of the best throughput."""
    enough = (1 - THROUGHPUT_TOLERANCE) * max(map(_speed, fitting))
    return next(trial for trial in fitting if _speed(trial) >= enough)


def _refine_throughput(state: _Search, up_to: int, keep: int = 0) -> None:
    """Try half and twice the best size, in powers of two, as long as they have not been run."""
    while state.left > keep:
        fitting = [item for item in state.fitting if item.size <= up_to]
        if not fitting:
            return
        size = next(_neighbours(_best(fitting).size, {item.size for item in fitting}, up_to), None)
        if size is None:
            return
        state.run(size)


def _neighbours(size: int, known: set[int], largest: int) -> Iterator[int]:
    """Half and twice `size`, as powers of two, if no size within a quarter of them has run."""
    power = 2 ** round(math.log2(size))
    for near in (power // 2, power * 2):
        if 1 <= near <= largest and not any(near / 1.25 < other < near * 1.25 for other in known):
            yield near
