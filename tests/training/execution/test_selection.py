"""The choice of a execution: timed in place, remembered, and never at the price of other numbers."""

import pytest
import torch
from torch import nn

from tests.training.execution.capturing import CapturingCpu
from tests.training.execution.test_execution import VIEWS, Noisy, batch_of, make_runner
from transit_cli.device.select import select
from transit_cli.training.execution import selection
from transit_cli.training.settings import StepSettings
from transit_cli.training.step import OptimizerStep
from transit_cli.utils import cache


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    torch.set_num_threads(1)
    monkeypatch.setattr(cache, "cache_folder", lambda: tmp_path / "cache")
    monkeypatch.setattr(selection, "SMALL_BATCH", 0)
    monkeypatch.setattr(selection.psutil, "cpu_percent", lambda interval: 0.0)


def timings(monkeypatch, **seconds):
    """Let the ways take these seconds; returns the list of timings that were made."""
    made = []

    def benchmark(step, batch, names, *, first=True):
        made.append(list(names))
        return {name: seconds.get(name.replace("-", "_"), 1.0) for name in names}

    monkeypatch.setattr(selection, "benchmark", benchmark)
    return made


def chosen(**changes):
    runner = make_runner("auto", **changes)
    runner.run([batch_of(16, 0)])
    return runner.executor.name


def test_the_fastest_is_taken_and_remembered(monkeypatch):
    made = timings(monkeypatch, channels_last=0.5)
    assert [chosen(), chosen()] == ["channels-last"] * 2
    assert made == [["eager", "channels-last", "onednn"]]


def test_ties_go_to_the_default(monkeypatch):
    timings(monkeypatch, channels_last=0.97)
    assert chosen() == "eager"


@pytest.mark.parametrize(("seconds", "execution"), [(1.03, "triton"), (1.2, "cuda-graph")])
def test_ties_on_a_gpu_go_to_the_fused_step(seconds, execution, monkeypatch):
    timings(monkeypatch, cuda_graph=1.0, triton=seconds)
    assert selection._fastest(make_runner("auto").step, batch_of(16, 0), ["cuda-graph", "triton"]) == execution


def test_a_timing_on_a_busy_machine_is_made_again_on_a_quiet_one(monkeypatch):
    made = timings(monkeypatch, channels_last=0.5)
    monkeypatch.setattr(selection.psutil, "cpu_percent", lambda interval: 90.0)
    assert [chosen(), chosen()] == ["channels-last"] * 2
    assert len(made) == 1
    monkeypatch.setattr(selection.psutil, "cpu_percent", lambda interval: 1.0)
    assert chosen() == "channels-last"
    assert len(made) == 2


@pytest.mark.parametrize(
    ("busy", "replicas", "execution"), [(0, 0.45, "replicas"), (90, 0.45, "single-thread"), (90, 0.3, "replicas")]
)
def test_on_a_busy_machine_one_thread_is_left_only_for_a_clear_gain(monkeypatch, busy, replicas, execution):
    torch.set_num_threads(2)
    monkeypatch.setattr(selection.psutil, "cpu_percent", lambda interval: float(busy))
    timings(monkeypatch, single_thread=0.5, replicas=replicas)
    assert chosen() == execution


@pytest.mark.parametrize(("samples", "timings_made"), [(17, 1), (31, 1), (32, 2), (40, 2)])
def test_batches_of_about_one_size_run_one_way(monkeypatch, samples, timings_made):
    made = timings(monkeypatch, channels_last=0.5)
    chosen()
    runner = make_runner("auto")
    runner.run([batch_of(samples, 0)])
    assert len(made) == timings_made


def test_threads_bring_the_ways_that_use_them(monkeypatch):
    torch.set_num_threads(2)
    made = timings(monkeypatch, replicas=0.4)
    assert chosen() == "replicas"
    assert made == [["eager", "channels-last", "onednn", "single-thread", "replicas"]]


def test_on_a_busy_machine_only_ways_that_wait_for_nobody_are_timed(monkeypatch):
    torch.set_num_threads(2)
    monkeypatch.setattr(selection.psutil, "cpu_percent", lambda interval: 90.0)
    made = timings(monkeypatch, single_thread=0.4)
    assert chosen() == "single-thread"
    assert made == [["eager", "single-thread", "replicas"]]


def test_slow_ways_are_timed_once(monkeypatch):
    runner = make_runner("auto")
    spent = {"eager": 1.0, "channels-last": 0.6, "onednn": 0.5}
    made = []

    def seconds(step, run):
        made.append(run())
        return spent[made[-1]]

    ways = {name: type("Way", (), {"benchmark_fn": lambda self, batch, name=name: lambda: name})() for name in spent}
    monkeypatch.setattr(selection, "equivalent_executors", lambda step, batch, names: ways)
    monkeypatch.setattr(selection, "_seconds", seconds)
    assert selection.benchmark(runner.step, batch_of(16, 0), list(spent)) == spent
    assert made == ["eager", "channels-last", "onednn", "channels-last", "onednn", "onednn"]
    assert "eager" not in selection.benchmark(runner.step, batch_of(16, 0), list(spent), first=False)


