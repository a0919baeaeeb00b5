"""The Metal kernels, run on the CPU by tests/metal_shim: numbers against float64, checks of what they do to memory."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tests.metal_shim import MetalFault, Unavailable, compile_shader, typecheck
from tests.metal_shim.compiler import cache
from transit_cli.model.acceleration import layout
from transit_cli.model.acceleration.metal import layers
from transit_cli.model.acceleration.metal.functions import Convolution, Head, Pooling, cross_entropy
from transit_cli.model.acceleration.metal.fused_optimizer import FlatAdam, agrees, suits
from transit_cli.model.acceleration.metal.gradients import Gradients
from transit_cli.model.acceleration.metal.library import Library, MetalError
from transit_cli.model.pooling import AverageAndMaximum, average_and_maximum
from transit_cli.model.two_branch import TwoBranch

#: Batch, bins, channels in and out, taps, padding, what follows. Those of two-branch at 2001 and 201 bins, and of AstroNet.
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


@pytest.fixture(autouse=True)
def poisoned(monkeypatch):
    """Memory that nobody has written is NaN; skipped where the shim cannot run."""
    try:
        cache()
    except Unavailable as reason:
        pytest.skip(str(reason))
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


def library(change=None, **options):
    return Library(lambda source: compile_shader(change(source) if change else source, **options))


def far(found, wanted):
    """The largest difference, in units of the largest number that is wanted."""
    return ((found.double() - wanted.double()).abs().max() / wanted.abs().max().clamp(min=1e-30)).item()


def learned(network, kernels, values, upstream=None):
    """A network's result and gradients (of values, then parameters) with kernels, and their number of layers."""
    network.zero_grad()
    gradients = Gradients(kernels, list(network.parameters()))
    forwards = layers.forwards(network, kernels, gradients)
    values = values.clone().requires_grad_()
    with layout.replaced(forwards):
        result = network(values)
        upstream = (
            torch.randn(result.shape, generator=torch.Generator().manual_seed(1)) if upstream is None else upstream
        )
        result.backward(upstream.to(result.dtype))
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


def check(shape, *libraries):
    """Each library's numbers are float64's, to rounding, and each other's to the bit."""
    network, values = convolution(shape)
    wanted = plainly(network.double(), values.double())
    network.float()
    seen = []
    for kernels in libraries:
        found, replaced = learned(network, kernels, values)
        assert replaced == 1
        errors = [far(*pair) for pair in zip(found, wanted, strict=True)]
        assert max(errors) <= LARGEST_ERROR, errors
        seen.append(found)
    for other in seen[1:]:
        assert all(map(torch.equal, seen[0], other))


@pytest.mark.parametrize("shape", REAL, ids=str)
def test_convolutions_of_our_networks_are_float64s_in_any_order_of_threads(shape):
    check(shape, library(), library(seed=9))


@pytest.mark.parametrize("shape", ODD, ids=str)
def test_convolutions_of_odd_shapes_are_float64s_and_do_nothing_wrong(shape):
    check(shape, library(), library(checks=True, seed=7))


@pytest.mark.torture
@pytest.mark.parametrize("shape", REAL, ids=str)
def test_convolutions_of_our_networks_do_nothing_wrong(shape):
    check((1, *shape[1:]), library(seed=3), library(checks=True, seed=7))


@pytest.mark.parametrize(("size", "stride", "length"), [(5, 2, 63), (7, 2, 30), (2, 2, 9), (3, 4, 11), (4, 1, 4)])
def test_max_pooling(size, stride, length):
    network = nn.Sequential(nn.MaxPool1d(size, stride), nn.ReLU())
    values = torch.randn(3, 5, length)
    kernels = library(checks=True, seed=2)
    forwards = layers.forwards(network, kernels, Gradients(kernels, [nn.Parameter(torch.zeros(1))]))
    own, other = values.clone().requires_grad_(), values.clone().requires_grad_()
    with layout.replaced(forwards):
        result = network(own)
    upstream = torch.randn(result.shape)
    result.backward(upstream)
    network(other).backward(upstream)
    assert forwards
    assert torch.equal(result, network(values))
    torch.testing.assert_close(own.grad, other.grad)


