"""Only `evaluate` and `predict` open the test part of a view set; whatever learns, probes or profiles never does.

The test rows of the set here hold NaN, which every reader of views refuses or counts.
"""

import json

import numpy as np
import pytest

from tests.training.conftest import write_set
from transit_cli.discovery import discover

#: Commands that work on a view set, with what makes them quick. A new one gets its line here.
COMMANDS = {
    "train": ["--epochs", "1", "--out", "run"],
    "probe-batch": ["--only-best", "--memory-limit", "1GiB"],
    "accumulate": ["--effective-batch", "8"],
    "bench": ["--network", "two-branch", "--batch-size", "2", "--seconds", "1"],
    "profile": [],
}


def spoiled(path):
    """A set whose test rows no one can read without noticing."""

    def change(views, tces):
        for values in views.values():
            values[tces["split"] == "test"] = np.nan

    return write_set(path, change=change)


@pytest.mark.parametrize(
    "command",
    [
        pytest.param(name, marks=[pytest.mark.torture] if name in {"accumulate", "probe-batch", "profile"} else [])
        for name in sorted(set(COMMANDS) & set(discover().used))
    ],
)
def test_nothing_else_opens_it(forked_transit, tmp_path, command):
    spoiled(tmp_path / "views")
    done = forked_transit(command, tmp_path / "views", "--device", "cpu", *COMMANDS[command], "--json", cwd=tmp_path)
    assert done.returncode in {0, 1}, done.stderr


def test_evaluate_opens_it_and_notices(forked_transit, tmp_path):
    spoiled(tmp_path / "views")
    forked_transit("train", tmp_path / "views", "--device", "cpu", "--epochs", "1", "--out", "run", cwd=tmp_path)
    done = forked_transit(
        "evaluate", "run", "--split", "all", "--no-report", "--resamples", "20", "--json", cwd=tmp_path
    )
    data = json.loads(done.stdout)["data"]
    assert data["unusable"] == 40
    assert data["signals"] == 200
