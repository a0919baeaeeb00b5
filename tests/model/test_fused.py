"""The fused kernels compute what the layers compute: on an NVIDIA GPU, or in Triton's interpreter on the CPU."""

import copy
import warnings

import pytest
import torch
from torch import nn

CUDA = torch.cuda.is_available()
pytest.importorskip("triton", reason="Triton is not installed: it comes with torch for CUDA, and for Linux only")

from tests.training.execution.capturing import CapturingCpu  # noqa: E402
from transit_cli.device.cuda import without_tf32  # noqa: E402
from transit_cli.device.select import select  # noqa: E402
from transit_cli.model import astronet, registry, two_branch  # noqa: E402
from transit_cli.model.acceleration import layout  # noqa: E402
from transit_cli.model.acceleration.cuda import convolution, head  # noqa: E402
from transit_cli.model.acceleration.cuda.fused import fused_forwards, watch_launches  # noqa: E402
from transit_cli.model.acceleration.cuda.optimizer import FusedUpdate  # noqa: E402
from transit_cli.model.pooling import AverageAndMaximum  # noqa: E402
from transit_cli.training import inference  # noqa: E402
from transit_cli.training.batch import Batch  # noqa: E402
from transit_cli.training.execution import selection  # noqa: E402
from transit_cli.training.settings import StepSettings  # noqa: E402
from transit_cli.training.step import OptimizerStep  # noqa: E402

WHERE = torch.device("cuda" if CUDA else "cpu")
TOLERANCE = 1e-4
#: The interpreter, which is made of NumPy, has no bfloat16.
HALF = torch.bfloat16 if CUDA else torch.float16


@pytest.fixture(autouse=True)
def exact(monkeypatch):
    """Products of float32 in float32: in TF32, another bin of two nearly equal ones may be the maximum."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    if CUDA:  # cuBLAS warns where autograd's own thread is the first to ask for it
        without_tf32()  # which a device that was opened in an earlier test has turned on
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            weight = torch.ones(2, 2, device=WHERE, requires_grad=True)
            (weight @ weight).sum().backward()
    monkeypatch.setattr(convolution, "precision", lambda: "ieee")


def errors(network, inputs, *, autocast=False):
    """Relative errors of the output and of each gradient against float64's; `inputs` is what the network takes."""
    network = network.to(WHERE)
    exact = copy.deepcopy(network).double()
    results = []
    for module, cast, forwards in (
        (exact, torch.Tensor.double, {}),
        (network, torch.Tensor.float, fused_forwards(network)),
    ):
        given = {name: cast(values.to(WHERE)).requires_grad_() for name, values in inputs.items()}
        halved = torch.autocast(WHERE.type, HALF, enabled=autocast and bool(forwards))
        with layout.replaced(forwards), halved:
            output = module(given if len(given) > 1 else given["x"])
        seed = torch.linspace(-1, 2, output.numel(), device=WHERE).reshape(output.shape).to(output.dtype)
        wanted = [*given.values(), *module.parameters()]
        results.append([output, *torch.autograd.grad(output, wanted, seed, allow_unused=True)])
    pairs = [(a.detach(), b.detach().double()) for a, b in zip(*results, strict=True) if a is not None]
    return [float((found - wanted).norm() / wanted.norm().clamp_min(1e-12)) for wanted, found in pairs]


def relu(*layers):
    return nn.Sequential(*layers, nn.ReLU())


@pytest.mark.parametrize(
    ("network", "length"),
    [
        (relu(nn.Conv1d(1, 16, 7, padding=3), nn.MaxPool1d(2)), 41),
        (relu(nn.Conv1d(1, 16, 4), nn.MaxPool1d(2, 2)), 40),
        (relu(nn.Conv1d(1, 32, 5, padding=2)), 70),
        (relu(nn.Conv1d(16, 32, 5, padding=2), nn.MaxPool1d(2)), 71),
        (relu(nn.Conv1d(16, 16, 3), nn.MaxPool1d(2)), 20),
        (relu(nn.Conv1d(16, 16, 7, padding=5), nn.MaxPool1d(2)), 15),
        (relu(nn.Conv1d(16, 16, 4, padding=0), nn.MaxPool1d(2)), 15),
        (
            nn.Sequential(nn.Conv1d(16, 16, 3), nn.ReLU(), nn.Conv1d(16, 16, 5, padding=2), nn.MaxPool1d(2), nn.ReLU()),
            13,
        ),
        (nn.Sequential(nn.Conv1d(16, 32, 3), nn.ReLU(), nn.Conv1d(32, 64, 3, padding=1), nn.ReLU()), 12),
        (nn.Sequential(nn.Conv1d(16, 64, 3), nn.ReLU(), nn.Conv1d(64, 128, 3, padding=1)), 9),  # cuDNN's gradient
        (relu(nn.Conv1d(64, 16, 2, padding=1)), 9),
        (relu(nn.Conv1d(16, 128, 1)), 5),
        (nn.Sequential(nn.Conv1d(32, 16, 5, padding=4)), 12),
        (relu(nn.Conv1d(16, 16, 3, padding=1), nn.MaxPool1d(5, 2)), 40),
        (relu(nn.Conv1d(16, 16, 3, padding=1), nn.MaxPool1d(3)), 40),
        (relu(nn.Conv1d(16, 16, 3, padding=1), nn.MaxPool1d(7, 2)), 27),
        (relu(nn.Conv1d(16, 16, 3, padding=1), nn.MaxPool1d(1, 2)), 9),
        (nn.Sequential(nn.Conv1d(1, 16, 3), nn.ReLU(), nn.Conv1d(16, 16, 3), nn.ReLU(), AverageAndMaximum()), 150),
    ],
)
def test_layers(network, length):
    channels = network[0].in_channels
    assert fused_forwards(network)
    found = errors(network, {"x": torch.randn(3, channels, length)})
    assert max(found) < TOLERANCE, found


