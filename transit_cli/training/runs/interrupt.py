"""Ctrl-C, SIGTERM and SIGHUP deferred to the end of the current optimizer step."""

from __future__ import annotations

import signal
import threading
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from types import FrameType


class Signals:
    """What a training loop knows of signals.

    Attributes:
        pending: the number of the signal that has been received; 0 if none has.
    """

    pending = 0

    def deliver(self, number: int = 0) -> None:
        """Raise the pending signal, if there is one, or another process's of this number."""


class DeferredSignals(Signals):
    """Defers SIGINT, SIGTERM and SIGHUP while a block runs, until the block delivers them.

        with DeferredSignals() as signals:
            for ...:
                step()
                if signals.pending:
                    save()
                    signals.deliver()

    A second signal is not deferred, so that pressing Ctrl-C twice acts at once. In a thread other than the main one,
    where Python allows no handlers, nothing is deferred.
    """

    def __init__(self) -> None:
        self.pending = 0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                if number == signal.SIGHUP and signal.getsignal(number) == signal.SIG_IGN:  # nohup
                    continue
                self._before[number] = signal.signal(number, self._hold)
        return self

    def __exit__(self, *_: object) -> None:
        self._restore()

    def deliver(self, number: int = 0) -> None:
        """See `Signals.deliver`."""
        number = number or self.pending
        self._restore()
        if number:
            signal.raise_signal(number)

    def _hold(self, number: int, _: FrameType | None) -> None:
        self.pending = number
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}
