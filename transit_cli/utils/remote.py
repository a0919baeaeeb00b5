"""Files and folders that are given by URL, such as s3://bucket/folder, read and written through fsspec.

A URL is kept as a `Path`, which joins and compares as other paths do and writes "s3://bucket" as "s3:/bucket". Every
function here takes local paths too. What is fetched is kept in the user's cache under its URL and its version there.
fsspec reads keys and end points from the environment: AWS_ACCESS_KEY_ID, FSSPEC_S3_ENDPOINT_URL, FSSPEC_S3_ANON.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from transit_cli.results import ExitCode, TransitError
from transit_cli.utils.cache import cache_folder
from transit_cli.utils.files import atomic_output, atomic_write

if TYPE_CHECKING:
    from collections.abc import Iterator

_URL = re.compile(r"([a-z][a-z0-9+.-]+):/+(.+)")
#: The file of a folder that is uploaded last, and so tells that the folder is complete.
LAST = "viewset.json"


def url(path: Path) -> str:
    """The URL that a path stands for; "" for a local path."""
    found = _URL.fullmatch(str(path))
    return f"{found[1]}://{found[2]}" if found else ""


def absolute(path: Path) -> Path:
    """An absolute path; a URL is one."""
    return path if url(path) else path.absolute()


def exists(path: Path) -> bool:
    """Whether a file exists, or a folder that holds one."""
    if not url(path):
        return path.exists()
    with _reported(path) as (system, name):
        return bool(system.exists(name))


def names(folder: Path) -> list[str]:
    """The names in a folder, sorted; none if it does not exist."""
    if not url(folder):
        return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    with _reported(folder) as (system, name):
        found = system.ls(name, detail=False, refresh=True) if system.exists(name) else []
        return sorted({PurePosixPath(item).name for item in found})


def files(folder: Path) -> Iterator[tuple[Path, int, str]]:
    """The files under a folder by URL, sorted, each with its size and a tag that changes with its content."""
    with _reported(folder) as (system, name):
        found = system.find(name, detail=True, refresh=True)
    for item, about in sorted(found.items()):
        relative = item[len(name.rstrip("/")) + 1 :] if item.startswith(name) else PurePosixPath(item).name
        yield folder / relative, int(about.get("size") or 0), _tag(about)


def tag(path: Path) -> str:
    """A text that changes with the content of a file by URL: its size and what the server calls its version."""
    with _reported(path) as (system, name):
        return _tag(system.info(name))


def _tag(about: dict[str, Any]) -> str:
    version = next(
        (about[key] for key in ("ETag", "etag", "md5Hash", "LastModified", "mtime", "created") if key in about), ""
    )
    return f"{about.get('size')} {version}"


def local(path: Path) -> Path:
    """A file on this machine: a local path as it is, a URL's file in the cache, fetched if it is not there yet.

    Raises:
        TransitError: it cannot be fetched.
    """
    if not url(path):
        return path
    with _reported(path) as (system, name):
        key = hashlib.sha256(f"{url(path)} {_tag(system.info(name))}".encode()).hexdigest()[:24]
        kept = cache_folder() / "remote" / key / path.name
        if not kept.exists():
            with atomic_output(kept) as temporary:
                system.get_file(name, str(temporary))
        return kept


@contextmanager
def opened(path: Path) -> Iterator[Path]:
    """A file on this machine while the block runs: a local path as it is, a URL's file in a temporary folder."""
    if not url(path):
        yield path
        return
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder, path.name)
        with _reported(path) as (system, name):
            system.get_file(name, str(here))
        yield here


@contextmanager
def staged(path: Path) -> Iterator[Path]:
    """A folder to write to: a local path as it is; for a URL one in the cache that is uploaded when the block ends.

    It stays there if the block fails, so that interrupted work is resumed.
    """
    if not url(path):
        yield path
        return
    here = cache_folder() / "staged" / hashlib.sha256(url(path).encode()).hexdigest()[:24] / path.name
    here.parent.mkdir(parents=True, exist_ok=True)
    yield here
    found = sorted((file for file in here.rglob("*") if file.is_file()), key=lambda file: (file.name == LAST, file))
    with _reported(path) as (system, name):
        for file in found:
            system.put_file(str(file), f"{name}/{file.relative_to(here).as_posix()}")
    shutil.rmtree(here)


def read_text(path: Path) -> str:
    """The text of a small file, as it is now."""
    if not url(path):
        return path.read_text(encoding="utf-8")
    with _reported(path) as (system, name):
        return system.cat_file(name).decode()


def write_text(path: Path, text: str) -> None:
    """Write a small file at once."""
    if not url(path):
        atomic_write(path, text)
        return
    with _reported(path) as (system, name):
        system.pipe_file(name, text.encode())


@contextmanager
def _reported(path: Path) -> Iterator[tuple[Any, str]]:
    """The file system of a URL and the name in it; its errors as ours."""
    import fsspec

    address = url(path)
    try:
        yield fsspec.core.url_to_fs(address)
    except ImportError as error:
        package = {"s3": "s3fs", "gs": "gcsfs", "http": "aiohttp", "https": "aiohttp"}.get(address.split(":")[0], "")
        raise TransitError(
            f"{address} cannot be read: {error}",
            wanted="the package with which fsspec reads such URLs",
            fix=f"pip install {package}" if package else "give another URL",
            exit_code=ExitCode.MACHINE,
            code="package-missing",
        ) from None
    except TransitError:
        raise
    except Exception as error:
        text = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise TransitError(
            f"{address} cannot be used: {text}",
            wanted="a URL that exists, and the rights to it",
            fix="see the part on URLs in docs/data.md: keys and end points come from the environment",
            exit_code=ExitCode.MACHINE,
            code="url-unusable",
        ) from error
