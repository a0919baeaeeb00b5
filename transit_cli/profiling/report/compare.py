"""Two profiles side by side: what changed, and whether by more than chance."""

from __future__ import annotations

import json
import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from transit_cli.results import TransitError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

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


def compare(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Change]:
    """The whole step and each phase, in the data of two profiles."""
    changes = [change("step", before["step_samples_seconds"], after["step_samples_seconds"])]
    phases = after["phase_samples_seconds"]
    changes += [
        change(name, old, phases[name]) for name, old in before["phase_samples_seconds"].items() if name in phases
    ]
    return changes


def change(name: str, before: list[float], after: list[float]) -> Change:
    """How a quantity changed, by its samples in two runs."""
    from scipy.stats import mannwhitneyu

    chance = 1.0 if before == after else float(mannwhitneyu(before, after).pvalue)
    return Change(name, statistics.median(before), statistics.median(after), chance)


def read(file: Path) -> dict[str, Any]:
    """The data of a profile that `transit profile --json` printed.

    Raises:
        TransitError: the file is not one.
    """
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
        data = document["data"]
        if document["command"] == "profile" and data["step_samples_seconds"] and data["phase_samples_seconds"]:
            return data
        found = f"holds a document of `transit {document['command']}`"
    except OSError as error:
        found = f"cannot be read: {error.strerror}"
    except (ValueError, KeyError, TypeError):
        found = "is not a profile"
    raise TransitError(
        f"{file} {found}",
        wanted="what `transit profile --json` printed",
        fix=f"transit profile --json > {file.name}",
        code="profile-unreadable",
    )
