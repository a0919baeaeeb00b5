"""The ways of an NVIDIA GPU, on one: captured and fused steps compute what the eager step computes."""

import copy
import gc

import pytest
import torch

from tests.training.execution.test_captured_inputs import Outside
from tests.training.execution.test_execution import STEPS, VIEWS, batch_of, weights
from transit_cli.device.cuda import without_tf32
from transit_cli.device.select import select
from transit_cli.model import registry, saved
from transit_cli.training import inference
from transit_cli.training.batch import Batch
from transit_cli.training.execution import selection
from transit_cli.training.learner import Learner
from transit_cli.training.loading.samples import Batching
from transit_cli.training.optimization.augment import Augmentation
from transit_cli.training.processes import turns
from transit_cli.training.runner import StepRunner
from transit_cli.training.settings import StepSettings, TrainSettings
from transit_cli.training.step import OptimizerStep
from transit_cli.training.train import train
from transit_cli.training.workload import synthetic_samples
from transit_cli.utils import cache

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no NVIDIA GPU here")
EXECUTIONS = ("cuda-graph", "triton")


@pytest.fixture
def device(tmp_path, monkeypatch):
    """The GPU, with products of float32 in float32."""
    monkeypatch.setattr(cache, "cache_folder", lambda: tmp_path)
    opened = select("cuda")
    without_tf32()
    yield opened
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = True


def make(device, execution, network="two-branch", augment=None, **changes):
    torch.manual_seed(0)
    changes = {"precision": "fp32", "learning_rate": 1e-3} | changes
    step = OptimizerStep(
        registry.build(network, VIEWS), device, StepSettings(execution=execution, **changes), STEPS, augment=augment
    )
    return StepRunner(step)


def on(device, batch):
    return Batch({n: v.to(device.torch_device) for n, v in batch.inputs.items()}, batch.targets.to(device.torch_device))


def run(runner, first=0, last=STEPS, seed=1):
    """Uneven micro-batches, a smaller effective batch now and then, dropout on."""
    losses = []
    if seed is not None:
        torch.manual_seed(seed)
    for number in range(first, last):
        parts = (24, 17) if number % 7 else (24,)
        losses.append(runner.run([on(runner.step.device, batch_of(size, 100 * number + size)) for size in parts]))
    return torch.stack(losses)


@pytest.mark.parametrize("network", ["two-branch", "astronet"])
@pytest.mark.parametrize("execution", EXECUTIONS)
def test_fifty_steps_agree(device, execution, network):
    """Accumulation over uneven micro-batches, clipping, dropout, smoothing, schedule and weight decay included."""
    changes = {"clip": 0.05, "label_smoothing": 0.1, "weight_decay": 0.1}
    steps = [make(device, name, network, **changes) for name in ("eager", execution)]
    last = STEPS if network == "two-branch" else 8  # AdamW divides by small numbers, so that rounding grows
    expected, found = (run(runner, last=last) for runner in steps)
    assert torch.allclose(found, expected, rtol=1e-3)
    difference = weights(steps[1]) - weights(steps[0])
    assert difference.norm() < 1e-2 * weights(steps[0]).norm()
    assert steps[1].executor.name == execution


@pytest.mark.parametrize("execution", EXECUTIONS)
def test_half_precision_agrees_to_its_own_rounding(device, execution):
    losses = [run(make(device, name, precision="bf16")) for name in ("eager", execution)]
    assert torch.allclose(losses[1], losses[0], atol=0.02)


@pytest.mark.parametrize("execution", EXECUTIONS)
def test_augmentation_and_mixup_within_the_graph(device, execution):
    """The graph draws what the eager step draws, in the same order."""
    augmentation = Augmentation(True, 0.5, 1.0, 0.1, {"global": 1.0, "local": 1.0})
    for mixup in (0.0, 0.2):
        losses = [run(make(device, name, augment=augmentation, mixup=mixup), last=20) for name in ("eager", execution)]
        assert torch.allclose(losses[1], losses[0], rtol=1e-3)


@pytest.mark.parametrize("execution", EXECUTIONS)
def test_a_resumed_run_is_the_unbroken_run(device, execution):
    unbroken = make(device, execution)
    run(unbroken, 0, 20)
    middle = copy.deepcopy((unbroken.step.network.state_dict(), unbroken.state_dict(), device.rng_state()))
    run(unbroken, 20, 40, seed=None)
    resumed = make(device, execution)
    resumed.step.network.load_state_dict(middle[0])
    resumed.load_state_dict(middle[1])
    device.set_rng_state(middle[2])
    run(resumed, 20, 40, seed=None)
    assert torch.allclose(weights(resumed), weights(unbroken), rtol=0, atol=1e-4)


