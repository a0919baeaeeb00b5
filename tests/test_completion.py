"""The quick answer to Tab is the answer that Typer would give."""

import os
import subprocess
import sys

import pytest

SLOW = "from transit_cli.app import main; import sys; sys.exit(main([]))"


@pytest.mark.parametrize("typed", ["", "p", "plugins"])
@pytest.mark.parametrize(
    "environment",
    [
        {"_TRANSIT_COMPLETE": "complete_bash", "COMP_WORDS": "transit {}", "COMP_CWORD": "1"},
        {"_TRANSIT_COMPLETE": "complete_zsh", "_TYPER_COMPLETE_ARGS": "transit {}"},
        {
            "_TRANSIT_COMPLETE": "complete_fish",
            "_TYPER_COMPLETE_ARGS": "transit {}",
            "_TYPER_COMPLETE_FISH_ACTION": "get-args",
        },
    ],
    ids=["bash", "zsh", "fish"],
)
def test_tab_agrees_with_typer(environment, typed):
    wide = {"COLUMNS": "500"}  # Typer would break a long help text, also where the shell wants a line for each command
    environment = os.environ | wide | {key: value.format(typed) for key, value in environment.items()}
    quick = subprocess.run(
        [sys.executable, "-m", "transit_cli"], env=environment, capture_output=True, text=True, timeout=60
    )
    slow = subprocess.run([sys.executable, "-c", SLOW], env=environment, capture_output=True, text=True, timeout=60)
    assert "plugins" in quick.stdout
    assert quick.stdout.strip() == slow.stdout.strip()


def test_an_unknown_first_word_completes_to_nothing():
    environment = os.environ | {"_TRANSIT_COMPLETE": "complete_bash", "COMP_WORDS": "transit zzz", "COMP_CWORD": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "transit_cli"], env=environment, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout.strip()) == (0, "")
