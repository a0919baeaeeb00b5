"""From a view set to batches: which rows, which inputs, which target, in which order.

The test split is read by `rows(viewset, ("test",))` and in no other way; nothing that learns asks for it.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
from torch import Tensor

from transit_cli.data.viewset import LABELS
from transit_cli.results import ExitCode, TransitError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from transit_cli.data.viewset import ViewSet
    from transit_cli.training.loading.stream import OnDiskSamples

#: The label of those that nobody has judged: they neither train nor count.
UNKNOWN = "UNK"
SPLITS = ("train", "val", "test")


def rows(viewset: ViewSet, splits: Sequence[str]) -> np.ndarray:
    """The labelled rows of these splits, ascending.

    Raises:
        TransitError: there are none.
    """
    found = np.flatnonzero(np.isin(viewset.splits, splits) & (viewset.labels != UNKNOWN))
    if len(found) == 0:
        raise TransitError(
            f"{viewset.path} has no labelled {' or '.join(splits)} rows",
            wanted=f"rows with a label of {', '.join(LABELS[:-1])} in tces.csv",
            fix=f"transit data info {viewset.path}",
            code="viewset-empty",
        )
    return found


def folds(viewset: ViewSet, among: np.ndarray, count: int) -> np.ndarray:
    """The fold, 0 to `count` - 1, of each row in `among`, by a stable hash of its star: a star never crosses."""
    numbers = {
        star: int.from_bytes(hashlib.sha256(f"fold:{star}".encode()).digest()[:8], "big") % count
        for star in np.unique(viewset.tces["star"])
    }
    return np.array([numbers[star] for star in viewset.tces["star"][among]])


def targets(viewset: ViewSet, positive: Sequence[str]) -> np.ndarray:
    """1 for rows whose label is one of `positive`, else 0: float32 [N].

    Raises:
        TransitError: a name in `positive` is not a label.
    """
    unknown = [label for label in positive if label not in LABELS[:-1]]
    if unknown or not positive:
        raise TransitError(
            f"--target is {','.join(positive) or 'empty'}",
            wanted=f"one or more of {', '.join(LABELS[:-1])}, with commas between",
            fix="give another --target",
            exit_code=ExitCode.USAGE,
            code="target-unknown",
        )
    return np.isin(viewset.labels, positive).astype(np.float32)


def inputs_of(viewset: ViewSet, views: Sequence[str]) -> dict[str, int]:
    """The length of each view that is asked for, in the order in which networks get them.

    Raises:
        TransitError: the set does not have one of them.
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


Inputs = dict[str, Tensor]


@dataclass(frozen=True)
class InMemorySamples:
    """Rows of a view set in memory, on the host or on the device.

    Attributes:
        inputs: views [N, L] and "scalars" [N, S], float32.
        targets: [N] float32.
        rows: the rows of the view set that they are, [N].
    """

    inputs: Inputs
    targets: Tensor
    rows: np.ndarray

    def __len__(self) -> int:
        return len(self.targets)

    def to(self, device: torch.device) -> InMemorySamples:
        """The same on a device."""
        inputs = {name: values.to(device) for name, values in self.inputs.items()}
        return InMemorySamples(inputs, self.targets.to(device), self.rows)

    def take(self, index: Tensor) -> tuple[Inputs, Tensor]:
        """Inputs and targets at `index` (on the same device), in its order."""
        return {n: values.index_select(0, index) for n, values in self.inputs.items()}, self.targets[index]

    def subset(self, places: np.ndarray) -> InMemorySamples:
        """Those at `places`, copied."""
        index = torch.as_tensor(places, device=self.targets.device)
        return InMemorySamples(*self.take(index), self.rows[places])

    def chunks(self, size: int) -> Iterator[Inputs]:
        """The inputs of all, `size` at a time, in order."""
        for start in range(0, len(self), size):
            yield {name: values[start : start + size] for name, values in self.inputs.items()}


def sizes(examples: InMemorySamples | OnDiskSamples) -> tuple[dict[str, int], int]:
    """The length of each view by name, and the number of scalars: what a network is built for."""
    inputs, _ = examples.take(torch.zeros(1, dtype=torch.int64))
    scalars = inputs.pop("scalars", torch.empty(1, 0))
    return {name: values.shape[1] for name, values in inputs.items()}, scalars.shape[1]


