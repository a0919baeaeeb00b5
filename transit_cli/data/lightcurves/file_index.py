"""The light curves under a folder: which star each is of, and its content, remembered between runs.

A file is its path and its content. Size, times and inode decide whether a file is the one that was seen before; where
they do not, its content is read again. What was read is kept in the user's cache.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from stat import S_ISREG
from typing import Any

from transit_cli import __version__, console
from transit_cli.data import bulk
from transit_cli.data.lightcurves import readers, text_tables
from transit_cli.data.lightcurves.lightcurve import UnreadableError
from transit_cli.data.lightcurves.target import mission_of, star_in_name
from transit_cli.data.lightcurves.text_tables import NoLightCurveError
from transit_cli.results import TransitError
from transit_cli.utils import machine_errors, remote
from transit_cli.utils.cache import cache_folder
from transit_cli.utils.files import atomic_write

#: Changes when entries of an earlier version must not be used.
VERSION = 2
#: A file that changed less than this before it was read may change again without a new time stamp, in nanoseconds.
UNSETTLED_NS = 2_000_000_000


@dataclass
class _Entry:
    """What is known of a file.

    Attributes:
        stamp: size, times of change of content and of inode in ns, inode.
        read_at: when it was read, in ns.
        star: the star, "" if unknown.
        reason: why it cannot be read, "" if it can.
        table: whether it is a table that is not a light curve.
        sha256: of its content, "" if not computed yet.
        rows: the star of each row, of a file with one light curve per row.
    """

    stamp: list[int]
    read_at: int
    star: str = ""
    reason: str = ""
    table: bool = False
    sha256: str = ""
    rows: list[str] = field(default_factory=list)

    def is_of(self, stamp: list[int]) -> bool:
        return self.stamp == stamp and self.read_at - max(stamp[1], stamp[2]) > UNSETTLED_NS


@dataclass
class FileIndex:
    """The light curves under a folder.

    Attributes:
        folder: the folder.
        files: paths, sorted.
        by_star: paths by star; files without a star are not in it.
        unreadable: why a file cannot be read, by path.
        ignored: tables that are not light curves.
    """

    folder: Path
    files: list[Path] = field(default_factory=list)
    by_star: dict[str, list[Path]] = field(default_factory=dict)
    unreadable: dict[Path, str] = field(default_factory=dict)
    ignored: list[Path] = field(default_factory=list)
    _entries: dict[str, _Entry] = field(default_factory=dict)
    _rows: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, folder: Path, skip: Collection[Path] = ()) -> FileIndex:
        """Index the light curves under a folder, also in linked folders, or in a file with one light curve per row.

        Args:
            folder: an existing folder, or a Parquet file.
            skip: files that are not light curves, such as the catalog.

        Raises:
            TransitError: the folder does not exist or holds no light curve, or the file's columns are not understood.
        """
        index = cls(base_of(folder))
        if remote.url(folder):
            index._list_remote()
            return index
        known = index._remembered()
        found = list(_unique(iter([folder]) if folder.is_file() else walk(folder), skip))
        if folder.is_file():
            _check_file(folder)
        if not found:
            raise TransitError(
                f"{folder} holds no light curve" if folder.is_dir() else f"{folder} is not a folder",
                wanted=f"a folder with files ending in {', '.join(readers.suffixes())}, also in subfolders",
                fix="give the folder of your light curves, or get some: transit data fetch TARGETS OUT",
                code="lightcurves-missing",
            )
        by_star: dict[str, list[Path]] = defaultdict(list)
        with console.progress("headers", len(found)) as bar:
            for path, stamp in found:
                name = index.name(path)
                entry = known.get(name)
                if entry is None or not entry.is_of(stamp):
                    entry = _read(path, stamp, entry)
                bar.update(advance=1)
                index._entries[name] = entry
                if entry.table:
                    index.ignored.append(path)
                    continue
                if entry.rows:
                    index._add_rows(path, entry.rows, by_star)
                    continue
                index.files.append(path)
                if entry.reason:
                    index.unreadable[path] = entry.reason
                for star in _names(entry.star, path):
                    by_star[star].append(path)
        index.by_star = dict(by_star)
        index._remember(known)
        return index

    def _add_rows(self, path: Path, stars: Sequence[str], by_star: dict[str, list[Path]]) -> None:
        for number, star in enumerate(stars):
            row = bulk.name(path, number)
            self._rows[self.name(row)] = star
            self.files.append(row)
            if star:
                by_star[star].append(row)

    def _list_remote(self) -> None:
        """The light curves in a folder by URL: of the star that the file's name gives, else its header."""
        endings = readers.suffixes()
        found = [item for item in remote.files(self.folder) if item[0].name.lower().endswith(endings)]
        by_star: dict[str, list[Path]] = defaultdict(list)
        with console.progress("listing", len(found)) as bar:
            for path, size, tag in found:
                if path.name.lower().endswith(bulk.SUFFIXES) and bulk.holds_rows(here := remote.local(path)):
                    self._entries[self.name(path)] = _Entry([size, *3 * [0]], 0, sha256=tag)
                    self._add_rows(path, _stars_of_rows(here), by_star)
                    continue
                entry = _Entry([size, *3 * [0]], 0, star=star_in_name(path), sha256=tag)
                if not mission_of(entry.star):
                    with remote.opened(path) as here:
                        entry = replace(_read(here, entry.stamp, None), read_at=0, sha256=tag)
                bar.update(advance=1)
                self._entries[self.name(path)] = entry
                if entry.table:
                    self.ignored.append(path)
                    continue
                self.files.append(path)
                if entry.reason:
                    self.unreadable[path] = entry.reason
                for star in _names(entry.star, path):
                    by_star[star].append(path)
        self.by_star = dict(by_star)

    def name(self, path: Path) -> str:
        """The path of a file relative to the folder, with slashes."""
        text, folder = path.as_posix(), f"{self.folder.as_posix()}/"
        return text[len(folder) :] if text.startswith(folder) else path.relative_to(self.folder).as_posix()

    def star(self, path: Path) -> str:
        """The star of a light curve, "" if unknown."""
        name = self.name(path)
        return self._rows[name] if name in self._rows else self._entries[name].star

    @property
    def has_rows(self) -> bool:
        """Whether light curves are rows of Parquet files, which are read fastest in their order."""
        return bool(self._rows)

    @property
    def digest(self) -> str:
        """A digest of the names and stamps of all files, which changes if one of them may have changed."""
        digest = hashlib.sha256()
        for name, entry in sorted(self._entries.items()):
            digest.update(f"{name} {entry.stamp[:2] if entry.read_at else entry.sha256}\n".encode())
        return digest.hexdigest()

    def named(self, name: str) -> list[Path]:
        """Files whose path ends in `name`, which may contain folders."""
        parts = Path(name).parts
        if Path(name).is_absolute():
            return [path for path in self.files if path.resolve() == Path(name).resolve()]
        return [path for path in self.files if path.parts[-len(parts) :] == parts]

    def checksums(self, paths: Sequence[Path]) -> dict[Path, str]:
        """The SHA-256 of the content of files, computed only where it is not remembered; `bulk.digest` of rows."""
        rows = {path: bulk.digest(path) for path in paths if self.name(path) in self._rows}
        paths = [path for path in paths if path not in rows]
        lacking = [path for path in paths if not self._entries[self.name(path)].sha256]
        with console.progress("checksums", len(lacking)) as bar:
            for path in lacking:
                entry = self._entries[self.name(path)]
                entry.sha256 = _sha256(path)
                bar.update(advance=1)
        if lacking:
            self._remember({})
        return rows | {path: self._entries[self.name(path)].sha256 for path in paths}

    @property
    def _cache(self) -> Path:
        key = hashlib.sha256(str(self.folder.resolve()).encode()).hexdigest()[:24]
        return cache_folder() / "light-curves" / f"{key}.json"

    def _remembered(self) -> dict[str, _Entry]:
        try:
            content = json.loads(self._cache.read_text(encoding="utf-8"))
            if content["reader"] != _reader():
                return {}
            return {name: _Entry(**entry) for name, entry in content["files"].items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return {}

    def _remember(self, known: dict[str, _Entry]) -> None:
        if self._entries == known:
            return
        content = {"reader": _reader(), "files": {name: vars(entry) for name, entry in self._entries.items()}}
        with suppress(OSError):  # without a cache, everything is read again
            atomic_write(self._cache, json.dumps(content))


def base_of(light_curves: Path) -> Path:
    """The folder to which the names of light curves are relative: of a file, the one it lies in."""
    return light_curves.parent if not remote.url(light_curves) and light_curves.is_file() else light_curves


def _check_file(file: Path) -> None:
    """Raise the error for a file, given in place of a folder, that does not hold many light curves."""
    found = "one light curve, or none"
    if bulk.holds_rows(file):
        try:
            if any(_stars_of_rows(file)):
                return
        except UnreadableError as reason:
            found = str(reason)
    raise TransitError(
        f"{file} cannot be read as light curves, one per row: {found}",
        wanted="a folder of light curves, or a Parquet file with lists of times and fluxes and a column with the star, "
        "such as tic_id, time and flux",
        fix="name the columns as in docs/data.md, or give the folder that the file lies in",
        code="lightcurves-missing",
    )


def _stars_of_rows(file: Path) -> list[str]:
    """The star of each row of a file with one light curve per row.

    Raises:
        UnreadableError: the columns are not understood.
    """
    text_tables.open_table(bulk.name(file, 0))
    try:
        stars = [readers.star_of_cells(cells) for cells in bulk.headers(file)]
    except UnreadableError:
        raise
    except Exception as error:
        machine_errors.raise_if_machine(error)
        raise UnreadableError(f"it cannot be read: {type(error).__name__}: {str(error)[:200]}") from error
    if not any(stars):
        raise UnreadableError(f"no column names the stars of its {len(stars):,} light curves, such as tic_id or kepid")
    return stars


def _names(star: str, path: Path) -> list[str]:
    """The names of a file's star: a header that gives no catalog number is completed by the file's name."""
    from_file = star_in_name(path)
    return list(dict.fromkeys(filter(None, [star, "" if mission_of(star) else from_file])))


def _reader() -> list[Any]:
    return [VERSION, __version__, sorted((name, reader.value) for name, reader in readers.readers().items())]


def walk(folder: Path) -> Iterator[Path]:
    """Files with the ending of a light curve, sorted, also in linked folders; each folder is visited once."""
    endings = readers.suffixes()
    visited: set[tuple[int, int]] = set()
    for path, folders, names in os.walk(folder, onerror=machine_errors.raise_if_machine, followlinks=True):
        status = Path(path).stat()
        if (status.st_dev, status.st_ino) in visited:
            folders.clear()
            continue
        visited.add((status.st_dev, status.st_ino))
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(path, name) for name in sorted(names) if name.lower().endswith(endings) and name[0] != ".")


