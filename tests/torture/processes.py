"""Signals at random moments, two processes at once, and limits of the system, for every command that writes."""

from __future__ import annotations

import resource
import shutil
import signal
import time
from typing import TYPE_CHECKING

from tests.torture.inputs import LEFT, MEASURING, Command, Tally, contents, differing

if TYPE_CHECKING:
    import random
    from pathlib import Path

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGHUP, signal.SIGSTOP)
MIB = 1 << 20
#: Limits that a process may meet. Of memory: beyond what the process has when it begins.
LIMITS = {
    "files": (resource.RLIMIT_NOFILE, (6, 8, 10, 12, 16, 24, 32)),
    "address space": (resource.RLIMIT_AS, (MIB // 4, MIB, 4 * MIB, 16 * MIB, 64 * MIB)),
    "data": (resource.RLIMIT_DATA, (MIB // 4, MIB, 4 * MIB, 16 * MIB, 64 * MIB)),
    "file size": (resource.RLIMIT_FSIZE, (0, 512, 4096, 20_000, 60_000)),
}


def whole_run(folder: Path, command: Command) -> tuple[dict[str, str], float]:
    """What the undisturbed command writes, and its seconds."""
    begun = time.monotonic()
    with command.start(folder, "whole") as process:
        assert process.wait() == 0, f"{command.name}: {process.output}"
    whole, seconds = contents(folder / "whole"), time.monotonic() - begun
    assert whole, command.name
    remove(folder, "whole")
    return whole, seconds


def remove(folder: Path, out: str) -> None:
    """Remove an output and what a killed process has left beside it."""
    for path in [folder / out, *folder.glob(f".{out}*")]:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def check_again(folder: Path, command: Command, out: str, whole: dict[str, str], tally: Tally) -> None:
    """Run a command to its end after a disturbance: it gives what an undisturbed one gives, and leaves nothing else."""
    found = {} if command.name in MEASURING else contents(folder / out)
    if torn := differing(found, whole):
        tally.problems.append(f"{command.name} {out}: torn: {torn}")
    if command.is_done(folder, out):
        tally.outcomes["was done"] += 1
    else:
        with command.start(folder, out) as process:
            if process.wait() != 0:
                tally.problems.append(f"{command.name} {out}: again {process.returncode}: {process.output[-400:]}")
    now = contents(folder / out)
    if now.keys() != whole.keys() or (command.name not in MEASURING and differing(now, whole)):
        tally.problems.append(
            f"{command.name} {out}: other content after running again: {sorted(set(now) ^ set(whole))}"
        )
    left = [file.name for file in folder.iterdir() if any(word in file.name for word in LEFT)]
    if left and not command.is_done(folder, out):
        tally.problems.append(f"{command.name} {out}: left {left}")
    remove(folder, out)


def kill(folder: Path, command: Command, count: int, moments: random.Random) -> Tally:
    """Send signals at random moments; every file is then whole or absent, and the command run again gives the same."""
    tally = Tally(f"{command.name}, killed")
    whole, lasts = whole_run(folder, command)
    for index in range(count):
        out = f"out-{index}"
        number = moments.choice(SIGNALS)
        with command.start(folder, out) as process:
            end = time.monotonic() + moments.uniform(0, lasts)
            while process.poll() is None and time.monotonic() < end:
                time.sleep(0.002)
            alive = process.poll() is None
            if alive:
                process.kill(number)
            if number == signal.SIGSTOP and alive:
                time.sleep(0.1)
                process.kill(signal.SIGCONT)
            code = process.wait(120)
            expected = {signal.SIGKILL: {-9, 0}, signal.SIGSTOP: {0}}.get(number, {0, 143, -number})
            if code not in expected or "Traceback" in process.output:
                tally.problems.append(f"{command.name} {out}: {number.name} gave {code}: {process.output[-400:]}")
        tally.outcomes[number.name if code else "survived" if alive else "too late"] += 1
        check_again(folder, command, out, whole, tally)
    return tally


def two_at_once(folder: Path, command: Command, count: int) -> Tally:
    """Two processes with one output: each is done or refused, and the output is that of one."""
    tally = Tally(f"{command.name}, two at once")
    whole, _ = whole_run(folder, command)
    for index in range(count):
        out = f"out-{index}"
        both = [command.start(folder, out) for _ in range(2)]
        codes = [process.wait() for process in both]
        for process, code in zip(both, codes, strict=True):
            if code not in {0, 2, 4} or "Traceback" in process.output:
                tally.problems.append(f"{command.name} {out}: {code}: {process.output[-400:]}")
        tally.outcomes[f"exits {min(codes)} and {max(codes)}"] += 1
        if min(codes) != 0:
            tally.problems.append(
                f"{command.name} {out}: neither was done: {[process.output[-300:] for process in both]}"
            )
        check_again(folder, command, out, whole, tally)
    return tally


def limited(folder: Path, command: Command, kinds: dict[str, tuple[int, tuple[int, ...]]]) -> Tally:
    """Run under limits: the command is done, or says which limit it met (exit 5), and can be run again."""
    tally = Tally(f"{command.name}, limits")
    whole, _ = whole_run(folder, command)
    for kind, (number, values) in kinds.items():
        for value in values:
            with command.start(folder, "out", {number: value}) as process:
                code = process.wait(120)
                if code not in {0, 5} or "Traceback" in process.output or "bug in transit" in process.output:
                    tally.problems.append(f"{command.name}, {kind} {value}: {code}: {process.output[-400:]}")
            tally.outcomes[f"exit {code}"] += 1
            check_again(folder, command, "out", whole, tally)
    return tally
