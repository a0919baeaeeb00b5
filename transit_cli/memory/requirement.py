"""Refuses work that needs more memory or disk than there is, before anything is spent on it."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from transit_cli.memory import reading
from transit_cli.results import ExitCode, TransitError

if TYPE_CHECKING:
    from pathlib import Path


def require(what: str, fix: str, *, memory: int, disk: int, folder: Path) -> None:
    """Compare what a piece of work needs with what is free.

    Args:
        what: "2,000,000 TCEs of 2201 bins".
        fix: the option to change.
        memory: bytes that it holds in memory.
        disk: bytes that it writes.
        folder: where it writes, which need not exist.

    Raises:
        TransitError: the memory or the disk has less.
    """
    place = next(parent for parent in (folder.absolute(), *folder.absolute().parents) if parent.exists())
    for needed, free, of in (
        (memory, reading.read().available, "of memory"),
        (disk, shutil.disk_usage(place).free, f"on the disk of {place}"),
    ):
        if needed > free:
            raise TransitError(
                f"{what} need {_gib(needed)} {of}, and {_gib(free)} are free",
                wanted=f"at most {_gib(free)}",
                fix=fix,
                exit_code=ExitCode.MACHINE,
                code="too-large",
            )


def _gib(count: int) -> str:
    return f"{count / 2**30:,.1f} GiB" if count < 2**60 else f"{count / 2**60:,.0f} EiB"
