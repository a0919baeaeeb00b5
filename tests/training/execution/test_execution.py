"""Every way of running a step computes what the default way computes."""

import copy
import functools

import pytest
import torch
from torch import nn

from tests.training.execution.capturing import CapturingCpu
from transit_cli.device.select import select
from transit_cli.model import astronet, registry
from transit_cli.results import TransitError
from transit_cli.training.batch import Batch
from transit_cli.training.execution.errors import UnsupportedExecution
from transit_cli.training.execution.replicas import Replicas
from transit_cli.training.runner import StepRunner
from transit_cli.training.settings import StepSettings
from transit_cli.training.step import OptimizerStep

VIEWS = {"global": 128, "local": 32}
EXECUTIONS = ("channels-last", "onednn", "single-thread", "replicas", "cuda-graph")
STEPS = 50


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def batch_of(size, seed):
    generator = torch.Generator().manual_seed(seed)
    inputs = {name: torch.randn(size, length, generator=generator) for name, length in VIEWS.items()}
    return Batch(inputs, torch.randint(2, (size,), generator=generator).float())


def double(batch):
    return Batch({name: view.double() for name, view in batch.inputs.items()}, batch.targets.double())


def make_runner(execution, network="two-branch", **changes):
    torch.manual_seed(0)
    module = registry.build(network, VIEWS) if isinstance(network, str) else copy.deepcopy(network)
    device = CapturingCpu() if execution == "cuda-graph" else select("cpu")
    return StepRunner(
        OptimizerStep(module, device, StepSettings(execution=execution, learning_rate=1e-3, **changes), STEPS)
    )


def weights(runner):
    return torch.cat([weight.detach().flatten() for weight in runner.step.network.parameters()])


def run(runner, first=0, last=STEPS, *, cast=double, seed=1):
    """Uneven micro-batches, a smaller effective batch now and then, dropout on."""
    losses = []
    if seed is not None:
        torch.manual_seed(seed)
    for number in range(first, last):
        parts = (24, 17) if number % 7 else (24,)
        losses.append(runner.run([cast(batch_of(size, 100 * number + size)) for size in parts]))
    return torch.stack(losses)


def trained(execution, last=STEPS, *, in_double=False, **options):
    """A runner that has taken `last` steps, and their losses."""
    runner = make_runner(execution, **options)
    if in_double:
        runner.step.network.double()
    return runner, run(runner, last=last, cast=double if in_double else lambda batch: batch)


@functools.cache
def trained_eagerly(last=STEPS, **options):
    """Weights and losses of the default way."""
    runner, losses = trained("eager", last, **options)
    return weights(runner), losses


@pytest.mark.parametrize(("network", "steps_taken"), [("two-branch", STEPS), ("astronet", 8)])
@pytest.mark.parametrize("execution", EXECUTIONS)
def test_fifty_steps_agree_in_float64(execution, network, steps_taken, monkeypatch):
    """Accumulation, clipping, dropout, smoothing and schedule included: only rounding differs.

    A captured step's learning rate is a float32 tensor, since that is what the fused kernel reads.
    """
    monkeypatch.setattr(astronet, "DENSE_UNITS", 16)
    changes = {"clip": 0.05, "label_smoothing": 0.1, "weight_decay": 0.1}
    expected, losses = trained_eagerly(steps_taken, in_double=True, network=network, **changes)
    runner, found = trained(execution, steps_taken, in_double=True, network=network, **changes)
    tolerance = 1e-6 if execution == "cuda-graph" else 1e-9
    assert torch.allclose(found, losses, rtol=tolerance)
    assert torch.allclose(weights(runner), expected, rtol=0, atol=tolerance)
    assert runner.executor.name == execution


@pytest.mark.parametrize("execution", EXECUTIONS)
def test_fifty_steps_stay_close_in_float32(execution):
    """AdamW divides by small numbers, so rounding grows: weights of about 0.1 may differ by 2e-4 after 50 steps."""
    assert torch.allclose(weights(trained(execution)[0]), trained_eagerly()[0], rtol=0, atol=2e-4)


@pytest.mark.parametrize(
    "execution",
    [
        pytest.param(name, marks=[] if name in {"eager", "onednn", "cuda-graph"} else [pytest.mark.torture])
        for name in EXECUTIONS
    ],
)
def test_half_precision_agrees_to_its_own_rounding(execution):
    expected = trained_eagerly(20, precision="bf16")[1]
    assert torch.allclose(trained(execution, 20, precision="bf16")[1], expected, atol=0.02)


@pytest.mark.parametrize("execution", ["channels-last", "onednn", "single-thread", "replicas"])
def test_the_scaler_of_float16_passes_through_every_way(execution):
    steps = [make_runner(name, precision="fp16") for name in ("eager", execution)]
    losses = [run(runner, last=4, cast=lambda batch: batch) for runner in steps]
    assert torch.allclose(losses[1], losses[0], atol=0.02)
    assert steps[0].step.scaler.get_scale() == steps[1].step.scaler.get_scale()


