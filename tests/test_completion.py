"""The quick answer to Tab is the answer that Typer would give."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

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


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    """A current folder with runs, a view set and another folder."""
    for name in ("runs/a/config.yaml", "runs/b/config.yaml", "views/viewset.json", "light_curves/a.fits"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).touch()
    (tmp_path / "my_net.py").touch()
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (("train", "--network", ""), {"two-branch", "astronet"}),
        (("train", "--network", "my"), {"my_net.py:build"}),
        (("train", "--target", "PC,E"), {"PC,EB"}),
        (("train", "--preset", "s"), {"stable"}),
        (("train", "--resume", ""), {"runs/a", "runs/b"}),
        (("train", "--init", ""), {"pretrained", "runs/a", "runs/b"}),
        (("train", ""), {"views"}),
        (("evaluate", "runs/"), {"runs/a", "runs/b"}),
        (("evaluate", "runs/a", ""), {"views"}),
        (("runs", "compare", "runs/a", ""), {"runs/a", "runs/b"}),
        (("predict", ""), {"runs/a", "runs/b", "views"}),
        (("data", "prepare", "--mission", "t"), {"tess"}),
        (("data", "prepare", ""), set()),
    ],
)
def test_values_are_offered(workplace, monkeypatch, capsys, words, offered):
    from transit_cli import app

    line = " ".join(["transit", *words])
    for name, value in {
        "_TRANSIT_COMPLETE": "complete_bash",
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(words)),
    }.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit):
        app.main([])
    assert set(capsys.readouterr().out.split()) == offered


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
def test_bash_itself_completes_without_torch(workplace, tmp_path):
    """The script that `--install-completion` installs, run by bash; a torch that cannot be imported stands in the way."""
    (tmp_path / "block").mkdir()
    (tmp_path / "block" / "torch.py").write_text("raise SystemExit('torch was imported')")
    (tmp_path / "bin").mkdir()
    launcher = tmp_path / "bin" / "transit"
    launcher.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m transit_cli "$@"\n')
    launcher.chmod(0o755)
    script = """
        eval "$(_TRANSIT_COMPLETE=source_bash transit)"
        COMP_WORDS=(transit train --resume ""); COMP_CWORD=3
        _transit_completion transit "" --resume
        printf '%s\n' "${COMPREPLY[@]}"
    """
    root = Path(__file__).parent.parent
    paths = [str(tmp_path / "block"), str(root), str(root / "plugins")]
    environment = os.environ | {
        "PATH": f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": os.pathsep.join(paths),
    }
    done = subprocess.run(
        ["bash", "--norc", "-c", script], env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.stdout.split() == ["runs/a", "runs/b"], done.stderr
