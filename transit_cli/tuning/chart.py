"""A chart of throughput and memory over the batch size, for a terminal of 80 columns."""

from __future__ import annotations

from typing import TYPE_CHECKING

from transit_cli import console

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transit_cli.tuning.batch_search import Trial

#: Columns of a bar.
WIDTH = 21
EIGHTHS = " ▏▎▍▌▋▊▉"


def chart(trials: Sequence[Trial], limit_bytes: int) -> str:
    """One line per size: a bar of throughput (full is the fastest), and one of memory (full is the limit).

    For a size that did not fit, the line gives the outcome instead.
    """
    by_size = {trial.size: trial for trial in sorted(trials, key=lambda trial: (trial.fits, trial.long))}
    fastest = max((trial.samples_per_second or 0.0 for trial in trials), default=0.0) or 1.0
    lines = [f"{'batch':>6}  {'samples/s':<{WIDTH + 8}}  peak memory, of {console.size(limit_bytes)}"]
    for size in sorted(by_size):
        trial = by_size[size]
        if not trial.fits or trial.samples_per_second is None or trial.peak_bytes is None:
            lines.append(f"{size:>6}  {trial.verdict}")
            continue
        speed, memory = trial.samples_per_second, trial.peak_bytes
        left = f"{bar(speed / fastest)} {speed:>7,.0f}"
        lines.append(f"{size:>6}  {left}  {bar(memory / limit_bytes)} {console.size(memory):>9}")
    return "\n".join(lines)


def bar(share: float) -> str:
    """A bar of `WIDTH` columns, filled to `share` of them, to an eighth of a column."""
    eighths = round(min(max(share, 0.0), 1.0) * WIDTH * 8)
    whole, rest = divmod(eighths, 8)
    return ("█" * whole + (EIGHTHS[rest] if rest else "")).ljust(WIDTH, "·")
