"""Channels-last convolutions give what Conv1d and MaxPool1d give."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from transit_cli.model import layout, registry


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


def test_a_forward_that_somebody_replaced_is_left_alone():
    module = nn.Conv1d(1, 1, 3)
    module.forward = lambda values: values
    assert layout.channels_last(module) == {}
