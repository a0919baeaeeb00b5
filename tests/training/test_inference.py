"""Fast inference gives what one plain pass over all samples gives."""

import pytest
import torch

from transit_cli.device.select import select
from transit_cli.model import registry
from transit_cli.training import inference

VIEWS = {"global": 128, "local": 32}


def networks(count, name="two-branch"):
    torch.manual_seed(0)
    return [registry.build(name, VIEWS) for _ in range(count)]


def inputs(count):
    return {name: torch.randn(count, length) for name, length in VIEWS.items()}


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("samples", [1, 31, 32, 33, 200])
@pytest.mark.parametrize("kind", ["cpu", "other"])
def test_every_sample_by_every_network(kind, samples, threads, monkeypatch):
    torch.set_num_threads(threads)
    monkeypatch.setattr(inference, "DEVICE_PIECE", 64)
    device, members, views = select("cpu"), networks(3), inputs(samples)
    monkeypatch.setattr(device, "kind", kind)
    with torch.no_grad():
        expected = torch.stack([network.eval()(views) for network in members])
    for network in members:
        network.train()
    found = inference.logits(members, views, device)
    torch.set_num_threads(1)
    assert found.shape == (3, samples)
    assert torch.allclose(found, expected, atol=1e-5)
    assert all(network.training for network in members)
    assert not [module for network in members for module in network.modules() if "forward" in module.__dict__]


def test_pieces_elsewhere_have_one_shape(monkeypatch):
    """On MPS every new shape is compiled, and stays."""
    monkeypatch.setattr(inference, "DEVICE_PIECE", 64)
    torch.set_num_threads(1)
    device, seen = select("cpu"), []
    monkeypatch.setattr(device, "kind", "mps")
    network = networks(1)[0]
    network.register_forward_pre_hook(lambda module, arguments: seen.append(len(arguments[0]["global"])))
    inference.logits([network], inputs(200), device)
    assert seen == [64] * 4


def test_no_samples():
    torch.set_num_threads(1)
    assert inference.logits(networks(2), inputs(0), select("cpu")).shape == (2, 0)


def test_the_same_bits_with_any_number_of_threads():
    members, views = networks(2), inputs(70)
    found = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        found.append(inference.logits(members, views, select("cpu")))
    torch.set_num_threads(1)
    assert all(torch.equal(found[0], other) for other in found[1:])
