"""Short of memory: smaller micro-batches, the same effective batch, the same thing learned."""

import json

import pytest
import torch

from transit_cli.memory.limit import MemoryLimit
from transit_cli.model import saved
from transit_cli.results import ExitCode, TransitError
from transit_cli.training import fit
from transit_cli.training.runs import screen
from transit_cli.training.train import train

#: Raises torch's own words for a CPU without memory when a batch is larger than LIMIT.
HUNGRY = """
from torch import cat, nn

class Hungry(nn.Module):
    def __init__(self, views, scalars):
        super().__init__()
        self.layers = nn.Linear(sum(views.values()), 1)

    def forward(self, inputs):
        x = cat([inputs["global"], inputs["local"]], dim=1)
        if self.training and len(x) > LIMIT:
            raise RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory")
        return self.layers(x)

def build(views, scalars):
    return Hungry(views, scalars)
"""


@pytest.fixture
def hungry(tmp_path):
    def network(limit):
        file = tmp_path / f"hungry_{limit}.py"
        file.write_text(HUNGRY.replace("LIMIT", str(limit)))
        return f"{file}:build"

    return network


def test_out_of_memory_it_learns_the_same_in_smaller_pieces(settings, hungry, tmp_path):
    train(settings(network=hungry(1000), out=tmp_path / "plenty"))
    with pytest.warns(UserWarning, match="continuing with micro-batches of"):
        train(settings(network=hungry(4), out=tmp_path / "short"))
    plenty, short = (
        saved.load(tmp_path / run / saved.FILE, trust=True)[0][0].state_dict() for run in ("plenty", "short")
    )
    for name, weight in plenty.items():
        assert torch.allclose(short[name], weight, atol=1e-5)
    lines = (tmp_path / "short" / "metrics.jsonl").read_text().splitlines()
    assert {json.loads(line)["micro_batch"] for line in lines} == {4}


def test_without_memory_for_one_sample_it_stops(settings, hungry):
    with (
        pytest.warns(UserWarning, match="memory is short"),
        pytest.raises(TransitError, match="one sample at a time") as caught,
    ):
        train(settings(network=hungry(0)))
    assert caught.value.exit_code == ExitCode.MACHINE


def test_near_the_limit_it_says_so_and_acts(settings, tmp_path, monkeypatch):
    monkeypatch.setattr(MemoryLimit, "exceeded", lambda self: "86% of the memory is in use, and the limit is 85%")
    monkeypatch.setattr(fit, "OOM_COOLDOWN_S", 0.0)
    monkeypatch.setattr(screen, "INTERVAL", 0.0)
    with pytest.warns(UserWarning, match="86% of the memory"):
        train(settings(epochs=1))
    (line,) = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert json.loads(line)["micro_batch"] == 1  # halved as often as it was asked to, and no further
