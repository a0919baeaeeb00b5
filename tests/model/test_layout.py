"""Every layout gives what Conv1d, MaxPool1d and ReLU give."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from transit_cli.model import registry
from transit_cli.model.acceleration import layout
from transit_cli.model.pooling import AverageAndMaximum, average_and_maximum


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def compare(network, values):
    values.requires_grad_()
    expected = network(values)
    seed = torch.randn_like(expected)
    wanted = torch.autograd.grad(expected, [values, *network.parameters()], seed)
    with layout.replaced(layout.channels_last(network)):
        found = network(values)
    got = torch.autograd.grad(found, [values, *network.parameters()], seed)
    assert found.shape == expected.shape
    assert torch.allclose(found, expected, atol=1e-12)
    for one, other in zip(got, wanted, strict=True):
        assert torch.allclose(one, other, atol=1e-12)
    return found


@settings(deadline=None)
@given(
    st.integers(1, 3),
    st.sampled_from([1, 2, 4]),
    st.sampled_from([1, 2]),
    st.integers(1, 5),
    st.integers(1, 3),
    st.integers(0, 4),
    st.integers(1, 2),
    st.booleans(),
)
def test_any_convolution(  # noqa: PLR0917 - the arguments of a convolution
    batch, channels, groups, kernel, stride, padding, dilation, bias
):
    torch.manual_seed(kernel)
    channels *= groups
    module = nn.Conv1d(channels, 4, kernel, stride, padding, dilation, groups, bias).double()
    compare(module, torch.randn(batch, channels, 23).double())


@settings(deadline=None)
@given(st.integers(1, 5), st.integers(1, 3), st.integers(0, 2), st.integers(1, 2), st.booleans(), st.integers(1, 3))
def test_any_pooling(  # noqa: PLR0917
    size, stride, padding, dilation, ceil, channels
):
    module = nn.MaxPool1d(size, stride, min(padding, size // 2), dilation, ceil_mode=ceil)
    compare(module, torch.randn(2, channels, 23).double())


@pytest.mark.parametrize(
    "module",
    [
        nn.Conv1d(2, 3, 5, padding="same"),
        nn.Conv1d(2, 3, 5, padding="valid"),
        nn.Conv1d(2, 3, 5, padding=2, padding_mode="circular"),
        nn.MaxPool1d((3,), (2,)),
        nn.Sequential(nn.Conv1d(2, 4, 3), nn.BatchNorm1d(4), nn.ReLU(), nn.AvgPool1d(2), nn.Conv1d(4, 1, 3)),
    ],
)
def test_other_ways_to_write_them(module):
    compare(module.double(), torch.randn(2, 2, 23).double())


def test_without_a_batch():
    compare(nn.Sequential(nn.Conv1d(2, 3, 5), nn.MaxPool1d(2)).double(), torch.randn(2, 23).double())


def test_channels_stay_last_from_layer_to_layer():
    """Else every layer would copy its input, and the speed would be gone."""
    network = nn.Sequential(nn.Conv1d(1, 4, 3), nn.MaxPool1d(2), nn.ReLU(), nn.Conv1d(4, 8, 3), nn.ReLU())
    assert compare(network.double(), torch.randn(2, 1, 23).double()).stride()[1:] == (1, 8)


@pytest.mark.parametrize("name", ["two-branch", "astronet"])
def test_every_convolution_of_our_networks_is_replaced(name):
    network = registry.build(name, {"global": 128, "local": 32})
    kinds = [module for module in network.modules() if isinstance(module, nn.Conv1d | nn.MaxPool1d)]
    assert set(layout.channels_last(network)) == set(kinds)


def against_float64(network, values):
    """Output and gradients in oneDNN's layout are as near to float64's as the plain network's own in float32."""
    values.requires_grad_()
    exact = copy.deepcopy(network).double()
    outputs, gradients = [], []
    for module, inputs, forwards in (
        (exact, values.double(), {}),
        (network, values, {}),
        (network, values, layout.blocked(network)),
    ):
        with layout.replaced(forwards):
            output = module(inputs)
        seed = torch.linspace(-1, 1, output.numel()).reshape(output.shape).to(output.dtype)
        outputs.append(output)
        gradients.append(torch.autograd.grad(output, [inputs, *module.parameters()], seed))
    wanted, plain, found = ([item.double() for item in (o, *g)] for o, g in zip(outputs, gradients, strict=True))
    for exactly, plainly, blocked in zip(wanted, plain, found, strict=True):
        assert blocked.shape == exactly.shape
        error, usual = (blocked - exactly).norm(), (plainly - exactly).norm()
        assert error <= 4 * usual + 1e-5 * exactly.norm()
    return outputs[2]


