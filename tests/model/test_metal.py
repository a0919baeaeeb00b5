"""The Metal kernels, run on the CPU by tests/metal_shim: numbers against float64, checks of what they do to memory."""

import pytest
import torch
from torch import nn

from tests.metal_shim import typecheck
from tests.model.metal_cases import (
    FOLLOWS,
    HALF_ERROR,
    ODD,
    REAL,
    SMALL,
    check,
    convolution,
    in_matrices,
    learned,
    library,
    plainly,
    poisoned,  # noqa: F401 - a fixture
)
from transit_cli.model.acceleration import layout
from transit_cli.model.acceleration.metal import layers
from transit_cli.model.acceleration.metal.functions import Convolution, Head, Pooling
from transit_cli.model.acceleration.metal.gradients import Gradients
from transit_cli.model.acceleration.metal.library import Library, MetalError
from transit_cli.model.pooling import AverageAndMaximum, average_and_maximum
from transit_cli.model.two_branch import TwoBranch

#: Compiling takes most of a case: these run always, the others with -m torture.
OFTEN = [*REAL[:6:2], *ODD[::3]]
OFTEN_IN_MATRICES = [shape for shape in ODD[3:9] if in_matrices(shape)]
ALL = [*REAL, *SMALL, *ODD]
torture = pytest.mark.torture


def rarely(shapes, often):
    return [pytest.param(shape, id=str(shape), marks=() if shape in often else torture) for shape in shapes]


@pytest.mark.parametrize("shape", rarely(ALL, OFTEN))
def test_convolutions_are_float64s_in_any_order_of_threads_and_do_nothing_wrong(shape):
    check(*convolution(shape), library(seed=9), library(checks=True, seed=7))


@pytest.mark.parametrize("shape", rarely(filter(in_matrices, ALL), OFTEN_IN_MATRICES))
def test_convolutions_by_matrices_are_float64s_in_any_order_of_threads_and_do_nothing_wrong(shape):
    check(*convolution(shape), library(matrices=True), library(matrices=True, checks=True, seed=7))


@pytest.mark.parametrize("after", FOLLOWS)
def test_the_forward_pass_alone_gives_the_same_and_keeps_nothing_for_the_way_back(after):
    network, values = convolution((2, 41, 9, 12, 3, 1, after))
    for matrices in (False, True):
        kernels = library(matrices=matrices, checks=True)
        with layout.replaced(layers.forwards(network, kernels, None)), torch.inference_mode():
            found = network(values)
        assert torch.equal(found, learned(network, kernels, values)[0][0])


@pytest.mark.parametrize("after", ["nothing", "relu", "pairs", "pooled"])
def test_nan_is_kept_as_pytorch_keeps_it(after):
    network, values = convolution((2, 40, 3, 4, 3, 1, after))
    values[0, 1, 7] = values[1, 2, 20] = float("nan")
    found, _ = learned(network, library(), values)
    if after == "nothing":
        assert all(map(torch.equal, map(torch.isnan, found), map(torch.isnan, plainly(network, values))))
    pooling = {layer: average_and_maximum for layer in network if isinstance(layer, AverageAndMaximum)}
    with layout.replaced(pooling):  # the first maximum gets the gradient, here as in the kernel
        wanted = plainly(network, values)
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one.isnan(), other.isnan())
        torch.testing.assert_close(one, other, equal_nan=True, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("matrices", [False, True])
@pytest.mark.parametrize("kind", HALF_ERROR)
@pytest.mark.parametrize(
    "shape",
    rarely([(2, 61, 8, 8, 5, 2, "pairs"), *filter(in_matrices, [*SMALL, *ODD])], [(2, 61, 8, 8, 5, 2, "pairs")]),
)
def test_half_precision_in_memory(kind, shape, matrices):
    network, values = convolution(shape)
    found = check(network, values.to(kind), library(matrices=matrices, checks=True), error=HALF_ERROR[kind])
    assert found[0].dtype == (torch.float32 if shape[-1] == "pooled" else kind)
    assert (found[1].dtype, found[2].dtype) == (kind, torch.float32)


def test_types_and_address_spaces_of_all_that_a_network_compiles():
    if reason := typecheck.missing():
        pytest.skip(reason)
    texts = []

    def change(source):
        texts.append(source)
        return source

    network = TwoBranch({"global": 41, "local": 21})
    for matrices in (False, True):
        kernels = library(change, matrices=matrices)
        gradients = Gradients(kernels, list(network.parameters()))
        with layout.replaced(layers.forwards(network, kernels, gradients)):
            network({"global": torch.randn(2, 41), "local": torch.randn(2, 21)}).sum().backward()
        gradients.collect()
    assert len(texts) == 20  # for each: 6 convolutions, pooling, head, all weights, their sum
    assert not [typecheck.complaints(text) for text in texts if typecheck.complaints(text)]


def test_what_has_kernels():
    kernels = library()
    network = TwoBranch({"global": 61, "local": 31})
    forwards = layers.forwards(network, kernels, Gradients(kernels, list(network.parameters())))
    assert set(forwards) == {network.branches[0].layers, network.branches[1].layers, network.head}
    (pieces,) = forwards[network.branches[0].layers].args
    assert [kernel.after for kernel, _ in pieces] == [2, 2, 3]
    assert isinstance(forwards[network.head].args[0], Head)
    for layer in (nn.Conv1d(2, 2, 3, stride=2), nn.Conv1d(2, 2, 16), nn.Conv1d(2, 2, 3, bias=False), nn.MaxPool1d(300)):
        other = nn.Sequential(layer, nn.Sigmoid())
        assert not layers.forwards(other, kernels, Gradients(kernels, [nn.Parameter(torch.zeros(1))]))
    mixed = nn.Sequential(nn.MaxPool1d(3), nn.ReLU(), nn.BatchNorm1d(2), nn.Conv1d(2, 2, 3))
    (pieces,) = layers.forwards(mixed, kernels, Gradients(kernels, list(mixed.parameters())))[mixed].args
    assert [type(piece) if isinstance(piece, nn.Module) else type(piece[0]) for piece in pieces] == [
        Pooling,
        nn.BatchNorm1d,
        Convolution,
    ]


def test_a_gpu_that_gives_fewer_threads_and_a_source_that_does_not_compile():
    class Small:
        max_threads_per_threadgroup = 64

    class Kernels:
        adam_0 = Small()

    with pytest.raises(MetalError, match="adam needs 256 threads a group, and this GPU gives it 64"):
        Library(lambda source: Kernels()).kernel("optimizer", "adam", 256)
    with pytest.raises(MetalError, match=r"adam does not compile \(SyntaxError: .*error: "):
        library(lambda source: source + "nonsense;").kernel("optimizer", "adam", 256)
