"""Training with one framework in a child process (`transit_cli.utils.isolation`), as its documentation advises.

A job is {"framework", "config", "steps"}; the child trains for that many steps and sends {"seconds", "execution"}. What
the first job has built is kept for the others.
"""

from __future__ import annotations

import functools
import importlib
import json
import tempfile
import time
from itertools import islice
from typing import TYPE_CHECKING, Any

from transit_cli.bench.frameworks import BenchmarkConfig
from transit_cli.utils import isolation

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import torch
    from torch import Tensor, nn
    from torch.utils.data import DataLoader

    #: Trains for a number of steps; returns seconds, and the execution of the step, if it has one.
    Steps = Callable[[int], tuple[float, str]]

#: Steps of the schedule, and its peak learning rate.
TOTAL_STEPS, PEAK_LEARNING_RATE = 100_000, 5e-3
#: Batches per epoch: more on an accelerator, where the end of an epoch takes long compared with a step.
BATCHES = {"cpu": 8}
ACCELERATOR_BATCHES = 64
#: DataLoader workers for an accelerator, as the frameworks' guides advise; with a CPU they would only take its cores.
WORKERS = {"cpu": 0}
ACCELERATOR_WORKERS = 4


@functools.cache
def _build(name: str, fields: str) -> Steps:
    config = BenchmarkConfig(**json.loads(fields))
    if name.startswith("transit"):
        from transit_cli.device import environment

        environment.prepare()
    return {"plain": plain, "accelerate": accelerate, "lightning": lightning}.get(name, transit)(config)


def run_job(job: dict[str, Any], emit: Callable[[dict[str, Any]], None]) -> None:
    """Train for `job["steps"]` optimizer steps and report how long they took."""
    steps = _build(job["framework"], json.dumps(job["config"]))
    if job["framework"] != "lightning":  # whose steps are timed from the second on already
        steps(1)
    seconds, execution = steps(job["steps"])
    emit({"seconds": seconds, "execution": execution})


def examples(config: BenchmarkConfig) -> tuple[dict[str, Tensor], Tensor]:
    """Random views and targets of a few batches."""
    import torch

    from transit_cli.training.workload import random_inputs

    torch.manual_seed(0)
    count = BATCHES.get(config.device, ACCELERATOR_BATCHES) * config.batch_size
    views = random_inputs(config.views, count)
    return views, torch.randint(2, (count,)).float()


def training_parts(
    config: BenchmarkConfig,
) -> tuple[nn.Module, torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler, DataLoader[Any]]:
    """Network, optimizer, schedule and loader as users write them."""
    import torch
    from torch.utils.data import DataLoader, TensorDataset

    from transit_cli.model import registry

    torch.manual_seed(0)
    network = registry.build(config.network, config.views)
    optimizer = torch.optim.AdamW(network.parameters(), lr=PEAK_LEARNING_RATE, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, PEAK_LEARNING_RATE, total_steps=TOTAL_STEPS)
    views, targets = examples(config)
    rows = TensorDataset(*views.values(), targets)
    workers = WORKERS.get(config.device, ACCELERATOR_WORKERS)
    loader = DataLoader(
        rows, config.batch_size, shuffle=True, drop_last=True, num_workers=workers, persistent_workers=workers > 0
    )
    return network, optimizer, schedule, loader


def loss_of(network: nn.Module, config: BenchmarkConfig, row: list[Tensor]) -> Tensor:
    """Mean loss of a batch as a loader yields it."""
    from torch.nn.functional import binary_cross_entropy_with_logits

    *views, targets = row
    return binary_cross_entropy_with_logits(network(dict(zip(config.views, views, strict=True))), targets)


def repeat_forever(rows: Any) -> Iterator[Any]:
    """Iterate over a loader again and again."""
    while True:
        yield from rows


def plain(config: BenchmarkConfig) -> Steps:
    """A loop over a DataLoader."""
    import torch

    device = torch.device(config.device)
    network, optimizer, schedule, loader = training_parts(config)
    network.to(device)
    rows = repeat_forever(loader)

    def steps(count: int) -> tuple[float, str]:
        begin = time.perf_counter()
        for row in islice(rows, count):
            loss_of(network, config, [values.to(device) for values in row]).backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
        synchronize(device)
        return time.perf_counter() - begin, ""

    return steps


def synchronize(device: torch.device) -> None:
    """Wait for the device."""
    import torch

    if device.type != "cpu":
        torch.accelerator.synchronize(device)


def accelerate(config: BenchmarkConfig) -> Steps:
    """Hugging Face's Accelerate."""
    accelerator = importlib.import_module("accelerate").Accelerator(cpu=config.device == "cpu")
    network, optimizer, schedule, loader = accelerator.prepare(*training_parts(config))
    rows = repeat_forever(loader)

    def steps(count: int) -> tuple[float, str]:
        begin = time.perf_counter()
        for row in islice(rows, count):
            accelerator.backward(loss_of(network, config, row))
            accelerator.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
        synchronize(accelerator.device)
        return time.perf_counter() - begin, ""

    return steps


def lightning(config: BenchmarkConfig) -> Steps:
    """Lightning's Trainer with its defaults."""
    package = importlib.import_module("lightning")
    network, optimizer, schedule, loader = training_parts(config)

    class Module(package.LightningModule):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def training_step(self, row: list[Tensor]) -> Tensor:
            return loss_of(self.network, config, row)

        def configure_optimizers(self) -> dict[str, Any]:
            return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    class Clock(package.Callback):  # type: ignore[misc]
        """Times from the end of the first step, which initialises, to the end of the last."""

        def __init__(self, last: int) -> None:
            self.last = last
            self.ends: list[float] = []

        def on_train_batch_end(self, trainer: Any, module: Any, *_: object) -> None:
            if trainer.global_step in {1, self.last}:
                synchronize(module.device)
                self.ends.append(time.perf_counter())

    module = Module()
    kind = {"cuda": "gpu"}.get(config.device, config.device)

    def steps(count: int) -> tuple[float, str]:
        clock = Clock(count + 1)
        with tempfile.TemporaryDirectory() as folder:
            trainer = package.Trainer(
                accelerator=kind,
                devices=1,
                max_steps=count + 1,
                gradient_clip_val=1.0,
                default_root_dir=folder,
                callbacks=[clock],
            )
            trainer.fit(module, loader)
        return clock.ends[-1] - clock.ends[0], ""

    return steps


def transit(config: BenchmarkConfig) -> Steps:
    """What `transit train` runs: samples on the device, and its step."""
    import numpy as np

    from transit_cli.device.select import select
    from transit_cli.training import workload
    from transit_cli.training.loading.samples import InMemorySamples
    from transit_cli.training.settings import StepSettings

    device, size = select(config.device), config.batch_size
    views, targets = examples(config)
    groups = workload.repeat(InMemorySamples(views, targets, np.arange(len(targets))), size, 1, device)
    settings = StepSettings(batch_size=size, precision="fp32")  # as the others compute
    run = workload.build(settings, config.network, config.views, device, groups=groups)

    def steps(count: int) -> tuple[float, str]:
        begin = time.perf_counter()
        for _ in range(count):
            run.run_step()
        device.synchronize()
        return time.perf_counter() - begin, run.runner.execution

    return steps


if __name__ == "__main__":
    isolation.serve(run_job)
