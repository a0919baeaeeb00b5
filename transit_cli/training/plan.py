"""What a run trains: which rows each network learns from, and which judge it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from transit_cli.cache import cache_folder
from transit_cli.data.simulation.simulate import embedded
from transit_cli.data.viewset import ViewSet
from transit_cli.memory import reading
from transit_cli.options import DEFAULT_SCALARS
from transit_cli.training.loading import samples
from transit_cli.training.loading.samples import Batching
from transit_cli.training.loading.scaling import Scaling, scaled
from transit_cli.training.loading.stream import OnDiskSamples

if TYPE_CHECKING:
    from transit_cli.training.loading.samples import InMemorySamples
    from transit_cli.training.settings import TrainSettings


@dataclass(frozen=True)
class Task:
    """One network to train.

    Attributes:
        name: of its checkpoints and metrics ("member-0", "fold-2-member-1").
        member: which member of the ensemble.
        fold: the fold that is held out from it; None where the view set's own split is used.
        seed: of its weights, its order of samples, its dropout and augmentation.
        train: places in the plan's examples that it learns from.
        validation: places that judge it.
    """

    name: str
    member: int
    fold: int | None
    seed: int
    train: np.ndarray
    validation: np.ndarray


@dataclass(frozen=True)
class Plan:
    """Everything that a run trains.

    Attributes:
        viewset: the set.
        scalings: how each scalar is made.
        examples: all rows that train or judge.
        tasks: the networks to train.
    """

    viewset: ViewSet
    scalings: list[Scaling]
    examples: InMemorySamples | OnDiskSamples
    tasks: list[Task]

    def steps(self, settings: TrainSettings) -> int:
        """Optimizer steps of all fits together."""
        sizes = (Batching(len(task.train), settings.batch_size, settings.accumulate) for task in self.tasks)
        return settings.epochs * sum(size.steps for size in sizes)


def plan(settings: TrainSettings) -> Plan:
    """What to train: each member, and with folds each member on each fold. The test split is not among the rows."""
    viewset = ViewSet.open(settings.viewset or embedded(cache_folder()))
    views = samples.inputs_of(viewset, settings.views)
    target = samples.targets(viewset, settings.target)
    among = samples.rows(viewset, ("train", "val"))
    learned = among if settings.folds else samples.rows(viewset, ("train",))
    scalings = [Scaling.measure(viewset, column, learned) for column in scalars_of(settings, viewset, learned)]
    scalars = scaled({name: column[among] for name, column in viewset.tces.items()}, scalings) if scalings else None
    examples: InMemorySamples | OnDiskSamples
    if in_memory(settings.loader, len(among) * 4 * sum(views.values())):
        examples = samples.read(viewset, among, tuple(views), scalars, target[among])
    else:
        numbers = None if scalars is None else torch.from_numpy(scalars)
        examples = OnDiskSamples(viewset.path, tuple(views), numbers, torch.from_numpy(target[among]), among)
    if settings.folds:
        part = samples.folds(viewset, among, settings.folds)
        held_out = [(fold, part == fold) for fold in range(settings.folds)]
    else:
        held_out = [(None, viewset.splits[among] == "val")]
    tasks = []
    for fold, outside in held_out:
        what = "training" if fold is None else f"fold {fold} training"
        samples.check_classes(viewset, target[among[~outside]], settings.target, what)
        for member in range(settings.members):
            name = f"member-{member}" if fold is None else f"fold-{fold}-member-{member}"
            seed = settings.seed + member + (0 if fold is None else 1000 * fold)
            tasks.append(Task(name, member, fold, seed, np.flatnonzero(~outside), np.flatnonzero(outside)))
    return Plan(viewset, scalings, examples, tasks)


def in_memory(loader: str, size: int) -> bool:
    """Whether views of `size` bytes are kept in memory: up to two copies of them, in half of what is free."""
    here = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))  # processes that torchrun has started on this machine
    return loader == "device" or (loader == "auto" and 2 * size * here < reading.read().available / 2)


def scalars_of(settings: TrainSettings, viewset: ViewSet, learned: np.ndarray) -> tuple[str, ...]:
    """The columns that the network sees; of the default ones those that the set has, for our networks alone."""
    if settings.scalars != DEFAULT_SCALARS:
        return settings.scalars
    if settings.network not in {"two-branch", "astronet"}:
        return ()
    columns = ((column, viewset.tces[column]) for column in DEFAULT_SCALARS if column in viewset.tces)
    return tuple(name for name, values in columns if values.dtype.kind == "f" and np.isfinite(values[learned]).any())