@pytest.mark.parametrize("name", ["two-branch", "astronet"])
def test_our_networks_run_on_kernels_from_view_to_features(name, monkeypatch):
    if not CUDA:  # the interpreter would take a minute
        monkeypatch.setattr(astronet, "GLOBAL_FILTERS", (16, 32))
        monkeypatch.setattr(astronet, "DENSE_UNITS", 16)
    views = {"global": 125, "local": 20}
    network = registry.build(name, views)
    network.eval()
    for kind in (nn.Conv1d, nn.MaxPool1d, AverageAndMaximum):
        used = kind.forward
        monkeypatch.setattr(kind, "forward", lambda self, x, used=used: plain(self, x, used))
    found = errors(network, {view: torch.randn(2, length) for view, length in views.items()})
    assert max(found[3:]) < 5 * TOLERANCE, found  # gradients of views are none: the first layer's input needs none


def plain(module, values, forward):
    assert values.dtype == torch.float64, f"{type(module).__name__} computed by itself"
    return forward(module, values)


def test_half_precision_rounds_as_half_precision_does():
    network = nn.Sequential(nn.Conv1d(1, 16, 5), nn.MaxPool1d(2), nn.ReLU(), nn.Conv1d(16, 16, 3), nn.ReLU())
    found = errors(network, {"x": torch.randn(3, 1, 50)}, autocast=True)
    assert 1e-4 < max(found) < 0.05


def test_equal_bins_are_told_apart_as_torch_does():
    """The first of equal bins is the maximum, in PyTorch too; and a ReLU passes nothing at 0."""
    network = relu(nn.Conv1d(1, 16, 1), nn.MaxPool1d(2)).to(WHERE)
    with torch.no_grad():
        network[0].bias.zero_()
    values = torch.tensor([1.0, 1.0, 2.0, 1.0, 0.0, 0.0], device=WHERE).view(1, 1, 6)
    gradients = []
    for forwards in ({}, fused_forwards(network)):
        given = values.clone().requires_grad_()
        with layout.replaced(forwards):
            network(given).sum().backward()
        gradients.append([given.grad, network[0].weight.grad, network[0].bias.grad])
        network.zero_grad()
    for one, other in zip(*gradients, strict=True):
        assert torch.allclose(one, other, atol=1e-4)


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv1d(1, 24, 3),  # channels that are no power of two
        nn.Conv1d(8, 16, 3),
        nn.Conv1d(16, 16, 3, stride=2),
        nn.Conv1d(16, 16, 3, dilation=2),
        nn.Conv1d(16, 16, 3, groups=2),
        nn.Conv1d(16, 16, 3, padding="same"),
        nn.Conv1d(16, 16, 3, padding=1, padding_mode="circular"),
        nn.Conv1d(16, 16, 3, bias=False),
        nn.MaxPool1d(2, padding=1),
        nn.MaxPool1d(2, ceil_mode=True),
        nn.Linear(16, 16, bias=False),
    ],
)
def test_what_has_no_kernel_runs_as_it_is(layer):
    assert not fused_forwards(nn.Sequential(layer, nn.ReLU()))


def test_a_run_is_cut_by_what_has_no_kernel():
    network = nn.Sequential(
        nn.Conv1d(1, 16, 3), nn.ReLU(), nn.Conv1d(16, 16, 3, stride=2), nn.ReLU(), nn.Conv1d(16, 16, 3), nn.ReLU()
    )
    found = errors(network, {"x": torch.randn(2, 1, 60)})
    assert max(found) < 2 * TOLERANCE, found


