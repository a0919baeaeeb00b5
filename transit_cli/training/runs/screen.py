"""What a training run shows: a progress bar for the whole run, one line per epoch, and curves where there is room."""

from __future__ import annotations

import math
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from transit_cli import console

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

#: Seconds between two readings of the device for the screen: between them, nothing waits for it.
INTERVAL = 1.0
#: Columns and lines of a terminal from which curves are drawn, and the epochs that they show.
ROOM, EPOCHS_SHOWN = (60, 16), 40
BLOCKS = "\u2581\u2582\u2583\u2584\u2585\u2586\u2587\u2588"


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
        self._curves: dict[str, list[tuple[float, float]]] = {}
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
        if line:
            self._bar.print(status)
        self._bar.update(self._done, status=status)

    def say(self, text: str) -> None:
        """Show a line that stays."""
        self._bar.print(text)

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
        if self._bar.room:
            self._bar.print(words)
            self._curves.setdefault(name, []).append((loss, validation))
            self._bar.below[:] = curves(self._curves[name], self._bar.room)
            words = ""
        self._bar.update(self._done, status=words.strip(), line=True)


def curves(epochs: Sequence[tuple[float, float]], room: tuple[int, int, bool]) -> list[str]:
    """The loss and average precision of the last epochs as lines of block characters, if there is room.

    Args:
        epochs: loss and average precision of each epoch; NaN where it is not measured.
        room: columns and lines of the terminal, and whether it shows block characters.
    """
    width, height, blocks = room
    if not blocks or width < ROOM[0] or height < ROOM[1]:
        return []
    lines = []
    for name, values in zip(("loss", "AP"), zip(*epochs, strict=True), strict=True):
        known = [value for value in values[-min(EPOCHS_SHOWN, width - 30) :] if math.isfinite(value)]
        if len(known) > 1:
            low, span = min(known), max(known) - min(known)
            shape = "".join(BLOCKS[round((value - low) / span * 7) if span else 0] for value in known)
            lines.append(f"{name:<4} {shape}  {known[0]:.4f} -> {known[-1]:.4f}")
    return lines


@contextmanager
def screen(total_steps: int, epochs: int) -> Iterator[Screen]:
    """A screen for `total_steps` optimizer steps in all."""
    with console.progress("train", total_steps) as bar:
        yield Screen(bar, epochs)