@pytest.mark.parametrize("dropout", [0.0, 0.4])
def test_head(dropout):
    torch.manual_seed(3)
    network = nn.Sequential(nn.LayerNorm(37), nn.Linear(37, 50), nn.ReLU(), nn.Dropout(dropout), nn.Linear(50, 1))
    values = torch.randn(70, 37) * 3 + 1
    state = torch.get_rng_state()
    wanted = plainly(network, values)
    seen = []
    for kernels in (library(seed=4), library(checks=True, seed=5)):
        torch.set_rng_state(state)  # the kernel draws the mask that PyTorch would draw
        found, replaced = learned(network, kernels, values)
        seen.append(found)
        assert replaced == 1
        assert max(far(*pair) for pair in zip(found, wanted, strict=True)) <= LARGEST_ERROR
    assert all(map(torch.equal, *seen))


@pytest.mark.parametrize(("smoothing", "weight"), [(0.0, 1.0), (0.1, 3.0)])
def test_cross_entropy(smoothing, weight):
    torch.manual_seed(4)
    logits, targets = torch.randn(300) * 20, torch.rand(300).round()
    loss, gradient = cross_entropy(
        library(checks=True), logits, targets, share=0.5, smoothing=smoothing, positive_weight=weight
    )
    exact = logits.double().requires_grad_()
    smooth = targets.double() * (1 - smoothing) + smoothing / 2
    wanted = F.binary_cross_entropy_with_logits(exact, smooth, pos_weight=torch.tensor(weight).double()) / 2
    wanted.backward()
    assert far(loss, wanted.detach()) <= LARGEST_ERROR
    assert far(gradient, exact.grad) <= LARGEST_ERROR


@pytest.mark.parametrize("kind", [torch.optim.Adam, torch.optim.AdamW])
def test_clip_and_adam_are_torchs_and_its_state_goes_on_either_way(kind):
    torch.manual_seed(5)
    start = [torch.randn(3, 4), torch.randn(700), torch.randn(1)]
    own, exact = ([nn.Parameter(values.to(dtype)) for values in start] for dtype in (torch.float32, torch.float64))
    kernels = library(checks=True, seed=1)
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


