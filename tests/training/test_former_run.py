"""A run that was started before 0.1.0, when options, executions and checkpoint keys had other names.

`former_run` was made by that code from `write_set`: two epochs, of which the first one's checkpoint and the final
weights are kept.
"""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from transit_cli.model import saved
from transit_cli.results import TransitError, plain
from transit_cli.training.runs import checkpoint
from transit_cli.training.runs import environment as run_environment
from transit_cli.training.train import train


@pytest.fixture
def former_run(tmp_path, views):
    folder = tmp_path / "run"
    shutil.copytree(Path(__file__).with_name("former_run"), folder)
    (folder / saved.FILE).rename(tmp_path / "expected.safetensors")
    config = folder / "config.yaml"
    config.write_text(config.read_text().replace("viewset: views ", f"viewset: {views.path} "))
    environment = json.loads((folder / "environment.json").read_text())
    environment["viewset"] = plain(run_environment.describe(views))  # checksums depend on the columns of the table
    (folder / "environment.json").write_text(json.dumps(environment))
    return folder


def test_its_options_are_refused_with_their_present_names(settings, former_run):
    with pytest.raises(TransitError) as refused:
        train(settings(resume=former_run))
    assert refused.value.code == "config-renamed-key"
    assert "way (line 14) is now execution" in refused.value.found


def test_with_them_renamed_it_is_resumed_to_its_own_weights(settings, former_run, tmp_path):
    (file,) = checkpoint.files(former_run / "checkpoints" / "member-0")
    assert checkpoint.load(file)["learner"]["step"]["way"] == "blocked"
    config = former_run / "config.yaml"
    text = config.read_text().replace("way: blocked", "execution: onednn").replace("run_dir:", "out:")
    config.write_text(text.replace("network: tiny.py", f"network: {former_run / 'tiny.py'}"))
    train(settings(resume=former_run).replace(sources={"resume": "--resume"}))
    found, expected = load_file(former_run / saved.FILE), load_file(tmp_path / "expected.safetensors")
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
