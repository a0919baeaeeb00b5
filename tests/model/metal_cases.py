"""Shapes of layers, and what a network computes with Metal kernels run by tests/metal_shim, and as PyTorch does."""

import pytest
import torch
from torch import nn

from tests.metal_shim import compile_shader
from transit_cli.model.acceleration import layout
from transit_cli.model.acceleration.metal import layers
from transit_cli.model.acceleration.metal.gradients import Gradients
from transit_cli.model.acceleration.metal.library import Library
from transit_cli.model.pooling import AverageAndMaximum

#: Batch, bins, channels in and out, taps, padding, what follows: two-branch at 2001/201 bins and at 201/61, and AstroNet.
REAL = [
    (2, 2001, 1, 32, 7, 3, "pairs"),
    (2, 1000, 32, 32, 5, 2, "pairs"),
    (2, 500, 32, 32, 5, 2, "pooled"),
    (3, 201, 1, 32, 5, 2, "pairs"),
    (3, 100, 32, 32, 3, 1, "pairs"),
    (3, 50, 32, 32, 3, 1, "pooled"),
    (1, 999, 16, 16, 5, 2, "nothing"),
    (1, 246, 32, 64, 5, 2, "relu"),
    (1, 58, 128, 256, 5, 2, "relu"),
]
SMALL = [
    (3, 201, 1, 32, 7, 3, "pairs"),
    (3, 100, 32, 32, 5, 2, "pairs"),
    (3, 50, 32, 32, 5, 2, "pooled"),
    (3, 61, 1, 32, 5, 2, "pairs"),
    (3, 30, 32, 32, 3, 1, "pairs"),
    (3, 15, 32, 32, 3, 1, "pooled"),
    (2, 201, 16, 16, 5, 2, "nothing"),
    (2, 99, 16, 32, 5, 2, "relu"),
    (2, 22, 64, 128, 5, 2, "relu"),
    (2, 9, 256, 256, 5, 2, "nothing"),
]
ODD = [
    (1, 1, 1, 1, 1, 0, "nothing"),
    (2, 2, 1, 3, 3, 1, "pairs"),
    (1, 3, 2, 1, 2, 1, "relu"),
    (3, 7, 32, 32, 3, 1, "pairs"),
    (2, 129, 16, 32, 5, 2, "pairs"),
    (1, 131, 32, 16, 7, 0, "nothing"),
    (4, 4, 32, 64, 3, 1, "relu"),
    (2, 65, 5, 7, 9, 4, "pooled"),
    (1, 64, 33, 31, 3, 2, "relu"),
    (2, 66, 12, 20, 4, 0, "pairs"),
    (1, 127, 3, 40, 6, 5, "pooled"),
    (5, 17, 8, 4, 1, 0, "relu"),
    (1, 300, 1, 5, 15, 7, "relu"),
    (2, 63, 65, 6, 2, 0, "nothing"),
    (1, 33, 48, 48, 5, 2, "pooled"),
    (3, 11, 1, 70, 7, 3, "pooled"),
    (1, 20, 64, 66, 3, 1, "pairs"),
    (2, 257, 4, 4, 8, 3, "pairs"),
    (7, 5, 9, 2, 5, 2, "pooled"),
    (1, 30, 31, 33, 11, 0, "relu"),
]
FOLLOWS = {
    "nothing": list,
    "relu": lambda: [nn.ReLU()],
    "pairs": lambda: [nn.MaxPool1d(2), nn.ReLU()],
    "pooled": lambda: [nn.ReLU(), AverageAndMaximum()],
}
LARGEST_ERROR = 1e-5
#: The same with activations in half precision: a few units of its last place.
HALF_ERROR = {torch.float16: 2e-3, torch.bfloat16: 2e-2}


@pytest.fixture(autouse=True)
def poisoned(metal_shim):
    """Memory that nobody has written is NaN; skipped where the shim cannot run."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


def library(change=None, *, matrices=False, **options):
    return Library(lambda source: compile_shader(change(source) if change else source, **options), matrices=matrices)


def far(found, wanted):
    """The largest difference, in units of the largest number that is wanted."""
    return ((found.double() - wanted.double()).abs().max() / wanted.abs().max().clamp(min=1e-30)).item()


def learned(network, kernels, values, upstream=None):
    """A network's result and gradients (of values, then parameters) with kernels, and their number of layers."""
    network.zero_grad()
    learning = list(network.parameters())
    gradients = Gradients(kernels, learning) if learning else None
    forwards = layers.forwards(network, kernels, gradients)
    values = values.clone().requires_grad_()
    with layout.replaced(forwards):
        result = network(values)
        upstream = (
            torch.randn(result.shape, generator=torch.Generator().manual_seed(1)) if upstream is None else upstream
        )
        result.backward(upstream.to(result.dtype))
        if gradients:
            gradients.collect()
            assert gradients.whole
    return [result.detach(), values.grad, *(parameter.grad.clone() for parameter in network.parameters())], len(
        forwards
    )


def plainly(network, values, upstream=None):
    """The same as PyTorch computes it, in the network's type."""
    network.zero_grad()
    values = values.clone().requires_grad_()
    result = network(values)
    upstream = torch.randn(result.shape, generator=torch.Generator().manual_seed(1)) if upstream is None else upstream
    result.backward(upstream.to(result.dtype))
    return [result.detach(), values.grad, *(parameter.grad.clone() for parameter in network.parameters())]


def convolution(shape):
    batch, length, c_in, c_out, taps, padding, after = shape
    torch.manual_seed(length)
    network = nn.Sequential(nn.Conv1d(c_in, c_out, taps, padding=padding), *FOLLOWS[after]())
    return network, torch.randn(batch, c_in, length)


def check(network, values, *libraries, error=LARGEST_ERROR):
    """Each library's numbers are float64's, to rounding, and each other's to the bit; those of the first."""
    wanted = plainly(network.double(), values.double())
    network.float()
    seen = []
    for kernels in libraries:
        found, replaced = learned(network, kernels, values)
        assert replaced == 1
        errors = [far(*pair) for pair in zip(found, wanted, strict=True)]
        assert max(errors) <= error, errors
        seen.append(found)
    for other in seen[1:]:
        assert all(map(torch.equal, seen[0], other))
    return seen[0]


def in_matrices(shape):
    """Whether a convolution's channels are enough for matrices in SIMD-groups."""
    return min(shape[2:4]) >= 8
