"""`train --batch-size auto`: probed once, remembered for what it depends on."""

import json
from types import SimpleNamespace

import pytest

from tests.training.conftest import write_set
from transit_cli.training.settings import TrainSettings
from transit_cli.tuning import auto


def test_it_is_probed_once_and_again_when_something_changes(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    probed = []

    def find(asked):
        probed.append(asked)
        return SimpleNamespace(best=SimpleNamespace(size=16 * len(probed))), None

    monkeypatch.setattr(auto, "find", find)
    plain = TrainSettings()
    assert [auto.best_batch(plain), auto.best_batch(plain)] == [16, 16]
    assert probed[0].only_best
    assert auto.best_batch(plain.replace(network="astronet")) == 32
    assert auto.best_batch(plain.replace(memory_limit="4GiB")) == 48
    source = tmp_path / "my_net.py"
    source.write_text("one")
    assert auto.best_batch(plain.replace(network=f"{source}:build")) == 64
    source.write_text("two")
    assert auto.best_batch(plain.replace(network=f"{source}:build")) == 80
    assert auto.best_batch(plain) == 16


@pytest.mark.torture
def test_a_run_trains_with_what_was_probed(forked_transit, tmp_path):
    write_set(tmp_path / "views")
    env = {"XDG_CACHE_HOME": str(tmp_path), "HOME": str(tmp_path)}
    command = ("train", tmp_path / "views", "--batch-size", "auto", "--epochs", "1", "--device", "cpu", "--json")
    first = forked_transit(*command, "--out", tmp_path / "a", env=env)
    again = forked_transit(*command, "--out", tmp_path / "b", env=env)
    assert (first.returncode, again.returncode) == (0, 0), first.stderr
    assert "batch 8: fits" in first.stderr
    assert "as probed on" in again.stderr
    sizes = {json.loads(done.stdout)["status"] for done in (first, again)}
    assert sizes == {"done"}
    first, again = ((tmp_path / name / "config.yaml").read_text() for name in "ab")
    batch = [line for line in first.splitlines() if line.startswith("batch_size:")]
    assert batch[0].split()[1].isdigit()
    assert batch[0] in again
