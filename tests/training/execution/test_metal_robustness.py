"""Training by Metal kernels on the simulated device where something changes: batch, execution, members, a failing kernel."""

import pytest

from tests.training.conftest import write_set

#: Each step's micro-batches, by their samples; "eager" and "metal" resume with that execution; "fail" plants a fault.
PLANS = {
    "batches of other sizes, and a last one that is smaller": ["metal", [5], [5], [2], [7], [1], [5]],
    "accumulation with a smaller last micro-batch": ["metal", [3, 3, 2], [3, 1], [4], [2, 2, 2]],
    "eager, then metal, then eager again": ["eager", [4], [4], [4], "metal", [4], [4], [4], "eager", [4], [4]],
    "metal, then eager, then by matrices": ["metal", [4], [4], "eager", [4], [4], "metal-matrices", [4], [3, 1]],
    "a kernel that fails in the middle of accumulation": ["metal", [4], [4], "fail", [3, 2, 2], [4], "metal", [4]],
}


pytestmark = pytest.mark.usefixtures("metal_shim")


def follow(plans):
    """For each plan: the largest difference of any weight from the CPU's, executions, and optimizer steps."""
    import io

    import simulated_mps
    import torch

    from transit_cli import console
    from transit_cli.device import environment

    environment.prepare()
    from transit_cli.device.cpu import CpuDevice
    from transit_cli.device.mps import MpsDevice
    from transit_cli.model.two_branch import TwoBranch
    from transit_cli.training.batch import Batch
    from transit_cli.training.runner import StepRunner
    from transit_cli.training.settings import StepSettings
    from transit_cli.training.step import OptimizerStep

    views = {"global": 24, "local": 16}

    def made(device, execution, previous=None):
        network = TwoBranch(views, dropout=0.0)
        runner = StepRunner(OptimizerStep(network, device, StepSettings(execution=execution), 20))
        if previous is not None:  # through a file, as a checkpoint goes
            file = io.BytesIO()
            torch.save({"weights": previous.step.network.state_dict(), "step": previous.state_dict()}, file)
            file.seek(0)
            state = torch.load(file, weights_only=True, map_location="cpu")
            network.load_state_dict(state["weights"])
            runner.load_state_dict(state["step"])
        return runner

    found, start = [], {}
    for plan in plans:
        networks, names, steps = [], [], []
        for device in (CpuDevice(), MpsDevice()):
            torch.manual_seed(1)
            runner = None
            for item in plan:
                if item == "fail":
                    launched = simulated_mps.counters()["launched"].get("convolve_back", 0)
                    if device.kind == "mps":
                        simulated_mps.add_fault("error", "metal.convolve_back", call=launched + 6)
                    continue
                if isinstance(item, str):
                    simulated_mps.clear_faults()
                    weights = torch.get_rng_state()
                    runner = made(device, item if device.kind == "mps" else "eager", runner)
                    torch.set_rng_state(weights)
                    if device.kind == "mps" and len(networks) == 1 and runner.step.global_step == 0:
                        runner.step.network.load_state_dict(start)
                    elif runner.step.global_step == 0:
                        start = {name: value.clone() for name, value in runner.step.network.state_dict().items()}
                    continue
                batches = []
                for size in item:
                    inputs = {name: torch.randn(size, length) for name, length in views.items()}
                    target = (inputs["local"][:, 3] > 0).float()
                    place = device.torch_device
                    batches.append(Batch({n: v.to(place) for n, v in inputs.items()}, target.to(place)))
                with console.session():
                    runner.run(batches)
                if device.kind == "mps":
                    names.append(runner.execution)
            networks.append([weight.detach().cpu() for weight in runner.step.network.parameters()])
            steps.append(runner.step.global_step)
            simulated_mps.clear_faults()
        far = max((one - other).abs().max().item() for one, other in zip(*networks, strict=True))
        found.append([far, names, steps])
    return found


@pytest.mark.torture
def test_whatever_changes_the_weights_are_the_cpus(mps):
    done = mps.run(follow, list(PLANS.values()), timeout=300)
    assert done.returncode == 0, done.stderr
    for (name, plan), (far, names, steps) in zip(PLANS.items(), done.value, strict=True):
        wanted, execution = [], ""
        for item in plan:
            execution = "eager" if item == "fail" else item if isinstance(item, str) else execution
            wanted += [] if isinstance(item, str) else [execution]
        assert names == wanted, name
        assert steps == [len(wanted)] * 2, name
        assert far <= 1e-4, name


def train_members(folder):
    """Two members by metal and by eager: the distance of each member's weights, and the executions that were noted."""
    from pathlib import Path

    import torch

    from transit_cli.device import environment

    environment.prepare()
    from transit_cli.model import saved, two_branch
    from transit_cli.training import train
    from transit_cli.training.settings import TrainSettings

    two_branch.TwoBranch.__init__.__kwdefaults__["dropout"] = 0.0
    found = []
    for execution in ("eager", "metal"):
        options = {"epochs": 1, "batch_size": 6, "accumulate": 2, "members": 2, "precision": "fp32", "device": "mps"}
        run = Path(folder, execution)
        train.train(TrainSettings(viewset=Path(folder, "views"), out=run, scalars=(), execution=execution, **options))
        networks, _ = saved.load(run / saved.FILE)
        found.append([torch.cat([p.flatten() for p in network.parameters()]) for network in networks])
    return [(one - other).abs().max().item() for one, other in zip(*found, strict=True)]


@pytest.mark.torture
def test_members_trained_by_kernels_are_those_of_eager(mps, tmp_path):
    write_set(tmp_path / "views", size=36)
    done = mps.run(train_members, str(tmp_path), timeout=300)
    assert done.returncode == 0, done.stderr
    assert len(done.value) == 2
    assert max(done.value) <= 1e-4
