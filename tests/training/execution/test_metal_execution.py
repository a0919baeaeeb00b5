"""The execution `metal` on the simulated device, whose `torch.mps.compile_shader` runs the Metal sources on the CPU."""

import re

import pytest
import torch

from tests.training.conftest import write_set
from transit_cli.device.cpu import CpuDevice
from transit_cli.model.two_branch import TwoBranch
from transit_cli.results import TransitError
from transit_cli.training.batch import Batch
from transit_cli.training.runner import StepRunner
from transit_cli.training.settings import StepSettings
from transit_cli.training.step import OptimizerStep

#: Operators and kernels of an optimizer step of two-branch, feeding and augmentation included: 36 when this was written.
MOST_LAUNCHES = 40
STEPS = 8


pytestmark = pytest.mark.usefixtures("metal_shim")


def count_launches(folder, steps):
    """Operators and kernels of `steps` more steps of training."""
    from pathlib import Path

    import simulated_mps

    from transit_cli.device import environment

    environment.prepare()
    from transit_cli.training import train
    from transit_cli.training.runs import screen
    from transit_cli.training.settings import TrainSettings

    screen.INTERVAL = 1e9
    found = []
    for count in (steps, 2 * steps):
        simulated_mps.reset_counters()
        where = {"viewset": Path(folder, f"views-{count}"), "out": Path(folder, f"run-{count}")}
        options = {"epochs": 1, "batch_size": 4, "precision": "fp32", "scalars": (), "device": "mps"}
        train.train(TrainSettings(**where, **options, execution="metal"))
        counters = simulated_mps.counters()
        found.append([sum(counters[name].values()) for name in ("ran", "launched", "synchronised")])
    return found


def test_a_step_of_training_takes_few_launches(mps, tmp_path):
    for count in (STEPS, 2 * STEPS):
        write_set(tmp_path / f"views-{count}", size=6 * count)  # two thirds of them train, 4 a step
    done = mps.run(count_launches, str(tmp_path), STEPS, timeout=300)
    assert done.returncode == 0, done.stderr
    few, many = done.value
    operators, kernels, waits = ((more - less) / STEPS for less, more in zip(few, many, strict=True))
    assert kernels == 18  # 6 convolutions, 2 poolings, head, loss; head back, 4 back, all weights, their sum, AdamW
    assert operators + kernels <= MOST_LAUNCHES
    assert waits == 0