def test_a_small_batch_is_not_worth_a_timing(monkeypatch):
    made = timings(monkeypatch, channels_last=0.5)
    monkeypatch.setattr(selection, "SMALL_BATCH", 16 * sum(VIEWS.values()) + 1)
    assert chosen() == "eager"
    torch.set_num_threads(2)
    assert chosen() == "single-thread"
    assert made == []


def test_a_small_batch_runs_single_only_with_the_same_numbers(monkeypatch):
    monkeypatch.setattr(selection, "SMALL_BATCH", 10**6)
    torch.set_num_threads(2)
    for network in (Reading(), Viewing()):
        runner = make_runner("auto", network)
        torch.manual_seed(3)
        state = torch.get_rng_state()
        runner.run([batch_of(16, 0)])
        assert runner.executor.name == "eager"
        assert torch.equal(torch.get_rng_state(), state)


def test_a_small_resumed_run_keeps_its_way(monkeypatch):
    monkeypatch.setattr(selection, "SMALL_BATCH", 10**6)
    first = make_runner("auto")
    first.run([batch_of(9, 0)])
    torch.set_num_threads(2)
    resumed = make_runner("auto")
    resumed.load_state_dict(first.state_dict())
    resumed.run([batch_of(9, 0)])
    assert resumed.executor.name == "eager"


def test_a_cache_that_cannot_be_written_stops_nobody(monkeypatch, tmp_path):
    (tmp_path / "cache").write_text("a file where the folder should be")
    timings(monkeypatch, channels_last=0.5)
    assert chosen() == "channels-last"


@pytest.mark.parametrize("content", ["", "{", "[]", '{"x": 1}'])
def test_a_damaged_cache_is_as_none(content, tmp_path):
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "executions.json").write_text(content)
    assert cache.MeasurementCache("executions").get("x") is None
    cache.MeasurementCache("executions").put("y", {"execution": "eager"})
    assert cache.MeasurementCache("executions").get("y") == {"execution": "eager"}


def test_a_real_timing_leaves_no_trace():
    torch.set_num_threads(2)
    runner = make_runner("auto")
    runner.step.network.train()
    torch.manual_seed(3)
    state = torch.get_rng_state()
    before = [parameter.detach().clone() for parameter in runner.step.parameters]
    seconds = selection.benchmark(
        runner.step, batch_of(16, 0), ["eager", "channels-last", "onednn", "single-thread", "replicas"]
    )
    assert sorted(seconds) == ["channels-last", "eager", "onednn", "replicas", "single-thread"]
    assert all(value > 0 for value in seconds.values())
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(old, new) for old, new in zip(before, runner.step.parameters, strict=True))
    assert all(parameter.grad is None for parameter in runner.step.parameters)


class Reading(nn.Module):
    """A network whose numbers depend on how its tensors lie in memory, as no network should."""

    def __init__(self):
        super().__init__()
        self.convolution = nn.Conv1d(1, 4, 3, padding=1)
        self.counter = nn.Buffer(torch.zeros(()))

    def forward(self, inputs):
        self.counter += 1
        values = self.convolution(inputs["global"].unsqueeze(1))
        return values.mean((1, 2)) * values.stride(1)


class Viewing(nn.Module):
    """A network that takes for granted how its tensors lie: `view` refuses them channels-last."""

    def __init__(self):
        super().__init__()
        self.convolution = nn.Conv1d(1, 4, 3, padding=1)

    def forward(self, inputs):
        values = self.convolution(inputs["global"].unsqueeze(1))
        return values.view(len(values), -1).mean(1)


def test_a_way_that_changes_the_numbers_is_left_out():
    runner = make_runner("auto", Reading())
    assert list(selection.benchmark(runner.step, batch_of(16, 0), ["eager", "channels-last"])) == ["eager"]
    assert runner.step.network.counter == 0


def test_a_way_that_cannot_run_the_network_is_left_out():
    torch.set_num_threads(2)
    runner = make_runner("auto", Noisy())
    assert "replicas" not in selection.benchmark(
        runner.step, batch_of(16, 0), selection.candidates(runner.step, batch_of(16, 0))
    )


def test_a_resumed_run_keeps_its_way(monkeypatch):
    timings(monkeypatch, channels_last=0.5)
    first = make_runner("auto")
    first.run([batch_of(9, 0)])
    timings(monkeypatch, channels_last=2.0)
    resumed = make_runner("auto")
    resumed.load_state_dict(first.state_dict())
    resumed.run([batch_of(9, 0)])
    assert resumed.executor.name == "channels-last"


def test_cuda_captures_unless_float16_needs_its_scaler():
    network = make_runner("eager").step.network
    for precision, expected in (
        ("bf16", ["cuda-graph", "triton"]),
        ("fp16", ["eager", "channels-last", "onednn"]),
    ):
        step = OptimizerStep(network, CapturingCpu(), StepSettings(precision=precision), 5)
        assert selection.candidates(step, batch_of(16, 0)) == expected


def test_mps_has_metal_beside_eager(monkeypatch):
    device = select("cpu")
    monkeypatch.setattr(device, "kind", "mps")
    step = OptimizerStep(make_runner("eager").step.network, device, StepSettings(precision="fp32"), 5)
    assert selection.candidates(step, batch_of(16, 0)) == ["eager", "metal", "metal-matrices"]
