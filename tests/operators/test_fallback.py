"""Falling back: on the simulated device, with operators that are refused forward, backward, and not at all."""

import copy
import json

import pytest
import torch
from torch import nn

from tests.training.conftest import write_set
from transit_cli.device.cpu import CpuDevice
from transit_cli.operators.fallback import CpuFallback


def train_with_fallback():
    """Two steps of a network whose pooling MPS refuses, on MPS with the fallback and on the CPU."""
    import warnings

    import simulated_mps
    import torch
    from torch import nn

    from transit_cli.device.select import select
    from transit_cli.operators.fallback import CpuFallback

    torch.set_num_threads(1)
    warnings.simplefilter("ignore")

    class Part(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm, self.conv = nn.BatchNorm1d(2), nn.Conv1d(2, 4, 3)

        def forward(self, pair, *, options):
            views, scale = pair
            summed = self.conv(self.norm(views)) * scale["scale"]
            return {"pooled": nn.functional.adaptive_avg_pool1d(summed, options[0])}

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.part, self.act, self.last = Part(), nn.GELU(), nn.Linear(12, 1)

        def forward(self, views):
            scale = {"scale": views.new_tensor(2.0)}
            pooled = self.part((views, scale), options=[3])["pooled"]
            return self.last(self.act(pooled).flatten(1))

    def run(device, guarded):
        torch.manual_seed(0)
        network = Net().to(device.torch_device)
        fallback = CpuFallback(device)
        if guarded:
            fallback.guard(network)
        optimizer = torch.optim.AdamW(network.parameters(), 1e-2)
        views = torch.randn(5, 2, 22, generator=torch.Generator().manual_seed(1)).to(device.torch_device)
        losses = []
        for _ in range(3):
            loss = network(views).square().mean()
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            losses.append(loss.item())
        state = {name: value.cpu().tolist() for name, value in network.state_dict().items()}
        homes = {str(parameter.device) for parameter in network.parameters()}
        return losses, state, sorted(homes), fallback.report()

    mps = run(select("mps"), guarded=True)
    simulated_mps.clear_faults()
    return mps, run(select("cpu"), guarded=False)


def close(left, right):
    assert left.keys() == right.keys()
    for name in left:
        torch.testing.assert_close(torch.tensor(left[name]), torch.tensor(right[name]), atol=1e-5, rtol=1e-5)


def test_a_refused_module_runs_on_the_cpu_and_trains_as_there(mps):
    done = mps.run(train_with_fallback)
    assert done.returncode == 0, done.stderr
    (losses, state, homes, report), (reference, expected, _, _) = done.value
    assert losses == pytest.approx(reference, rel=1e-5)
    assert losses[2] < losses[0]
    close(state, expected)
    assert homes == ["mps:0"]
    (site,) = report
    assert (site["name"], site["calls"]) == ("part", 3)
    assert "input sizes must be divisible" in site["cause"]
    assert site["seconds"] > 0
    assert done.counters["ran"]["linear"] > 0  # the rest stayed


@pytest.mark.parametrize("fault", ["refuse:gelu_backward", "missing:gelu_backward", "refuse:gelu"])
def test_a_refusal_in_the_backward_pass_is_found_too(mps, fault):
    done = mps.run(train_with_fallback, faults=[fault], env={"PYTORCH_ENABLE_MPS_FALLBACK": "0"})
    assert done.returncode == 0, done.stderr
    (losses, state, _, report), (reference, expected, _, _) = done.value
    assert losses == pytest.approx(reference, rel=1e-5)
    close(state, expected)
    assert {site["name"] for site in report} == {"part", "act"}


@pytest.mark.parametrize("fault", ["error:gelu", "out-of-memory:linear"])
def test_any_other_error_passes(mps, fault):
    done = mps.run(train_with_fallback, faults=[fault])
    assert done.returncode == 1
    words = {"error:gelu": "command buffer of gelu", "out-of-memory:linear": "MPS backend out of memory"}[fault]
    assert words in done.stderr.splitlines()[-1]


class Refusing(CpuDevice):
    """A CPU that takes a KeyError for a refusal: the logic without any other device."""

    def is_unsupported_operator(self, error):
        return isinstance(error, KeyError)


def test_a_function_and_its_nested_tensors():
    seen = []

    def function(pair, *, table):
        seen.append(1)
        if len(seen) < 2:
            raise KeyError("refused")
        return [pair[0] * table["x"].y]

    from dataclasses import dataclass

    @dataclass(frozen=True)
    class Holder:
        y: torch.Tensor

    fallback = CpuFallback(Refusing())
    weight = torch.tensor(3.0, requires_grad=True)
    with torch.no_grad(), pytest.warns(UserWarning, match="runs on the CPU from now on"):
        fallback.call(function, (torch.tensor(2.0), 1), table={"x": Holder(weight)})
    (result,) = fallback.call(function, (torch.tensor(2.0), 1), table={"x": Holder(weight)})
    result.backward()
    assert (result.item(), weight.grad.item()) == (6.0, 2.0)
    assert [site["calls"] for site in fallback.report()] == [2]


def test_a_guarded_network_keeps_its_state_and_its_copies_are_their_own():
    network = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.Dropout())
    keys = list(network.state_dict())
    CpuFallback(CpuDevice()).guard(network)
    assert list(network.state_dict()) == keys
    twin = copy.deepcopy(network).eval()
    network.eval()
    with torch.no_grad():
        twin[0].weight.zero_()
        twin[0].bias.zero_()
    inputs = torch.ones(3, 2)
    assert not twin(inputs).any()
    assert network(inputs).any()


def test_the_rehearsal_leaves_no_trace():
    plain, guarded = (nn.Sequential(nn.BatchNorm1d(2), nn.Dropout()) for _ in range(2))
    CpuFallback(CpuDevice()).guard(guarded)
    results = []
    for network in (plain, guarded):
        torch.manual_seed(3)
        inputs = torch.randn(8, 2, requires_grad=True)
        results.append(network(inputs))
    assert torch.equal(*results)
    assert torch.equal(plain[0].running_mean, guarded[0].running_mean)
    assert plain[0].num_batches_tracked == guarded[0].num_batches_tracked == 1


REFUSED = """
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.pool, self.last = nn.AdaptiveAvgPool1d(7), nn.Linear(7, 1)

    def forward(self, inputs):
        return self.last(self.pool(inputs["global"])).squeeze(1)

def build(views, scalars):
    return Net()
"""


@pytest.mark.parametrize("choice", ["error", "fallback"])
def test_training_goes_on_where_it_is_told_to(mps, tmp_path, choice):
    write_set(tmp_path / "views")
    (tmp_path / "net.py").write_text(REFUSED)
    options = (
        "--network",
        f"{tmp_path}/net.py:build",
        "--views",
        "global",
        "--epochs",
        "1",
        "--on-unsupported",
        choice,
    )
    done = mps.transit(
        "train", str(tmp_path / "views"), *options, "--out", str(tmp_path / "run"), "--json", timeout=580
    )
    document = json.loads(done.stdout)
    if choice == "error":
        assert done.returncode not in {0, 1}
        assert "divisible" in document["errors"][0]["found"]
    else:
        assert done.returncode == 0, done.stderr
        assert [site["name"] for site in document["data"]["on_cpu"]] == ["network.pool"]
        assert "network.pool runs on the CPU from now on" in done.stderr
