"""What a captured step needs of the host, and that gathering its samples and its rates in the graph changes no bit."""

import copy

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from tests.training.execution.capturing import CapturingCpu
from transit_cli.device.select import select
from transit_cli.training.execution import captured_inputs
from transit_cli.training.learner import Learner
from transit_cli.training.loading.samples import Batching, InMemorySamples
from transit_cli.training.optimization.augment import Augmentation
from transit_cli.training.optimization.schedule import learning_rate
from transit_cli.training.settings import TrainSettings
from transit_cli.training.workload import random_inputs

VIEWS = {"global": 64, "local": 16}
SAMPLES = 45
AUGMENTATION = Augmentation(True, 0.5, 1.0, 0.1, {"global": 1.0, "local": 1.0})


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        layers = nn.Conv1d(1, 4, 5), nn.MaxPool1d(2), nn.ReLU(), nn.Flatten(), nn.Dropout(0.2), nn.Linear(24, 1)
        self.layers = nn.Sequential(*layers)

    def forward(self, inputs):
        return self.layers(inputs["local"].unsqueeze(1)).squeeze(1) + inputs["global"].mean(1)


class Outside(TorchDispatchMode):
    """The operators that run outside replays."""

    def __init__(self, device):
        super().__init__()
        self.device, self.names = device, []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if not getattr(self.device, "replaying", False):
            self.names.append(function.overloadpacket.__name__)
        return function(*args, **(kwargs or {}))


def make(execution, augment=None, **changes):
    settings = TrainSettings().replace(
        **({"batch_size": 4, "accumulate": 2, "precision": "fp32", "execution": execution} | changes)
    )
    batching = Batching(SAMPLES, settings.batch_size, settings.accumulate)
    device = CapturingCpu() if execution == "cuda-graph" else select("cpu")
    torch.manual_seed(0)
    inputs = random_inputs(VIEWS, SAMPLES)
    samples = InMemorySamples(inputs, torch.arange(SAMPLES).remainder(2).float(), np.arange(SAMPLES))
    learner = Learner(Small(), device, settings, 4 * batching.steps, augment=augment)
    return learner, samples.loader(device.torch_device, None), batching


def train(learner, loader, batching, *, gathered=False, epochs=range(4), start=0, halve_at=-1):
    """The loss after each epoch, and the weights."""
    losses = []
    for epoch in epochs:
        for group in loader.epoch(batching, 3, epoch, start if epoch == epochs[0] else 0):
            if learner.global_step == halve_at:
                with pytest.warns(match="planted"):
                    learner.halve_micro_batch("planted")
            learner.learn([batch.gathered() for batch in group] if gathered else group)
        losses.append(learner.loss.clone())
    return torch.cat([torch.stack(losses), *(weight.detach().flatten() for weight in learner.step.parameters)])


def test_a_step_of_an_epoch_needs_a_replay_and_nothing_else():
    """Two operators begin an epoch: its order is copied, and the graph's place in it is set."""
    learner, loader, batching = make("cuda-graph", accumulate=1)
    outside = []
    for epoch in range(3):
        for group in loader.epoch(batching, 3, epoch):
            with Outside(learner.device) as watch:
                learner.learn(group)
            outside.append(watch.names)
    assert outside[batching.steps :] == [["copy_", "fill_"], *[[]] * (batching.steps - 1)] * 2
    assert learner.device.captures == 1


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"augment": AUGMENTATION},
        {"mixup": 0.2},
        {"accumulate": 1, "ema": 0.9},
        {"batch_size": 16, "accumulate": 1, "halve_at": 4},
    ],
    ids=str,
)
@pytest.mark.parametrize("execution", ["eager", "cuda-graph", "replicas"])
def test_samples_that_are_gathered_late_give_the_same_bits(execution, options):
    """With accumulation the last step of an epoch has fewer micro-batches than the others."""
    options = dict(options)
    halve_at = options.pop("halve_at", -1)
    late, early = (
        train(*make(execution, **options), gathered=gathered, halve_at=halve_at) for gathered in (False, True)
    )
    assert torch.equal(late, early)
    assert late.isfinite().all()


def test_a_resumed_epoch_gathers_what_is_left_of_it():
    whole, resumed = make("cuda-graph"), make("cuda-graph")
    learner, loader, batching = whole
    for number, group in enumerate(loader.epoch(batching, 3, 0)):
        if number == 2:
            break
        learner.learn(group)
    state = copy.deepcopy(learner.state_dict())
    expected = train(*whole, start=2)
    resumed[0].load_state_dict(state)
    found = train(*resumed, start=2)
    assert torch.allclose(found, expected, rtol=0, atol=1e-6)


def test_each_step_has_its_rate_of_the_schedule(monkeypatch):
    monkeypatch.setattr(captured_inputs, "RATES", 5)
    learner, loader, batching = make("cuda-graph")
    for epoch in range(5):  # an epoch more than the schedule knows
        for group in loader.epoch(batching, 3, epoch):
            expected = learning_rate(learner.step.settings, learner.global_step, learner.step.total_steps)
            learner.learn(group)
            assert learner.step.optimizer.param_groups[0]["lr"] == torch.tensor(expected)
