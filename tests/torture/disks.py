"""Disks that are full, read-only or without inodes, and power cuts, for every command that writes. Needs root.

A power cut is what an ext4 file system has on its device at a moment: the file behind its loop device is copied while
the file system is mounted and the writer is stopped, and the copy is mounted, which recovers its journal. It is mounted
with commit=1 and noauto_da_alloc, so that names reach the device long before content that was not synchronised. What
this cannot show is a drive that loses or reorders what it has acknowledged.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tests.torture.inputs import Command, Tally, contents, differing
from tests.torture.processes import check_again, whole_run

if TYPE_CHECKING:
    import random
    from collections.abc import Iterator
    from pathlib import Path

IMAGE_BYTES = 24 << 20


def can_mount(folder: Path) -> bool:
    """Whether this user may mount file systems."""
    if os.getuid() != 0 or not shutil.which("mkfs.ext4"):
        return False
    try:
        with mounted("-t", "tmpfs", "-o", "size=64k", "tmpfs", at=folder / "probe"):
            return True
    except subprocess.CalledProcessError:
        return False


@contextmanager
def mounted(*what: str | Path, at: Path) -> Iterator[Path]:
    """A mounted file system."""
    at.mkdir(exist_ok=True)
    subprocess.run(["mount", *what, at], check=True, capture_output=True)
    try:
        yield at
    finally:
        for _ in range(50):  # a killed process may still be ending
            if subprocess.run(["umount", at], check=False, capture_output=True).returncode == 0:
                break
            time.sleep(0.1)
        else:
            raise AssertionError(f"{at} is busy")


def _link_inputs(folder: Path, place: Path) -> None:
    for file in folder.iterdir():
        if file.name in {"set", "run", "curves", "catalog.csv", "views.npz"}:
            (place / file.name).symlink_to(file)


def full_disk(folder: Path, command: Command, at: Path, count: int) -> Tally:
    """Run a command in file systems of growing sizes: it ends with a message, and with the same files given room."""
    tally = Tally(f"{command.name}, full disk")
    whole, _ = whole_run(folder, command)
    inputs = 8  # KiB: the folder and the links
    with mounted("-t", "tmpfs", "-o", "size=200m", "tmpfs", at=at) as place:
        _link_inputs(folder, place)
        most = _peak(place, command)
    step = max(4, (most - inputs) // count // 4 * 4)
    for size in range(inputs, most + 4, step):
        with mounted("-t", "tmpfs", "-o", f"size={size}k", "tmpfs", at=at) as place:
            _link_inputs(folder, place)
            _run_short_of(place, command, tally, f"{size} KiB")
            subprocess.run(["mount", "-o", "remount,size=200m", place], check=True)
            check_again(place, command, "out", whole, tally)
    return tally


def _peak(place: Path, command: Command) -> int:
    """The most KiB that a command takes in a file system."""
    most = 0
    with command.start(place, "out") as process:
        while process.poll() is None:
            about = os.statvfs(place)
            most = max(most, (about.f_blocks - about.f_bfree) * about.f_bsize // 1024)
            time.sleep(0.002)
        assert process.returncode == 0, process.output
    return most


def _run_short_of(place: Path, command: Command, tally: Tally, what: str) -> None:
    with command.start(place, "out") as process:
        code = process.wait(120)
        if code not in {0, 5} or "Traceback" in process.output or "bug in transit" in process.output:
            tally.problems.append(f"{command.name}, {what}: {code}: {process.output[-400:]}")
    tally.outcomes[f"exit {code}"] += 1


def no_inodes(folder: Path, command: Command, at: Path, counts: range) -> Tally:
    """As `full_disk`, in file systems of few files."""
    tally = Tally(f"{command.name}, no inodes")
    whole, _ = whole_run(folder, command)
    for count in counts:
        with mounted("-t", "tmpfs", "-o", f"size=200m,nr_inodes={count + 6}", "tmpfs", at=at) as place:
            _link_inputs(folder, place)
            _run_short_of(place, command, tally, f"{count} inodes")
            subprocess.run(["mount", "-o", "remount,nr_inodes=10000", place], check=True)
            check_again(place, command, "out", whole, tally)
    return tally


def read_only(folder: Path, command: Command, at: Path) -> Tally:
    """In a read-only file system a command ends with a message."""
    tally = Tally(f"{command.name}, read-only")
    with mounted("-t", "tmpfs", "tmpfs", at=at) as place:
        _link_inputs(folder, place)
        subprocess.run(["mount", "-o", "remount,ro", place], check=True)
        _run_short_of(place, command, tally, "read-only")
        if tally.outcomes["exit 0"]:
            tally.problems.append(f"{command.name}: exit 0 in a read-only folder")
    return tally


def power_cut(folder: Path, command: Command, at: Path, count: int, moments: random.Random) -> Tally:
    """Cut the power at random moments, in the work or up to two seconds after it."""
    tally = Tally(f"{command.name}, power cut")
    whole, lasts = whole_run(folder, command)
    image, copy = at.with_suffix(".image"), at.with_suffix(".cut")
    options = "loop,noauto_da_alloc,commit=1"
    for index in range(count):
        with image.open("wb") as stream:
            stream.truncate(IMAGE_BYTES)
        subprocess.run(["mkfs.ext4", "-q", "-F", "-O", "^metadata_csum", image], check=True, capture_output=True)
        with mounted("-o", options, image, at=at) as place:
            _link_inputs(folder, place)
            os.sync()
            with command.start(place, "out") as process:
                end = time.monotonic() + moments.uniform(0, 1.3 * lasts)
                while process.poll() is None and time.monotonic() < end:
                    time.sleep(0.002)
                done = process.poll() is not None
                if not done:
                    process.kill(signal.SIGSTOP)
                time.sleep(moments.choice([0, 0, 1.3, 2]))  # the journal is committed every second
                _snapshot(image, copy)
        with mounted("-o", "loop", copy, at=at) as place:
            if done and process.returncode == 0 and not contents(place / "out"):
                tally.problems.append(f"{command.name} cut {index}: done, but nothing is there after the power cut")
            if done and (missing := whole.keys() - contents(place / "out").keys()):
                tally.problems.append(f"{command.name} cut {index}: done, but {sorted(missing)} are missing")
            if torn := differing(contents(place / "out"), whole):
                tally.problems.append(f"{command.name} cut {index}: torn {torn}")
            tally.outcomes["after the end" if done else "in the work"] += 1
            check_again(place, command, "out", whole, tally)
    image.unlink()
    copy.unlink()
    return tally


def _snapshot(image: Path, copy: Path) -> None:
    """Copy the image until two copies are the same: writes may be under way."""
    before = b""
    for _ in range(20):
        now = image.read_bytes()
        if now == before:
            break
        before = now
    copy.write_bytes(before)
