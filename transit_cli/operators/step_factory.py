"""The step under test: the training step of a network on synthetic views of the real shapes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import nn

from transit_cli.model import registry
from transit_cli.training.batch import Batch
from transit_cli.training.runner import StepRunner
from transit_cli.training.step import OptimizerStep
from transit_cli.training.workload import random_inputs

if TYPE_CHECKING:
    from collections.abc import Mapping

    from transit_cli.device.base import Device
    from transit_cli.operators.settings import StepFactorySettings

#: Optimizer steps for the schedule; the tests run fewer.
TOTAL_STEPS = 1000


@dataclass(frozen=True)
class StepFactory:
    """Makes the training step and its batches on any device.

    Attributes:
        settings: the step's options among others.
        lengths: bins of each view that the network sees, in its order.
    """

    settings: StepFactorySettings
    lengths: Mapping[str, int]

    @classmethod
    def of(cls, settings: StepFactorySettings) -> StepFactory:
        """The factory for the network and the views of the settings.

        Raises:
            TransitError: the view set cannot be read, or lacks a view.
        """
        if settings.viewset is not None:
            from transit_cli.data.viewset import ViewSet
            from transit_cli.training.loading import samples

            return cls(settings, samples.view_lengths(ViewSet.open(settings.viewset), settings.views))
        return cls(settings, settings.lengths)

    def runner_on(self, device: Device, *, dropout: bool = True) -> StepRunner:
        """The step of a newly initialised network (seed 0), so that two devices start from the same weights."""
        torch.manual_seed(0)
        network = registry.build(self.settings.network, self.lengths, len(self.settings.scalars))
        for module in network.modules():
            if isinstance(module, nn.Dropout) and not dropout:
                module.p = 0.0
        settings = self.settings.replace(execution="eager")
        return StepRunner(OptimizerStep(network, device, settings, TOTAL_STEPS))  # as MPS runs it

    def batch(self, device: Device, samples: int, seed: int = 0) -> Batch:
        """`samples` views of noise (standard deviation 1 / 3), every other one with a transit in the middle."""
        shapes = dict(self.lengths)
        if self.settings.scalars:
            shapes["scalars"] = len(self.settings.scalars)
        inputs = random_inputs(shapes, samples, torch.Generator().manual_seed(seed))
        targets = (torch.arange(samples) % 2).float()
        for name, length in self.lengths.items():
            inputs[name] /= 3
            inputs[name][:, length // 2 - length // 20 : length // 2 + length // 20] -= targets[:, None]
        return Batch(inputs, targets).to(device.torch_device)