def test_a_step_whose_gradients_agree_may_run_this_way():
    device = select("cuda") if CUDA else CapturingCpu()
    views = {"global": 16, "local": 8}
    step = OptimizerStep(registry.build("two-branch", views), device, StepSettings(precision="fp32"), 5)
    inputs = {name: torch.randn(4, length, device=WHERE) for name, length in views.items()}
    batch = Batch(inputs, torch.tensor([0.0, 1.0, 1.0, 0.0], device=WHERE))
    assert list(selection.equivalent_executors(step, batch, ["cuda-graph", "triton"])) == ["cuda-graph", "triton"]


def test_inference_on_a_gpu_runs_on_kernels(monkeypatch):
    device = select("cuda" if CUDA else "cpu")
    monkeypatch.setattr(device, "kind", "cuda")
    monkeypatch.setattr(inference, "DEVICE_PIECE", 4)
    monkeypatch.setattr(inference, "FUSED_PIECE", 4)
    views = {"global": 16, "local": 8}
    network = registry.build("two-branch", views).to(WHERE).eval()
    inputs = {name: torch.randn(9, length) for name, length in views.items()}
    with torch.no_grad():
        expected = network({name: values.to(WHERE) for name, values in inputs.items()}).cpu()
    launches = []
    with watch_launches(launches.append):
        assert torch.allclose(inference.logits([network], inputs, device)[0], expected, atol=1e-4)
    assert len(launches) == 3 * (
        6 * 2 + 2 + 1
    )  # pieces of a turned weight and a kernel for each convolution, two ends, head
    launches.clear()
    with watch_launches(launches.append):
        inference.logits([network], {name: values[:4] for name, values in inputs.items()}, device)
    assert not launches  # not worth compiling for


def test_the_kernels_tell_what_they_read_and_write():
    network = relu(nn.Conv1d(1, 16, 5), nn.MaxPool1d(2)).to(WHERE)
    values, seen = torch.randn(4, 1, 100, device=WHERE), []
    with watch_launches(seen.append), layout.replaced(fused_forwards(network)):
        network(values).sum().backward()
    with layout.replaced(fused_forwards(network)):
        network(values)
    assert len(seen) == 4  # the weight turned, forward, the weight's gradient in parts, their sum
    assert any(tensor.shape == (4, 48, 16) for tensor in seen[1])
    assert any(tensor.shape[1:] == (8, 16) for tensor in seen[2])  # five taps and the bias, summed by each program


def test_a_repeated_step_repeats_its_bits():
    network = relu(nn.Conv1d(1, 16, 5), nn.MaxPool1d(2)).to(WHERE)
    values = torch.randn(4, 1, 100, device=WHERE)
    gradients = []
    for _ in range(2):
        with layout.replaced(fused_forwards(network)):
            gradients.append(torch.autograd.grad(network(values).square().sum(), list(network.parameters())))
    assert all(torch.equal(one, other) for one, other in zip(*gradients, strict=True))


@pytest.mark.parametrize(("views", "scalars", "outputs"), [({"local": 16}, 0, 1), ({"local": 8, "half": 9}, 3, 3)])
def test_the_head_of_the_two_branch_network(views, scalars, outputs):
    network = two_branch.TwoBranch(views, scalars, width=16, hidden=32, outputs=outputs)
    network.train()
    network.head[3].p = 0.0
    with torch.no_grad():
        network.head[0].weight.uniform_(0.5, 1.5)
        network.head[0].bias.uniform_(-0.5, 0.5)
    inputs = {name: torch.randn(18, length) for name, length in views.items()}
    inputs |= {"scalars": torch.randn(18, scalars)} if scalars else {"unused": torch.zeros(18, 1)}
    assert head.fits_head(network)
    found = errors(network, inputs)
    assert max(found) < 5 * TOLERANCE, found


def test_dropout_of_the_head_is_torchs_own():
    network = two_branch.TwoBranch({"local": 8}, width=16, hidden=32).to(WHERE)
    inputs, results = {"local": torch.randn(20, 8, device=WHERE)}, []
    for forwards in ({}, fused_forwards(network)):
        torch.manual_seed(3)
        with layout.replaced(forwards):
            output = network(inputs)
            output.sum().backward()
        results.append([output.detach(), *(parameter.grad for parameter in network.parameters())])
        network.zero_grad()
    for one, other in zip(*results, strict=True):
        assert torch.allclose(one, other, atol=1e-4)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("positive", [1.0, 3.5])
