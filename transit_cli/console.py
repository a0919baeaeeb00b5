"""Tables, progress and messages: the only module that prints.

stdout has only the result: tables and text, or one JSON document with `--json`. Notes, warnings, progress and errors go
to stderr. Outside `session`, when transit is used from Python, nothing is printed and warnings are Python warnings.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
import warnings
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from transit_cli.results import Document, ExitCode, Result, Table, Text, TransitError
from transit_cli.utils.tables import plain_table, printable, terminal_table

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.console import Console
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID

__all__ = ["note", "progress", "warn"]

#: Seconds between two lines of progress if stderr is not a terminal.
PLAIN_INTERVAL = 10.0
#: The code of an error that another process, which is not muted, reports better.
SECONDARY_ERROR = "process-lost"


@dataclass
class _Session:
    """What one command may print, and the warnings it has given."""

    as_json: bool = False
    quiet: bool = False
    warnings: list[str] = field(default_factory=list)
    muted: str = ""
    repeated: str = ""


_session: _Session | None = None


@contextmanager
def session(*, as_json: bool = False, quiet: bool = False) -> Iterator[None]:
    """Let this module print while one command runs."""
    global _session  # noqa: PLW0603 - one process runs one command
    before, _session = _session, _Session(as_json, quiet)
    try:
        yield
    finally:
        _session = before


def mute(name: str) -> None:
    """Print only errors from now on, after this name, because another process prints everything else."""
    if _session:
        _session.quiet, _session.muted = True, name


@contextmanager
def repeating(what: str) -> Iterator[None]:
    """Print only progress, with this behind its description: the block repeats work that has said everything."""
    before = _session.repeated if _session else ""
    if _session:
        _session.repeated = what
    try:
        yield
    finally:
        if _session:
            _session.repeated = before


def _rich(*, stderr: bool) -> Console:
    from rich.console import Console

    return Console(stderr=stderr, highlight=False, soft_wrap=False)


def note(text: str) -> None:
    """Print a message while the command runs."""
    if _session and not _session.quiet and not _session.repeated:
        _error_line(text, style="dim")


def warn(text: str) -> None:
    """Print a warning, which is also in the warnings of the JSON document."""
    if _session is None:
        warnings.warn(text, stacklevel=2)
        return
    if text not in _session.warnings and not _session.muted and not _session.repeated:
        _session.warnings.append(text)
        _error_line(f"warning: {text}", style="yellow")


def _error_line(text: str, style: str = "") -> None:
    from rich.text import Text as RichText

    text = printable(text)
    with contextlib.suppress(OSError):  # stderr is closed or its terminal has gone, which must not stop the work
        if sys.stderr.isatty():
            _rich(stderr=True).print(RichText(text, style=style))
        else:
            print(text, file=sys.stderr, flush=True)  # noqa: T201 - not wrapped in a pipe


class Progress:
    """A bar on a terminal; a line every `PLAIN_INTERVAL` seconds elsewhere; nothing when quiet.

    Attributes:
        below: lines below the bar; not shown elsewhere.
        room: columns and lines of the terminal, and whether it shows block characters; None elsewhere.
    """

    room: tuple[int, int, bool] | None = None

    def __init__(self, description: str, total: float | None, bar: RichProgress | None, *, plain: bool) -> None:
        self._description, self._total, self._bar, self._plain = description, total, bar, plain
        self._task: TaskID | None = bar.add_task(description, total=total, status="") if bar else None
        self._done, self._status = 0.0, ""
        self.below: list[str] = []
        self._started = self._printed = time.monotonic()

    def update(
        self,
        completed: float | None = None,
        *,
        advance: float = 0,
        status: str | None = None,
        line: bool = False,
    ) -> None:
        """Show that work has advanced.

        Args:
            completed: the amount that is done in total.
            advance: the additional amount that is done.
            status: a few words beside the bar ("loss 0.21, 3,400 samples/s").
            line: print this state as a line of its own if there is no bar (the end of an epoch).
        """
        self._done = self._done + advance if completed is None else completed
        if status is not None:
            self._status = status
        if self._bar and self._task is not None:
            with contextlib.suppress(OSError):  # the terminal has gone
                self._bar.update(self._task, completed=self._done, status=self._status)
        elif self._plain and (line or time.monotonic() - self._printed >= PLAIN_INTERVAL):
            self._printed = time.monotonic()
            _error_line("  ".join(filter(None, (self._description, self._amount(), self._status))))

    def print(self, text: str) -> None:
        """Print a line above the bar that stays."""
        if self._bar:
            from rich.text import Text as RichText

            with contextlib.suppress(OSError):
                self._bar.console.print(RichText(text))
        elif self._plain:
            _error_line(text)

    def _amount(self) -> str:
        if not self._total:
            return f"{self._done:g}"
        spent = time.monotonic() - self._started
        known = self._done >= min(self._total / 50, 5)  # the first of many includes the start-up time
        left = spent / self._done * (self._total - self._done) if known else 0.0
        return f"{self._done:g}/{self._total:g}" + (f", {duration(left)} left" if left >= 1 else "")


@contextmanager
def progress(description: str, total: float | None = None) -> Iterator[Progress]:
    """Show the progress of long work, and the time left."""
    description += f", {_session.repeated}" if _session and _session.repeated else ""
    if _session is None or _session.quiet or not sys.stderr.isatty():
        yield Progress(description, total, None, plain=bool(_session and not _session.quiet))
        return
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as RichProgress
    from rich.table import Column
    from rich.text import Text as RichText

    class _Bar(RichProgress):
        below: Sequence[str] = ()

        def get_renderables(self) -> Iterator[Any]:
            yield from super().get_renderables()
            yield from (RichText(line, style="dim") for line in self.below)

    columns = (
        TextColumn("{task.description}", table_column=Column(min_width=len(description), no_wrap=True)),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TimeRemainingColumn(compact=True),
        TextColumn("{task.fields[status]}", markup=False),
    )
    terminal = _rich(stderr=True)
    bar = _Bar(*columns, console=terminal, transient=True, refresh_per_second=4)
    shown = Progress(description, total, bar, plain=False)
    shown.room = (terminal.width, terminal.height, not terminal.options.ascii_only)
    bar.below = shown.below
    with contextlib.suppress(OSError):  # the terminal has gone
        bar.start()
    try:
        yield shown
    finally:
        with contextlib.suppress(OSError):
            bar.stop()


def duration(seconds: float) -> str:
    """A duration in suitable units: "0.4 s", "12 s", "3 min 5 s", "2 h 10 min"."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes == 0:
        return f"{rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def size(count: float) -> str:
    """A number of bytes in binary units: "3.2 GiB"."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(count) < 1024 or unit == "GiB":
            break
        count /= 1024
    return f"{count:.0f} {unit}" if unit == "B" or count >= 100 else f"{count:.1f} {unit}"


def show(result: Result, *, command: str, version: str) -> None:
    """Print a command's result: one JSON document, or its blocks and verdict."""
    state = _session or _Session()
    if state.muted:
        return
    notices = [*state.warnings, *(text for text in result.warnings if text not in state.warnings)]
    if state.as_json:
        _json(Document(command, version, result.exit_code, result.data, result.verdict, notices))
        return
    for text in notices[len(state.warnings) :]:
        _error_line(f"warning: {text}", style="yellow")
    if not state.quiet:
        for index, block in enumerate(result.blocks):
            if index and not sys.stdout.isatty():
                print()  # noqa: T201 - between blocks; on a terminal tables have their own margins
            _block(block)
    if result.verdict:
        if result.blocks and not state.quiet and sys.stdout.isatty():
            print()  # noqa: T201 - tables have no margin below them
        _out(result.verdict, style="bold")


