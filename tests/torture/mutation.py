"""Mutated files of every kind: each gives a value or a `TransitError`, in bounded time and memory."""

from __future__ import annotations

import json
import os
import resource
import select
import signal
import struct
import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.torture import forked
from tests.torture.inputs import Tally
from transit_cli.data.lightcurves.lightcurve import UnreadableError
from transit_cli.results import TransitError

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

#: What a file may take at most.
MAX_SECONDS, MAX_BYTES = 10, 1 << 30
#: Numbers that programs stumble over.
NUMBERS = (0, 1, -1, 2**31, 2**32 - 1, 2**63, 10**18, 10**30)


@dataclass(frozen=True)
class Kind:
    """A kind of file.

    Attributes:
        file: an intact one.
        read: reads it.
        content: of kinds with checksums: what `read` returned as a comparable value, from which a damaged file that is
            accepted must not differ.
    """

    file: Path
    read: Callable[[], Any]
    content: Callable[[Any], Any] | None = None


def mutate(content: bytes, moments: random.Random) -> bytes:
    """Bytes flipped, cut, repeated, removed or exchanged, numbers replaced, or a JSON value of another type."""
    if moments.random() < 0.3 and (changed := _mutate_json(content, moments)) is not None:
        return changed
    data = bytearray(content)
    head = min(len(data), 4096) if moments.random() < 0.5 else len(data)  # headers are at the beginning
    for _ in range(moments.randint(1, 4)):
        at = moments.randrange(max(1, min(head, len(data))))
        match moments.randrange(8):
            case 0 | 1:
                data[at : at + 1] = bytes([moments.randrange(256)])
            case 2:
                del data[at:]
            case 3:
                data[at:at] = data[at : at + moments.randint(1, 40)]
            case 4:
                del data[at : at + moments.randint(1, 40)]
            case 5:
                number = moments.choice(NUMBERS) & (2**64 - 1)
                width, order = moments.choice((2, 4, 8)), moments.choice(("little", "big"))
                data[at : at + width] = (number & (256**width - 1)).to_bytes(width, order)
            case 6:
                data[at : at + 8] = struct.pack("<d", moments.choice((0.0, float("nan"), float("inf"), 1e308, -1e-308)))
            case 7:
                _replace_digits(data, at, moments)
    return bytes(data)


def _replace_digits(data: bytearray, at: int, moments: random.Random) -> None:
    """Replace the next number that is written in digits."""
    while at < len(data) and not 48 <= data[at] < 58:
        at += 1
    end = at
    while end < len(data) and 48 <= data[end] < 58:
        end += 1
    text = str(moments.choice(NUMBERS)).encode()
    data[at:end] = text.rjust(end - at) if moments.random() < 0.7 else text[: end - at]


def _mutate_json(content: bytes, moments: random.Random) -> bytes | None:
    try:
        document = json.loads(content)
    except ValueError:
        return None
    values = [None, [], {}, "x", "../a", -1, 10**18, 1e308, True, [None], "\0", "\ud800", "=1+1", "9" * 5000]
    place = document
    while isinstance(place, dict | list) and place:
        key = moments.choice(sorted(place)) if isinstance(place, dict) else moments.randrange(len(place))
        if not isinstance(place[key], dict | list) or moments.random() < 0.3:
            place[key] = moments.choice(values)
            if moments.random() < 0.3:
                del place[key]
            break
        place = place[key]
    return json.dumps(document).encode()


def fuzz(name: str, kind: Kind, count: int, moments: random.Random) -> Tally:
    """Read mutated files in child processes, which a fault may end."""
    tally, good = Tally(name), kind.file.read_bytes()
    expected = kind.content(kind.read()) if kind.content else None
    try:
        for first in range(0, count, 500):
            files = [mutate(good, moments) for _ in range(min(500, count - first))]
            _batch(kind, files, first, expected, tally)
    finally:
        kind.file.write_bytes(good)
    return tally


def _batch(kind: Kind, files: list[bytes], first: int, expected: Any, tally: Tally) -> None:
    """Read files in one child, and in another one after a fault that ended it."""
    at = 0
    while at < len(files):
        receiver, sender = os.pipe()

        def work(at: int = at, sender: int = sender) -> int:
            for index in range(at, len(files)):
                kind.file.write_bytes(files[index])
                result = _outcome(kind, expected)
                os.write(sender, (json.dumps(result) + "\n").encode())
            return 0

        with forked.Forked(work, Path.cwd(), {resource.RLIMIT_AS: 4 * MAX_BYTES}) as child:
            os.close(sender)
            lines = b""
            while True:
                ready, _, _ = select.select([receiver], [], [], MAX_SECONDS + 5)
                part = os.read(receiver, 1 << 16) if ready else b""
                lines += part
                if not ready:
                    child.kill(signal.SIGKILL)
                if not part:
                    break
            code = child.wait()
        os.close(receiver)
        for line in lines.decode().splitlines():
            outcome, problem = json.loads(line)
            tally.outcomes[outcome] += 1
            if problem:
                tally.problems.append(f"{tally.name} {first + at}: {problem}")
            at += 1
        if at < len(files):
            tally.outcomes["ended"] += 1
            tally.problems.append(f"{tally.name} {first + at}: the process ended with {code} {child.output[-300:]}")
            at += 1


def _outcome(kind: Kind, expected: Any) -> tuple[str, str]:
    """What became of a file, and the problem if there is one."""
    begun, before = time.monotonic(), _peak()
    problem = ""
    try:
        result = kind.read()
        outcome = "refused" if getattr(result, "exit_code", 0) else "read"
        if outcome == "read" and kind.content and kind.content(result) != expected:
            problem = "a damaged file was accepted"
    except (TransitError, UnreadableError) as error:
        outcome = "refused"
        try:
            str(error).encode()
        except UnicodeEncodeError:
            problem = f"a message that cannot be printed: {str(error)[:100]!r}"
    except BaseException as error:  # noqa: BLE001 - what is looked for
        place = traceback.extract_tb(error.__traceback__)
        where = " < ".join(f"{Path(frame.filename).name}:{frame.lineno}" for frame in reversed(place[-3:]))
        outcome, problem = "fault", f"{type(error).__name__} at {where}: {error}"[:300]
    if time.monotonic() - begun > MAX_SECONDS:
        problem = f"{time.monotonic() - begun:.0f} s"
    if _peak() - before > MAX_BYTES:
        problem = f"{(_peak() - before) >> 20} MiB"
    return outcome, problem


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
