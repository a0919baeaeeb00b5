"""Question 2: the operators of a step on a device. On the simulated MPS with planted faults, and on the CPU."""

import json

import pytest

NET = """
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.last = nn.Conv1d(1, 4, 5), nn.LayerNorm(197), nn.Linear(4, 1)

    def forward(self, inputs):
        x = self.norm(self.conv(inputs["local"].unsqueeze(1)))
        return self.last(nn.functional.max_pool1d(nn.functional.gelu(x), 2).mean(-1)).squeeze(1)

def build(views, scalars):
    return Net()
"""


@pytest.fixture
def options(tmp_path):
    (tmp_path / "net.py").write_text(NET)
    network = ("--network", f"{tmp_path}/net.py:build", "--views", "local", "--batch-size", "4")
    return ("fallback-test", *network, "--precision", "fp32", "--json")


def statuses(document, *wanted):
    return {row["operator"]: row["status"] for row in document["data"]["operators"] if row["status"] in wanted}


def check_clean(done, precisions):
    document = json.loads(done.stdout)
    assert done.returncode == 0, document["verdict"]
    assert document["data"]["device"] == "mps"
    assert {row["precision"] for row in document["data"]["operators"]} == precisions
    operators = {row["operator"] for row in document["data"]["operators"]}
    assert {"_mps_convolution", "mps_convolution_backward", "linear_backward", "_fused_adamw_"} <= operators
    assert all(step["status"] == "ok" for step in document["data"]["whole_step"].values())


@pytest.mark.torture
def test_a_clean_simulated_mps_is_found_clean_and_its_steps_follow(mps, options):
    check_clean(mps.transit(*options, "--steps", "10", timeout=580), {"fp32"})


@pytest.mark.torture
@pytest.mark.parametrize("run", range(10))
def test_no_false_alarm_on_the_simulated_mps(mps, options, run):
    done = mps.transit(*options, "--precision", "auto", "--steps", "10", timeout=580)
    check_clean(done, {"fp32", "fp16", "bf16"})


def test_planted_faults_of_the_device_are_found(mps, options):
    """One run with a wrong gradient, a strided-only error, a refusal, a missing operator, and an abort."""
    faults = [
        "wrong:convolution_backward:0.001",
        "wrong:_fused_adamw:0.01@strided",
        "refuse:max_pool2d_with_indices",
        "missing:gelu_backward",
        "abort:native_layer_norm",
    ]
    done = mps.transit(*options, "--steps", "0", faults=faults, timeout=580)
    document = json.loads(done.stdout)
    assert done.returncode == 1, done.stderr
    assert statuses(document, "wrong", "refused", "fell back", "aborted") == {
        "mps_convolution_backward": "wrong",
        "_fused_adamw_": "wrong",
        "max_pool2d_with_indices": "refused",
        "gelu_backward": "fell back",
        "native_layer_norm": "aborted",
    }
    rows = {row["operator"]: row for row in document["data"]["operators"]}
    assert rows["_fused_adamw_"]["variant"] == "strided"
    assert rows["gelu_backward"]["without_variable"] == "missing"
    assert rows["gelu_backward"]["milliseconds"] > 0
    assert "SIGABRT" in rows["native_layer_norm"]["message"]


@pytest.mark.torture
def test_an_operator_that_hangs_is_named(mps, options):
    done = mps.transit(*options, "--steps", "0", "--timeout", "30", faults=["hang:gelu"], timeout=580)
    assert statuses(json.loads(done.stdout), "hung") == {"gelu": "hung"}


@pytest.mark.torture
def test_losses_that_leave_the_cpu_are_noticed(mps, options):
    done = mps.transit(*options, "--steps", "10", faults=["wrong:linear_backward:-2"], timeout=580)
    document = json.loads(done.stdout)
    assert document["data"]["whole_step"]["fp32"]["status"] == "wrong"
    assert "do not trust fp32" in document["verdict"]


@pytest.mark.torture
@pytest.mark.parametrize("run", range(10))
def test_no_false_alarm_on_the_cpu(forked_transit, run):
    done = forked_transit("fallback-test", "--device", "cpu", "--batch-size", "8", "--json", timeout=580)
    assert done.returncode == 0, json.loads(done.stdout)["verdict"]