def show_error(error: TransitError, *, command: str, version: str) -> None:
    """Print a failure: found, wanted, fix on stderr; and the document on stdout with `--json`."""
    state = _session or _Session()
    if state.muted and (
        error.code == SECONDARY_ERROR or error.exit_code in {ExitCode.INTERRUPTED, ExitCode.TERMINATED}
    ):
        return
    name = f"{state.muted}: " if state.muted else ""
    _error_line(f"{name}error: {error.found}", style="bold red")
    if error.wanted:
        _error_line(f"  wanted: {error.wanted}")
    if error.fix:
        _error_line(f"  to fix: {error.fix}")
    if state.as_json and not state.muted:
        _json(Document(command, version, error.exit_code, warnings=state.warnings, errors=[error.document()]))


def _json(document: Document) -> None:
    text = json.dumps(document.as_json(), indent=2, ensure_ascii=False)
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:  # a character that the encoding lacks, or the name of a file that is not text
        text = json.dumps(document.as_json(), indent=2)
    print(text, flush=True)  # noqa: T201


def _out(text: str, style: str = "") -> None:
    text = printable(text)
    if sys.stdout.isatty():
        from rich.text import Text as RichText

        _rich(stderr=False).print(RichText(text, style=style))
    else:
        print(text, flush=True)  # noqa: T201


def _block(block: Table | Text) -> None:
    if isinstance(block, Text):
        _out(block.text)
    elif sys.stdout.isatty():
        terminal = _rich(stderr=False)
        for part in terminal_table(block, terminal.width):
            terminal.print(part)
    else:
        print(plain_table(block), flush=True)  # noqa: T201


def close() -> None:
    """Flush stdout.

    Raises:
        OSError: the bytes cannot be written. They are then dropped, or Python would try again on exit.
    """
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise
