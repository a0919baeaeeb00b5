"""Every command keeps the contract of --json, --quiet and exit codes."""

import json
import shutil
from pathlib import Path

import jsonschema
import numpy as np
import pytest

from tests.training.conftest import write_set
from transit_cli.discovery import discover

SCHEMA = json.loads((Path(__file__).parent.parent / "docs" / "result.schema.json").read_text())

#: Arguments with which each command finishes in seconds. A new command gets its line here.
#: "@name" is a path that does not exist yet, "#views" a small view set, "#run" a run on it.
QUICK = {
    "accumulate": [["--bins", "31/21", "--device", "cpu", "--no-plan"]],
    "bench": [["--network", "two-branch", "--bins", "64/32", "--batch-size", "2", "--seconds", "1", "--device", "cpu"]],
    "data": [
        ["import", str(Path(__file__).parent / "data" / "eight_views.npz"), "@set"],
        ["simulate", "@set", "--tces", "3", "--mission", "tess"],
        ["inject", "@curves", "@set", "--tces", "3", "--mission", "tess", "--workers", "1"],
    ],
    "doctor": [["--only", "python,chip"]],
    "evaluate": [["#run", "--split", "val", "--no-report", "--resamples", "20"]],
    "export": [["#run", "--format", "torchscript"]],
    "fallback-test": [["operators"]],
    "plugins": [["list"], ["new", "reader", "lc", "--out", "@plugin"]],
    "predict": [["#run", "#views", "--max-plots", "0"]],
    "probe-batch": [["#views", "--only-best", "--device", "cpu"]],
    "profile": [["--bins", "16/8", "--batch-size", "4", "--steps", "5", "--growth-steps", "0", "--device", "cpu"]],
    "runs": [["list", "#"], ["show", "#run"]],
    "search": [["@curves", "@signals.csv", "--device", "cpu"]],
    "vet": [["@curves", "@vetted", "--device", "cpu", "--workers", "1"]],
    "train": [["#views", "--epochs", "1", "--device", "cpu"]],
    "watch": [["#run"]],
}


def test_every_command_is_held_to_the_contract():
    assert set(QUICK) == {name for name, plugin in discover().used.items() if plugin.first_party}


@pytest.fixture(scope="module")
def trained(forked_transit, tmp_path_factory):
    """A folder with a small view set, and a run on it."""
    folder = tmp_path_factory.mktemp("trained")
    write_set(folder / "views")
    done = forked_transit("train", "views", "--epochs", "1", "--device", "cpu", "--out", "run", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.parametrize(
    "command",
    [
        pytest.param([name, *arguments], marks=[pytest.mark.torture] * (name == "probe-batch"))
        for name, runs in QUICK.items()
        for arguments in runs
    ],
)
def test_json_stands_alone_and_follows_the_schema(forked_transit, command, trained, tmp_path):
    if {"#", "#views", "#run"} & set(command):
        shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    if "@curves" in command:
        (tmp_path / "curves").mkdir()
        time = np.arange(400) / 48  # days since JD 2457000
        flux = 1 + 1e-4 * np.random.default_rng(0).standard_normal(400)
        rows = "".join(f"{t:.5f},{f:.6f}\n" for t, f in zip(time, flux, strict=True))
        (tmp_path / "curves" / "tic123.csv").write_text("time_btjd,flux\n" + rows)
    arguments = [str(tmp_path / part[1:]) if part[0] in "@#" else part for part in command]
    done = forked_transit(*arguments, "--json", cwd=tmp_path)
    document = json.loads(done.stdout)
    jsonschema.validate(document, SCHEMA)
    assert document["exit_code"] == done.returncode, done.stderr
    assert done.returncode in {0, 1}, done.stderr
    assert document["command"] == " ".join(
        command[:2] if command[0] in {"data", "fallback-test", "plugins", "runs"} else command[:1]
    )


@pytest.mark.parametrize("name", sorted(QUICK))
def test_a_failure_is_a_document_too(forked_transit, name):
    done = forked_transit(name, "--no-such-option", "--json")
    document = json.loads(done.stdout)
    jsonschema.validate(document, SCHEMA)
    assert (done.returncode, document["status"]) == (2, "error")
    assert "--no-such-option" in document["errors"][0]["found"]
    assert "Traceback" not in done.stderr
