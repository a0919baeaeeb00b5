"""Child processes with a protocol: jobs as JSON lines on stdin, events as JSON lines on stdout.

What may abort, hang or exhaust memory runs in a child: `Child` is the parent's side, `serve` the child's.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NoReturn, Self

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Event = dict[str, Any]

#: Seconds between two calls of `watch`, and between two looks at whether the child still runs.
INTERVAL = 0.05
#: Seconds between two looks at a child that count at most: more have passed if this process was stopped (Ctrl-Z).
MAX_COUNTED = 1.0

#: The event that `serve` sends after each job.
_FINISHED = {"job": "finished"}


@dataclass(frozen=True)
class ChildExit:
    """How a job ended.

    Attributes:
        kind: "done", "aborted" (by a signal), "hung" (no event within the timeout), "stopped" (by `watch`), or
            "failed" (an exception, or an exit before the job was finished).
        message: the signal's name and the last line on stderr, as far as there are such.
        returncode: as of `subprocess.Popen`; None while the child runs, which it does after "done".
        stderr: everything that the child has written to stderr.
    """

    kind: Literal["done", "aborted", "hung", "stopped", "failed"]
    message: str = ""
    returncode: int | None = None
    stderr: str = ""


class Child:
    """A module that calls `serve`, run as `python -P -m module`. Leaving the `with` block kills its process group.

    `-P`: a file in the current folder that is called torch.py is not imported as torch.
    The child has a session of its own, so that Ctrl-C reaches the parent only. It ends when the parent does.

    Args:
        module: full name of the module.
        env: the whole environment; by default that of the parent.
    """

    def __init__(self, module: str, *, env: Mapping[str, str] | None = None) -> None:
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - closed by close(); a full pipe would block the child
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            env=env,
            start_new_session=True,
        )
        self._events: queue.SimpleQueue[Event | None] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def pid(self) -> int:
        """The process ID, which is also that of the process group."""
        return self._process.pid

    def run(
        self,
        job: Mapping[str, Any],
        on_event: Callable[[Event], object],
        *,
        timeout: float | None = None,
        watch: Callable[[], bool] | None = None,
    ) -> ChildExit:
        """Send a job and follow it to its end."""
        self.send(job)
        return self.follow(on_event, timeout=timeout, watch=watch)

    def send(self, job: Mapping[str, Any]) -> None:
        """Send a job. If the child has exited already, `follow` returns how."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps(job).encode() + b"\n")
            self._process.stdin.flush()

    def follow(
        self,
        on_event: Callable[[Event], object],
        *,
        timeout: float | None = None,
        watch: Callable[[], bool] | None = None,
    ) -> ChildExit:
        """Pass on the events of a job until it ends, and return how it ended.

        Args:
            on_event: called with each event.
            timeout: seconds without an event after which the child is killed; None for no limit. Time in which this
                process was stopped itself does not count.
            watch: called after each event and every `INTERVAL`; the child is killed when it returns True.
        """
        killed: Literal["hung", "stopped"] | None = None
        waited, looked = 0.0, time.monotonic()
        while True:
            now = time.monotonic()
            waited, looked = waited + min(now - looked, MAX_COUNTED), now
            try:
                event = self._events.get(timeout=INTERVAL)
            except queue.Empty:
                if self._process.poll() is not None:
                    self._kill()  # descendants that hold the pipe open
                elif killed is None and timeout is not None and waited > timeout:
                    killed = "hung"
                    self._kill()
            else:
                if event is None:
                    return self._exit(killed)
                if event == _FINISHED:
                    return ChildExit("done", stderr=self._read_stderr())
                waited = 0.0
                on_event(event)
            if killed is None and watch is not None and watch():
                killed = "stopped"
                self._kill()

    def close(self) -> None:
        """Kill the process group and release the pipes."""
        self._kill()
        self._process.wait()
        self._reader.join()
        for stream in (self._process.stdin, self._process.stdout, self._stderr):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()

    def _kill(self) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):  # macOS: EPERM if only a zombie is left
            os.killpg(self._process.pid, signal.SIGKILL)

    def _read(self) -> None:
        for line in self._process.stdout or ():
            try:
                event = json.loads(line)
            except ValueError:  # printed before `serve` was called
                continue
            if isinstance(event, dict):
                self._events.put(event)
        self._events.put(None)

    def _exit(self, killed: Literal["hung", "stopped"] | None) -> ChildExit:
        code = self._process.wait()
        stderr = self._read_stderr()
        last = last_line(stderr)
        if killed:
            return ChildExit(killed, last, code, stderr)
        if code >= 0:
            return ChildExit("failed", last, code, stderr)
        name = signal_name(-code)
        return ChildExit("aborted", f"{name}: {last}" if last else name, code, stderr)

    def _read_stderr(self) -> str:
        size = os.fstat(self._stderr.fileno()).st_size
        return os.pread(self._stderr.fileno(), size, 0).decode(errors="replace")  # leaves the shared offset alone


def run_child(
    module: str,
    job: Mapping[str, Any],
    on_event: Callable[[Event], object],
    *,
    timeout: float | None = None,
    env: Mapping[str, str] | None = None,
) -> ChildExit:
    """Run one job in a child of its own; see `Child`."""
    with Child(module, env=env) as child:
        return child.run(job, on_event, timeout=timeout)


def serve(handler: Callable[[dict[str, Any], Callable[[Event], None]], object]) -> NoReturn:
    """Run jobs from stdin until it is closed: the child's side. Does not return.

    stdout becomes stderr, so that prints of libraries do not mix with events. An exception ends the process.

    Args:
        handler: called with each job and a function that sends an event.
    """
    events = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    events.write("\n")  # whatever has been printed so far ends here

    def emit(event: Event) -> None:
        events.write(json.dumps(event) + "\n")

    jobs: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
    threading.Thread(target=_read_jobs, args=(jobs,), daemon=True).start()
    try:
        while True:
            handler(jobs.get(), emit)
            emit(_FINISHED)
    except BaseException as error:  # noqa: BLE001 - the parent reads the last line
        code = error.code if isinstance(error, SystemExit) and isinstance(error.code, int) else 1
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(code)  # without unloading torch, which takes long and may itself crash


def _read_jobs(jobs: queue.SimpleQueue[dict[str, Any]]) -> None:
    """Queue jobs; end the process when the parent has gone or closed the pipe, whatever a job is doing."""
    pending = b""
    while data := os.read(0, 1 << 16):
        *lines, pending = (pending + data).split(b"\n")
        for line in lines:
            jobs.put(json.loads(line))
    os._exit(1)


def last_line(text: str) -> str:
    """The last line that is not blank, stripped; "" if there is none."""
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "")


def signal_name(number: int) -> str:
    """SIGABRT for 6, and "signal 40" for a number without a name."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
