"""Reading files from outside in bounded memory: what a file declares or decompresses to is compared with its own size.

A few kilobytes can declare an array of terabytes, or decompress to gigabytes. Data of any use compress less than
`RATIO` to one; more is refused before memory is allocated for it.
"""

from __future__ import annotations

import errno
import gzip
import io
import os
import stat
import zlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

#: Bytes in memory per byte of a file, and bytes that any file may take.
RATIO, ALLOWANCE = 100, 16 << 20


class TooLargeError(ValueError):
    """A file declares, or decompresses to, more than its size allows."""


def limit(size: int) -> int:
    """The bytes that the content of a file of `size` bytes may take in memory."""
    return ALLOWANCE + RATIO * size


def check(declared: int, size: int, what: str = "it declares") -> None:
    """Compare a size in bytes that a file declares with its own size.

    Raises:
        TooLargeError: it is negative, or more than `limit(size)`.
    """
    if not 0 <= declared <= limit(size):
        raise TooLargeError(f"{what} {declared:,} bytes of data in a file of {size:,} bytes")


def read_bytes(path: Path) -> bytes:
    """The content of a regular file.

    Raises:
        OSError: it cannot be read, or is a pipe, which would block, or a device, which may not end.
    """
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    with open(handle, "rb") as stream:  # noqa: PTH123 - a handle
        mode = os.fstat(handle).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        if not stat.S_ISREG(mode):
            raise OSError(errno.EINVAL, "not a regular file", str(path))
        return stream.read()


def gunzip(content: bytes) -> bytes:
    """The content of a gzip file.

    Raises:
        TooLargeError: it is more than `limit` allows.
        ValueError: it is damaged or breaks off.
    """
    most = limit(len(content))
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(content)) as stream:
            found = stream.read(most)
            if not stream.read(1):
                return found
    except EOFError:
        raise ValueError("the compressed file breaks off before its end") from None
    except (OSError, zlib.error) as error:
        raise ValueError(f"it cannot be decompressed: {error}") from None
    raise TooLargeError(f"{len(content):,} compressed bytes hold more than {most:,}")