@pytest.mark.parametrize("after", ["nothing", "relu", "pairs", "pooled"])
def test_nan_is_kept_as_pytorch_keeps_it(after):
    network, values = convolution((2, 40, 3, 4, 3, 1, after))
    values[0, 1, 7] = values[1, 2, 20] = float("nan")
    found, _ = learned(network, library(), values)
    pooling = {layer: average_and_maximum for layer in network if isinstance(layer, AverageAndMaximum)}
    with layout.replaced(pooling):  # the first maximum gets the gradient, here as in the kernel
        wanted = plainly(network, values)
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one.isnan(), other.isnan())
        torch.testing.assert_close(one, other, equal_nan=True, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
def test_half_precision_in_memory(kind):
    network, values = convolution((2, 61, 6, 8, 5, 2, "pairs"))
    values = values.to(kind)
    found, _ = learned(network, library(checks=True), values)
    wanted = plainly(network.double(), values.double())
    network.float()
    assert found[0].dtype == found[1].dtype == kind
    assert found[2].dtype == torch.float32
    assert max(far(*pair) for pair in zip(found, wanted, strict=True)) <= (2e-3 if kind == torch.float16 else 2e-2)


def test_types_and_address_spaces_of_all_that_a_network_compiles():
    if reason := typecheck.missing():
        pytest.skip(reason)
    texts = []

    def change(source):
        texts.append(source)
        return source

    network = TwoBranch({"global": 41, "local": 21})
    kernels = library(change)
    gradients = Gradients(kernels, list(network.parameters()))
    with layout.replaced(layers.forwards(network, kernels, gradients)):
        network({"global": torch.randn(2, 41), "local": torch.randn(2, 21)}).sum().backward()
    gradients.collect()
    assert len(texts) == 10  # 6 convolutions, pooling, head, all weights, their sum
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


#: Faults in the sources, and a shape at which each is found, by the checks or by the numbers.
MUTANTS = [
    ("if (first) threadgroup_barrier(mem_flags::mem_threadgroup);", "", (1, 20, 16, 16, 3, 1, "relu")),
    (
        "    threadgroup_barrier(mem_flags::mem_threadgroup);\n    NAME(multiply)",
        "    NAME(multiply)",
        (1, 20, 9, 9, 3, 1, "relu"),
    ),
    ("const bool inside = channel < C_IN && bin >= 0", "const bool inside = bin >= 0", (1, 20, 9, 9, 3, 1, "relu")),
    (
        "bin >= 0 && bin < int(length);\n      tile",
        "bin >= 0 && bin <= int(length);\n      tile",
        (1, 20, 4, 4, 3, 1, "relu"),
    ),
    ("if (channel >= C_OUT || to >= length_out) continue;", "", (1, 21, 5, 6, 3, 1, "relu")),
    (
        "if (channel < C_IN && to < length) wanted",
        "if (channel < C_IN && to <= length) wanted",
        (1, 21, 4, 4, 3, 1, "relu"),
    ),
    (
        "if (bin < 0 || from >= int(length_out)) return 0.0f;",
        "if (from >= int(length_out)) return 0.0f;",
        (1, 21, 4, 4, 3, 1, "relu"),
    ),
    ("if (bin < 0 || from >= int(length_out)) return 0.0f;", "if (bin < 0) return 0.0f;", (1, 21, 4, 4, 3, 1, "relu")),
    ("uchar(1 + (bin & 1))", "uchar(2 - (bin & 1))", (1, 20, 4, 4, 3, 1, "pairs")),
    ("second > value || not_a_number(second)", "second < value", (1, 20, 4, 4, 3, 1, "pairs")),
    (
        "    threadgroup_barrier(mem_flags::mem_threadgroup);\n    for (uint i = thread_; i < ins",
        "    for (uint i = thread_; i < ins",
        (60, 20, 2, 2, 3, 1, "relu"),
    ),
    (
        "    threadgroup_barrier(mem_flags::mem_threadgroup);\n    if (quad < quads)",
        "    if (quad < quads)",
        (1, 70, 32, 32, 3, 1, "relu"),
    ),
    ("i < outs * 64; i += 256", "i < outs * 64 - 64; i += 256", (1, 70, 8, 8, 3, 1, "relu")),
    (
        "in_begin == 0 && thread_ < outs && out_begin + thread_ < C_OUT) mine",
        "in_begin == 0 && thread_ <= outs) mine",
        (1, 20, 8, 8, 3, 1, "relu"),
    ),
    ("if (quad < quads && in_begin + channel < C_IN)", "if (quad < quads)", (1, 20, 33, 8, 3, 1, "relu")),
    ("if (lane == 0 && out < C_OUT) mine", "if (out < C_OUT) mine", (1, 40, 1, 8, 3, 1, "relu")),
    ("sum += at[part * uint(with[3])]", "sum += at[part * uint(with[3]) + 1]", (1, 20, 4, 4, 3, 1, "relu")),
    ("part < uint(with[4]); ++part", "part <= uint(with[4]); ++part", (1, 20, 4, 4, 3, 1, "relu")),
    ("other > most || (other == most && first)", "other < most", (1, 70, 4, 4, 3, 1, "pooled")),
    ("place[row] == from ? average", "place[row] == bin + 1 ? average", (1, 20, 4, 4, 3, 1, "pooled")),
    ("if (row >= rows) return;", "", (1, 20, 3, 3, 3, 1, "pooled")),
]


def is_found(old, new, shape):
    replaced = []

    def change(source):
        replaced.append(old in source)
        return source.replace(old, new)

    network, values = convolution(shape)
    wanted = plainly(network, values)
    try:
        found, _ = learned(network, library(change, checks=True, seed=7), values)
    except MetalFault:
        return True
    finally:
        assert any(replaced), f"{old!r} is in no source"
    return not max(far(*pair) for pair in zip(found, wanted, strict=True)) <= LARGEST_ERROR


@pytest.mark.parametrize(("old", "new", "shape"), MUTANTS[::3], ids=str)
def test_planted_faults_are_found(old, new, shape):
    assert is_found(old, new, shape)


@pytest.mark.torture
@pytest.mark.parametrize(("old", "new", "shape"), MUTANTS, ids=str)
def test_every_planted_fault_is_found(old, new, shape):
    assert is_found(old, new, shape)