SEQUENCE = st.lists(st.sampled_from(["conv", "strided", "grouped", "pool", "overlap", "relu", "norm"]), max_size=6)


@settings(deadline=None, max_examples=60)
@given(SEQUENCE, st.integers(1, 3), st.booleans(), st.sampled_from([{}, {"stride": 2}, {"stride": 3, "dilation": 2}]))
def test_any_sequence_of_layers(kinds, batch, biased, first):
    """Runs of any length, cut by layers that oneDNN does not get."""
    torch.manual_seed(len(kinds))
    makers = {
        "conv": lambda: nn.Conv1d(4, 4, 5, padding=2, bias=biased),
        "strided": lambda: nn.Conv1d(4, 4, 3, stride=2, padding=1, dilation=2, bias=biased),
        "grouped": lambda: nn.Conv1d(4, 4, 3, padding=1, groups=2, bias=biased),
        "pool": lambda: nn.MaxPool1d(2, ceil_mode=biased),
        "overlap": lambda: nn.MaxPool1d(5, 2, padding=2),
        "relu": nn.ReLU,
        "norm": lambda: nn.GroupNorm(2, 4),
    }
    network = nn.Sequential(nn.Conv1d(1, 4, 7, padding=3, bias=biased, **first), *[makers[kind]() for kind in kinds])
    against_float64(network, torch.randn(batch, 1, 250))


@pytest.mark.parametrize("name", ["two-branch", "astronet"])
def test_all_of_a_view_s_layers_stay_in_one_layout(name, monkeypatch):
    network = registry.build(name, {"global": 128, "local": 32})
    inputs = {"global": torch.randn(3, 128), "local": torch.randn(3, 32)}
    expected = network.eval()(inputs)
    for module in network.modules():
        if isinstance(module, nn.Conv1d | nn.MaxPool1d):
            monkeypatch.setattr(type(module), "forward", lambda *_: pytest.fail("computed by itself"))
    with layout.replaced(layout.blocked(network)):
        assert torch.allclose(network(inputs), expected, atol=1e-5)


def test_half_precision_and_other_shapes_are_left_to_the_layers():
    network = nn.Sequential(nn.Conv1d(1, 2, 3), nn.ReLU())
    with layout.replaced(layout.blocked(network)):
        assert network(torch.randn(1, 9)).shape == (2, 7)
        with torch.autocast("cpu", torch.bfloat16):
            assert network(torch.randn(2, 1, 9)).dtype == torch.bfloat16


def test_a_layer_that_somebody_listens_to_is_called():
    network = nn.Sequential(nn.Conv1d(1, 2, 3), nn.ReLU(), nn.Conv1d(2, 2, 3))
    seen = []
    network[1].register_forward_hook(lambda *_: seen.append(1))
    against_float64(network, torch.randn(2, 1, 20))
    assert len(seen) == 3  # in float64, plainly, and in oneDNN's layout


def test_average_and_maximum():
    features = torch.randn(3, 4, 9, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(average_and_maximum, features)
    assert torch.equal(average_and_maximum(features), AverageAndMaximum()(features))
    with torch.no_grad():
        assert torch.equal(average_and_maximum(features), AverageAndMaximum()(features))


def test_a_forward_that_somebody_replaced_is_left_alone():
    module = nn.Conv1d(1, 1, 3)
    module.forward = lambda values: values
    assert layout.channels_last(module) == {}
