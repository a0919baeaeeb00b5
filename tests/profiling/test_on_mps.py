"""A profile on the simulated MPS device: events, fallbacks, host waits. It says nothing of a Mac's times."""

import json

import pytest

SMALL = ["--bins", "32/16", "--batch-size", "4", "--steps", "5", "--growth-steps", "12"]

NETWORK = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, views):
        super().__init__()
        self.layer = nn.Linear(sum(views.values()), 1)

    def forward(self, inputs):
        joined = torch.cat([inputs["global"], inputs["local"]], 1)
        step = torch.heaviside(joined.detach(), torch.zeros(1, device=joined.device))
        self.mean = joined.mean().item()
        return self.layer(joined * step)

def build(views, scalars):
    return Net(views)
"""


@pytest.mark.torture
def test_the_guides_network(mps):
    done = mps.transit("profile", *SMALL, "--json", env={"PYTORCH_ENABLE_MPS_FALLBACK": "1"}, timeout=300)
    assert done.returncode == 0, done.stderr
    data = json.loads(done.stdout)["data"]
    assert (data["device"], data["operator_clock"]) == ("mps", "dispatch")
    assert data["fallbacks"] == []
    assert data["host_waits_per_step"] == 0
    assert all(data["phase_seconds"][name] > 0 for name in ("forward", "backward", "optimizer"))


@pytest.mark.torture
def test_fallbacks_and_waits_are_named(mps, tmp_path):
    (tmp_path / "my_net.py").write_text(NETWORK)
    arguments = ["--network", str(tmp_path / "my_net.py") + ":build", "--out", str(tmp_path)]
    done = mps.transit("profile", *SMALL, *arguments, "--json", env={"PYTORCH_ENABLE_MPS_FALLBACK": "1"}, timeout=300)
    assert done.returncode == 0, done.stderr
    data = json.loads(done.stdout)["data"]
    assert [(row["name"], row["calls"]) for row in data["fallbacks"]] == [("aten::heaviside.out", 1)]
    assert data["host_wait_sites"] == {"my_net.py:13": 1}
    assert "host-synchronisation" in [finding["id"] for finding in data["findings"]]


def test_a_capture_needs_leave(mps, forked_transit):
    done = mps.transit("profile", *SMALL, "--metal-capture")
    assert done.returncode == 5
    assert "MTL_CAPTURE_ENABLED=1" in done.stderr
    done = forked_transit("profile", *SMALL, "--device", "cpu", "--signposts")
    assert done.returncode == 5
    assert "runs on cpu" in done.stderr
