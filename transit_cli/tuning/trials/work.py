"""What a trial runs: the network, its step, and batches as training gathers them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from transit_cli.data.viewset import ViewSet
from transit_cli.model import registry
from transit_cli.options import DEFAULT_SCALARS
from transit_cli.training.batch import Batch
from transit_cli.training.loading.samples import InMemorySamples, view_lengths
from transit_cli.training.optimization.augment import Augmentation
from transit_cli.training.plan import measure_scalings, plan
from transit_cli.training.runner import StepRunner
from transit_cli.training.runs import ranking_metrics
from transit_cli.training.settings import TrainSettings
from transit_cli.training.step import OptimizerStep
from transit_cli.training.workload import synthetic_samples
from transit_cli.tuning import networks

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import nn

    from transit_cli.device.base import Device, Precision
    from transit_cli.training.loading.samples import Samples
    from transit_cli.tuning.trials.spec import TrialSpec


class Work:
    """Training steps of one batch size: on the run's own view set, or on random samples of its shapes.

    Args:
        spec: what to run.
        device: where to compute.

    Raises:
        TransitError: view set or network are unusable.
    """

    def __init__(self, spec: TrialSpec, device: Device) -> None:
        settings = settings_of(spec)
        torch.manual_seed(settings.seed)
        self.device = device
        self._batch = spec.size * spec.accumulate
        self._held: object = None
        network, samples = self._prepare(spec, settings)
        self._samples = samples.to(device.torch_device) if isinstance(samples, InMemorySamples) else samples
        few = torch.arange(min(len(samples), 100))
        augmentation = None if spec.inputs else Augmentation.of(settings, samples.take(few)[0])
        self._runner = StepRunner(OptimizerStep(network, device, settings, total_steps=10_000, augment=augmentation))
        if device.kind == "cpu" and not spec.inputs:  # a run scores itself after its first epoch: 76 MiB of libraries
            ranking_metrics.ranking(np.array([0.0, 1.0]), np.array([0.0, 1.0]))

    @property
    def precision(self) -> Precision:
        """The precision that the step computes in."""
        return self._runner.step.precision

    @property
    def execution(self) -> str:
        """How the step is executed (`training.execution`); empty before the first."""
        return self._runner.execution

    def start_kernels(self) -> None:
        """One step on two samples, which does not choose how steps of a whole batch are executed."""
        self.step([min(2, self._batch)])
        self._runner.executor = None

    def step(self, sizes: Sequence[int]) -> None:
        """One optimizer step on micro-batches of random samples, gathered as training does."""
        self._runner.run([self.batch(size) for size in sizes])

    def batch(self, size: int) -> Batch:
        """A batch of random samples."""
        place = self.device.torch_device
        index = torch.randint(0, len(self._samples), (size,))
        inputs, targets = self._samples.take(index.to(place) if isinstance(self._samples, InMemorySamples) else index)
        return Batch(inputs, targets).to(place)

    def _prepare(self, spec: TrialSpec, settings: TrainSettings) -> tuple[nn.Module, Samples]:
        if settings.viewset:
            planned = plan(settings, self.device)
            task = planned.tasks[0]
            self._held = planned, planned.samples.subset(task.validation)  # in memory during training, so here too
            return planned.build_network(), planned.samples.subset(task.train)
        shapes = shapes_of(spec, settings)
        return network_for(settings.network, shapes), synthetic_samples(shapes, self._batch)


def settings_of(spec: TrialSpec) -> TrainSettings:
    """The settings of the training that a trial is for."""
    given = {name: tuple(value) if isinstance(value, list) else value for name, value in spec.train.items()}
    given |= {"viewset": Path(str(given["viewset"])) if given.get("viewset") else None}
    return TrainSettings().replace(**given, batch_size=spec.size, accumulate=spec.accumulate)


def shapes_of_settings(spec: TrialSpec) -> dict[str, tuple[int, ...]]:
    """The shape of one sample of each input, with or without a view set."""
    settings = settings_of(spec)
    if settings.viewset is None:
        return shapes_of(spec, settings)
    viewset = ViewSet.open(settings.viewset)
    scalars = len(measure_scalings(settings, viewset))
    shapes: dict[str, tuple[int, ...]] = {
        name: (length,) for name, length in view_lengths(viewset, settings.views).items()
    }
    return shapes | ({"scalars": (scalars,)} if scalars else {})


def shapes_of(spec: TrialSpec, settings: TrainSettings) -> dict[str, tuple[int, ...]]:
    """The shape of one sample of each input, without a view set."""
    if spec.inputs:
        return {f"{networks.PLAIN}{index}": tuple(shape) for index, shape in enumerate(spec.inputs)}
    ours = settings.network in {"two-branch", "astronet"} or settings.scalars != DEFAULT_SCALARS
    shapes: dict[str, tuple[int, ...]] = {name: (length,) for name, length in spec.views.items()}
    return shapes | ({"scalars": (len(settings.scalars),)} if ours and settings.scalars else {})


def network_for(name: str, shapes: Mapping[str, tuple[int, ...]]) -> nn.Module:
    """A network for inputs of these shapes: from its views, or a user's own from plain ones."""
    if f"{networks.PLAIN}0" in shapes:
        return networks.build_own(name)
    views = {view: shape[0] for view, shape in shapes.items() if view != "scalars"}
    return registry.build(name, views, shapes["scalars"][0] if "scalars" in shapes else 0)
