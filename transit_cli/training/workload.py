"""The training step on real or synthetic batches, for commands that measure or check it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from transit_cli.device import precision
from transit_cli.model import registry
from transit_cli.training.execution.marks import INFERENCE_PHASES, PHASES, marking
from transit_cli.training.loading.samples import Batching, DeviceLoader, InMemorySamples
from transit_cli.training.runner import StepRunner
from transit_cli.training.step import OptimizerStep

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from transit_cli.device.base import Device
    from transit_cli.training.batch import Batch
    from transit_cli.training.execution.marks import Mark
    from transit_cli.training.settings import StepSettings

#: Synthetic samples: enough for their gathers to miss the caches, as those of a view set do.
SYNTHETIC_SAMPLES = 4096
#: Optimizer steps for the schedule: more than are run.
TOTAL_STEPS = 100_000


@dataclass
class Workload:
    """A step, and the batches that it runs on.

    Attributes:
        runner: runs the training step.
        groups: yields the micro-batches of one optimizer step, without end, on the host or on the device.
        source: where the batches come from, for display.
        inference: whether only the forward pass runs.
        loss: the sum of the losses of all steps, on the device.
        steps_run: steps so far, of either kind.
    """

    runner: StepRunner
    groups: Iterator[list[Batch]]
    source: str
    inference: bool = False
    loss: Tensor = field(init=False, repr=False)
    steps_run: int = 0

    def __post_init__(self) -> None:
        self.loss = torch.zeros((), device=self.device.torch_device)

    @property
    def step(self) -> OptimizerStep:
        """What the step computes."""
        return self.runner.step

    @property
    def device(self) -> Device:
        """Where it computes."""
        return self.step.device

    @property
    def samples(self) -> int:
        """Samples of an optimizer step."""
        return self.step.settings.effective_batch

    @property
    def phases(self) -> tuple[str, ...]:
        """The phases that occur."""
        return INFERENCE_PHASES if self.inference else PHASES

    def draw(self) -> list[Batch]:
        """The next micro-batches from the loader."""
        return next(self.groups)

    def place(self, group: list[Batch]) -> list[Batch]:
        """Micro-batches on the device; those that are there already are not copied."""
        return [batch.to(self.device.torch_device, non_blocking=True) for batch in group]

    def run_step(self, mark: Mark | None = None) -> None:
        """One optimizer step, or one forward pass; `mark` is called at each change of phase."""
        if mark is None:
            self.compute(self.place(self.draw()))
            return
        group = [batch.gathered() for batch in self.draw()]
        mark("data", "transfer")
        batches = self.place(group)
        mark("transfer", "forward")
        with marking(self.step, mark):
            self.compute(batches)
        mark("rest", "data")

    def compute(self, batches: list[Batch]) -> None:
        """Run on batches that are on the device."""
        self.steps_run += 1
        if not self.inference:
            self.runner.run_summing(batches, self.loss)
            return
        self.step.network.eval()
        with torch.inference_mode(), precision.autocast(self.device, self.step.precision):
            for batch in batches:
                self.step.network(batch.inputs)


def build(
    settings: StepSettings,
    network: str,
    views: Mapping[str, int],
    device: Device,
    *,
    groups: Iterator[list[Batch]] | None = None,
    source: str = "random numbers on the device",
    inference: bool = False,
) -> Workload:
    """A workload with a newly initialised network (seed 0).

    Args:
        settings: of the step.
        network: by name.
        views: the length of each view by name.
        device: where to compute.
        groups: the micro-batches of each optimizer step; by default synthetic ones on the device.
        source: where they come from, for display.
        inference: whether to run only the forward pass.
    """
    torch.manual_seed(0)
    if groups is None:
        synthetic = synthetic_samples(views, max(SYNTHETIC_SAMPLES, settings.batch_size))
        groups = repeat(synthetic, settings.batch_size, settings.accumulate, device)
    step = OptimizerStep(registry.build(network, views), device, settings, TOTAL_STEPS)
    return Workload(StepRunner(step), groups, source, inference)


def repeat(samples: InMemorySamples, batch_size: int, accumulate: int, device: Device) -> Iterator[list[Batch]]:
    """Micro-batches of samples kept on the device, epoch after epoch, as `transit train` draws them with seed 0.

    Groups with fewer than `accumulate` micro-batches, at the end of an epoch, are skipped.
    """
    loader = DeviceLoader(samples, device.torch_device)
    batching = Batching(len(samples), batch_size, accumulate)
    epoch = 0
    while True:
        for group in loader.epoch(batching, 0, epoch):
            if len(group) == accumulate or batching.steps == 1:
                yield group
        epoch += 1


def synthetic_samples(shapes: Mapping[str, int | tuple[int, ...]], count: int) -> InMemorySamples:
    """`count` random samples with targets 0 and 1 in turn, drawn from torch's default generator."""
    inputs = random_inputs(shapes, count)
    return InMemorySamples(inputs, torch.arange(count).remainder(2).float(), np.arange(count))


def random_inputs(
    shapes: Mapping[str, int | tuple[int, ...]], count: int, generator: torch.Generator | None = None
) -> dict[str, Tensor]:
    """Standard normal inputs [count, *shape] on the CPU, float32; an integer is the length of a view."""
    return {
        name: torch.randn(count, *((shape,) if isinstance(shape, int) else shape), generator=generator)
        for name, shape in shapes.items()
    }
