"""From a view set to batches: which rows, which inputs, which target, in which order.

The test split is read by `rows(viewset, ("test",))` and in no other way; nothing that learns asks for it.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from transit_cli.data.viewset import LABELS
from transit_cli.results import ExitCode, TransitError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from transit_cli.data.viewset import ViewSet

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


@dataclass(frozen=True)
class Scaling:
    """How one column of the table becomes a number near 0: (log10 or itself - center) / scale, within +-5.

    A missing value becomes 0, the middle of what was trained on.
    """

    column: str
    log: bool
    center: float
    scale: float

    @classmethod
    def measure(cls, viewset: ViewSet, column: str, among: np.ndarray) -> Scaling:
        """Median and spread (1.4826 MAD) over the rows that train; logarithms where all values are positive.

        Raises:
            TransitError: the set has no such column of numbers, or it says nothing.
        """
        numbers = {name: values for name, values in viewset.tces.items() if values.dtype.kind == "f"}
        values = numbers[column][among] if column in numbers else np.array([])
        values = values[np.isfinite(values)]
        if len(values) == 0:
            found = "no values" if column in numbers else "no column of numbers"
            raise TransitError(
                f"{viewset.path} has {found} {column!r}",
                wanted=f"--scalars from {', '.join(numbers)}",
                fix="give other --scalars",
                code="scalar-missing",
            )
        log = bool((values > 0).all())
        values = np.log10(values) if log else values
        center = float(np.median(values))
        spread = 1.4826 * float(np.median(np.abs(values - center)))
        return cls(column, log, center, spread or float(values.std()) or 1.0)

    def apply(self, values: np.ndarray) -> np.ndarray:
        """Scaled values, float32, of a column's values."""
        with np.errstate(divide="ignore", invalid="ignore"):
            scaled = ((np.log10(values) if self.log else values) - self.center) / self.scale
        return np.clip(np.nan_to_num(scaled, posinf=5, neginf=-5), -5, 5).astype(np.float32)


def scaled(tces: Mapping[str, np.ndarray], scalings: Sequence[Scaling]) -> np.ndarray:
    """The scalars of a table's rows, [N, S] float32; a column that the table lacks counts as missing values."""
    count = len(next(iter(tces.values())))
    missing = np.full(count, np.nan)
    return np.stack([scaling.apply(tces.get(scaling.column, missing)) for scaling in scalings], axis=1)


@dataclass(frozen=True)
class Examples:
    """Rows of a view set as tensors, on the host or on the device.

    Attributes:
        inputs: views [N, L] and "scalars" [N, S], float32.
        targets: [N] float32.
        rows: the rows of the view set that they are, [N].
    """

    inputs: dict[str, Tensor]
    targets: Tensor
    rows: np.ndarray

    def __len__(self) -> int:
        return len(self.targets)

    @property
    def bytes(self) -> int:
        """Memory that the tensors take."""
        return sum(values.nbytes for values in (*self.inputs.values(), self.targets))

    def to(self, device: torch.device) -> Examples:
        """The same on a device."""
        inputs = {name: values.to(device) for name, values in self.inputs.items()}
        return Examples(inputs, self.targets.to(device), self.rows)

    def take(self, index: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """Inputs and targets at `index` (on the same device), in its order."""
        return {n: values.index_select(0, index) for n, values in self.inputs.items()}, self.targets[index]

    def subset(self, places: np.ndarray) -> Examples:
        """Those at `places`, copied."""
        index = torch.as_tensor(places, device=self.targets.device)
        return Examples(*self.take(index), self.rows[places])


def read(
    viewset: ViewSet,
    among: np.ndarray,
    views: Sequence[str],
    scalings: Sequence[Scaling],
    target: np.ndarray,
) -> Examples:
    """Read rows into memory.

    Args:
        viewset: the set.
        among: its rows, as `rows` gives them.
        views: the views to read.
        scalings: the scalars to read, with how each is scaled.
        target: the target of every row of the set, [N].

    Raises:
        TransitError: a view holds a value that is not finite.
    """
    inputs = {}
    for name in views:
        values = np.ascontiguousarray(viewset.views[name][among])
        bad = np.flatnonzero(~np.isfinite(values).all(axis=1))
        if len(bad):
            raise TransitError(
                f"{viewset.path / name}.npy holds NaN or infinity in row {among[bad[0]]}"
                + (f" and {len(bad) - 1} more" if len(bad) > 1 else ""),
                wanted="finite views",
                fix=f"transit data info {viewset.path} --check",
                code="view-not-finite",
            )
        inputs[name] = torch.from_numpy(values)
    if scalings:
        inputs["scalars"] = torch.from_numpy(scaled({k: v[among] for k, v in viewset.tces.items()}, scalings))
    return Examples(inputs, torch.from_numpy(target[among]), among)


def order(count: int, seed: int, epoch: int) -> Tensor:
    """The order of an epoch, a permutation of 0 to `count` - 1: from the seed and the epoch's number alone."""
    digest = hashlib.sha256(f"{seed}:{epoch}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)
    return torch.randperm(count, generator=generator)


@dataclass(frozen=True)
class Batching:
    """How an epoch is cut: optimizer steps of an effective batch each, in micro-batches of `batch_size`.

    What is left after the last whole micro-batch waits for another epoch's order, so that shapes never change; the
    last effective batch may have fewer micro-batches than the others. `micro` below `batch_size` cuts the same
    effective batches more finely, when memory is short.
    """

    count: int
    batch_size: int
    accumulate: int
    micro: int = 0

    @property
    def used(self) -> int:
        """Samples of an epoch that train."""
        return self.count - self.count % self.batch_size if self.count >= self.batch_size else self.count

    @property
    def steps(self) -> int:
        """Optimizer steps of an epoch."""
        effective = self.batch_size * self.accumulate
        return -(-self.used // effective)

    def groups(self, places: Tensor, start: int = 0) -> Iterator[list[Tensor]]:
        """For each optimizer step from `start` on, the places of its micro-batches in order."""
        for group in places[: self.used].split(self.batch_size * self.accumulate)[start:]:
            yield list(group.split(self.micro or self.batch_size))


class Resident:
    """Examples that lie on the device: an epoch costs one permutation, a batch one gather."""

    def __init__(self, examples: Examples, device: torch.device) -> None:
        self.examples = examples.to(device)
        self.device = device

    def __len__(self) -> int:
        return len(self.examples)

    def epoch(self, batching: Batching, seed: int, epoch: int, start: int = 0) -> Iterator[list[tuple[Any, Tensor]]]:
        """(inputs, targets) of each micro-batch, one list an optimizer step, from step `start` of the epoch on."""
        places = order(len(self), seed, epoch).to(self.device)
        for group in batching.groups(places, start):
            yield [self.examples.take(index) for index in group]


def check_classes(viewset: ViewSet, examples: Examples, positive: Sequence[str], what: str) -> None:
    """Raise the error for rows that are all positive, or none."""
    share = float(examples.targets.mean())
    if 0 < share < 1:
        return
    raise TransitError(
        f"of the {what} rows of {viewset.path}, {'all' if share else 'none'} are {' or '.join(positive)}",
        wanted="both positives and others to learn from",
        fix="give another --target: " + ", ".join(sorted(set(viewset.labels) - {UNKNOWN})),
        code="one-class",
    )