def test_the_binary_loss_and_its_gradient(smoothing, positive):
    logits = torch.tensor([-90.0, -2.0, -0.1, 0.0, 0.3, 4.0, 120.0] * 300, device=WHERE, requires_grad=True)
    targets = torch.tensor([0.0, 1.0, 0.3] * 700, device=WHERE)
    weight = torch.tensor(positive, device=WHERE)
    wanted = 0.25 * nn.functional.binary_cross_entropy_with_logits(
        logits, targets * (1 - smoothing) + smoothing / 2, pos_weight=weight
    )
    wanted.backward()
    loss, grad = head.binary_loss(logits.detach(), targets, weight, weight=0.25, smoothing=smoothing)
    assert torch.allclose(loss, wanted, rtol=1e-5)
    assert torch.allclose(grad, logits.grad, rtol=1e-4, atol=1e-9)


@pytest.mark.parametrize(
    ("kind", "clip"),
    [(torch.optim.AdamW, 0.0), (torch.optim.Adam, 0.5), (torch.optim.AdamW, 0.5), (torch.optim.Adam, 1e6)],
)
def test_clipping_and_the_update_in_two_kernels(kind, clip):
    """Ten steps as PyTorch takes them, over parameters of one to more than a chunk of values; one has no gradient."""
    shapes = (3000,), (7, 5), (1,), (64,), (2048,)
    sides = []
    for fused in (False, True):
        torch.manual_seed(0)
        parameters = [nn.Parameter(torch.randn(shape, device=WHERE)) for shape in shapes]
        rate = torch.tensor(0.01, device=WHERE) if fused else 0.01
        sides.append((parameters, kind(parameters, lr=rate, weight_decay=0.1, eps=1e-6, capturable=fused and CUDA)))
    for step in range(10):
        for parameters, optimizer in sides:
            torch.manual_seed(step)
            for parameter in parameters:
                parameter.grad = torch.randn(parameter.shape, device=WHERE) if len(parameter) != 64 else None
            if step and optimizer is sides[1][1]:
                parameters[3].grad = torch.zeros_like(parameters[3])
        if step == 0:
            for parameters, optimizer in sides:
                parameters[3].grad = torch.zeros_like(parameters[3])
                for group in optimizer.param_groups:
                    group["capturable"], group["lr"] = False, 0.01
                optimizer.step()
            rate = torch.tensor(0.01, device=WHERE)
            sides[1][1].param_groups[0]["lr"] = rate
            continue
        (parameters, optimizer), (others, fused) = sides
        parameters[3].grad = torch.zeros_like(parameters[3])
        if clip:
            nn.utils.clip_grad_norm_(parameters, clip)
        optimizer.step()
        assert FusedUpdate.supports(fused)
        update = FusedUpdate(fused, decoupled=kind is torch.optim.AdamW, clip=clip)
        update.warm_up()
        update._collect()  # as a graph is captured and replayed
        update.fill()
        update._queue()
        for one, other in zip(parameters, others, strict=True):
            assert torch.allclose(one, other, rtol=1e-5, atol=1e-6)
        for one, other in zip(optimizer.state.values(), fused.state.values(), strict=True):
            assert float(one["step"]) == float(other["step"])
            assert torch.allclose(one["exp_avg_sq"], other["exp_avg_sq"], rtol=1e-5)


@pytest.mark.parametrize("magnitude", [1.0, 1e-12, 1e8])
@pytest.mark.parametrize("channels", [(1, 32), (16, 16), (32, 32), (32, 64), (64, 128)])
def test_rounded_products_are_as_exact_as_tf32(channels, magnitude, monkeypatch):
    """Whatever the magnitude of the inputs: float16, as which TF32's factors are multiplied, has a smaller range."""
    if not CUDA and max(channels) > 32:
        pytest.skip("takes long in the interpreter")
    monkeypatch.setattr(convolution, "precision", lambda: "tf32")
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    first, second = channels
    network = nn.Sequential(
        nn.Conv1d(first, second, 5, padding=2), nn.ReLU(),
        nn.Conv1d(second, 32, 3), nn.MaxPool1d(2), nn.ReLU(),
        nn.Conv1d(32, 16, 3),
    )  # fmt: skip
    with torch.no_grad():
        for layer in network:
            if isinstance(layer, nn.Conv1d):
                layer.bias.mul_(magnitude)
    samples, length = (40, 300) if CUDA else (2, 90)
    found = errors(network, {"x": magnitude * torch.randn(samples, first, length)})
    assert max(found) < 3e-3, found


@pytest.mark.parametrize("inner", [40, 4096])
def test_dense_layers(inner):
    """One product, or several along the inner dimension."""
    network = nn.Sequential(nn.Linear(inner, 24), nn.ReLU(), nn.Linear(24, 3))
    assert head._parts(torch.zeros(5, inner), network[0].weight) == (4 if inner == 4096 else 1)
    found = errors(network, {"x": torch.randn(5, inner)})
    assert max(found) < TOLERANCE, found
