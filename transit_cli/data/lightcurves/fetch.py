"""`transit data fetch`: download light curves from the public archive.

lightkurve (an extra, which takes 4 s to import) searches the archive; the files are downloaded here, because truncated
downloads are the most common defect of light curves on disk.
"""

from __future__ import annotations

import csv
import http.client
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from time import sleep
from typing import TYPE_CHECKING, Any

from transit_cli import console
from transit_cli.data.lightcurves import readers
from transit_cli.data.lightcurves.lightcurve import UnreadableError
from transit_cli.results import ExitCode, Result, Table, TransitError
from transit_cli.utils import machine_errors
from transit_cli.utils.packages import check_installed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from transit_cli.data.settings import FetchSettings

#: Bytes per read.
CHUNK = 1 << 16
#: MAST's download service for the URI of a product.
ARCHIVE = "https://mast.stsci.edu/api/v0.1/Download/file?uri="


@dataclass(frozen=True)
class ArchiveProduct:
    """A file of the archive: its URL and name, and the target that it was requested for."""

    target: str
    url: str
    name: str


def fetch(settings: FetchSettings) -> Result:
    """Download the light curves of all targets; complete files on disk are kept."""
    targets = list(_targets(settings.targets))
    if not all(map(_is_url, targets)):
        check_installed("lightkurve", "fetch", "finding the light curves of a star; URLs of files need none")
    settings.out.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    try:
        with console.progress("targets", len(targets)) as bar:
            for target in targets:
                bar.update(status=target.rsplit("/", 1)[-1])
                rows += _fetch_target(target, settings)
                bar.update(advance=1)
    except KeyboardInterrupt as interrupt:
        interrupt.args = ("run the same command again to resume",)
        raise
    return _result(rows, settings)


def _result(rows: list[dict[str, Any]], settings: FetchSettings) -> Result:
    failed = [row for row in rows if row["status"] == "failed"]
    counts = {status: sum(row["status"] == status for row in rows) for status in ("fetched", "present", "again")}
    arrived = sum(row["bytes"] for row in rows if row["status"] in {"fetched", "again"})
    verdict = (
        f"{counts['fetched'] + counts['again']} light curves fetched into {settings.out} ({console.size(arrived)})"
    )
    verdict += f", {counts['present']} were there already" if counts["present"] else ""
    verdict += f"; {len(failed)} could not be had" if failed else ""
    blocks = []
    if failed:
        cells = [(row["target"], row["file"], row["reason"]) for row in failed]
        blocks.append(Table(("target", "file", "reason"), cells, title="Not fetched"))
    warnings = [
        f"{row['file']} was on disk, but {row['reason']}: fetched again" for row in rows if row["status"] == "again"
    ]
    code = ExitCode.NEGATIVE if failed else ExitCode.DONE
    return Result({"out": str(settings.out), "files": rows, "bytes": arrived}, blocks, verdict, warnings, code)


def _fetch_target(target: str, settings: FetchSettings) -> Iterator[dict[str, Any]]:
    """One row per file of the target."""
    try:
        products = _products(target, settings)
    except DownloadError as reason:
        yield {"target": target, "file": "", "status": "failed", "bytes": 0, "reason": str(reason)}
        return
    for product in products:
        row = {"target": product.target, "file": product.name, "status": "fetched", "bytes": 0, "reason": ""}
        file = settings.out / product.name
        if file.exists():
            row["reason"] = problem(file)
            row |= {"status": "again" if row["reason"] else "present", "bytes": file.stat().st_size}
        if row["status"] != "present":
            try:
                row["bytes"] = download(product.url, file, timeout=settings.timeout, tries=settings.tries)
            except DownloadError as reason:
                row |= {"status": "failed", "reason": str(reason)}
        yield row


def _products(target: str, settings: FetchSettings) -> list[ArchiveProduct]:
    """The files of a target: the URL itself, or the result of a search of the archive.

    Raises:
        DownloadError: the archive has none, or does not respond.
    """
    if _is_url(target):
        name = Path(urllib.parse.unquote(urllib.parse.urlparse(target).path)).name
        return [ArchiveProduct(target, target, name or "lightcurve.fits")]
    import lightkurve  # type: ignore[import-not-found]  # an extra, checked for before this starts

    wanted = {"mission": settings.mission, "author": settings.author, "exptime": settings.cadence}
    try:
        found = lightkurve.search_lightcurve(target, **{key: value for key, value in wanted.items() if value})
        table = found.table
        products = [
            ArchiveProduct(target, ARCHIVE + urllib.parse.quote(str(uri), safe=":/"), str(name))
            for uri, name in zip(table["dataURI"], table["productFilename"], strict=True)
        ]
    except Exception as error:  # any error of the archive's client must not end the other targets
        raise DownloadError(
            f"the archive cannot be searched: {str(error).splitlines()[0] or type(error).__name__}"
        ) from error
    if not products:
        raise DownloadError("the archive has no light curve of it")
    return products


def _is_url(target: str) -> bool:
    return target.startswith(("http://", "https://"))


def _targets(given: tuple[str, ...]) -> Iterator[str]:
    """Unique targets; those of a file are one per line, or its column `star` or first column."""
    found: dict[str, None] = {}
    for item in given:
        path = Path(item)
        if _is_url(item) or not path.is_file():
            if path.suffix in {".txt", ".csv"}:
                raise TransitError(
                    f"{item} does not exist",
                    wanted="names of stars (KIC 11442793), URLs, or a file with one per line",
                    fix="give the path of an existing file",
                    code="targets-missing",
                )
            found[item] = None
            continue
        rows = [row for row in csv.reader(path.read_text(encoding="utf-8").splitlines()) if row and row[0][:1] != "#"]
        column = rows[0].index("star") if rows and "star" in rows[0] else 0
        found |= dict.fromkeys(row[column].strip() for row in (rows[1:] if column or rows[:1] == [["star"]] else rows))
    return iter(target for target in found if target)


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
            machine_errors.raise_if_machine(error)
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
