"""What is tested: the real training step of a network, on made-up views of the real shapes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from transit_cli.model import registry
from transit_cli.training.batch import Batch
from transit_cli.training.runner import StepRunner
from transit_cli.training.step import OptimizerStep

if TYPE_CHECKING:
    from collections.abc import Mapping

    from transit_cli.device.base import Device
    from transit_cli.operators.settings import FallbackTestSettings

#: Steps that the schedule of a test believes in; the tests run fewer.
TOTAL_STEPS = 1000


@dataclass(frozen=True)
class Workload:
    """A network with its step, not yet on any device.

    Attributes:
        settings: the step's options among others.
        lengths: bins of each view that the network sees, in its order.
    """

    settings: FallbackTestSettings
    lengths: Mapping[str, int]

    @classmethod
    def of(cls, settings: FallbackTestSettings) -> Workload:
        """The workload that the settings describe.

        Raises:
            TransitError: the view set cannot be read, or lacks a view.
        """
        if settings.viewset is not None:
            from transit_cli.data.viewset import ViewSet
            from transit_cli.training.loading import samples

            return cls(settings, samples.inputs_of(ViewSet.open(settings.viewset), settings.views))
        return cls(settings, settings.lengths)

    def runner_on(self, device: Device, *, dropout: bool = True) -> StepRunner:
        """The step of a freshly made network (seed 0), so that two devices start from the same weights."""
        torch.manual_seed(0)
        network = registry.build(self.settings.network, self.lengths, len(self.settings.scalars))
        for module in network.modules():
            if isinstance(module, nn.Dropout) and not dropout:
                module.p = 0.0
        settings = self.settings.replace(execution="eager")
        return StepRunner(OptimizerStep(network, device, settings, TOTAL_STEPS))  # as MPS runs it

    def batch(self, device: Device, samples: int, seed: int = 0) -> Batch:
        """`samples` views of noise (standard deviation 1 / 3), half of them with a transit in the middle."""
        noise = torch.Generator().manual_seed(seed)
        targets = (torch.arange(samples) % 2).float()
        inputs: dict[str, Tensor] = {}
        for name, length in self.lengths.items():
            views = torch.randn(samples, length, generator=noise) / 3
            views[:, length // 2 - length // 20 : length // 2 + length // 20] -= targets[:, None]
            inputs[name] = views.to(device.torch_device)
        if self.settings.scalars:
            scalars = torch.randn(samples, len(self.settings.scalars), generator=noise)
            inputs["scalars"] = scalars.to(device.torch_device)
        return Batch(inputs, targets.to(device.torch_device))