@pytest.mark.parametrize("execution", ["eager", *EXECUTIONS])
def test_a_resumed_run_is_the_unbroken_run(execution):
    unbroken = make_runner(execution)
    run(unbroken, 0, 20, cast=lambda batch: batch)
    middle = copy.deepcopy((unbroken.step.network.state_dict(), unbroken.state_dict(), torch.get_rng_state()))
    run(unbroken, 20, 40, cast=lambda batch: batch, seed=None)

    resumed = make_runner(execution)
    resumed.step.network.load_state_dict(middle[0])
    resumed.load_state_dict(middle[1])
    torch.set_rng_state(middle[2])
    run(resumed, 20, 40, cast=lambda batch: batch, seed=None)
    if (
        execution == "cuda-graph"
    ):  # its first steps after the resume are ordinary ones, whose kernels may round otherwise
        assert torch.allclose(weights(resumed), weights(unbroken), rtol=0, atol=1e-6)
    else:
        assert torch.equal(weights(resumed), weights(unbroken))


@pytest.mark.parametrize("execution", EXECUTIONS)
def test_a_run_goes_on_another_way(execution):
    """A checkpoint of any way loads in any other."""
    first = make_runner(execution)
    run(first, 0, 6, cast=lambda batch: batch)
    then = make_runner("eager")
    then.step.network.load_state_dict(first.step.network.state_dict())
    then.load_state_dict(first.state_dict())
    assert isinstance(then.step.optimizer.param_groups[0]["lr"], float)
    run(then, 6, 8, cast=lambda batch: batch)
    assert then.step.global_step == 8


@pytest.mark.parametrize("execution", EXECUTIONS)
def test_no_way_leaves_anything_in_the_network(execution):
    plain, runner = make_runner("eager").step.network, make_runner(execution)
    runner.run([batch_of(8, 0)])
    expected = {name: value.shape for name, value in plain.state_dict().items()}
    assert {name: value.shape for name, value in runner.step.network.state_dict().items()} == expected
    assert not [module for module in runner.step.network.modules() if "forward" in module.__dict__]
    assert all(parameter.grad is None for parameter in runner.step.parameters)


def test_replicas_repeat_their_bits():
    torch.set_num_threads(3)
    first, second = (make_runner("replicas") for _ in range(2))
    for runner in (first, second):
        run(runner, last=10, cast=lambda batch: batch)
    assert torch.equal(weights(first), weights(second))


def test_captured_runs_python_once_a_shape():
    runner = make_runner("cuda-graph")
    run(runner, last=30, cast=lambda batch: batch)
    # Two micro-batches, again whenever ordinary steps of one alone have taken the room; and one alone.
    assert runner.step.device.captures == 3 + 1
    assert runner.step.device.replays == 30 - 2 * 3
    assert runner.step.global_step == 30


def test_captured_gives_a_loss_of_its_own():
    """A graph writes each loss to the same place; what was returned before must not change."""
    runner = make_runner("cuda-graph")
    losses = [runner.run([batch_of(8, number)]) for number in range(8)]
    values = [float(loss) for loss in losses]
    runner.run([batch_of(8, 99)])
    assert [float(loss) for loss in losses] == values
    assert len(set(values)) == 8


class Noisy(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(VIEWS["global"], 1)

    def forward(self, inputs):
        return self.layer(inputs["global"] + torch.randn_like(inputs["global"])).squeeze(1)


class Normalised(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(VIEWS["global"], 8), nn.BatchNorm1d(8), nn.Linear(8, 1))

    def forward(self, inputs):
        return self.layers(inputs["global"]).squeeze(1)


@pytest.mark.parametrize(("network", "why"), [(Noisy, "random numbers"), (Normalised, "BatchNorm")])
def test_replicas_refuse_what_they_would_change(network, why):
    runner = make_runner("replicas", network())
    with pytest.raises(TransitError, match=why):
        runner.run([batch_of(16, 0)])
    state = torch.get_rng_state()
    with pytest.raises(UnsupportedExecution, match=why):
        Replicas(runner.step, batch_of(16, 0))
    assert torch.equal(torch.get_rng_state(), state)


class Failing(nn.Module):
    """Fails on one sample's value, so in one replica only."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Conv1d(1, 1, 3, padding=1)

    def forward(self, inputs):
        values = self.layer(inputs["global"].unsqueeze(1)).mean((1, 2))
        if (inputs["global"] > 1000).any():
            raise RuntimeError("planted")
        return values


def test_a_failure_in_one_replica_is_the_step_s_failure():
    runner = make_runner("replicas", Failing())
    runner.run([batch_of(16, 0)])
    batch = batch_of(16, 1)
    batch.inputs["global"][15, 0] = 5000.0
    with pytest.raises(RuntimeError, match="planted"):
        runner.run([batch])
    assert not [module for module in runner.step.network.modules() if "forward" in module.__dict__]


@pytest.mark.parametrize("execution", ["cuda-graph", "replicas"])
def test_a_way_that_the_device_lacks_is_refused(execution, monkeypatch):
    device = select("cpu")
    monkeypatch.setattr(device, "kind", "mps" if execution == "replicas" else "cpu")
    settings = StepSettings(execution=execution, precision="fp32")
    runner = StepRunner(OptimizerStep(registry.build("two-branch", VIEWS), device, settings, 5))
    with pytest.raises(TransitError) as refused:
        runner.run([batch_of(8, 0)])
    assert refused.value.fix == "omit --execution"
