"""Operators are replayed with the types that autocast gives them on the device under test."""

import pytest
import torch
from torch import nn

from transit_cli.device.cpu import CpuDevice
from transit_cli.operators import autocast, replay
from transit_cli.operators.settings import FallbackTestSettings
from transit_cli.operators.step_factory import StepFactory


def test_the_lists_are_those_of_the_installed_torch():
    names = {name.partition(".")[0] for name in autocast._with_kernel("AutocastMPS")}
    assert autocast.HALF - names <= {"conv3d", "conv_transpose3d"}  # MPS casts them since 2.9
    assert names >= autocast.WIDEST
    assert {"layer_norm", "binary_cross_entropy_with_logits", "sum"} <= names - autocast.HALF - autocast.WIDEST


def dtypes():
    norm, conv = nn.LayerNorm(8), nn.Conv1d(1, 2, 3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        convolved = conv(torch.ones(2, 1, 10))
        found = [
            convolved,
            norm(convolved),
            convolved.softmax(-1),
            torch.addcmul(convolved, convolved.float(), convolved),
        ]
    found[1].sum().backward()
    return [str(values.dtype).removeprefix("torch.") for values in found] + [str(norm.weight.grad.dtype)]


def test_the_cpu_casts_as_mps_inside_and_as_ever_outside():
    before = dtypes()
    with autocast.mps_lists():
        assert dtypes() == ["bfloat16", "float32", "float32", "float32", "torch.float32"]
    assert dtypes() == before
    assert before[1] == "bfloat16"


def met(factory, precision):
    """A step with the types that its operators get: as traced for MPS, and on the device itself."""
    import warnings

    import torch

    from transit_cli.device.select import select
    from transit_cli.operators.replay import replay_step
    from transit_cli.operators.settings import FallbackTestSettings
    from transit_cli.operators.step_factory import StepFactory

    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    settings = FallbackTestSettings(precision=precision, batch_size=2)
    factory = StepFactory(settings, {"global": 201, "local": 61})
    found = []
    for on_device in (False, True):
        events = []
        replay_step(factory, select("mps"), events.append, on_device=on_device)
        rows = [event for event in events if "index" in event]
        bad = [row for row in rows if row["status"] not in {"ok", "not compared"}]
        kinds = sorted({(row["operator"].rstrip("_").split(".")[0], *row["dtypes"]) for row in rows})
        found.append({"bad": bad, "kinds": kinds})
    return found


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_a_step_traced_for_mps_has_the_types_of_the_device(mps, precision):
    """The simulated device's autocast is torch's own, for MPS."""
    done = mps.run(met, "", precision, timeout=500)
    assert done.returncode == 0, done.stderr
    traced, there = done.value
    assert traced["bad"] == there["bad"] == []
    norms = [kind for kind in traced["kinds"] if "layer_norm" in kind[0]]
    assert norms
    assert all(kind[1:] == ["float32"] for kind in norms)
    left, right = ({tuple(kind) for kind in one["kinds"]} for one in (traced, there))
    # clipping takes another path on the CPU (docs/mps.md); the scaler's scale is float64 there
    only_left = {kind for kind in left - right if not kind[0].startswith(("_amp_", "_foreach_"))}
    assert not only_left, (only_left, right - left)


class FakeCuda(CpuDevice):
    """A CPU that says it is CUDA: layer norm does not take mixed types, autocast makes it float32, and it lacks relu."""

    kind = "cuda"

    def __init__(self):
        super().__init__()
        self.refused = []


@pytest.fixture
def strict(monkeypatch):
    """The CPU's layer norm refuses mixed types, as CUDA's does."""
    plain = replay._run

    def run(func, arguments):
        args, _ = arguments
        if func.name() == "aten::native_layer_norm" and len({args[0].dtype, args[2].dtype}) > 1:
            raise RuntimeError("expected scalar type Half but found Float")
        return plain(func, arguments)

    monkeypatch.setattr(replay, "_run", run)


@pytest.mark.parametrize("own_types", [False, True])
def test_a_step_on_the_device_itself_has_no_false_alarm(strict, own_types, monkeypatch):
    """With the CPU's lists layer norm gets types that CUDA never sees; with the device's it does not."""
    import contextlib

    monkeypatch.setattr("transit_cli.device.precision.why_not", lambda device, name: "")
    monkeypatch.setattr(
        "transit_cli.device.precision.autocast", lambda device, name: torch.autocast("cpu", torch.float16)
    )
    monkeypatch.setattr("transit_cli.device.precision.scaler", lambda device, name: torch.amp.GradScaler("cpu"))
    factory = StepFactory(FallbackTestSettings(precision="fp16", batch_size=2), {"global": 201, "local": 61})
    rows = []
    with autocast.mps_lists() if own_types else contextlib.nullcontext():
        replay.replay_step(factory, FakeCuda(), lambda row: rows.append(row) if "index" in row else None)
    alarms = [row for row in rows if row["status"] not in {"ok", "not compared"}]
    assert {row["operator"] for row in alarms} == (set() if own_types else {"native_layer_norm"})
    assert {"convolution", "convolution_backward"} <= {row["operator"] for row in rows}  # and not MPS's names
