"""The optimizers are torch's own in all but what they import."""

import subprocess
import sys

import pytest
import torch

from transit_cli.training.optimization import optimizer


def trajectory(kind, fused):
    """Weights and state after ten steps, with a change of rate, a frozen step and a save and load in between."""
    torch.manual_seed(0)
    weights = [torch.randn(4, 3, requires_grad=True), torch.randn(3, requires_grad=True)]
    made = kind(weights, lr=1e-2, weight_decay=0.1, fused=fused)
    for index in range(10):
        if index == 5:
            state = made.state_dict()
            made = kind(weights, lr=1.0, fused=fused)
            made.load_state_dict(state)
        made.param_groups[0]["lr"] = 1e-2 / (index + 1)
        sum((weight**2).sum() * (index + 1) for weight in weights).backward()
        made.step()
        made.zero_grad(set_to_none=True)
        assert all(weight.grad is None for weight in weights)
    return weights, made.state_dict()["state"]


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("name", ["Adam", "AdamW"])
def test_every_weight_and_state_is_torchs_own_to_the_bit(name, fused):
    expected, expected_state = trajectory(getattr(torch.optim, name), fused)
    weights, state = trajectory(getattr(optimizer, name), fused)
    for one, other in zip(weights, expected, strict=True):
        assert torch.equal(one, other)
    for key, values in expected_state.items():
        for field, value in values.items():
            assert torch.equal(state[key][field], value)


STEP = """
import sys, torch
from transit_cli.training.optimization.optimizer import AdamW
weight = torch.ones(3, requires_grad=True)
optimizer = AdamW([weight], fused=True)
weight.sum().backward()
optimizer.step()
optimizer.zero_grad()
optimizer.load_state_dict(optimizer.state_dict())
print("torch._dynamo" in sys.modules)
"""


def test_a_step_does_not_import_the_compiler():
    done = subprocess.run([sys.executable, "-c", STEP], capture_output=True, text=True, timeout=100)
    assert done.stdout.strip() == "False", done.stderr
