"""What a training run shows: one progress bar for the whole run, 80 columns wide, and one line per epoch in a log."""

from __future__ import annotations

import math
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from transit_cli import console

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Seconds between two readings of the device for the screen: between them, nothing waits for it.
INTERVAL = 1.0


class Screen:
    """The progress of a run over all its fits.

    Args:
        bar: where to draw; its total is the optimizer steps of all fits.
        epochs: of each fit.
    """

    def __init__(self, bar: console.Progress, epochs: int) -> None:
        self._bar = bar
        self._epochs = epochs
        self._done = 0
        self._drawn = time.monotonic()
        self.validation = math.nan

    @property
    def due(self) -> bool:
        """Whether it is time to read the device and draw again."""
        return time.monotonic() - self._drawn >= INTERVAL

    def advance(self, steps: int = 1) -> None:
        """Count optimizer steps; draws nothing."""
        self._done += steps

    def relay(self, steps: int, status: str, *, line: bool) -> None:
        """Show the progress that another process has reported: its steps since it last did, and its status."""
        self._done += steps
        self._bar.update(self._done, status=status, line=line)

    def draw(self, epoch: int, *, loss: float, rate: float, speed: float, memory: int, pressure: str) -> None:
        """Show the state within an epoch: loss, learning rate, samples/s, memory in bytes, memory pressure."""
        self._drawn = time.monotonic()
        words = [
            f"{epoch}/{self._epochs}",
            f"loss {loss:.3f}",
            f"lr {rate:.0e}",
            f"{speed:,.0f}/s",
            console.size(memory),
            "" if pressure in {"normal", "unknown"} else pressure,
            "" if math.isnan(self.validation) else f"AP {self.validation:.3f}",
        ]
        self._bar.update(self._done, status=" ".join(filter(None, words)))

    def epoch(self, name: str, epoch: int, loss: float, validation: float, speed: float) -> None:
        """Show the end of an epoch: a line of its own if there is no bar."""
        self.validation = validation
        shown = "-" if math.isnan(validation) else f"{validation:.4f}"
        words = f"{name} epoch {epoch}/{self._epochs}  loss {loss:.4f}  AP {shown}  {speed:,.0f} samples/s"
        self._bar.update(self._done, status=words.strip(), line=True)


@contextmanager
def screen(total_steps: int, epochs: int) -> Iterator[Screen]:
    """A screen for `total_steps` optimizer steps in all."""
    with console.progress("train", total_steps) as bar:
        yield Screen(bar, epochs)
