"""Download one file over HTTP: resumed after an interruption, verified, and renamed into place atomically."""

from __future__ import annotations

import http.client
import urllib.error
import urllib.request
from time import sleep
from typing import TYPE_CHECKING

from transit_cli.data.lightcurves import readers
from transit_cli.data.lightcurves.lightcurve import UnreadableError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

#: Bytes per read.
CHUNK = 1 << 16


class DownloadError(Exception):
    """The file could not be downloaded; the message is the reason."""


def download(
    url: str,
    file: Path,
    *,
    timeout: float = 60.0,
    tries: int = 5,
    pause: float = 1.0,
    on_bytes: Callable[[int], None] = lambda _: None,
) -> int:
    """Download `url` to `file`.

    Partial content is kept in `file`.part, and the next attempt, or the next run, requests the rest. A light curve is
    opened before it is renamed, so that a truncated file or an error page never gets the final name.

    Args:
        url: http or https.
        file: destination, in an existing folder.
        timeout: seconds without a byte after which an attempt fails.
        tries: number of attempts for failures that may be temporary.
        pause: seconds before the second attempt, doubled for each further one.
        on_bytes: called with the number of bytes of each block.

    Returns:
        Bytes in the file.

    Raises:
        DownloadError: it cannot be downloaded, or is not a light curve.
    """
    part = file.with_name(file.name + ".part")
    reason = ""
    for attempt in range(tries):
        if attempt:
            sleep(pause * 2 ** (attempt - 1))
        try:
            _fetch(url, part, timeout, on_bytes)
        except urllib.error.HTTPError as error:
            reason = f"the server answers {error.code} {error.reason}"
            if error.code == 416:  # the partial file is longer than the remote one, so it is another file
                part.unlink(missing_ok=True)
            elif 400 <= error.code < 500 and error.code not in {408, 429}:
                break
            continue
        except (OSError, http.client.HTTPException) as error:
            reason = _describe(error)
            continue
        broken = problem(part, file.name)
        if not broken:
            part.replace(file)
            return file.stat().st_size
        reason = f"the downloaded file is not a complete light curve: {broken}"
        part.unlink()
    raise DownloadError(reason)


def problem(file: Path, name: str = "") -> str:
    """Why a file on disk is unusable; "" if it is complete."""
    name = (name or file.name).lower()
    if not name.endswith(readers.suffixes()):
        return "" if file.stat().st_size else "it is empty"
    try:
        readers.verify(file)
    except UnreadableError as reason:
        return str(reason)
    return ""


def _fetch(url: str, part: Path, timeout: float, on_bytes: Callable[[int], None]) -> None:
    """Append the missing bytes to `part`."""
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"User-Agent": "transit-cli"})  # noqa: S310 - checked by the caller
    if have:
        request.add_header("Range", f"bytes={have}-")
    with urllib.request.urlopen(request, timeout=timeout) as answer:  # noqa: S310
        if have and answer.status != 206:  # the server does not resume
            have = 0
        length = answer.headers.get("Content-Length")
        total = have + int(length) if length else None
        with part.open("ab" if have else "wb") as stream:
            on_bytes(have)
            while block := answer.read(CHUNK):
                stream.write(block)
                on_bytes(len(block))
    arrived = part.stat().st_size
    if total is not None and arrived < total:
        raise ConnectionResetError(f"the connection closed after {arrived:,} of {total:,} bytes")


def _describe(error: Exception) -> str:
    if isinstance(error, TimeoutError) or "timed out" in str(error):
        return "timed out"
    reason = getattr(error, "reason", None)
    return str(reason or error or type(error).__name__)
