"""Every Metal kernel but the convolutions' against float64: pooling, dense layers, head, loss, clipping and Adam."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tests.model.metal_cases import (
    HALF_ERROR,
    LARGEST_ERROR,
    check,
    far,
    learned,
    library,
    plainly,
    poisoned,  # noqa: F401 - a fixture
)
from transit_cli.model.acceleration import layout
from transit_cli.model.acceleration.metal import layers
from transit_cli.model.acceleration.metal.functions import cross_entropy
from transit_cli.model.acceleration.metal.fused_optimizer import FlatAdam, agrees, suits
from transit_cli.model.acceleration.metal.gradients import Gradients
from transit_cli.model.astronet import AstroNet
from transit_cli.model.pooling import AverageAndMaximum

torture = pytest.mark.torture


def every(shapes, step):
    """Each `step`-th of the shapes always, the others with -m torture: compiling takes most of a case."""
    return [pytest.param(*shape, marks=torture if n % step else ()) for n, shape in enumerate(shapes)]


#: Size and stride of a max-pooling, bins, channels: AstroNet's at 2001/201 and 201/61 bins, then odd ones.
POOLS = [
    *((5, 2, 2001, 16), (5, 2, 201, 16), (7, 2, 201, 16), (7, 2, 61, 16), (5, 2, 122, 256)),
    *(
        (2, 2, 9, 3),
        (3, 4, 11, 5),
        (4, 1, 4, 2),
        (7, 2, 30, 1),
        (1, 1, 5, 4),
        (1, 3, 7, 2),
        (2, 5, 23, 3),
        (6, 6, 36, 2),
    ),
    *(
        (9, 4, 40, 7),
        (254, 3, 300, 1),
        (3, 1, 3, 1),
        (2, 1, 33, 9),
        (5, 5, 64, 3),
        (8, 3, 8, 6),
        (11, 7, 65, 2),
        (4, 3, 31, 8),
    ),
    *((3, 2, 6, 33), (2, 3, 2, 1), (10, 1, 129, 2), (7, 7, 7, 5)),
]


@pytest.mark.parametrize(("size", "stride", "length", "channels"), every(POOLS, 12))
def test_max_pooling(size, stride, length, channels):
    torch.manual_seed(length)
    network = nn.Sequential(nn.MaxPool1d(size, stride), nn.ReLU())
    values = torch.randn(2, channels, length)
    check(network, values, library(seed=3), library(checks=True, seed=2))
    for kind, error in HALF_ERROR.items():
        check(network, values.to(kind), library(seed=3), error=error)


def test_max_pooling_keeps_nan():
    network = nn.Sequential(nn.MaxPool1d(3, 2), nn.ReLU())
    values = torch.randn(2, 2, 21)
    values[0, 0, 4] = values[1, 1, 20] = torch.nan
    found, _ = learned(network, library(), values)
    for one, other in zip(found, plainly(network, values), strict=True):
        torch.testing.assert_close(one, other, equal_nan=True, rtol=1e-4, atol=1e-5)


#: Batch, inputs, units, whether ReLU follows: AstroNet's at 201/61 bins, then odd ones.
DENSE = [
    (1, 1, 1, False),
    *((64, 512, 512, True), (64, 512, 1, False), (5, 1120, 512, True)),
    *((3, 5, 7, True), (33, 31, 32, True), (2, 64, 65, False), (70, 33, 3, True), (32, 32, 32, True)),
    *(
        (31, 100, 1, True),
        (1, 200, 40, False),
        (300, 4, 4, True),
        (9, 2, 129, True),
        (257, 17, 9, False),
        (4, 96, 96, True),
    ),
    *(
        (2, 63, 33, True),
        (7, 1, 50, True),
        (40, 50, 60, False),
        (65, 65, 65, True),
        (1, 2048, 3, True),
        (6, 3, 2048, False),
    ),
    *((513, 8, 5, True), (12, 128, 16, True)),
]


@pytest.mark.parametrize(("batch", "inputs", "units", "relu"), every(DENSE, 12))
def test_dense_layers(batch, inputs, units, relu):
    torch.manual_seed(batch + units)
    network = nn.Sequential(nn.Linear(inputs, units), *[nn.ReLU()] * relu)
    values = torch.randn(batch, inputs)
    check(network, values, library(seed=3), library(checks=True, seed=2))


def test_dense_layers_keep_nan_and_take_half_precision():
    network = nn.Sequential(nn.Linear(6, 9), nn.ReLU(), nn.Linear(9, 2))
    values = torch.randn(5, 6)
    for kind, error in HALF_ERROR.items():
        check(network, values.to(kind), library(), error=error)
    values[2, 3] = torch.nan
    found, _ = learned(network, library(), values)
    for one, other in zip(found, plainly(network, values), strict=True):
        torch.testing.assert_close(one, other, equal_nan=True, rtol=1e-4, atol=1e-5)


#: Batch, features, units, dropout: two-branch with two views, with scalars, with five views; then odd ones.
HEADS = [
    (1, 2, 3, 0.5),
    *((64, 128, 128, 0.3), (64, 137, 128, 0.3), (8, 320, 128, 0.0)),
    *(
        (70, 37, 50, 0.4),
        (1, 1, 1, 0.0),
        (1, 2, 3, 0.5),
        (3, 33, 5, 0.0),
        (2, 128, 1, 0.1),
        (5, 31, 129, 0.9),
        (65, 64, 64, 0.0),
    ),
    *(
        (130, 3, 2, 0.2),
        (4, 257, 7, 0.0),
        (2, 2048, 4, 0.3),
        (2, 5, 2048, 0.3),
        (9, 100, 33, 0.0),
        (257, 7, 6, 0.1),
        (1, 500, 300, 0.5),
    ),
    *((33, 32, 32, 0.0), (6, 129, 127, 0.6), (31, 11, 64, 0.0), (12, 96, 10, 0.7), (3, 63, 96, 0.0), (100, 2, 5, 0.3)),
]


@pytest.mark.parametrize(("batch", "joined", "hidden", "dropout"), every(HEADS, 30))
def test_head(batch, joined, hidden, dropout):
    torch.manual_seed(3)
    network = nn.Sequential(
        nn.LayerNorm(joined), nn.Linear(joined, hidden), nn.ReLU(), nn.Dropout(dropout), nn.Linear(hidden, 1)
    )
    values = torch.randn(batch, joined) * 3 + 1
    state = torch.get_rng_state()
    mask = torch.empty(batch, hidden).bernoulli_(1 - dropout) if dropout else None
    exact = nn.Sequential(*network).double()
    exact[3] = nn.Identity() if mask is None else Masked(mask, dropout)
    wanted = plainly(exact, values.double())
    network.float()
    seen = []
    for kernels in (library(seed=4), library(checks=True, seed=5)):
        torch.set_rng_state(state)  # the kernel draws the mask that PyTorch would draw
        found, replaced = learned(network, kernels, values)
        seen.append(found)
        assert replaced == 1
        for one, other in zip(found, wanted, strict=True):
            # with one feature its norm is 0, and so are the gradients behind it
            assert far(one, other) <= LARGEST_ERROR or (one - other).abs().max() <= 1e-6
    assert all(map(torch.equal, *seen))


class Masked(nn.Module):
    """Dropout with a mask that is known."""

    def __init__(self, mask, dropout):
        super().__init__()
        self.mask, self.scale = mask, 1 / (1 - dropout)

    def forward(self, values):
        return values * self.mask * self.scale


#: Samples, label smoothing, weight of positives.
LOSSES = [(n, s, w) for n in (1, 2, 31, 64, 255, 256, 257, 1000) for s, w in ((0.0, 1.0), (0.1, 3.0), (0.05, 0.25))]


def test_cross_entropy():
    kernels = library(checks=True), library(seed=6)
    for samples, smoothing, weight in LOSSES:
        torch.manual_seed(samples)
        logits, targets = torch.randn(samples) * 20, torch.rand(samples).round()
        options = {"share": 0.5, "smoothing": smoothing, "positive_weight": weight}
        seen = [cross_entropy(each, logits, targets, **options) for each in kernels]
        exact = logits.double().requires_grad_()
        smooth = targets.double() * (1 - smoothing) + smoothing / 2
        wanted = F.binary_cross_entropy_with_logits(exact, smooth, pos_weight=torch.tensor(weight).double()) / 2
        wanted.backward()
        assert all(map(torch.equal, *seen))
        assert far(seen[0][0], wanted.detach()) <= LARGEST_ERROR
        assert far(seen[0][1], exact.grad) <= LARGEST_ERROR
    logits[3] = torch.nan
    loss, gradient = cross_entropy(kernels[0], logits, targets, share=1.0, smoothing=0.0, positive_weight=1.0)
    assert loss.isnan()
    assert gradient.isnan().nonzero().tolist() == [[3]]


#: Numbers of parameters.
SIZES = [[1], [2, 3], [255], [256], [257], [12, 700, 1], [512, 1, 511], [1000, 24], [31] * 7, [5000]]


@pytest.mark.parametrize("kind", [torch.optim.Adam, torch.optim.AdamW])
def test_clip_and_adam_are_float64s_and_the_state_goes_on_either_way(kind):
    kernels = library(checks=True, seed=1)
    for sizes in SIZES:
        moved(kind, kernels, sizes)


def moved(kind, kernels, sizes):
    torch.manual_seed(sum(sizes))
    start = [torch.randn(size) for size in sizes]
    own, exact = ([nn.Parameter(values.to(dtype)) for values in start] for dtype in (torch.float32, torch.float64))
    mine, torchs = (kind(p, lr=1e-2, weight_decay=0.1, betas=(0.8, 0.99), fused=True) for p in (own, exact))
    gradients = Gradients(kernels, own)
    adam = FlatAdam(kernels, mine, gradients)
    for step in range(6):
        if step == 3:  # the state goes to torch's optimizer and back
            state = mine.state_dict()
            mine = kind(own, lr=1.0, fused=True)
            mine.load_state_dict(state)
            adam = None
        if step == 5:
            assert not suits(mine)
            adam = FlatAdam(kernels, mine, gradients)
            assert adam.lies_flat
        for one, other in zip(own, exact, strict=True):
            one.grad = torch.randn_like(one) * (10 if step % 2 else 0.001)
            other.grad = one.grad.double()
        if adam:
            gradients.collect()
            adam.step(1.0)
        else:
            torch.nn.utils.clip_grad_norm_(own, 1.0)
            mine.step()
        torch.nn.utils.clip_grad_norm_(exact, 1.0)
        torchs.step()
    assert max(far(one.detach(), other.detach()) for one, other in zip(own, exact, strict=True)) <= LARGEST_ERROR
    for one, other in zip(own, exact, strict=True):
        for name in ("exp_avg", "exp_avg_sq", "step"):
            assert far(mine.state[one][name], torchs.state[other][name]) <= LARGEST_ERROR


def test_an_optimizer_that_moves_otherwise_is_found():
    optimizer = torch.optim.AdamW([nn.Parameter(torch.zeros(3))])
    assert agrees(library(), optimizer)
    assert not agrees(library(lambda source: source.replace("if (scale > 1.0f) scale = 1.0f;", "")), optimizer)
    assert not agrees(
        library(lambda source: source.replace("value -= rate * decay * value", "value -= rate * value")), optimizer
    )


def test_gradients_add_up_over_micro_batches_and_over_layers_that_are_used_twice():
    torch.manual_seed(6)
    layer = nn.Conv1d(4, 4, 3, padding=1)
    network = nn.Sequential(layer, nn.ReLU(), layer, nn.ReLU())
    values = torch.randn(2, 4, 20)
    kernels = library()
    gradients = Gradients(kernels, list(network.parameters()))
    forwards = layers.forwards(network, kernels, gradients)
    for _ in range(2):
        with layout.replaced(forwards):
            network(values).sum().backward()
        gradients.collect()
    found = [parameter.grad.clone() for parameter in network.parameters()]
    network.zero_grad()
    for _ in range(2):
        network(values).sum().backward()
    assert max(far(*pair) for pair in zip(found, (p.grad for p in network.parameters()), strict=True)) <= LARGEST_ERROR


class Own(nn.Module):
    """A network that nobody has seen: some of its layers have kernels, and some have not."""

    def __init__(self):
        super().__init__()
        self.first = nn.Sequential(nn.Conv1d(1, 8, 7, padding=3), nn.ReLU(), nn.Conv1d(8, 16, 3, stride=2), nn.SiLU())
        self.second = nn.Sequential(nn.BatchNorm1d(16), nn.Conv1d(16, 8, 3), nn.MaxPool1d(3), nn.ReLU())
        self.pool = AverageAndMaximum()
        self.last = nn.Sequential(
            nn.Linear(16, 9), nn.ReLU(), nn.Dropout(0.0), nn.Linear(9, 5), nn.Tanh(), nn.Linear(5, 1)
        )

    def forward(self, values):
        return self.last(self.pool(self.second(self.first(values)))).squeeze(1)


def taken(network):
    """Names of the kernels that a network's layers have, and of the layers that have none."""
    kernels = library()
    forwards = layers.forwards(network, kernels, Gradients(kernels, list(network.parameters())))
    pieces = [piece for forward in forwards.values() for piece in forward.args[0]]
    return [type(piece if isinstance(piece, nn.Module) else piece[0]).__name__ for piece in pieces]


@pytest.mark.parametrize("matrices", [False, pytest.param(True, marks=torture)])
def test_a_network_of_ones_own_has_kernels_for_some_layers_and_the_same_gradients(matrices):
    torch.manual_seed(7)
    network, values = Own(), torch.randn(6, 1, 40)
    assert taken(network) == [
        *("Convolution", "Conv1d", "SiLU"),
        *("BatchNorm1d", "Convolution", "Pooling"),
        *("Dense", "Dropout", "Dense", "Tanh", "Dense"),
    ]
    found, replaced = learned(network, library(matrices=matrices, checks=True), values)
    assert replaced == 3
    wanted = plainly(network.double(), values.double())
    assert max(far(*pair) for pair in zip(found, wanted, strict=True)) <= LARGEST_ERROR


def test_every_layer_of_astronet_has_a_kernel_at_201_bins_and_all_but_one_at_2001():
    column = ["Convolution", "Convolution", "Pooling"]
    dense = ["Dense"] * 5
    assert taken(AstroNet({"global": 201, "local": 61})) == [*column * 7, *dense]
    assert taken(AstroNet({"global": 2001, "local": 201})) == [*column * 7, "Linear", "ReLU", *dense[1:]]
