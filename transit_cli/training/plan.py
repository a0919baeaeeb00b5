"""What a run trains: which rows each network learns from, and which judge it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from transit_cli.data import feed
from transit_cli.data.feed import Batching, Scaling
from transit_cli.data.viewset import ViewSet
from transit_cli.results import ExitCode, TransitError
from transit_cli.training.settings import DEFAULT_SCALARS

if TYPE_CHECKING:
    from pathlib import Path

    from transit_cli.data.feed import Examples
    from transit_cli.training.settings import TrainSettings


@dataclass(frozen=True)
class Task:
    """One network to train.

    Attributes:
        name: of its checkpoints and metrics ("member-0", "fold-2-member-1").
        member: which member of the ensemble.
        fold: the fold that is held out from it; None where the view set's own split is used.
        seed: of its weights, its order of samples, its dropout and augmentation.
        train: what it learns from.
        validation: what it is judged by.
    """

    name: str
    member: int
    fold: int | None
    seed: int
    train: Examples
    validation: Examples


@dataclass(frozen=True)
class Plan:
    """Everything that a run trains.

    Attributes:
        viewset: the set.
        scalings: how each scalar is made.
        tasks: the networks to train.
    """

    viewset: ViewSet
    scalings: list[Scaling]
    tasks: list[Task]

    def steps(self, settings: TrainSettings) -> int:
        """Optimizer steps of all fits together."""
        sizes = (Batching(len(task.train), settings.batch_size, settings.accumulate) for task in self.tasks)
        return settings.epochs * sum(size.steps for size in sizes)


def plan(settings: TrainSettings) -> Plan:
    """What to train: each member, and with folds each member on each fold. The test split is not among the rows."""
    viewset = ViewSet.open(settings.viewset or _embedded())
    lengths = feed.inputs_of(viewset, settings.views)
    target = feed.targets(viewset, settings.target)
    among = feed.rows(viewset, ("train", "val"))
    learned = among if settings.folds else feed.rows(viewset, ("train",))
    scalings = [Scaling.measure(viewset, column, learned) for column in scalars_of(settings, viewset, learned)]
    examples = feed.read(viewset, among, tuple(lengths), scalings, target)
    if settings.folds:
        part = feed.folds(viewset, among, settings.folds)
        held_out = [(fold, part == fold) for fold in range(settings.folds)]
    else:
        held_out = [(None, viewset.splits[among] == "val")]
    tasks = []
    for fold, outside in held_out:
        training, validation = examples.subset(np.flatnonzero(~outside)), examples.subset(np.flatnonzero(outside))
        feed.check_classes(viewset, training, settings.target, "training" if fold is None else f"fold {fold} training")
        for member in range(settings.members):
            name = f"member-{member}" if fold is None else f"fold-{fold}-member-{member}"
            seed = settings.seed + member + (0 if fold is None else 1000 * fold)
            tasks.append(Task(name, member, fold, seed, training, validation))
    return Plan(viewset, scalings, tasks)


def scalars_of(settings: TrainSettings, viewset: ViewSet, learned: np.ndarray) -> tuple[str, ...]:
    """The columns that the network sees; of the default ones those that the set has, for our networks alone."""
    if settings.scalars != DEFAULT_SCALARS:
        return settings.scalars
    if settings.network not in {"two-branch", "astronet"}:
        return ()
    columns = ((column, viewset.tces[column]) for column in DEFAULT_SCALARS if column in viewset.tces)
    return tuple(name for name, values in columns if values.dtype.kind == "f" and np.isfinite(values[learned]).any())


def _embedded() -> Path:
    raise TransitError(
        "no view set is given",
        wanted="a folder that `transit data` wrote",
        fix="transit train VIEWSET",
        exit_code=ExitCode.USAGE,
        code="viewset-missing",
    )
