"""Errors of the operating system as `TransitError`.

Some of them, such as too many open files, are the machine's and say nothing about the file that was to be read.
"""

from __future__ import annotations

import errno
import os
import re
import resource
from typing import TYPE_CHECKING

from transit_cli.results import ExitCode, TransitError

if TYPE_CHECKING:
    from collections.abc import Iterator

#: What to do, by error number, where the machine and not the data is at fault.
FIXES = {
    errno.ENOSPC: "free some space, or write to another disk",
    errno.EDQUOT: "free some of your quota, or write to another disk",
    errno.EROFS: "write to a folder that is not read-only",
    errno.EACCES: "give a path that you may read and write",
    errno.EPERM: "give a path that you may read and write",
    errno.EFBIG: "raise the limit of file sizes (ulimit -f), or write to another file system",
    errno.EMFILE: "raise the limit of open files (ulimit -n 4096)",
    errno.ENFILE: "close other programs: the system has too many open files",
    errno.EAGAIN: "raise the limit of processes (ulimit -u), or close other programs",
    errno.ENOMEM: "close other programs",
    errno.EIO: "check the disk, or write to another one",
    errno.ESTALE: "mount the network's file system again",
}
#: Those that any file may meet while it is read. Without permission (EACCES), by contrast, one file cannot be read.
WHILE_READING = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EIO, errno.ESTALE})
#: How libraries in other languages write an error number: pyarrow, safetensors, HDF5.
_NUMBER = re.compile(r"\[errno (\d+)\]|\(os error (\d+)\)|\berrno = (\d+)", re.IGNORECASE)


def os_error(error: OSError) -> TransitError:
    """The error to report for one of the operating system with a number."""
    number = error.errno or 0
    found = f"{error.strerror or error}"
    if number == errno.EMFILE:
        found += f" (this process may have {resource.getrlimit(resource.RLIMIT_NOFILE)[0]:,})"
    found += f": {error.filename}" if error.filename else ""
    code = ExitCode.MACHINE if number in FIXES else ExitCode.BAD_INPUT
    fix = (FIXES | {errno.ENOENT: "give the path of something that exists"}).get(number, "")
    if "temporary directory" in found:  # of tempfile
        code, fix = ExitCode.MACHINE, "set TMPDIR to a folder that you may write to"
    return TransitError(found, fix=fix, exit_code=code, code="os-error")


def out_of_memory() -> TransitError:
    """The error to report for a `MemoryError`."""
    return TransitError(
        "out of memory",
        fix="give a smaller --batch-size, or close other programs",
        exit_code=ExitCode.MACHINE,
        code="out-of-memory",
    )


def raise_if_machine(error: BaseException) -> None:
    """Raise the error of the machine that made reading a file fail, if it is one; otherwise the data are at fault.

    Call it first where a failure of reading would be counted as damage to the file.

    Args:
        error: that reading raised; also those that it was raised from, as libraries hide the first one.

    Raises:
        TransitError: too many open files, no memory, or a disk that fails (`ExitCode.MACHINE`).
    """
    for cause in _chain(error):
        if isinstance(cause, TransitError):
            if cause.exit_code == ExitCode.MACHINE:
                raise cause
        elif isinstance(cause, MemoryError):
            raise out_of_memory() from error
        elif (number := _number(cause)) in WHILE_READING:
            name = getattr(cause, "filename", None)
            raise os_error(OSError(number, os.strerror(number), name)) from error


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in seen:
        yield cause
        seen.append(cause)
        cause = cause.__cause__ or cause.__context__


def _number(error: BaseException) -> int:
    """The number of an error of the operating system, 0 for other errors."""
    if getattr(error, "errno", None):
        return int(getattr(error, "errno", 0))
    written = _NUMBER.search(str(error)) if isinstance(error, OSError) or "os error" in str(error) else None
    return int(next(filter(None, written.groups()))) if written else 0
