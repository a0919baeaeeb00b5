"""Files and folders that are written atomically, and folders that one process owns at a time.

What is written appears under its name complete and on the disk, or not at all: `atomic_write` for content in memory,
`atomic_output` for what a library writes itself. Temporary folders are locked while their writer lives, so that those
of killed processes can be recognised and removed. Standard library only.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import resource
import shutil
import socket
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from transit_cli.results import TransitError

if TYPE_CHECKING:
    from collections.abc import Iterator

_TEMPORARY, _LOCK = ".transit-part-", ".transit-lock"
#: Folders whose abandoned temporary folders this process has removed.
_cleaned: set[Path] = set()
#: Free bytes below which an unspecified error of writing is one of a full disk.
_ALMOST_FULL = 1 << 20
#: errno of file systems that cannot synchronise a folder, or that have no locks.
_UNSUPPORTED = frozenset({errno.EINVAL, errno.EBADF, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.ENOLCK})


def atomic_write(path: Path, content: bytes | memoryview | str) -> None:
    """Write a file so that it has its old content or all of the new one, whatever happens; missing folders are created.

    Args:
        path: the file.
        content: text is encoded as UTF-8, line ends unchanged.

    Raises:
        OSError: the disk is full, or the folder cannot be written to; the file is as it was.
    """
    content = content.encode() if isinstance(content, str) else content
    with atomic_output(path, size=memoryview(content).nbytes) as temporary:
        temporary.write_bytes(content)


@contextmanager
def atomic_output(path: Path, *, size: int = 0) -> Iterator[Path]:
    """Create a file or a folder under a temporary path that becomes `path` when the block ends without an exception.

    The temporary path has the name of `path` and lies in a temporary folder beside it. An existing file is replaced; an
    existing folder that is not empty is not: OSError (ENOTEMPTY). Missing parent folders are created. `size` in bytes,
    if it is known, is named in the error if the disk is full.
    """
    with temporary_folder(path.parent, size=size) as folder:
        temporary = folder / path.name
        yield temporary
        publish(temporary, path)


def publish(temporary: Path, path: Path) -> None:
    """Synchronise a temporary file or folder to the disk and rename it to `path` in the same file system."""
    _sync_tree(temporary)
    temporary.replace(path)
    sync_folder(path.parent)


@contextmanager
def temporary_folder(parent: Path, *, size: int = 0) -> Iterator[Path]:
    """A temporary folder in `parent`, locked against `remove_abandoned`, that is removed when the block ends.

    The first one in a folder removes those that killed processes have left there. `size` is that of `atomic_output`.
    """
    make_folder(parent)
    if parent.resolve() not in _cleaned:
        remove_abandoned(parent)
        _cleaned.add(parent.resolve())
    while True:
        folder = Path(tempfile.mkdtemp(prefix=_TEMPORARY, dir=parent))
        try:
            handle = os.open(folder, os.O_RDONLY)
        except FileNotFoundError:  # another process took it for abandoned before it was locked
            continue
        _lock(handle, wait=True)
        if folder.exists():
            break
        os.close(handle)
    try:
        yield folder
    except OSError as error:
        _describe_full_disk(error, folder, size)
        raise
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(handle)


def _describe_full_disk(error: OSError, folder: Path, size: int) -> None:
    """Add the bytes that are needed and free to an error of a full disk; NumPy's has no errno."""
    with contextlib.suppress(OSError):
        system = os.statvfs(folder)
        written = sum(file.lstat().st_blocks * 512 for file in folder.rglob("*"))
        free = system.f_bavail * system.f_frsize + written
        if error.errno is None and system.f_bavail * system.f_frsize < _ALMOST_FULL:
            error.errno, error.strerror = errno.ENOSPC, os.strerror(errno.ENOSPC)
        if error.errno is None and resource.getrlimit(resource.RLIMIT_FSIZE)[0] != resource.RLIM_INFINITY:
            error.errno, error.strerror = errno.EFBIG, os.strerror(errno.EFBIG)
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            needed = f"{size:,} bytes" if size else f"more than {written:,} bytes"
            free_text = "no files" if system.f_files and not system.f_favail else f"{free:,} bytes"
            error.strerror = f"{error.strerror}: {needed} are needed in {folder.parent}, {free_text} are free"
            error.filename = None


def is_temporary(path: Path) -> bool:
    """Whether a name is that of a temporary folder of this module, or of a lock file."""
    return path.name.startswith(_TEMPORARY) or path.name.endswith(_LOCK)


