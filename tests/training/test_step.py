"""The step: what it computes, against PyTorch's own pieces and against itself."""

import itertools

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from transit_cli.device.select import select
from transit_cli.model import registry
from transit_cli.training.batch import Batch
from transit_cli.training.optimization.augment import mixup
from transit_cli.training.optimization.schedule import learning_rate
from transit_cli.training.runner import StepRunner
from transit_cli.training.settings import StepSettings
from transit_cli.training.step import OptimizerStep

VIEWS = {"global": 64, "local": 16}


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def batch_of(size, seed=0):
    generator = torch.Generator().manual_seed(seed)
    inputs = {name: torch.randn(size, length, generator=generator) for name, length in VIEWS.items()}
    return Batch(inputs, torch.randint(2, (size,), generator=generator).float())


def split(batch, sizes):
    ends = list(itertools.accumulate(sizes))
    return [
        Batch({name: v[end - size : end] for name, v in batch.inputs.items()}, batch.targets[end - size : end])
        for size, end in zip(sizes, ends, strict=True)
    ]


def make_runner(total_steps=20, **changes):
    torch.manual_seed(0)
    network = registry.build("two-branch", VIEWS)
    network.head[3].p = 0.0  # dropout draws anew for every micro-batch; everything else must agree
    return StepRunner(OptimizerStep(network, select("cpu"), StepSettings(**changes), total_steps))


def weights(runner):
    return torch.cat([weight.detach().flatten() for weight in runner.step.network.parameters()])


def test_step_equals_the_plain_loop():
    runner = make_runner(clip=0.05, weight_decay=0.1)
    plain = make_runner().step.network
    optimizer = torch.optim.AdamW(plain.parameters(), lr=2e-3 / 25, weight_decay=0.1)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, 2e-3, total_steps=20, pct_start=0.1, final_div_factor=1e3, cycle_momentum=False
    )
    for number in range(20):
        batch = batch_of(8, number)
        loss = F.binary_cross_entropy_with_logits(plain(batch.inputs), batch.targets)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(plain.parameters(), 0.05)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step() if number < 19 else None
        assert torch.allclose(runner.run([batch]), loss.detach(), rtol=1e-5)
    expected = torch.cat([weight.detach().flatten() for weight in plain.parameters()])
    assert torch.allclose(weights(runner), expected, atol=1e-6)


@pytest.mark.parametrize("sizes", [(12, 12), (8, 8, 8), (7, 7, 7, 3), (23, 1)])
def test_accumulation_is_exact_for_uneven_groups(sizes):
    whole, parts = (make_runner(clip=0.1, accumulate=len(sizes)).step.network.double() for _ in range(2))
    settings = StepSettings(clip=0.1)
    one, many = (StepRunner(OptimizerStep(network, select("cpu"), settings, 20)) for network in (whole, parts))
    for number in range(5):
        batch = batch_of(24, number)
        batch = Batch({name: view.double() for name, view in batch.inputs.items()}, batch.targets.double())
        loss = one.run([batch])
        assert torch.allclose(many.run(split(batch, sizes)), loss, rtol=1e-10)
    assert torch.allclose(weights(many), weights(one), rtol=0, atol=1e-10)


@given(
    st.integers(2, 400),
    st.sampled_from([None, 1, 7]),
    st.sampled_from(["onecycle", "cosine", "constant"]),
)
def test_schedules_stay_between_zero_and_the_peak(total, warmup, schedule):
    settings = StepSettings(schedule=schedule, warmup_steps=warmup)
    rates = [learning_rate(settings, step, total) for step in range(total)]
    assert all(0 < rate <= settings.learning_rate * (1 + 1e-12) for rate in rates)
    assert learning_rate(settings, total + 5, total) <= rates[-1]
    peak = rates.index(max(rates))
    assert rates[: peak + 1] == sorted(rates[: peak + 1])
    assert rates[peak:] == sorted(rates[peak:], reverse=True)


@pytest.mark.parametrize("total", [20, 33, 1000])
def test_onecycle_is_torchs(total):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1)
    theirs = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, 2e-3, total_steps=total, pct_start=0.1, div_factor=25, final_div_factor=1000, cycle_momentum=False
    )
    for step in range(total):
        assert learning_rate(StepSettings(), step, total) == pytest.approx(theirs.get_last_lr()[0], rel=1e-9)
        optimizer.step()
        theirs.step() if step < total - 1 else None


def test_label_smoothing_and_positive_weight_follow_their_formulae():
    runner = make_runner(label_smoothing=0.1, positive_weight=3.0)
    logits, targets = torch.tensor([0.3, -1.0]), torch.tensor([1.0, 0.0])
    log, smooth = torch.nn.functional.logsigmoid, targets * 0.9 + 0.05
    expected = -(3 * smooth * log(logits) + (1 - smooth) * log(-logits)).mean()
    assert torch.allclose(runner.step.loss(logits, targets), expected)


def test_mixup_keeps_the_mean_between_neighbours():
    batch = batch_of(32)
    out = mixup(batch, 0.4)
    low = torch.minimum(batch.targets, batch.targets.roll(1))
    high = torch.maximum(batch.targets, batch.targets.roll(1))
    assert ((out.targets >= low) & (out.targets <= high)).all()
    share = (out.inputs["global"] - batch.inputs["global"].roll(1, 0)) / (
        batch.inputs["global"] - batch.inputs["global"].roll(1, 0)
    )
    assert torch.allclose(share.std(1), torch.zeros(32), atol=1e-3)  # one share a sample, the same for all its bins


def test_a_step_goes_on_from_its_state_bit_for_bit():
    whole = make_runner()
    for number in range(6):
        whole.run([batch_of(8, number)])
    first = make_runner()
    for number in range(3):
        first.run([batch_of(8, number)])
    second = make_runner()
    second.step.network.load_state_dict(first.step.network.state_dict())
    second.load_state_dict(first.state_dict())
    for number in range(3, 6):
        second.run([batch_of(8, number)])
    assert torch.equal(weights(second), weights(whole))


def test_half_precision_with_its_scaler_learns():
    runner = make_runner(total_steps=60, precision="bf16", learning_rate=0.01)
    batch = batch_of(16)
    losses = [float(runner.run([batch])) for _ in range(60)]
    assert losses[-1] < losses[0] / 3