def order(count: int, seed: int, epoch: int) -> Tensor:
    """The order of an epoch, a permutation of 0 to `count` - 1: from the seed and the epoch's number alone."""
    digest = hashlib.sha256(f"{seed}:{epoch}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)
    return torch.randperm(count, generator=generator)


@dataclass(frozen=True)
class Batching:
    """How an epoch is cut: optimizer steps of an effective batch each, in micro-batches of `batch_size`.

    What is left after the last whole micro-batch waits for another epoch's order, so that shapes never change; the
    last effective batch may have fewer micro-batches than the others.
    """

    count: int
    batch_size: int
    accumulate: int

    @property
    def used(self) -> int:
        """Samples of an epoch that train."""
        return self.count - self.count % self.batch_size if self.count >= self.batch_size else self.count

    @property
    def steps(self) -> int:
        """Optimizer steps of an epoch."""
        return -(-self.used // (self.batch_size * self.accumulate))

    def groups(self, places: Tensor, start: int = 0) -> list[tuple[Tensor, ...]]:
        """For each optimizer step from `start` on, the places of its micro-batches in order."""
        groups = places[: self.used].split(self.batch_size * self.accumulate)
        return [group.split(self.batch_size) for group in groups[start:]]


class BatchLoader(Protocol):
    """Where the micro-batches of an epoch come from."""

    def epoch(self, batching: Batching, seed: int, epoch: int, start: int = 0) -> Iterator[list[tuple[Inputs, Tensor]]]:
        """Inputs and targets of each micro-batch on the device, one list an optimizer step, from `start` on."""
        ...


class DeviceLoader:
    """Examples that lie on the device: an epoch costs one permutation, a batch one gather."""

    def __init__(self, examples: InMemorySamples, device: torch.device) -> None:
        self.examples = examples.to(device)
        self._device = device

    def epoch(self, batching: Batching, seed: int, epoch: int, start: int = 0) -> Iterator[list[tuple[Inputs, Tensor]]]:
        """See `BatchLoader.epoch`."""
        places = order(len(self.examples), seed, epoch).to(self._device)
        for group in batching.groups(places, start):
            yield [self.examples.take(index) for index in group]


def read(
    viewset: ViewSet,
    among: np.ndarray,
    views: Sequence[str],
    scalars: np.ndarray | None,
    target: np.ndarray,
) -> InMemorySamples:
    """Read rows into memory.

    Args:
        viewset: the set.
        among: its rows, as `rows` gives them.
        views: the views to read.
        scalars: those of the rows, [R, S] float32; None where the network takes none.
        target: the target of each of the rows, [R].

    Raises:
        TransitError: a view holds a value that is not finite.
    """
    inputs = {name: torch.from_numpy(np.ascontiguousarray(viewset.views[name][among])) for name in views}
    for name, values in inputs.items():
        bad = torch.nonzero(~values.isfinite().all(dim=1)).flatten().tolist()
        if bad:
            raise not_finite(viewset.path, name, int(among[bad[0]]))
    if scalars is not None:
        inputs["scalars"] = torch.from_numpy(scalars)
    return InMemorySamples(inputs, torch.from_numpy(target), among)


def not_finite(path: Path, view: str, row: int) -> TransitError:
    """The error for a view with a value that is no number."""
    return TransitError(
        f"{path / view}.npy holds NaN or infinity in row {row}",
        wanted="finite views",
        fix=f"transit data info {path} --check",
        code="view-not-finite",
    )


def check_classes(viewset: ViewSet, targets: np.ndarray, positive: Sequence[str], what: str) -> None:
    """Raise the error for rows that are all positive, or none."""
    share = float(targets.mean())
    if 0 < share < 1:
        return
    raise TransitError(
        f"of the {what} rows of {viewset.path}, {'all' if share else 'none'} are {' or '.join(positive)}",
        wanted="both positives and others to learn from",
        fix="give another --target: " + ", ".join(sorted(set(viewset.labels) - {UNKNOWN})),
        code="one-class",
    )