def _unique(paths: Iterator[Path], skip: Collection[Path]) -> Iterator[tuple[Path, list[int]]]:
    """Regular files with their stamps, without those to skip; one that several links lead to only once."""
    skipped = {(status.st_dev, status.st_ino) for path in skip if path.exists() for status in [path.stat()]}
    seen: set[tuple[int, int]] = set()
    for path in paths:
        try:
            status = path.stat()
        except OSError as error:  # a broken link
            machine_errors.raise_if_machine(error)
            continue
        identity = (status.st_dev, status.st_ino)
        if not S_ISREG(status.st_mode) or identity in skipped or (status.st_nlink == 1 and identity in seen):
            continue
        seen.add(identity)
        yield path, [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]


def _read(path: Path, stamp: list[int], earlier: _Entry | None) -> _Entry:
    """The entry of a file that is new, or that may have changed."""
    now = time.time_ns()
    try:
        if bulk.holds_rows(path):
            return _Entry(stamp, now, rows=_stars_of_rows(path))
        entry = _Entry(stamp, now, star=readers.star_of_file(path))
    except NoLightCurveError as reason:
        entry = _Entry(stamp, now, reason=str(reason), table=True)
    except UnreadableError as reason:
        entry = _Entry(stamp, now, star=star_in_name(path), reason=str(reason))
    if earlier and earlier.sha256 and earlier.stamp == stamp:
        entry.sha256 = _sha256(path)  # a file that has just been written
    return entry


def _sha256(path: Path) -> str:
    """The checksum of a file's content; "" if it cannot be read, which is reported when it is read."""
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        machine_errors.raise_if_machine(error)
        return ""
