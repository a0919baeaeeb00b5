"""Question 1: the operator tables, the trace of a step, and what they say a Mac would do."""

import json
import subprocess
import sys

import pytest

from tests.mps_simulator import build
from transit_cli.operators.prediction import registrations
from transit_cli.operators.prediction.registrations import table

#: As read in the macOS wheels: what their libtorch_cpu.dylib registers for MPS beyond the native operators.
REGISTERED = {"2.8": 817, "2.9": 851, "2.10": 859, "2.11": 871, "2.12": 882, "2.13": 894, "2.14": 914, "2.15": 930}

NET = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.last = nn.Conv1d(1, 4, 5), nn.Linear(12, 1)

    def forward(self, inputs):
        x = self.conv(inputs["local"].unsqueeze(1))
        x = x + torch.heaviside(x.detach(), torch.ones(()))
        x = nn.functional.adaptive_avg_pool1d(x, 3).flatten(1)
        return self.last(x).double().squeeze(1)

def build(views, scalars):
    return Net()
"""


@pytest.mark.parametrize("version", REGISTERED)
def test_a_table_a_version(version):
    found = table(version)
    natives = {name for name, status in found.statuses.items() if status == "native"}
    fallbacks = {name for name, status in found.statuses.items() if status == "fallback"}
    assert registrations.minor(found.torch) == version
    stub = {"_slow_conv2d_forward"}  # registered to raise an error: no kernel
    assert len(natives | fallbacks | stub) == REGISTERED[version]
    assert fallbacks == {"embedding_renorm_"} | (
        {"linalg_svd", "linalg_svd.U"} if version < "2.14" or version in {"2.8", "2.9"} else set()
    )
    expected = {
        "add.Tensor": "native",
        "heaviside": "native" if version == "2.15" else "missing",
        "conv1d": "composite",
        "_slow_conv2d_forward": "missing",
    }
    assert {name: found.statuses[name] for name in expected} == expected


def test_the_installed_torch_agrees_with_what_ships_and_with_the_simulator():
    installed = table()
    shipped = registrations.shipped(registrations.minor(installed.torch))
    assert installed.source != shipped.source
    if installed.torch == shipped.torch:
        assert installed.statuses == shipped.statuses
    natives = {name for name, status in installed.statuses.items() if status == "native"}
    assert natives == set(build.operators().read_text().split())


def test_every_operator_of_the_installed_torch_is_declared():
    """The dispatcher has the operators that the table has; a name in only one of them would be a misreading."""
    import torch

    known = {name.removeprefix("aten::") for name in torch._C._dispatch_get_all_op_names() if name.startswith("aten::")}
    # What is not declared in the yaml works on lists, strings and sizes of TorchScript, and has no tensor kernels.
    declared = set(table().statuses)
    assert len(declared - known) < 0.01 * len(declared)


def test_an_unknown_version_is_refused(forked_transit):
    done = forked_transit("fallback-test", "operators", "--torch", "1.0", "--json")
    assert done.returncode == 2
    assert json.loads(done.stdout)["errors"][0]["code"] == "torch-unknown"


def test_operators_as_json(forked_transit):
    done = forked_transit("fallback-test", "operators", "--torch", "2.11", "--json")
    document = json.loads(done.stdout)
    assert document["exit_code"] == 0
    assert document["data"]["torch"] == "2.11.0"
    assert document["data"]["operators"]["add.Tensor"] == "native"
    assert set(document["data"]["operators"].values()) == {"native", "composite", "fallback", "missing"}


def test_what_a_mac_would_do_with_our_network(forked_transit):
    done = forked_transit("fallback-test", "predict", "--json")
    document = json.loads(done.stdout)
    assert done.returncode == 0, done.stderr
    operators = document["data"]["operators"]
    assert set(operators.values()) == {"native", "composite"}
    on_mps = {"_mps_convolution", "mps_convolution_backward", "linear", "linear_backward", "_fused_adamw_"}
    assert on_mps <= set(operators)
    assert not {"addmm", "convolution", "mkldnn_convolution"} & set(operators)
    assert document["data"]["findings"] == []


def test_what_a_mac_would_refuse_of_a_persons_network(forked_transit, tmp_path):
    (tmp_path / "net.py").write_text(NET)
    options = ("--network", f"{tmp_path}/net.py:build", "--views", "local", "--json")
    done = forked_transit("fallback-test", "predict", "--torch", "2.14", *options)
    assert done.returncode == 1, done.stderr
    data = json.loads(done.stdout)["data"]
    assert [name for name, status in data["operators"].items() if status == "missing"] == ["heaviside.out"]
    assert {(found["operator"], found["severity"]) for found in data["findings"]} == {
        ("adaptive_avg_pool1d", "refused"),
        ("double()", "refused"),
    }


def test_a_network_that_does_not_train_is_named(forked_transit, tmp_path):
    broken = NET.replace("x.detach()", "x")  # heaviside has no derivative
    (tmp_path / "net.py").write_text(broken)
    done = forked_transit("fallback-test", "predict", "--network", f"{tmp_path}/net.py:build", "--views", "local")
    assert done.returncode == 4
    assert "fails on the CPU: derivative for aten::heaviside is not implemented" in done.stderr


def test_the_trace_is_what_the_device_meets(mps):
    """The prediction against the simulated device, where the same step really runs."""

    def compare():
        import simulated_mps
        import torch

        from transit_cli.device.select import select
        from transit_cli.operators.prediction.registrations import table
        from transit_cli.operators.settings import FallbackTestSettings
        from transit_cli.operators.step_factory import StepFactory
        from transit_cli.operators.trace import trace

        torch.set_num_threads(1)
        factory = StepFactory.of(FallbackTestSettings(precision="fp32"))
        device = select("mps")
        runner = factory.runner_on(device)
        batch = factory.batch(device, 4)
        simulated_mps.reset_counters()
        runner.run([batch])
        met = simulated_mps.counters()["ran"]
        statuses = table().statuses
        calls = trace(factory, 4, statuses)
        predicted = {call.operator for call in calls if statuses.get(call.operator) == "native"}
        return sorted(met), sorted(predicted)

    done = mps.run(compare)
    assert done.returncode == 0, done.stderr

    def bases(names):  # the simulated device sees the out form of every operator
        return {name.split(".")[0].rstrip("_") for name in names} - {"empty", "empty_strided", "as_strided", "view"}

    met, predicted = map(bases, done.value)
    assert met == predicted, (met - predicted, predicted - met)


def test_the_cpu_is_left_as_it_was():
    script = """
import torch
from transit_cli.operators.trace import as_on_mps
x, w = torch.ones(2, 2), torch.ones(2, 2, requires_grad=True)
with as_on_mps():
    inside = torch.nn.functional.linear(x, w).grad_fn.name()
print(inside, torch.nn.functional.linear(x, w).grad_fn.name())
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert done.stdout.split() == ["LinearBackward0", "MmBackward0"], done.stderr
