"""From a view set to batches: which rows, which inputs, which target, in which order.

The test split is read only through `labelled_rows(viewset, ("test",))`; nothing that trains asks for it.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, Self

import numpy as np
import torch
from torch import Tensor

from transit_cli.data.views.make import unit_depth
from transit_cli.data.viewset import LABELS, UNKNOWN
from transit_cli.results import ExitCode, TransitError
from transit_cli.training.batch import Batch, IndexedBatch

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from transit_cli.data.viewset import ViewSet

Inputs = dict[str, Tensor]
#: The value of --target that tells all labels of a set apart.
CLASSES = "classes"


def labelled_rows(viewset: ViewSet, splits: Sequence[str]) -> np.ndarray:
    """The labelled rows of these splits, ascending.

    Raises:
        TransitError: there are none.
    """
    rows = viewset.labelled(splits)
    if len(rows) == 0:
        raise TransitError(
            f"{viewset.path} has no labelled {' or '.join(splits)} rows",
            wanted=f"rows with a label of {', '.join(LABELS[:-1])} in tces.csv",
            fix=f"transit data info {viewset.path}",
            code="viewset-empty",
        )
    return rows


def assign_folds(viewset: ViewSet, rows: np.ndarray, count: int) -> np.ndarray:
    """The fold, 0 to `count` - 1, of each row, by a stable hash of its star: all rows of a star share a fold."""
    stars, star = viewset.tces.unique("star")
    digests = (hashlib.sha256(f"fold:{name}".encode()).digest() for name in stars.tolist())
    folds = [int.from_bytes(digest[:8], "big") % count for digest in digests]
    return np.array(folds, int)[star[rows]]


def classes_of(viewset: ViewSet, rows: np.ndarray, target: Sequence[str]) -> tuple[str, ...]:
    """The labels of these rows if the target is `CLASSES`, in the order of `LABELS`; otherwise none.

    Raises:
        TransitError: all rows have the same label.
    """
    if tuple(target) != (CLASSES,):
        return ()
    present = set(viewset.labels[rows].tolist())
    found = tuple(label for label in LABELS[:-1] if label in present)
    if len(found) < 2:
        raise TransitError(
            f"all labelled rows of {viewset.path} are {found[0]}",
            wanted="rows of at least two labels for --target classes",
            fix=f"transit data info {viewset.path}",
            code="one-class",
        )
    return found


def targets(viewset: ViewSet, positive: Sequence[str], classes: Sequence[str] = ()) -> np.ndarray:
    """1 for rows whose label is one of `positive`, else 0: float32 [N]; with classes one-hot, [N, C].

    Raises:
        TransitError: a name in `positive` is not a label.
    """
    if classes:
        return (viewset.labels[:, None] == np.array(classes)).astype(np.float32)
    unknown = [label for label in positive if label not in LABELS[:-1]]
    if unknown or not positive:
        raise TransitError(
            f"--target is {','.join(positive) or 'empty'}",
            wanted=f"one or more of {', '.join(LABELS[:-1])}, with commas between; or {CLASSES} alone",
            fix="give another --target",
            exit_code=ExitCode.USAGE,
            code="target-unknown",
        )
    labels = viewset.tces.text("label")
    return np.isin(labels.values, positive).astype(np.float32)[labels.codes]


def view_lengths(viewset: ViewSet, views: Sequence[str]) -> dict[str, int]:
    """The length of each of these views, in the order in which a network gets them.

    Raises:
        TransitError: the set lacks one of them.
    """
    absent = [name for name in views if name not in viewset.lengths]
    if absent or not views:
        raise TransitError(
            f"{viewset.path} has no {' and no '.join(absent)} view" if absent else "--views is empty",
            wanted=f"one or more of {', '.join(viewset.lengths)}",
            fix=f"--views {','.join(viewset.lengths)}",
            code="view-missing",
        )
    return {name: viewset.lengths[name] for name in views}


class Samples(Protocol):
    """Rows of a view set that a network trains on or is validated with, in memory or on disk."""

    @property
    def targets(self) -> Tensor:
        """[N] float32; [N, C] of several classes."""
        ...

    @property
    def rows(self) -> np.ndarray:
        """The rows of the view set, [N]."""
        ...

    def __len__(self) -> int: ...

    def take(self, index: Tensor) -> tuple[Inputs, Tensor]:
        """Inputs and targets at `index`, in its order."""
        ...

    def subset(self, indices: np.ndarray) -> Self:
        """The samples at `indices`."""
        ...

    def chunks(self, size: int) -> Iterator[Inputs]:
        """The inputs of all samples in order, at most `size` at a time."""
        ...

    def loader(self, device: torch.device, workers: int | None) -> BatchLoader:
        """What yields their micro-batches; `workers` as in the settings of training."""
        ...


class BatchLoader(Protocol):
    """Yields the micro-batches of an epoch."""

    def epoch(self, batching: Batching, seed: int, epoch: int, start: int = 0) -> Iterator[list[Batch]]:
        """The micro-batches on the device, one list per optimizer step, beginning with `start`."""
        ...


@dataclass(frozen=True)
class InMemorySamples:
    """Samples in memory, on the host or on the device.

    Attributes:
        inputs: views [N, L] and "scalars" [N, S], float32.
        targets: [N] float32; [N, C] of several classes.
        rows: the rows of the view set, [N].
    """

    inputs: Inputs
    targets: Tensor
    rows: np.ndarray

    def __len__(self) -> int:
        return len(self.targets)

    def to(self, device: torch.device) -> InMemorySamples:
        """The same samples on a device."""
        inputs = {name: values.to(device) for name, values in self.inputs.items()}
        return InMemorySamples(inputs, self.targets.to(device), self.rows)

    def take(self, index: Tensor) -> tuple[Inputs, Tensor]:
        """Inputs and targets at `index`, which is on the same device, in its order."""
        return {n: values.index_select(0, index) for n, values in self.inputs.items()}, self.targets[index]

    def subset(self, indices: np.ndarray) -> InMemorySamples:
        """A copy of the samples at `indices`."""
        index = torch.as_tensor(indices, device=self.targets.device)
        return InMemorySamples(*self.take(index), self.rows[indices])

    def chunks(self, size: int) -> Iterator[Inputs]:
        """The inputs of all samples in order, at most `size` at a time."""
        for start in range(0, len(self), size):
            yield {name: values[start : start + size] for name, values in self.inputs.items()}

    def loader(self, device: torch.device, workers: int | None) -> BatchLoader:  # noqa: ARG002 - nothing is read ahead
        """A loader that keeps them on the device."""
        return DeviceLoader(self, device)


def epoch_order(count: int, seed: int, epoch: int) -> Tensor:
    """The order of an epoch, a permutation of 0 to `count` - 1, from the seed and the epoch's number only."""
    digest = hashlib.sha256(f"{seed}:{epoch}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)
    return torch.randperm(count, generator=generator)


@dataclass(frozen=True)
class Batching:
    """How an epoch is divided: optimizer steps of an effective batch each, in micro-batches of `batch_size`.

    Samples beyond the last complete micro-batch are left out of the epoch, so that shapes never change; the last
    effective batch may have fewer micro-batches than the others.
    """

    count: int
    batch_size: int
    accumulate: int

    @property
    def samples(self) -> int:
        """Samples of an epoch that train."""
        return self.count - self.count % self.batch_size if self.count >= self.batch_size else self.count

    @property
    def steps(self) -> int:
        """Optimizer steps of an epoch."""
        return math.ceil(self.samples / (self.batch_size * self.accumulate))

    def slices(self, start: int = 0) -> Iterator[list[slice]]:
        """For each optimizer step, beginning with `start`, the part of the epoch that each micro-batch is."""
        size, effective = self.batch_size, self.batch_size * self.accumulate
        for first in range(start * effective, self.samples, effective):
            last = min(first + effective, self.samples)
            yield [slice(begin, min(begin + size, last)) for begin in range(first, last, size)]

    def groups(self, indices: Tensor, start: int = 0) -> list[list[Tensor]]:
        """For each optimizer step, beginning with `start`, the indices of its micro-batches in order."""
        return [[indices[part] for part in group] for group in self.slices(start)]


class DeviceLoader:
    """Keeps the samples on the device: an epoch costs one permutation, a batch one gather, where it is computed."""

    def __init__(self, samples: InMemorySamples, device: torch.device) -> None:
        there = samples.to(device)
        self._samples, self._device = Batch(there.inputs, there.targets), device

    def epoch(self, batching: Batching, seed: int, epoch: int, start: int = 0) -> Iterator[list[Batch]]:
        """See `BatchLoader.epoch`."""
        asynchronous = self._device.type == "cuda"
        order = epoch_order(len(self._samples), seed, epoch).to(self._device, non_blocking=asynchronous)
        for group in batching.slices(start):
            yield [IndexedBatch(self._samples, order, part.start, part.stop) for part in group]


def read_samples(
    viewset: ViewSet,
    rows: np.ndarray,
    views: Sequence[str],
    scalars: np.ndarray | None,
    target: np.ndarray,
    *,
    unit: Sequence[str] = (),
) -> InMemorySamples:
    """Read rows into memory.

    Args:
        viewset: the set.
        rows: the rows to read.
        views: the views to read.
        scalars: of the rows, [R, S] float32; None if the network takes none.
        target: of the rows, [R].
        unit: the views to divide by their own depth.

    Raises:
        TransitError: a view holds a value that is not finite.
    """
    inputs = {name: torch.from_numpy(np.ascontiguousarray(viewset.views[name][rows])) for name in views}
    for name, values in inputs.items():
        bad = torch.nonzero(~values.isfinite().all(dim=1)).flatten().tolist()
        if bad:
            raise not_finite_error(viewset.path, name, int(rows[bad[0]]))
    inputs |= {name: torch.from_numpy(unit_depth(inputs[name].numpy())) for name in unit}
    if scalars is not None:
        inputs["scalars"] = torch.from_numpy(scalars)
    return InMemorySamples(inputs, torch.from_numpy(target), rows)


def not_finite_error(path: Path, view: str, row: int) -> TransitError:
    """The error for a view with NaN or infinite values."""
    return TransitError(
        f"{path / view}.npy holds NaN or infinity in row {row}",
        wanted="finite views",
        fix=f"transit data info {path} --check",
        code="view-not-finite",
    )


def check_classes(viewset: ViewSet, targets: np.ndarray, positive: Sequence[str], what: str) -> None:
    """Raise the error for rows of a single class."""
    if targets.ndim == 2:
        _check_all_classes(viewset, targets, what)
        return
    share = float(targets.mean())
    if 0 < share < 1:
        return
    raise TransitError(
        f"of the {what} rows of {viewset.path}, {'all' if share else 'none'} are {' or '.join(positive)}",
        wanted="positives and negatives to train on",
        fix="give another --target: " + ", ".join(sorted(set(viewset.tces.unique("label")[0].tolist()) - {UNKNOWN})),
        code="one-class",
    )


def _check_all_classes(viewset: ViewSet, targets: np.ndarray, what: str) -> None:
    if targets.any(axis=0).all():
        return
    raise TransitError(
        f"the {what} rows of {viewset.path} lack a class that others have",
        wanted="training rows of every class",
        fix=f"label more rows, or change a rare label in {viewset.path / 'tces.csv'}; transit data info {viewset.path}",
        code="one-class",
    )
