"""`--dry-run` and `--overfit`."""

import pytest

from transit_cli.results import ExitCode, TransitError
from transit_cli.training.sanity import dry_run, overfit

BLIND = """
import torch

class Blind(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.bias = torch.nn.Parameter(torch.zeros(1))

    def forward(self, inputs):
        return self.bias.expand(len(inputs["local"]))

def build(views, scalars):
    return Blind()
"""


def test_a_dry_run_passes_through_everything_and_leaves_nothing(settings, tmp_path):
    before = set(tmp_path.iterdir())
    result = dry_run(settings(members=3, scalars="depth_ppm", epochs=50))
    assert set(tmp_path.iterdir()) == before
    assert result.exit_code == ExitCode.DONE
    assert result.data["steps"] == 3 * 50 * 10


def test_a_dry_run_meets_what_the_run_would_meet(settings):
    with pytest.raises(TransitError, match="no tertiary view"):
        dry_run(settings(views="global,tertiary"))


def test_one_batch_is_learned_by_heart(settings):
    result = overfit(settings(target="PC", label_smoothing=0.2, mixup=0.2, weight_decay=0.1))
    assert result.data["learned"]
    assert result.exit_code == ExitCode.DONE


def test_a_network_that_cannot_see_is_found_out(settings, tmp_path):
    (tmp_path / "blind.py").write_text(BLIND)
    result = overfit(settings(network=f"{tmp_path / 'blind.py'}:build"))
    assert result.exit_code == ExitCode.NEGATIVE
    assert result.data["loss"] > 0.5