def remove_abandoned(folder: Path) -> None:
    """Remove the temporary folders in `folder` that killed processes have left; those of living ones stay."""
    for temporary in folder.glob(f"{_TEMPORARY}*"):
        with contextlib.suppress(OSError):  # its writer has finished meanwhile, or it is another user's
            handle = os.open(temporary, os.O_RDONLY)
            try:
                if _lock(handle, wait=False):
                    shutil.rmtree(temporary)
            finally:
                os.close(handle)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Own a folder while the block runs; a folder that does not exist yet can be owned too.

    Take it before looking at the folder. The lock file, `.NAME.transit-lock`, lies beside the folder, or in it where
    the parent is read-only. The system releases the lock however a process ends. On file systems without locks,
    nothing is locked.

    Raises:
        TransitError: another process owns the folder.
    """
    folder = folder.resolve()
    new_parent = not folder.parent.exists()
    make_folder(folder.parent)
    place = folder if folder.is_dir() and not os.access(folder.parent, os.W_OK) else folder.parent
    file = place / f".{folder.name}{_LOCK}"
    handle = _own(file, folder)
    try:
        os.truncate(handle, 0)
        command = " ".join([Path(sys.argv[0]).name, *sys.argv[1:]])
        os.write(handle, f"process {os.getpid()} on {socket.gethostname()}: {command}".encode())
        remove_abandoned(folder)
        yield
    finally:
        file.unlink(missing_ok=True)
        os.close(handle)
        if new_parent:  # work that failed at its start leaves no empty folder
            with contextlib.suppress(OSError):
                folder.parent.rmdir()


def in_use(folder: Path) -> bool:
    """Whether another process owns a folder now (`locked`); False on file systems without locks."""
    folder = folder.resolve()
    for place in (folder.parent, folder):
        try:
            handle = os.open(place / f".{folder.name}{_LOCK}", os.O_RDONLY)
        except OSError:
            continue
        try:
            owner = os.read(handle, 300).decode(errors="replace")
            if not _ended(owner):  # else trying the lock could get in the way of a process that is taking it over
                return _lock(handle, wait=False) is False
        finally:
            os.close(handle)
    return False


def _ended(owner: str) -> bool:
    """Whether the process that a lock file names ran on this machine and is no more."""
    named = re.match(r"process (\d+) on ([^:]*):", owner)
    if not named or named[2] != socket.gethostname():
        return False
    try:
        os.kill(int(named[1]), 0)
    except ProcessLookupError:
        return True
    except OSError:  # another user's
        return False
    return False


def _own(file: Path, folder: Path) -> int:
    """The handle of the lock file, locked. A file that its last owner removed meanwhile is not the lock any more."""
    while True:
        handle = os.open(file, os.O_RDWR | os.O_CREAT, 0o666)
        if _lock(handle, wait=False) is False:
            owner = "".join(c for c in os.read(handle, 300).decode(errors="replace") if c.isprintable())
            os.close(handle)
            raise TransitError(
                f"{folder} is in use by another process{f' ({owner})' if owner else ''}",
                wanted="one process per folder",
                fix="wait until it is done, or stop it",
                code="folder-busy",
            )
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(file.stat(), os.fstat(handle)):
                return handle
        os.close(handle)


def _lock(handle: int, *, wait: bool) -> bool | None:
    """Lock an open file or folder: whether that succeeded; None if the file system has no locks."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise
        return None
    return True


def make_folder(folder: Path) -> None:
    """Create a folder with its parents, and have their names on the disk."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for path in missing:
        sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Have the names in a folder on the disk, as after a rename, where the file system can."""
    try:
        _sync(folder)
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise


def _sync_tree(path: Path) -> None:
    for folder, _, names in os.walk(path):
        for name in names:
            _sync(Path(folder, name))
        sync_folder(Path(folder))
    if not path.is_dir():
        _sync(path)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        if sys.platform == "darwin":  # fsync(2) of macOS leaves the content in the drive's cache
            with contextlib.suppress(OSError):  # a network file system
                fcntl.fcntl(handle, fcntl.F_FULLFSYNC)
                return
        os.fsync(handle)
    finally:
        os.close(handle)


def allow_open_files() -> None:
    """Raise this process's limit of open files as far as it can: macOS begins with 256."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for most in (hard, 1 << 16, 10_240):
        if most != resource.RLIM_INFINITY and most > soft:
            with contextlib.suppress(OSError, ValueError):
                resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, 1 << 20), hard))
                return
