"""Standard streams that are closed, full or of another encoding, terminals that go away, and systems without a home."""

import json
import os
import pty
import signal
import subprocess
import sys
import time

import pytest

from transit_cli import command
from transit_cli.results import ExitCode
from transit_cli.utils import files

COMMAND = [sys.executable, "-m", "transit_cli"]


def shell(line, **env):
    return subprocess.run(
        ["bash", "-c", line.replace("transit ", " ".join(COMMAND) + " ")],
        capture_output=True,
        text=True,
        timeout=120,
        env=os.environ | env,
    )


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams_lose_no_work(tmp_path, closed):
    done = shell(f"transit data simulate {tmp_path}/set --tces 4 --seed 1 {closed}")
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert (tmp_path / "set" / "viewset.json").is_file()


@pytest.mark.parametrize("arguments", ["train --help", "doctor --only python", "--version", "train --print-config"])
def test_a_closed_reader_and_a_full_disk_give_no_traceback(arguments):
    done = shell(f"transit {arguments} | true; exit ${{PIPESTATUS[0]}}")
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    done = shell(f"transit {arguments} > /dev/full")
    assert done.returncode == ExitCode.MACHINE, done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("arguments", ["train --help", "data info ä", "data info ä --json", "data info $'\\xff'"])
def test_an_encoding_without_a_character_gets_a_replacement(arguments):
    done = shell(f"transit {arguments}", PYTHONIOENCODING="ascii", PYTHONUTF8="0")
    assert done.returncode == (0 if "help" in arguments else ExitCode.BAD_INPUT), done.stderr
    assert "Traceback" not in done.stderr
    if "--json" in arguments:
        assert "ä" in json.loads(done.stdout)["errors"][0]["found"]


def test_a_closed_terminal_ends_a_command_like_sigterm_and_is_no_failure_of_its_own(tmp_path):
    master, terminal = pty.openpty()
    process = subprocess.Popen(
        [*COMMAND, "data", "simulate", tmp_path / "set", "--tces", "20000"],
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        start_new_session=True,
    )
    os.close(terminal)
    os.read(master, 10)  # the progress bar
    os.close(master)
    process.send_signal(signal.SIGHUP)
    assert process.wait(60) == ExitCode.TERMINATED
    assert not list(tmp_path.iterdir())


def test_a_signal_that_is_ignored_stays_ignored(tmp_path):
    line = f"trap '' HUP; transit data simulate {tmp_path}/set --tces 40 --seed 1 & sleep 1.5; kill -HUP $!; wait $!"
    assert shell(line).returncode == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signals_in_the_first_second_give_no_traceback(number):
    for wait in (0.08, 0.15, 0.3, 0.6):
        process = subprocess.Popen(
            [*COMMAND, "data", "simulate", "/dev/null/x", "--json"], stderr=subprocess.PIPE, stdout=subprocess.PIPE
        )
        time.sleep(wait)
        process.send_signal(number)
        _, stderr = process.communicate(timeout=60)
        if b"transit_cli" in stderr or process.returncode >= 0:  # Python itself had started
            assert b"Traceback" not in stderr, stderr
            assert process.returncode in {130, 143, 4, 5}


def test_without_home_and_user_name_the_caches_are_in_the_temporary_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)

    def no_home():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr("pathlib.Path.home", no_home)
    monkeypatch.setenv("HOME", "")
    command._ensure_home()
    assert os.environ["HOME"] == str(tmp_path / f"transit-home-{os.getuid()}")


def test_no_temporary_folder_is_the_machines_fault():
    error = command.explain(FileNotFoundError(2, "No usable temporary directory found in ['/tmp']"))
    assert error.exit_code == ExitCode.MACHINE
    assert "TMPDIR" in error.fix


def test_a_full_disk_names_the_bytes(tmp_path, monkeypatch):
    def full(self, content):
        raise OSError(28, "No space left on device", str(self))

    monkeypatch.setattr("pathlib.Path.write_bytes", full)
    with pytest.raises(OSError, match="1,234 bytes are needed") as caught:
        files.atomic_write(tmp_path / "a", b"x" * 1234)
    error = command.explain(caught.value)
    assert error.exit_code == ExitCode.MACHINE
    assert "free" in error.fix


def test_abandoned_temporary_folders_go_with_the_next_write_in_a_folder(tmp_path):
    dead = tmp_path / ".transit-part-dead"
    dead.mkdir()
    (dead / "x").write_bytes(b"half")
    files._cleaned.discard(tmp_path)
    files.atomic_write(tmp_path / "a", "x")
    assert [file.name for file in tmp_path.iterdir()] == ["a"]


def test_time_in_which_the_parent_was_stopped_is_no_timeout(tmp_path):
    (tmp_path / "slow_child.py").write_text(
        "import time\nfrom transit_cli.utils.isolation import serve\n"
        "def work(job, emit):\n    time.sleep(1.2)\n    emit({'done': 1})\nserve(work)\n"
    )
    script = tmp_path / "parent.py"
    script.write_text(
        "import os\nfrom transit_cli.utils.isolation import run_child\n"
        "os.environ['PYTHONPATH'] = f'{os.getcwd()}:' + os.environ.get('PYTHONPATH', '')\n"
        "print(run_child('slow_child', {}, lambda event: None, timeout=3).kind)\n"
    )
    env = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    process = subprocess.Popen([sys.executable, script], cwd=tmp_path, stdout=subprocess.PIPE, text=True, env=env)
    time.sleep(0.6)
    process.send_signal(signal.SIGSTOP)
    time.sleep(5)
    process.send_signal(signal.SIGCONT)
    assert process.communicate(timeout=60)[0].strip() == "done"


def test_control_characters_of_names_do_not_reach_the_terminal(capsys):
    from transit_cli import console
    from transit_cli.results import Result, Table

    with console.session():
        console.warn("TIC \x1b[2J1")
        console.show(Result({}, [Table(["star"], [["\x1b]0;title\x07ä\x9b"]])], "\x1b[H"), command="x", version="1")
    shown = capsys.readouterr()
    assert not {"\x1b", "\x07", "\x9b"} & {*shown.out, *shown.err}
    assert "\\x1b]0;title\\x07ä" in shown.out
