"""One file over HTTP, whole or not at all: resumed where it broke off, checked, and renamed into place."""

from __future__ import annotations

import http.client
import urllib.error
import urllib.request
from time import sleep
from typing import TYPE_CHECKING

from transit_cli.data.lightcurves import lightcurve

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

#: Bytes that are read at a time.
CHUNK = 1 << 16


class FailedError(Exception):
    """The file could not be had; the text says why."""


def download(
    url: str,
    file: Path,
    *,
    timeout: float = 60.0,
    tries: int = 5,
    pause: float = 1.0,
    moved: Callable[[int], None] = lambda _: None,
) -> int:
    """Fetch `url` into `file`.

    What has arrived stays in `file`.part, and the next try, or the next run, asks for the rest. A light curve is opened
    before it takes its name, so that neither a file cut short nor an error page ever does.

    Args:
        url: http or https.
        file: where it goes; its folder exists.
        timeout: seconds without a byte after which a try is given up.
        tries: how often, where the failure may pass.
        pause: seconds before the second try, doubled for each further one.
        moved: told the number of bytes as they arrive.

    Returns:
        Bytes in the file.

    Raises:
        FailedError: not to be had, or not a light curve.
    """
    part = file.with_name(file.name + ".part")
    reason = ""
    for attempt in range(tries):
        if attempt:
            sleep(pause * 2 ** (attempt - 1))
        try:
            _fetch(url, part, timeout, moved)
        except urllib.error.HTTPError as error:
            reason = f"the server answers {error.code} {error.reason}"
            if error.code == 416:  # more is here than there: what is here is not of this file
                part.unlink(missing_ok=True)
            elif 400 <= error.code < 500 and error.code not in {408, 429}:
                break
            continue
        except (OSError, http.client.HTTPException) as error:
            reason = _words(error)
            continue
        broken = problem(part, file.name)
        if not broken:
            part.replace(file)
            return file.stat().st_size
        reason = f"what arrives is no whole light curve: {broken}"
        part.unlink()
    raise FailedError(reason)


def problem(file: Path, name: str = "") -> str:
    """What is wrong with a file as it lies on disk, "" if nothing is."""
    name = (name or file.name).lower()
    if not name.endswith(lightcurve.suffixes()):
        return "" if file.stat().st_size else "it is empty"
    try:
        lightcurve.star_of_file(file)
    except lightcurve.UnreadableError as reason:
        return str(reason)
    return ""


def _fetch(url: str, part: Path, timeout: float, moved: Callable[[int], None]) -> None:
    """Append to `part` what is missing of it."""
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
            moved(have)
            while block := answer.read(CHUNK):
                stream.write(block)
                moved(len(block))
    arrived = part.stat().st_size
    if total is not None and arrived < total:
        raise ConnectionResetError(f"it broke off after {arrived:,} of {total:,} bytes")


def _words(error: Exception) -> str:
    if isinstance(error, TimeoutError) or "timed out" in str(error):
        return "nothing arrived for too long"
    reason = getattr(error, "reason", None)
    return str(reason or error or type(error).__name__)
