"""What is profiled: the step that trains, on a view set, on random numbers, or on somebody's own loader."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from transit_cli.data.viewset import ViewSet
from transit_cli.device import precision, select
from transit_cli.model import registry
from transit_cli.options import view_lengths
from transit_cli.profiling.phases import INFERENCE_PHASES, PHASES, marking
from transit_cli.results import TransitError
from transit_cli.training.batch import Batch
from transit_cli.training.loading import samples
from transit_cli.training.runner import StepRunner
from transit_cli.training.step import OptimizerStep

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from transit_cli.device.base import Device
    from transit_cli.profiling.phases import Mark
    from transit_cli.profiling.settings import ProfileSettings

#: A micro-batch before it is on the device.
HostBatch = tuple[dict[str, Tensor], Tensor]
#: Random samples that stand in for a view set: enough for their gathers to miss the caches, as real ones do.
RANDOM_SAMPLES = 4096


@dataclass
class Workload:
    """A step, and what feeds it.

    Attributes:
        runner: runs the training step.
        device: where it computes.
        settings: what was asked for.
        groups: yields, for ever, the micro-batches of one optimizer step, as they leave the loader.
        source: in words, where the batches come from.
        samples: of one optimizer step.
        last: what the last step returned: the loss, or logits.
        steps_run: steps so far, of whatever kind.
    """

    runner: StepRunner
    device: Device
    settings: ProfileSettings
    groups: Iterator[list[HostBatch]]
    source: str
    samples: int
    last: Tensor | None = field(default=None, repr=False)
    steps_run: int = 0

    @property
    def step(self) -> OptimizerStep:
        """What the step computes."""
        return self.runner.step

    @property
    def inference(self) -> bool:
        """Whether only the forward pass runs."""
        return self.settings.inference

    @property
    def phases(self) -> tuple[str, ...]:
        """The phases that occur."""
        return INFERENCE_PHASES if self.inference else PHASES

    def draw(self) -> list[HostBatch]:
        """The next micro-batches from the loader."""
        return next(self.groups)

    def place(self, group: list[HostBatch]) -> list[Batch]:
        """Micro-batches on the device; nothing is copied that is there already."""
        where = self.device.torch_device
        return [
            Batch({name: values.to(where, non_blocking=True) for name, values in inputs.items()}, targets.to(where))
            for inputs, targets in group
        ]

    def run_step(self, mark: Mark | None = None) -> None:
        """One optimizer step, or one forward pass; `mark` is told of each change of phase."""
        if mark is None:
            self.compute(self.place(self.draw()))
            return
        group = self.draw()
        mark("data", "transfer")
        batches = self.place(group)
        mark("transfer", "forward")
        with marking(self.step, mark):
            self.compute(batches)
        mark("rest", "data")

    def compute(self, batches: list[Batch]) -> None:
        """What follows once the batches are on the device."""
        self.steps_run += 1
        if not self.inference:
            self.last = self.runner.run(batches)
            return
        self.step.network.eval()
        with torch.inference_mode(), precision.autocast(self.device, self.step.precision):
            for batch in batches:
                self.last = self.step.network(batch.inputs)


def build(settings: ProfileSettings) -> Workload:
    """The workload that the settings describe, its network built and on the device."""
    device = select.select(settings.device)
    torch.manual_seed(0)
    if settings.viewset:
        viewset = ViewSet.open(settings.viewset)
        views = samples.inputs_of(viewset, [name for name in ("global", "local") if name in viewset.lengths])
        groups = _resident(_read(viewset, views), settings, device)
        source = f"{settings.viewset}, on the device"
    else:
        views = view_lengths(settings.bins)
        groups = _resident(_random(views, settings.batch_size), settings, device)
        source = "random numbers on the device"
    if settings.loader:
        groups, source = _own(settings, views), settings.loader
    network = registry.build(settings.network, views)
    runner = StepRunner(OptimizerStep(network, device, settings, total_steps=100_000))
    return Workload(runner, device, settings, groups, source, settings.effective_batch)


def _read(viewset: ViewSet, views: dict[str, int]) -> samples.InMemorySamples:
    rows = samples.rows(viewset, ("train",))
    return samples.read(viewset, rows, list(views), None, np.zeros(len(rows), dtype=np.float32))


def _random(views: dict[str, int], batch_size: int) -> samples.InMemorySamples:
    count = max(RANDOM_SAMPLES, batch_size)
    inputs = {name: torch.randn(count, length) for name, length in views.items()}
    return samples.InMemorySamples(inputs, (torch.arange(count) % 2).float(), np.arange(count))


def _resident(
    examples: samples.InMemorySamples, settings: ProfileSettings, device: Device
) -> Iterator[list[HostBatch]]:
    """As `transit train` feeds a set that fits on the device: shuffled, gathered there."""
    resident = samples.DeviceLoader(examples, device.torch_device)
    batching = samples.Batching(len(examples), settings.batch_size, settings.accumulate)
    epoch = 0
    while True:
        for group in resident.epoch(batching, 0, epoch):
            if len(group) == settings.accumulate or batching.steps == 1:
                yield group
        epoch += 1


def _own(settings: ProfileSettings, views: dict[str, int]) -> Iterator[list[HostBatch]]:
    """Batches of a person's own loader, begun again when it ends."""
    factory = _factory(str(settings.loader))
    while True:
        count = 0
        group: list[HostBatch] = []
        for item in factory(views, 0, settings.batch_size):
            group.append(_checked(item, str(settings.loader)))
            count += 1
            if len(group) == settings.accumulate:
                yield group
                group = []
        if count < settings.accumulate:
            raise TransitError(
                f"{settings.loader} yields {count} batches",
                wanted=f"at least {settings.accumulate}, one optimizer step's",
                fix="let it yield more",
                code="loader-empty",
            )


def _checked(item: Any, name: str) -> HostBatch:
    inputs, targets = item if isinstance(item, tuple | list) and len(item) == 2 else (None, None)
    if not isinstance(inputs, dict) or not isinstance(targets, Tensor):
        raise TransitError(
            f"{name} yields {type(item).__name__}",
            wanted='pairs ({"global": [B, L], "local": [B, L]}, targets [B]) of tensors',
            fix=f"correct {name.rpartition(':')[0]}",
            code="loader-unusable",
        )
    return inputs, targets


def _factory(name: str) -> Callable[..., Any]:
    file, _, attribute = name.rpartition(":")
    path = Path(file)
    spec = importlib.util.spec_from_file_location("transit_own_loader", path)
    problem: object = f"there is no file {file!r}"
    if path.is_file() and spec and spec.loader:
        module = importlib.util.module_from_spec(spec)
        try:
            spec.loader.exec_module(module)
            return getattr(module, attribute)
        except Exception as error:  # noqa: BLE001 - somebody's file may fail in any way
            problem = error
    raise TransitError(
        f"the loader {name} cannot be used: {problem}",
        wanted="my_data.py:batches, a function of (views, scalars, batch_size) that yields (inputs, targets)",
        fix=f"correct {file or name}",
        code="loader-unusable",
    )
