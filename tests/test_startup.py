"""Nothing heavy is imported before a command computes."""

import os
import subprocess
import sys

import numpy as np
import pytest

from transit_cli.discovery import discover

HEAVY = ("torch", "numpy", "scipy", "sklearn", "pandas", "astropy", "matplotlib", "pydantic")
#: A guard that does not depend on the machine's speed. `transit --help` needed 255 modules when this was written.
MOST_MODULES = 420


def imported(arguments, env=None, heavy=HEAVY):
    """The heavy packages that a command imports, and how many modules in all."""
    script = f"""
import atexit, runpy, sys
heavy = {heavy!r}
atexit.register(lambda: sys.stderr.write("\\nMODULES " + str(len(sys.modules)) + " " + " ".join(m for m in heavy if m in sys.modules)))
sys.argv = ["transit", *{list(arguments)!r}]
runpy.run_module("transit_cli", run_name="__main__")
"""
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, env=os.environ | (env or {}), capture_output=True, text=True, timeout=60)
    _, count, *found = done.stderr.splitlines()[-1].split()
    return found, int(count), done


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


#: Packages that no command needs at its start, but that torch, scipy and matplotlib bring with a careless import.
NEEDLESS = ("torch._dynamo", "torch._inductor", "sympy", "scipy.linalg", "scipy.stats", "sklearn", "pandas", "onnx")


def test_a_light_curve_is_scored_without_what_is_slow_to_import(tmp_path):
    rng = np.random.default_rng(0)
    time = 2000 + np.arange(0, 27, 30 / 1440)
    flux = 1 - 0.01 * ((time - 2001) % 3.0 < 0.1) + rng.normal(0, 1e-3, len(time))
    table = np.stack([time, flux, np.full_like(time, 1e-3)], axis=1)
    np.savetxt(tmp_path / "star.csv", table, delimiter=",", header="time,flux,flux_err", comments="")
    given = {"--period": 3, "--epoch": 2001.05, "--duration": 2.4, "--out": tmp_path / "out", "--device": "cpu"}
    words = [str(word) for pair in given.items() for word in pair]
    heavy, _, done = imported(["predict", str(tmp_path / "star.csv"), *words], heavy=NEEDLESS)
    assert "score 0." in done.stdout, done.stderr
    assert (tmp_path / "out" / "signal_0.svg").exists()
    assert heavy == []
