"""Ask a child process, and live through what becomes of it."""

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
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


@dataclass(frozen=True)
class ChildExit:
    """How a child ended.

    Attributes:
        kind: "done", "aborted" (by a signal), "hung" (it said nothing for too long), or "failed" (an exception).
        words: the last line that it said on stderr.
    """

    kind: str
    words: str = ""


def ask(
    job: Mapping[str, Any], on_event: Callable[[dict[str, Any]], None], *, timeout: float, env: Mapping[str, str]
) -> ChildExit:
    """Run `transit_cli.operators.question_process` on a job and pass on its events as they come.

    Args:
        job: what to do, in JSON types.
        on_event: takes each event.
        timeout: seconds without an event after which it is killed.
        env: variables to add to the environment.
    """
    with tempfile.TemporaryFile("w+") as errors:
        child = subprocess.Popen(
            [sys.executable, "-m", "transit_cli.operators.question_process"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env={**os.environ, **env},
        )
        try:
            return _follow(child, job, on_event, timeout, errors)
        finally:
            if child.poll() is None:  # an exception here, Ctrl-C among them
                child.kill()
            child.wait()
            for pipe in (child.stdin, child.stdout):
                if pipe is not None:
                    pipe.close()


def _follow(
    child: subprocess.Popen[str], job: Mapping[str, Any], on_event: Callable[..., None], timeout: float, errors: Any
) -> ChildExit:
    lines: queue.SimpleQueue[str] = queue.SimpleQueue()

    def read() -> None:
        for line in child.stdout or ():
            lines.put(line)
        lines.put("")

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    if child.stdin is not None:
        with contextlib.suppress(BrokenPipeError):  # it may have died already; how is seen below
            json.dump(job, child.stdin)
            child.stdin.close()
    done = False
    while True:
        try:
            line = lines.get(timeout=timeout)
        except queue.Empty:
            child.kill()
            reader.join()
            return ChildExit("hung", f"no answer for {timeout:g} s")
        if not line:
            break
        event = json.loads(line)
        done = done or bool(event.get("done"))
        if "done" not in event:
            on_event(event)
    code = child.wait()
    errors.seek(0)
    words = next((text for text in reversed(errors.read().splitlines()) if text.strip()), "")
    if done:
        return ChildExit("done")
    if code < 0:
        return ChildExit("aborted", f"{signal.Signals(-code).name}: {words}")
    return ChildExit("failed", words)
