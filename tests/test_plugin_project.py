"""`transit plugins new`: what it writes is a plugin that works, and whose own test passes."""

import importlib
import subprocess
import sys
import tomllib

import pytest
from typer.testing import CliRunner

from transit_cli.plugin_project.project import new_plugin
from transit_cli.results import TransitError


@pytest.mark.parametrize(("kind", "group"), [("command", "commands"), ("network", "models"), ("reader", "readers")])
def test_the_project_is_an_entry_point_whose_own_test_passes(tmp_path, monkeypatch, kind, group):
    out = tmp_path / "project"
    new_plugin(kind, f"my-{kind}", out)
    monkeypatch.syspath_prepend(str(out))
    (entry,) = tomllib.loads((out / "pyproject.toml").read_text())["project"]["entry-points"].items()
    assert entry[0] == f"transit.{group}"
    module, _, attribute = entry[1][f"my-{kind}"].partition(":")
    loaded = getattr(importlib.import_module(module), attribute)
    if kind == "command":
        done = CliRunner().invoke(loaded, ["84", "--json"])
        assert done.exit_code == 0, done.output
        assert '"radius_earths": 0.99' in done.output
    else:
        tests = importlib.import_module(f"test_{module}")
        for name in filter(lambda name: name.startswith("test_"), dir(tests)):
            arguments = [3] if kind == "network" else [tmp_path]
            getattr(tests, name)(*arguments)
    checked = [sys.executable, "-m", "ruff", "check", "--isolated", "--select", "E9,F", out]
    assert subprocess.run(checked, capture_output=True, text=True).stdout.strip() == "All checks passed!"


def test_nothing_is_overwritten_and_names_are_checked(tmp_path):
    new_plugin("reader", "lc", tmp_path / "a")
    for kind, name, out in (("reader", "lc", "a"), ("command", "train", "b"), ("network", "Ümlaut!", "c")):
        with pytest.raises(TransitError):
            new_plugin(kind, name, tmp_path / out)
    assert {folder.name for folder in tmp_path.iterdir()} == {"a"}
