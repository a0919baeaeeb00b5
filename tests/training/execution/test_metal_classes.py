"""A network that tells several classes apart: its layers have Metal kernels, its loss is PyTorch's."""

import pytest

pytestmark = pytest.mark.usefixtures("metal_shim")


def train_classes():
    """The largest difference of a weight after training by metal and on the CPU, and the kernels that were launched."""
    import simulated_mps
    import torch
    from torch import nn

    from transit_cli.device import environment

    environment.prepare()
    from transit_cli.device.cpu import CpuDevice
    from transit_cli.device.mps import MpsDevice
    from transit_cli.training.batch import Batch
    from transit_cli.training.runner import StepRunner
    from transit_cli.training.settings import StepSettings
    from transit_cli.training.step import OptimizerStep

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.column = nn.Sequential(nn.Conv1d(1, 8, 3, padding=1), nn.MaxPool1d(2), nn.ReLU())
            self.head = nn.Sequential(nn.LayerNorm(64), nn.Linear(64, 9), nn.ReLU(), nn.Linear(9, 3))

        def forward(self, inputs):
            return self.head(self.column(inputs["local"].unsqueeze(1)).flatten(1))

    weights = []
    for device, execution in ((CpuDevice(), "eager"), (MpsDevice(), "metal")):
        torch.manual_seed(0)
        settings = StepSettings(execution=execution, label_smoothing=0.1)
        runner = StepRunner(OptimizerStep(Net(), device, settings, 10, class_weights=[1.0, 2.0, 3.0]))
        for _ in range(10):
            inputs, targets = torch.randn(6, 16), torch.eye(3)[torch.randint(3, (6,))]
            place = device.torch_device
            parts = [Batch({"local": inputs[a:b].to(place)}, targets[a:b].to(place)) for a, b in ((0, 4), (4, 6))]
            runner.run(parts)
        assert runner.execution == execution
        weights.append(torch.cat([weight.detach().cpu().flatten() for weight in runner.step.network.parameters()]))
    launched = simulated_mps.counters()["launched"]
    return [(weights[0] - weights[1]).abs().max().item(), launched]


def test_classes_train_with_kernels_and_end_at_the_cpus_weights(mps):
    done = mps.run(train_classes, timeout=300)
    assert done.returncode == 0, done.stderr
    far, launched = done.value
    assert far <= 1e-4
    assert min(launched[name] for name in ("convolve", "dense", "dense_back", "weight_gradients", "adam")) >= 10
    assert "cross_entropy" not in launched
