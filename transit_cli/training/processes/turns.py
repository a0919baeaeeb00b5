"""Threads that train on one device at the same time: their steps run side by side, their Python one after another.

Only the thread that has the turn runs code that draws random numbers, captures a step or starts one; it passes the turn
on after a few steps, which the device then works off while other threads queue theirs. What waits for the device or the
disk, and draws nothing, lets the others go on.
"""

from __future__ import annotations

import threading
from collections import deque
from contextlib import contextmanager
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Iterator

    from transit_cli.device.base import Lane

#: Optimizer steps in a turn: changing the turn takes as long as starting a step or two.
STEPS = 8


class Turn:
    """The turn of a fit that trains alone: it has it always."""

    def step(self) -> None:
        """After each optimizer step: let the others have their turn now and then."""

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Let the others go on while the block waits for the device or the disk; it draws no random numbers."""
        yield


class Turns:
    """Passes the turn among threads, in the order in which they ask for it."""

    def __init__(self) -> None:
        self._guard, self._taken = threading.Lock(), False
        self._waiting: deque[threading.Lock] = deque()

    @property
    def wanted(self) -> bool:
        """Whether a thread waits for its turn."""
        return bool(self._waiting)

    def take(self) -> None:
        """Wait for the turn."""
        with self._guard:
            if not self._taken:
                self._taken = True
                return
            gate = threading.Lock()
            gate.acquire()
            self._waiting.append(gate)
        gate.acquire()  # released by the thread that passes the turn on

    def give(self) -> None:
        """Pass the turn on."""
        with self._guard:
            if self._waiting:
                self._waiting.popleft().release()
            else:
                self._taken = False


class SharedTurn(Turn):
    """The turn of a thread that trains beside others. It is used in that thread, as a context manager.

    Args:
        turns: of all threads.
        lane: where this one's work is queued, and its random numbers come from.
    """

    def __init__(self, turns: Turns, lane: Lane) -> None:
        self._turns, self._lane, self._steps = turns, lane, 0

    def __enter__(self) -> Self:
        self._lane.open()
        self._take()
        return self

    def __exit__(self, *_: object) -> None:
        self._give()

    def step(self) -> None:
        """See `Turn.step`."""
        self._steps += 1
        if self._steps % STEPS == 0 and self._turns.wanted:
            self._give()
            self._take()

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """See `Turn.waiting`."""
        self._give()
        try:
            yield
        finally:
            self._take()

    def _take(self) -> None:
        self._turns.take()
        self._lane.resume()

    def _give(self) -> None:
        self._lane.pause()
        self._turns.give()
