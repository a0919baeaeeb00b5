"""The command line as people meet it: wrong words, broken files, closed pipes, full disks."""

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from transit_cli import __version__

TRANSIT = [sys.executable, "-m", "transit_cli"]
#: A command with a table that does not import torch.
QUICK = ["doctor", "--only", "python,chip,system"]


def test_version(transit):
    assert transit("--version").stdout == f"transit {__version__}\n"


def test_no_arguments_is_help(transit):
    done = transit()
    assert done.returncode == 0
    assert "Usage: transit" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "suggestion"),
    [(["plugns"], "plugins"), (["plugins", "--qiet"], "--quiet"), (["--versio"], "--version")],
)
def test_a_typo_names_the_nearest_right_word(transit, arguments, suggestion):
    done = transit(*arguments)
    assert done.returncode == 2
    assert suggestion in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: [1\n", ["run.yaml:2", "not YAML"]),
        ("- a\n- b\n", ["holds a list", "key: value"]),
        ("transit_config: 99\n", ["version 99", "pip install --upgrade"]),
        ("\x00", ["run.yaml"]),
        ("epochs: 3\n", ["run.yaml:1", "unknown key 'epochs'"]),
    ],
)
def test_a_broken_configuration_says_where_and_what(transit, tmp_path, text, words):
    file = tmp_path / "run.yaml"
    file.write_text(text)
    done = transit("plugins", "--config", file)
    assert done.returncode == 4
    assert all(word in done.stderr for word in words), done.stderr
    assert "to fix:" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.fixture(params=["", "1"], ids=["buffered", "unbuffered"])
def run_into(request):
    """Run `transit` with its stdout going to a file or pipe; Python meets a full disk early or late."""

    def run(stdout, *arguments):
        environment = os.environ | {"PYTHONUNBUFFERED": request.param}
        options = {"stderr": subprocess.PIPE, "text": True, "timeout": 60, "env": environment}
        return subprocess.run([*TRANSIT, *arguments], stdout=stdout, **options)

    return run


@pytest.mark.parametrize("arguments", [["--version"], ["--help"], [], QUICK, [*QUICK, "--json"]])
def test_a_closed_pipe_is_not_a_failure(run_into, arguments):
    reader, writer = os.pipe()
    os.close(reader)
    done = run_into(writer, *arguments)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="/dev/full, a disk that is always full, is Linux's")
@pytest.mark.parametrize("arguments", [["--version"], ["--help"], QUICK, [*QUICK, "--json"]])
def test_a_full_disk_is_the_machines_fault(run_into, arguments):
    with Path("/dev/full").open("w") as full:
        done = run_into(full, *arguments)
    assert done.returncode == 5
    assert "No space left" in done.stderr
    assert "Traceback" not in done.stderr


def on_terminal(*arguments, columns=80, env=None):
    """What a command writes to a terminal of so many columns."""
    main, side = pty.openpty()
    environment = {k: v for k, v in os.environ.items() if k not in {"NO_COLOR", "FORCE_COLOR"}}
    environment |= {"TERM": "xterm-256color", "COLUMNS": str(columns)} | (env or {})
    process = subprocess.Popen([*TRANSIT, *arguments], stdout=side, stderr=subprocess.DEVNULL, env=environment)
    os.close(side)
    written = b""
    try:
        while chunk := os.read(main, 65536):
            written += chunk
    except OSError:  # Linux ends a terminal's stream so
        pass
    os.close(main)
    process.wait(60)
    return written.decode()


def test_a_terminal_gets_colour_a_pipe_and_no_color_do_not(transit):
    assert "\x1b[" in on_terminal(*QUICK)
    assert "\x1b[3" not in on_terminal(*QUICK, env={"NO_COLOR": "1"})
    assert "\x1b[" not in transit(*QUICK).stdout


def test_columns_are_respected():
    import re

    for columns in (60, 100):
        lines = re.sub(r"\x1b\[[0-9;]*m", "", on_terminal(*QUICK, columns=columns)).splitlines()
        assert max(map(len, lines)) <= columns


def test_quiet_leaves_the_verdict(transit):
    assert len(transit(*QUICK, "--quiet").stdout.splitlines()) == 1


def test_print_config_reads_back(transit, tmp_path):
    file = tmp_path / "run.yaml"
    file.write_text(transit(*QUICK, "--print-config").stdout)
    assert transit("doctor", "--config", file).returncode == 0
