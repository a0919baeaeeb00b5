"""Nothing heavy is imported before a command computes."""

import os
import subprocess
import sys

import pytest

from transit_cli.discovery import discover

HEAVY = ("torch", "numpy", "scipy", "sklearn", "pandas", "astropy", "matplotlib", "pydantic")
#: A guard that does not depend on the machine's speed. `transit --help` needed 255 modules when this was written.
MOST_MODULES = 420


def imported(arguments, env=None):
    """The heavy packages that a command imports, and how many modules in all."""
    script = f"""
import atexit, runpy, sys
heavy = {HEAVY!r}
atexit.register(lambda: sys.stderr.write("\\nMODULES " + str(len(sys.modules)) + " " + " ".join(m for m in heavy if m in sys.modules)))
sys.argv = ["transit", *{list(arguments)!r}]
runpy.run_module("transit_cli", run_name="__main__")
"""
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, env=os.environ | (env or {}), capture_output=True, text=True, timeout=60)
    _, count, *heavy = done.stderr.splitlines()[-1].split()
    return heavy, int(count), done


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["no-such-command"]])
def test_the_root_imports_nothing_heavy(arguments):
    heavy, count, _ = imported(arguments)
    assert heavy == []
    assert count < MOST_MODULES


@pytest.mark.parametrize("words", ["transit ", "transit d", "transit plugins --"])
def test_tab_imports_nothing_heavy(words):
    completion = {
        "_TRANSIT_COMPLETE": "complete_bash",
        "COMP_WORDS": words,
        "COMP_CWORD": str(len(words.split(" ")) - 1),
    }
    heavy, _, done = imported([], completion)
    assert heavy == []
    assert done.stdout.strip() or words == "transit d"


@pytest.mark.parametrize("name", sorted(discover().used))
def test_a_commands_help_imports_nothing_heavy(name):
    heavy, count, done = imported([name, "--help"])
    assert "Usage" in done.stdout
    assert heavy == []
    assert count < MOST_MODULES
