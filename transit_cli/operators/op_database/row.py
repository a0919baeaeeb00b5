"""What was found about one operator of torch's database."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

Status = Literal["ok", "none", "not judged", "wrong", "missing", "refused", "aborted", "hung", "failed", "stopped"]
Part = Literal["forward", "gradient"]

#: Statuses that are failures.
BAD = ("wrong", "missing", "refused", "aborted", "hung")


@dataclass(frozen=True)
class OperatorRow:
    """An operator's results, as they are in matrix.json.

    Attributes:
        forward: status of its outputs.
        gradient: status of its gradients; "none" if it has none.
        samples: how many samples were run.
        error: largest error against float64 on the CPU, relative to the largest value; infinite or NaN possible.
        message: of the first error.
        fell_back: whether it, or a part of it, ran on the CPU.
        known: whether PyTorch's own tests expect the failure.
    """

    forward: Status
    gradient: Status = "none"
    samples: int = 0
    error: Any = 0.0
    message: str = ""
    fell_back: bool = False
    known: bool = False

    def __post_init__(self) -> None:
        if type(self.error) not in {int, float}:
            raise ValueError("an error that is not a number")

    def judged(self, part: Part, status: Status) -> OperatorRow:
        """The row with another status of a part."""
        return replace(self, forward=status) if part == "forward" else replace(self, gradient=status)

    @property
    def failed(self) -> Part | None:
        """The part that failed, outputs before gradients."""
        if self.forward in BAD:
            return "forward"
        return "gradient" if self.gradient in BAD else None

    @property
    def status(self) -> str:
        """The worse of the statuses of outputs and gradients."""
        if self.failed:
            return self.forward if self.failed == "forward" else self.gradient
        return "fell back" if self.fell_back else self.forward