@pytest.mark.parametrize("execution", EXECUTIONS)
def test_shapes_share_the_memory_of_one_step(device, execution):
    """Ordinary steps, captures and replays of two effective batches hold no more at any time than eager steps do."""
    peaks = {}
    for name in ("eager", execution):
        runner, batch = make(device, name), on(device, batch_of(4096, 0))
        device.empty_cache()
        device.reset_peak()
        for count in (2, 2, 2, 2, 1, 2, 1, 2, 1, 2, 1, 2):
            runner.run([batch] * count)
        device.synchronize()
        peaks[name] = device.memory().peak
    assert peaks[execution] < 1.25 * peaks["eager"]


@pytest.mark.parametrize("execution", EXECUTIONS)
def test_the_graph_gathers_the_samples_of_an_epoch(device, execution):
    """Losses and weights as from batches that are copied, bit for bit; steps of an epoch are a replay and no more."""
    found = []
    for gathered in (False, True):
        settings = TrainSettings().replace(batch_size=24, accumulate=2, precision="fp32", execution=execution)
        torch.manual_seed(0)
        samples = synthetic_samples(VIEWS, 24 * 11)
        batching = Batching(len(samples), 24, 2)
        learner = Learner(registry.build("two-branch", VIEWS), device, settings, 3 * batching.steps)
        loader, outside = samples.loader(device.torch_device, None), []
        for epoch in range(4):
            for group in loader.epoch(batching, 3, epoch):
                with Outside(device) as watch:
                    learner.learn([batch.gathered() for batch in group] if gathered else group)
                outside.append(watch.names)
        found.append(torch.cat([learner.loss.view(1), weights(learner.runner)]))
        if not gathered:
            assert [[]] * (batching.steps - 2) == outside[-batching.steps + 1 : -1]
    assert torch.equal(*found)


@pytest.mark.parametrize("execution", EXECUTIONS)
def test_members_side_by_side_have_the_bits_that_they_have_alone(device, execution, settings, tmp_path, monkeypatch):
    """Dropout, augmentation and mixup are drawn in graphs that run at the same time."""
    monkeypatch.setattr(turns, "STEPS", 3)
    options = {"members": 3, "device": "cuda", "execution": execution, "epochs": 3, "shift": 0.5, "batch_size": 8}
    for mixup in (0.0, 0.2):
        found = []
        for processes in (1, 3, 2):
            out = tmp_path / f"{processes}-{mixup}"
            train(settings(**options, processes=processes, mixup=mixup, out=out))
            found.append(saved.read(out / saved.FILE)[1])
        for other in found[1:]:
            pairs = zip(found[0], other, strict=True)
            assert all(torch.equal(alone[name], beside[name]) for alone, beside in pairs for name in alone)


def test_a_graph_that_nobody_holds_does_not_spoil_the_next(device):
    """What is garbage while a graph is captured would be destroyed then, if it had not been before."""
    values = torch.ones(4, device=device.torch_device)

    def work():
        gc.collect()
        return values * 2

    gc.disable()
    try:
        run(make(device, "cuda-graph"), last=6)  # the step holds its way and is held by it
        result, replay = device.capture(work, device.pool())
    finally:
        gc.enable()
    replay()
    assert torch.equal(result, 2 * values)


@pytest.mark.parametrize("network", ["two-branch", "astronet"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_both_executions_are_candidates_in_each_precision(device, precision, network):
    """Dropout of the fused head draws what PyTorch draws, in half precision too: else the gradients are refused."""
    runner = make(device, "auto", network, precision=precision)
    found = selection.equivalent_executors(runner.step, on(device, batch_of(64, 0)), list(EXECUTIONS))
    assert list(found) == list(EXECUTIONS)


def test_the_choice_is_timed_and_leaves_no_trace(device):
    runner = make(device, "auto")
    batch = on(device, batch_of(64, 0))
    before, state = weights(runner).clone(), device.rng_state()
    seconds = selection.benchmark(runner.step, batch, ["cuda-graph", "triton"])
    assert set(seconds) == {"cuda-graph", "triton"}
    assert torch.equal(weights(runner), before)
    assert torch.equal(device.rng_state(), state)
    assert all(parameter.grad is None for parameter in runner.step.parameters)
    run(runner, last=6)
    assert runner.executor.name == min(seconds, key=lambda name: seconds[name])


@pytest.mark.parametrize("samples", [1, 511, 513, 2048, 5000])
def test_inference_gives_every_sample_its_logit(device, samples):
    networks = [registry.build(name, VIEWS).to(device.torch_device) for name in ("two-branch", "two-branch")]
    inputs = {name: torch.randn(samples, length) for name, length in VIEWS.items()}
    found = inference.logits(networks, inputs, device)
    with torch.no_grad():
        there = {name: values.to(device.torch_device) for name, values in inputs.items()}
        expected = torch.stack([network.eval()(there) for network in networks]).cpu()
    assert found.shape == (2, samples)
    assert torch.allclose(found, expected, atol=1e-4)
