"""Atomic writes and locks: what another process, a kill or a full disk makes of them."""

import os
import signal
import subprocess
import sys

import pytest

from transit_cli.results import TransitError
from transit_cli.utils import files


def _python(code, *args, **options):
    return subprocess.Popen([sys.executable, "-c", code, *map(str, args)], stdout=subprocess.PIPE, text=True, **options)


def _names(folder):
    return sorted(file.name for file in folder.iterdir())


def test_an_atomic_write_creates_folders_and_replaces_the_whole_content(tmp_path):
    file = tmp_path / "a" / "b" / "note.txt"
    files.atomic_write(file, "longer content\r\n")
    files.atomic_write(file, "ä\n")
    assert file.read_bytes() == "ä\n".encode()
    files.atomic_write(file, b"\x00\xff")
    assert file.read_bytes() == b"\x00\xff"
    assert _names(file.parent) == ["note.txt"]


def test_a_file_has_the_permissions_that_any_new_file_has(tmp_path):
    (tmp_path / "plain").write_text("")
    files.atomic_write(tmp_path / "atomic", "")
    with files.atomic_output(tmp_path / "folder") as folder:
        folder.mkdir()
    (tmp_path / "plain folder").mkdir()
    assert (tmp_path / "atomic").stat().st_mode == (tmp_path / "plain").stat().st_mode
    assert (tmp_path / "folder").stat().st_mode == (tmp_path / "plain folder").stat().st_mode


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, error):
    file = tmp_path / "note.txt"
    files.atomic_write(file, "before")

    def interrupted():
        with files.atomic_output(file) as temporary:
            temporary.write_text("half of the new cont")
            raise error

    with pytest.raises(error):
        interrupted()
    assert file.read_text() == "before"
    assert _names(tmp_path) == ["note.txt"]


def test_a_full_disk_leaves_the_old_file(tmp_path, monkeypatch):
    file = tmp_path / "note.txt"
    files.atomic_write(file, "before")

    def full(handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        files.atomic_write(file, "after")
    assert file.read_text() == "before"
    assert _names(tmp_path) == ["note.txt"]


def test_a_folder_appears_complete_and_never_replaces_one_with_content(tmp_path):

    def write(name):
        with files.atomic_output(tmp_path / "set") as folder:
            folder.mkdir()
            (folder / name).write_bytes(b"1")
            assert not (tmp_path / "set" / name).exists()

    write("a.npy")
    assert _names(tmp_path / "set") == ["a.npy"]
    with pytest.raises(OSError, match="not empty"):
        write("b.npy")
    assert _names(tmp_path / "set") == ["a.npy"]
    assert _names(tmp_path) == ["set"]


def test_content_and_names_are_synchronised_before_and_after_the_rename(tmp_path, monkeypatch):
    events = []
    real_sync, real_replace = files._sync, os.replace
    monkeypatch.setattr(files, "_sync", lambda path: (events.append(("sync", path.name)), real_sync(path)))
    monkeypatch.setattr("os.replace", lambda a, b: (events.append(("rename", b.name)), real_replace(a, b)))
    with files.atomic_output(tmp_path / "new" / "set") as folder:
        folder.mkdir()
        (folder / "a.npy").write_bytes(b"1")
    assert events == [
        ("sync", tmp_path.name),  # the name of `new`
        ("sync", "a.npy"),
        ("sync", "set"),
        ("rename", "set"),
        ("sync", "new"),
    ]


_HALF_WRITTEN = """
import sys, time
from pathlib import Path
from transit_cli.utils import files
with files.atomic_output(Path(sys.argv[1])) as temporary:
    temporary.write_text("half")
    print("written", flush=True)
    time.sleep(60)
"""


def test_the_temporary_of_a_killed_process_is_removed_and_that_of_a_living_one_is_not(tmp_path):
    killed, living = (_python(_HALF_WRITTEN, tmp_path / name) for name in ("killed.txt", "living.txt"))
    try:
        assert killed.stdout.readline() == living.stdout.readline() == "written\n"
        killed.kill()
        killed.wait()
        assert len(_names(tmp_path)) == 2
        assert all(files.is_temporary(file) for file in tmp_path.iterdir())
        files.remove_abandoned(tmp_path)
        assert [file.name for file in tmp_path.glob("*/*")] == ["living.txt"]
    finally:
        living.kill()
        living.wait()
        for process in (killed, living):
            process.stdout.close()


_OWNER = """
import sys, time
from pathlib import Path
from transit_cli.utils import files
with files.locked(Path(sys.argv[1])):
    print("owned", flush=True)
    time.sleep(float(sys.argv[2]))
"""


def test_a_folder_has_one_owner_who_is_named(tmp_path):
    folder = tmp_path / "run"
    owner = _python(_OWNER, folder, 60)
    try:
        assert owner.stdout.readline() == "owned\n"
        with pytest.raises(TransitError) as failure, files.locked(tmp_path / "x" / ".." / "run"):
            pass
        assert failure.value.code == "folder-busy"
        assert str(owner.pid) in failure.value.found
        with files.locked(tmp_path / "another"):
            pass
        owner.send_signal(signal.SIGKILL)
        owner.wait()
        with files.locked(folder):  # the lock file is still there, the lock is not
            assert [file.name for file in tmp_path.iterdir() if file.is_file()] == [".run.transit-lock"]
    finally:
        owner.kill()
        owner.wait()
        owner.stdout.close()
    assert not [file for file in tmp_path.iterdir() if file.is_file()]


_COUNTER = """
import sys, time
from pathlib import Path
from transit_cli.utils import files
from transit_cli.results import TransitError
folder = Path(sys.argv[1])
done = 0
while done < 100:
    try:
        with files.locked(folder):
            count = int((folder / "count").read_text())
            (folder / "count").write_text(str(count + 1))
            done += 1
    except TransitError:
        time.sleep(0.001)
"""


def test_owners_that_come_and_go_never_own_a_folder_together(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "count").write_text("0")
    processes = [_python(_COUNTER, tmp_path / "run") for _ in range(3)]
    for process in processes:
        assert process.wait(timeout=120) == 0
        process.stdout.close()
    assert (tmp_path / "run" / "count").read_text() == "300"


def test_owning_a_folder_removes_what_a_killed_owner_was_writing(tmp_path):
    folder = tmp_path / "run"
    (folder / f"{files._TEMPORARY}abc").mkdir(parents=True)
    (folder / "kept.txt").write_text("")
    with files.locked(folder):
        assert _names(folder) == ["kept.txt"]


def test_where_there_are_no_locks_nothing_is_refused_and_nothing_is_removed(tmp_path, monkeypatch):
    def unsupported(handle, flags):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr("fcntl.flock", unsupported)
    (tmp_path / f"{files._TEMPORARY}abc").mkdir()
    with files.locked(tmp_path / "run"), files.locked(tmp_path / "run"):
        files.atomic_write(tmp_path / "run" / "a.txt", "1")
    files.remove_abandoned(tmp_path)
    assert _names(tmp_path) == [f"{files._TEMPORARY}abc", "run"]


def test_a_failed_start_leaves_no_empty_folder(tmp_path):
    with pytest.raises(ValueError, match="no"), files.locked(tmp_path / "out" / "views"):
        raise ValueError("no")
    assert not (tmp_path / "out").exists()
    with files.locked(tmp_path / "out" / "views"):
        (tmp_path / "out" / "scores.csv").touch()
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["scores.csv"]
    (tmp_path / "empty").mkdir()
    with files.locked(tmp_path / "empty" / "views"):
        pass
    assert (tmp_path / "empty").is_dir(), "a folder that was there stays"
