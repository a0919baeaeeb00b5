"""What a trial runs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class TrialSpec:
    """What a trial runs.

    Attributes:
        size: samples of a batch, or of a micro-batch.
        accumulate: micro-batches per optimizer step.
        last: samples of the last of them, if it is smaller.
        train: fields of `TrainSettings`: network, precision, optimizer, device and, if given, the view set.
        views: without a view set, the length of each view by name.
        inputs: instead of views, the shapes of one sample for a user's own network, positional.
        limit: the memory limit, as a share of what is usable or as a size ("4GiB").
        limit_bytes: the limit that an earlier trial resolved, to hold all to the same.
        long: whether this is the longer run that verifies an answer.
        steps: the exact number of steps, instead of as many as a good timing needs.
    """

    size: int
    accumulate: int = 1
    last: int = 0
    train: dict[str, Any] = field(default_factory=dict)
    views: dict[str, int] = field(default_factory=dict)
    inputs: tuple[tuple[int, ...], ...] = ()
    limit: float | str = 0.85
    limit_bytes: int | None = None
    long: bool = False
    steps: int | None = None