def count_bytes(network):
    """Launches of a step, and bytes of the tensors of each, eager and metal, by kernels that compute nothing."""
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_flatten

    from transit_cli.device import environment

    environment.prepare()
    from transit_cli.device.mps import MpsDevice
    from transit_cli.model import astronet, two_branch
    from transit_cli.training.batch import Batch
    from transit_cli.training.execution import metal
    from transit_cli.training.runner import StepRunner
    from transit_cli.training.settings import StepSettings
    from transit_cli.training.step import OptimizerStep

    found = {"eager": [0, 0], "metal": [0, 0]}
    now = [0, 0]

    class Kernel:
        max_threads_per_threadgroup = 1024

        def __call__(self, *arguments, **options):
            now[0] += 1
            now[1] += sum({t.data_ptr(): t.nbytes for t in arguments if isinstance(t, torch.Tensor)}.values())

    class Library:
        def __getattr__(self, name):
            return Kernel()

    class Operators(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            result = function(*args, **(kwargs or {}))
            makes_nothing = any(text in str(function) for text in ("empty", "view", "profiler", "detach", "alias"))
            if not makes_nothing and not function.is_view:
                every = tree_flatten((args, kwargs, result))[0]
                tensors = {(t.data_ptr(), t.numel()): t.nbytes for t in every if isinstance(t, torch.Tensor)}
                now[0] += 1
                now[1] += sum(tensors.values())
            return result

    torch._C._mps_compileShader = lambda source: Library()
    metal.agrees = lambda *_: True
    views = {"global": 2001, "local": 201}
    for execution, counts in found.items():
        made = {"two-branch": two_branch.TwoBranch, "astronet": astronet.AstroNet}[network](views)
        step = StepRunner(OptimizerStep(made, MpsDevice(), StepSettings(execution=execution), 100))
        inputs = {name: torch.randn(64, length).to("mps") for name, length in views.items()}
        batch = Batch(inputs, torch.rand(64).round().to("mps"))
        step.run([batch])
        now = counts
        with Operators():
            step.run([batch])
        now = [0, 0]
    return found


@pytest.mark.parametrize(
    ("network", "launches", "megabytes", "share"),
    [("two-branch", 20, 403, 0.26), pytest.param("astronet", 63, 1299, 0.85, marks=pytest.mark.torture)],
)
@pytest.mark.torture
def test_a_step_has_a_third_of_eagers_launches_and_fewer_bytes(mps, network, launches, megabytes, share):
    done = mps.run(count_bytes, network, timeout=300)
    assert done.returncode == 0, done.stderr
    eager, metal = done.value["eager"], done.value["metal"]
    assert metal[0] == launches <= eager[0] * 0.35
    assert eager[1] == pytest.approx(megabytes * 1e6, rel=0.01)
    assert metal[1] <= share * eager[1]


def train_both(network, views, steps, batch, options):
    """The largest difference of any weight after training on the CPU and by metal, and what metal's optimizer holds."""
    import torch

    from transit_cli.device import environment

    environment.prepare()
    from transit_cli.device.cpu import CpuDevice
    from transit_cli.device.mps import MpsDevice
    from transit_cli.model import astronet, two_branch
    from transit_cli.training.batch import Batch
    from transit_cli.training.runner import StepRunner
    from transit_cli.training.settings import StepSettings
    from transit_cli.training.step import OptimizerStep

    weights, states = [], []
    astronet.DENSE_UNITS = options.get("units", 512)  # the simulated device needs a microsecond a weight
    for device, execution in ((CpuDevice(), "eager"), (MpsDevice(), "metal")):
        torch.manual_seed(0)
        made = {"two-branch": two_branch.TwoBranch, "astronet": astronet.AstroNet}[network](views)
        if network == "two-branch":
            made.head[3].p = 0.0  # the devices draw other masks
        start = torch.cat([weight.detach().cpu().flatten() for weight in made.parameters()])
        settings = StepSettings(execution=execution, label_smoothing=0.05, **options["settings"])
        step = StepRunner(OptimizerStep(made, device, settings, steps))
        batches = []
        for _ in range(steps):
            inputs = {name: torch.randn(batch, length) for name, length in views.items()}
            target = (next(iter(inputs.values()))[:, 3] > 0).float()
            batches.append((inputs, target))
        for inputs, target in batches:
            place = device.torch_device
            whole = Batch({name: values.to(place) for name, values in inputs.items()}, target.to(place))
            parts = [whole] if options["accumulate"] == 1 else [whole.rows(slice(0, 3)), whole.rows(slice(3, batch))]
            step.run(parts)
        assert step.execution == execution
        weights.append([weight.detach().cpu() for weight in made.parameters()])
        states.append(step.state_dict())
    far = max((one - other).abs().max().item() for one, other in zip(*weights, strict=True))
    cpu, metal = (torch.cat([weight.flatten() for weight in each]) for each in weights)
    kept = [state["optimizer"]["state"][0] for state in states]
    same = sorted(kept[0]) == sorted(kept[1]) and all(kept[0][name].shape == kept[1][name].shape for name in kept[0])
    other = ((metal - cpu).norm() / (cpu - start).norm()).item()
    return {"far": far, "other": other, "same": same, "steps": [float(state["step"]) for state in kept]}


@pytest.mark.parametrize(
    ("optimizer", "accumulate"), [("adamw", 1), pytest.param("adam", 2, marks=pytest.mark.torture)]
)
def test_fifty_steps_of_two_branch_end_at_the_cpus_weights(mps, optimizer, accumulate):
    done = mps.run(
        train_both,
        "two-branch",
        {"global": 41, "local": 21},
        50,
        5,
        {"settings": {"optimizer": optimizer}, "accumulate": accumulate},
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert done.value["far"] <= 1e-4
    assert done.value["same"]
    assert done.value["steps"] == [50, 50]


@pytest.mark.torture  # its global column has 256 channels, whatever the length of a view
def test_fifty_steps_of_astronet_end_at_the_cpus_weights(mps):
    options = {"settings": {}, "accumulate": 1, "units": 64}
    done = mps.run(train_both, "astronet", {"global": 125, "local": 19}, 50, 2, options, timeout=3600)
    assert done.returncode == 0, done.stderr
    assert done.value["far"] <= 1e-4


def test_fifty_steps_of_astronets_local_column_end_at_the_cpus_weights(mps):
    options = {"settings": {}, "accumulate": 1, "units": 8}
    done = mps.run(train_both, "astronet", {"local": 23}, 50, 4, options, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.value["far"] <= 1e-4


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_half_precision_moves_the_weights_as_the_cpu_does(mps, precision):
    options = {"settings": {"precision": precision}, "accumulate": 1}
    done = mps.run(train_both, "two-branch", {"global": 61, "local": 31}, 5, 6, options, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.value["other"] <= 0.25  # of the way that all weights have gone; Adam makes much of rounding


def choose(cases):
    """For each [fault, bins, whether eager is slow]: what a step runs as in the end, and how far from eager's its weights are.

    What each says is on stderr behind a line with its number.
    """
    import sys

    import simulated_mps
    import torch

    from transit_cli import console
    from transit_cli.device import environment

    environment.prepare()
    from transit_cli.device.mps import MpsDevice
    from transit_cli.model.two_branch import TwoBranch
    from transit_cli.training.batch import Batch
    from transit_cli.training.runner import StepRunner
    from transit_cli.training.settings import StepSettings
    from transit_cli.training.step import OptimizerStep

    found = []
    for number, (fault, size, slow_eager) in enumerate(cases):
        print(f"case {number}", file=sys.stderr, flush=True)
        simulated_mps.reset_counters()
        simulated_mps.add_fault(**fault)
        if slow_eager:
            simulated_mps.add_fault("slow", "max_pool2d_with_indices", 0.3)
        weights, names = [], []
        for execution in ("auto", "eager"):
            torch.manual_seed(0)
            network = TwoBranch({"global": size, "local": 21}, dropout=0.0)
            step = StepRunner(OptimizerStep(network, MpsDevice(), StepSettings(execution=execution), 10))
            inputs = {"global": torch.randn(4, size).to("mps"), "local": torch.randn(4, 21).to("mps")}
            batch = Batch(inputs, torch.tensor([0.0, 1.0, 1.0, 0.0]).to("mps"))
            with console.session():
                for _ in range(4):
                    step.run([batch])
            names.append(step.execution)
            weights.append([weight.detach().cpu() for weight in network.parameters()])
            simulated_mps.clear_faults()
        far = max((one - other).abs().max().item() for one, other in zip(*weights, strict=True))
        found.append({"name": names[0], "far": far, "steps": step.step.global_step})
    return found


#: Each fault, and what is said of it; the first ones when an execution is chosen, the last when it has trained for a while.
FAULTS = [
    ({"kind": "error", "operator": "metal.compile_shader"}, "does not compile (SyntaxError"),
    ({"kind": "wrong", "operator": "metal.convolve_back", "value": 0.3}, "differ from eager by more than 0.01"),
    ({"kind": "wrong", "operator": "metal.weight_gradients", "value": 0.3}, "differ from eager by more than 0.01"),
    ({"kind": "wrong", "operator": "metal.cross_entropy", "value": 0.3}, "differ from eager by more than 0.01"),
    ({"kind": "wrong", "operator": "metal.adam", "value": 0.3}, "does not compute what PyTorch's optimizer does"),
    ({"kind": "refuse", "operator": "metal.weight_gradients", "value": 64}, "needs 256 threads a group"),
    ({"kind": "error", "operator": "metal.head_back"}, "cannot be launched"),
    ({"kind": "error", "operator": "metal.weight_gradients", "call": 3}, "not used: planted"),
    ({"kind": "error", "operator": "metal.weight_gradients", "call": 9}, "going on without them"),
    ({"kind": "error", "operator": "metal.adam", "call": 9}, "going on without them"),
    ({"kind": "missing", "operator": "metal.compile_shader"}, "has no torch.mps.compile_shader"),
]


@pytest.mark.torture
def test_every_fault_ends_in_eager_with_one_line_and_loses_nothing(mps):
    done = mps.run(choose, [[fault, 41 + n, "going on" in line] for n, (fault, line) in enumerate(FAULTS)], timeout=300)
    assert done.returncode == 0, done.stderr
    told = re.split(r"case \d+", done.stderr)[1:]
    for (fault, line), found, text in zip(FAULTS, done.value, told, strict=True):
        said = " ".join(text.split())
        assert said.count("Metal kernels") == 1, (fault, text)
        assert line in said, fault
        assert found["name"] == "eager", fault
        assert found["far"] <= 1e-4, fault
        assert found["steps"] == 4, fault


@pytest.mark.torture
def test_the_faster_one_is_taken_and_the_timing_is_said(mps):
    slow = {"kind": "slow", "operator": "metal.convolve", "value": 0.05}
    harmless = {"kind": "slow", "operator": "nothing", "value": 0.0}
    done = mps.run(choose, [[harmless, 103, True], [slow, 102, False]], timeout=300)
    assert done.returncode == 0, done.stderr
    told = [" ".join(text.split()) for text in re.split(r"case \d+", done.stderr)[1:]]
    for name, found, said in zip(("metal", "eager"), done.value, told, strict=True):
        assert found["name"] in {name, f"{name}-matrices"}
        assert f"fastest execution of the step: {found['name']}" in said


def test_it_is_refused_elsewhere():
    step = StepRunner(
        OptimizerStep(TwoBranch({"global": 41, "local": 21}), CpuDevice(), StepSettings(execution="metal"), 1)
    )
    batch = Batch({"global": torch.zeros(1, 41), "local": torch.zeros(1, 21)}, torch.zeros(1))
    with pytest.raises(TransitError, match="it needs MPS, and this is cpu"):
        step.run([batch])
