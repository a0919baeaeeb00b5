"""What a run trains: which rows each network learns from, and which validate it."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from transit_cli import console
from transit_cli.data.simulation.simulate import embedded
from transit_cli.data.viewset import ViewSet
from transit_cli.device import precision
from transit_cli.memory import reading
from transit_cli.model import registry
from transit_cli.model.binary_output import SIGNALS, fit_output
from transit_cli.model.initialise import FORMED, Initial, Inputs, freeze, initialise
from transit_cli.options import DEFAULT_SCALARS, MAX_MEMBERS
from transit_cli.training.distributed import SINGLE_PROCESS, ProcessGroup
from transit_cli.training.loading.samples import (
    Batching,
    assign_folds,
    check_classes,
    classes_of,
    labelled_rows,
    read_samples,
    targets,
    view_lengths,
)
from transit_cli.training.loading.scaling import Scaling, scaled
from transit_cli.training.loading.stream import OnDiskSamples
from transit_cli.training.runs.initial import describe, open_initial, trained_stars, what_fits
from transit_cli.utils.cache import cache_folder

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import nn

    from transit_cli.device.base import Device, Precision
    from transit_cli.training.loading.samples import Samples
    from transit_cli.training.settings import TrainSettings


#: Positive validation rows below which average precision says little.
FEW = 5
#: Optimizer steps per epoch below which networks learn little in the usual number of epochs; folds to offer.
FEW_STEPS, FOLDS = 8, 5


@dataclass(frozen=True)
class FitTask:
    """One network to train.

    Attributes:
        name: of its checkpoints and metrics ("member-0", "fold-2-member-1").
        member: which member of the ensemble.
        fold: the fold that is held out from it; None with the view set's own split.
        seed: of its weights, its order of samples, its dropout and augmentation.
        train: indices into the plan's samples that it is trained on.
        validation: indices of those that validate it.
    """

    name: str
    member: int
    fold: int | None
    seed: int
    train: np.ndarray
    validation: np.ndarray


@dataclass(frozen=True)
class Plan:
    """Everything that a run trains, resolved from its settings.

    Attributes:
        settings: the settings.
        device: where to compute.
        precision: the arithmetic of the forward pass.
        viewset: the view set.
        views: the length of each view that the networks get, by name.
        targets: of all rows of the view set, [N] float32; one-hot [N, C] of several classes.
        classes: the labels that the networks tell apart; empty for binary ones.
        scalings: how each scalar is scaled.
        initial: the saved networks that they begin from; None for random weights.
        taken: what they take of those, see `model.initialise`.
        samples: all rows that train or validate.
        tasks: the networks to train.
        unlabelled: further signals of the `train` part, for an output that is formed from classes.
    """

    settings: TrainSettings
    device: Device
    precision: Precision
    viewset: ViewSet
    views: Mapping[str, int]
    targets: np.ndarray
    classes: tuple[str, ...]
    scalings: list[Scaling]
    samples: Samples
    tasks: list[FitTask]
    initial: Initial | None = None
    taken: Mapping[str, str] = field(default_factory=dict)
    unlabelled: Samples | None = None

    @property
    def total_steps(self) -> int:
        """Optimizer steps of all tasks together."""
        settings = self.settings
        sizes = (Batching(len(task.train), settings.batch_size, settings.accumulate) for task in self.tasks)
        return settings.epochs * sum(size.steps for size in sizes)

    @property
    def target(self) -> tuple[str, ...]:
        """The labels whose probability is the score: of several classes, planets or else the first."""
        if self.classes:
            return ("PC",) if "PC" in self.classes else self.classes[:1]
        return self.settings.target

    @property
    def inputs(self) -> Inputs:
        """What the networks take and return."""
        return Inputs(list(self.views), [scaling.column for scaling in self.scalings], self.target, self.classes)

    def build_network(self, seed: int = 0, samples: Samples | None = None) -> nn.Module:
        """A network for these inputs, with new random weights, or where they fit those of a member of `initial`.

        Args:
            seed: decides which member.
            samples: what it will train on, for an output that is formed from classes; their targets are not read.
        """
        network = self._new_network()
        if self.initial:
            taken = initialise(network, self.inputs, self.initial, seed)
            if taken.get("output") == FORMED and samples is not None:
                inputs = samples.take(torch.from_numpy(_spread(len(samples))))[0]
                if self.unlabelled and len(samples) < SIGNALS:
                    more = self.unlabelled.take(torch.arange(len(self.unlabelled)))[0]
                    inputs = {name: torch.cat([values, more[name]]) for name, values in inputs.items()}
                fit_output(network, self.initial, seed, self.target, inputs)
        if self.settings.freeze:
            freeze(network)
        return network

    def _new_network(self) -> nn.Module:
        return registry.build(self.settings.network, dict(self.views), len(self.scalings), len(self.classes) or 1)


def plan(settings: TrainSettings, device: Device, processes: ProcessGroup = SINGLE_PROCESS) -> Plan:
    """Plan each member, and with folds each member on each fold. The test split is not among the samples.

    Args:
        settings: what to train.
        device: where to compute.
        processes: the processes that train together; rank 0 writes the embedded view set if none is given.

    Raises:
        TransitError: settings or view set are unusable.
    """
    folder = settings.viewset or processes.broadcast_from_rank0(lambda: embedded(cache_folder()))
    viewset = ViewSet.open(folder).checked()
    views = view_lengths(viewset, settings.views)
    rows = labelled_rows(viewset, ("train", "val"))
    if not settings.folds:  # what trains comes first, so that it is no copy of what is read
        rows = rows[np.argsort(viewset.splits[rows] == "val", kind="stable")]
    classes = classes_of(viewset, rows, settings.target)
    target = targets(viewset, settings.target, classes)
    initial = open_initial(settings.init, views)
    saved = {scalar.column: Scaling(**vars(scalar)) for scalar in (initial.card.scalars if initial else ())}
    scalings = [saved.get(scaling.column, scaling) for scaling in measure_scalings(settings, viewset)]
    scalars = scaled(viewset.tces.take(rows), scalings) if scalings else None
    unit = tuple(name for name in settings.unit_depth if name in views)
    samples: Samples
    if in_memory(settings.loader, len(rows) * 4 * sum(views.values())):
        samples = read_samples(viewset, rows, tuple(views), scalars, target[rows], unit=unit)
    else:
        tensor = None if scalars is None else torch.from_numpy(scalars)
        stored = {name: viewset.stored_rows(name) for name in views}
        samples = OnDiskSamples(viewset.path, stored, tensor, torch.from_numpy(target[rows]), rows, unit)
    resolved = precision.resolve(device, settings.precision)
    tasks = _tasks(settings, viewset, rows, target)
    if processes.rank == 0:
        _warn_of_few(settings, viewset, tasks[0], target[rows])
    made = Plan(settings, device, resolved, viewset, views, target, classes, scalings, samples, tasks)
    return _with_initial(made, initial) if initial else made


def _with_initial(plan: Plan, initial: Initial) -> Plan:
    """The plan with the saved networks that its own begin from, whose use is said."""
    settings = plan.settings
    build = plan._new_network  # noqa: SLF001 - its own
    taken = what_fits(initial, plan.inputs, build, settings.network, freeze=settings.freeze)
    console.note(f"weights begin from {describe(initial, taken)}")
    stars = plan.viewset.tces["star"][plan.samples.rows]
    held_out = np.unique(np.concatenate([stars[task.validation] for task in plan.tasks]))
    seen = np.isin(held_out, trained_stars(initial))
    if seen.any():
        console.warn(
            f"{initial.name} was trained on {seen.sum():,} of the {len(held_out):,} stars that validate:"
            " the validation metrics are too good"
        )
    unlabelled = _unlabelled(plan) if taken.get("output") == FORMED else None
    return replace(plan, initial=initial, taken=taken, unlabelled=unlabelled)


def _unlabelled(plan: Plan) -> Samples | None:
    """Up to `SIGNALS` signals of the `train` part without a label; None if there are none."""
    viewset = plan.viewset
    rows = np.setdiff1d(np.flatnonzero(viewset.splits == "train"), viewset.labelled(("train",)))
    rows = rows[_spread(len(rows))]
    if len(rows) == 0:
        return None
    scalars = scaled(viewset.tces.take(rows), plan.scalings) if plan.scalings else None
    unit = tuple(name for name in plan.settings.unit_depth if name in plan.views)
    return read_samples(viewset, rows, tuple(plan.views), scalars, plan.targets[rows], unit=unit)


def _spread(count: int) -> np.ndarray:
    """Up to `SIGNALS` of 0 to `count` - 1, evenly spaced."""
    return np.arange(0, count, max(1, count // SIGNALS))[:SIGNALS]


def _warn_of_few(settings: TrainSettings, viewset: ViewSet, task: FitTask, target: np.ndarray) -> None:
    """Say before training that there are few steps, or that the validation rows cannot measure the network."""
    steps = Batching(len(task.train), settings.batch_size, settings.accumulate).steps
    if steps < FEW_STEPS and len(task.train) > 1 and not settings.resume:
        smaller = max(1, len(task.train) // (FEW_STEPS * settings.accumulate))
        console.note(
            f"{len(task.train):,} training rows in batches of {settings.effective_batch} make {steps} optimizer "
            f"step{'s' * (steps > 1)} per epoch, {steps * settings.epochs} in all: networks learn little in so few; "
            f"--batch-size {smaller} takes more"
        )
    held_out = target[task.validation]
    positives = int(held_out.sum()) if held_out.ndim == 1 else int(held_out.any(axis=1).sum())
    others = len(held_out) - positives if held_out.ndim == 1 else int(held_out.any(axis=0).sum() > 1)
    if settings.folds or (positives >= FEW and others):
        return
    named = f"{len(held_out)} validation rows" + (f", {positives} positive" if held_out.ndim == 1 else "")
    console.warn(
        f"{viewset.path} has {named}: too few to measure the network; "
        f"transit train {viewset.path}{_options(settings)} --folds {FOLDS} holds every star out once"
    )


def _options(settings: TrainSettings) -> str:
    """The options given that say what is trained."""
    parts = {"target": ",".join(settings.target), "network": settings.network, "preset": settings.preset}
    return "".join(f" --{name} {value}" for name, value in parts.items() if settings.sources.get(name) == f"--{name}")


def _tasks(settings: TrainSettings, viewset: ViewSet, rows: np.ndarray, target: np.ndarray) -> list[FitTask]:
    held_out: list[tuple[int | None, np.ndarray]] = [(None, viewset.splits[rows] == "val")]
    if settings.folds * settings.members > MAX_MEMBERS:
        settings.refuse("members", f"at most {MAX_MEMBERS} networks in all folds together")
    if settings.folds:
        folds = assign_folds(viewset, rows, settings.folds)
        held_out = [(fold, folds == fold) for fold in range(settings.folds)]
    tasks = []
    for fold, outside in held_out:
        what = "training" if fold is None else f"fold {fold} training"
        check_classes(viewset, target[rows[~outside]], settings.target, what)
        for member in range(settings.members):
            name = f"member-{member}" if fold is None else f"fold-{fold}-member-{member}"
            seed = settings.seed + member + (0 if fold is None else 1000 * fold)
            tasks.append(FitTask(name, member, fold, seed, np.flatnonzero(~outside), np.flatnonzero(outside)))
    return tasks


def in_memory(loader: str, size: int) -> bool:
    """Whether views of `size` bytes are kept in memory: up to two copies of them, in half of what is free."""
    local_processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))  # set by torchrun
    return loader == "device" or (loader == "auto" and 2 * size * local_processes < reading.read().available / 2)


def measure_scalings(settings: TrainSettings, viewset: ViewSet) -> list[Scaling]:
    """The scaling of each scalar that the network gets, measured on the rows that train.

    The default scalars are used for our own networks, and only those that have values in this view set.
    """
    rows = labelled_rows(viewset, ("train", "val") if settings.folds else ("train",))
    columns = settings.scalars
    if settings.scalars == DEFAULT_SCALARS:
        ours = settings.network in {"two-branch", "astronet"}
        numeric = viewset.tces.numbers
        columns = tuple(name for name in DEFAULT_SCALARS if ours and name in numeric)
        columns = tuple(name for name in columns if np.isfinite(numeric[name][rows]).any())
    quantiles = settings.scalar_scaling == "quantile"
    return [Scaling.measure(viewset, column, rows, quantiles=quantiles) for column in columns]
