"""The learning rate as a function of the optimizer step: nothing to save, nothing to resume wrongly.

An executor that cannot change a float between steps (a captured graph) fills a tensor with it.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transit_cli.training.settings import StepSettings

#: OneCycle as in the guide: the first rate is the peak / 25, the last one that / 1000.
DIVISION, FINAL_DIVISION = 25.0, 1000.0
ONECYCLE_WARMUP = 0.1


def learning_rate(settings: StepSettings, step: int, total_steps: int) -> float:
    """The learning rate of optimizer step `step`, 0 <= step < total_steps; later steps keep the last one.

    `onecycle` is torch's OneCycleLR (two cosine pieces, momentum unchanged); `cosine` falls to 0 after a linear
    warm-up from 0, whose first step already moves.
    """
    peak, last = settings.learning_rate, max(total_steps - 1, 1)
    step = min(step, last)
    if settings.schedule == "onecycle":
        warmup = ONECYCLE_WARMUP * total_steps if settings.warmup_steps is None else settings.warmup_steps
        up = max(warmup - 1, 0)
        if step <= up and up > 0:
            return _cosine(peak / DIVISION, peak, step / up)
        return _cosine(peak, peak / DIVISION / FINAL_DIVISION, (step - up) / max(last - up, 1e-9))
    warmup = settings.warmup_steps or 0
    if step < warmup:
        return peak * (step + 1) / (warmup + 1)
    if settings.schedule == "constant":
        return peak
    return _cosine(peak, 0.0, (step - warmup) / max(last + 1 - warmup, 1))


def _cosine(start: float, end: float, part: float) -> float:
    """From `start` (part 0) to `end` (part 1) along half of a cosine."""
    return end + (start - end) * (1 + math.cos(math.pi * min(part, 1.0))) / 2
