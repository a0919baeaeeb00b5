"""A start that fails leaves no run folder behind, and removes nothing that it did not write."""

import pytest

from transit_cli.results import TransitError
from transit_cli.training.train import train

FAILS = """
from torch import nn

class Fails(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 1)

    def forward(self, inputs):
        return self.layer(inputs["global"])

def build(views, scalars):
    return Fails()
"""


@pytest.mark.parametrize("existed", [False, True])
def test_a_network_that_fails_leaves_no_empty_run(settings, tmp_path, existed):
    (tmp_path / "fails.py").write_text(FAILS)
    if existed:
        (tmp_path / "run").mkdir()
    for network in ("two-brnch", f"{tmp_path}/fails.py:build"):
        with pytest.raises(TransitError):
            train(settings(network=network))
    assert (tmp_path / "run").exists() == existed
    assert {file.name for file in tmp_path.iterdir()} - {"views"} == {"fails.py", *(["run"] if existed else [])}
    train(settings())


def test_a_refused_start_leaves_the_run_that_is_there(settings, tmp_path):
    train(settings(epochs=1))
    before = {file: file.read_bytes() for file in (tmp_path / "run").rglob("*") if file.is_file()}
    with pytest.raises(TransitError, match="contains a run already"):
        train(settings(epochs=1))
    assert {file: file.read_bytes() for file in (tmp_path / "run").rglob("*") if file.is_file()} == before
