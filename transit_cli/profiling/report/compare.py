"""Two profiles side by side: what changed, and whether by more than chance."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from transit_cli.config import Range
from transit_cli.parsing import schema

if TYPE_CHECKING:
    from pathlib import Path

#: The samples of a measured time, at least one.
Seconds = Annotated[tuple[Annotated[float, Range(0)], ...], schema.NotEmpty()]

#: Chance of seeing such a difference between two runs of the same program, below which it counts, and its least size.
CHANCE, MIN_CHANGE = 0.01, 0.02


@dataclass(frozen=True)
class Change:
    """One measured quantity in two runs.

    Attributes:
        name: the phase, or "step".
        before: median seconds of the earlier run.
        after: of this one.
        chance: probability of a difference like this by chance (Mann-Whitney U, two-sided).
    """

    name: str
    before: float
    after: float
    chance: float

    @property
    def ratio(self) -> float:
        """After over before."""
        return self.after / self.before if self.before else float("inf") if self.after else 1.0

    @property
    def significant(self) -> bool:
        """Whether the change is significant and larger than `MIN_CHANGE`."""
        return self.chance < CHANCE and abs(self.ratio - 1) > MIN_CHANGE


@dataclass(frozen=True)
class Timings:
    """The samples of the whole step and of each phase, in the data of a profile."""

    step_samples_seconds: Seconds
    phase_samples_seconds: Annotated[dict[str, Seconds], schema.NotEmpty()]


@dataclass(frozen=True)
class _Document:
    command: Literal["profile"]
    data: Timings


def compare(before: Timings, after: Timings) -> list[Change]:
    """The whole step and each phase, in the data of two profiles."""
    changes = [change("step", before.step_samples_seconds, after.step_samples_seconds)]
    phases = after.phase_samples_seconds
    changes += [change(name, old, phases[name]) for name, old in before.phase_samples_seconds.items() if name in phases]
    return changes


def change(name: str, before: Sequence[float], after: Sequence[float]) -> Change:
    """How a quantity changed, by its samples in two runs."""
    from scipy.stats import mannwhitneyu

    chance = 1.0 if list(before) == list(after) else float(mannwhitneyu(before, after).pvalue)
    return Change(name, statistics.median(before), statistics.median(after), chance)


def read(file: Path) -> Timings:
    """The data of a profile that `transit profile --json` printed.

    Raises:
        TransitError: the file is not one.
    """
    wanted, fix = "what `transit profile --json` printed", f"transit profile --json > {file.name}"
    return schema.read(file, _Document, schema.Source(str(file), wanted, fix, "profile-unreadable")).data
