"""Examples that do not fit in memory: read from the view set's files while the network trains.

Worker processes gather micro-batches from memory-mapped files. They are spawned, not forked (a fork after Metal has
been used hangs), live through all epochs, and hold plain tensors on the CPU alone (MPS tensors cannot cross processes).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from transit_cli.device import host
from transit_cli.results import TransitError
from transit_cli.training.loading.samples import not_finite, order

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from transit_cli.training.loading.samples import Batching, Inputs

#: Micro-batches that each worker has ready.
PREFETCH = 2


@dataclass(frozen=True)
class OnDiskSamples:
    """Rows of a view set on disk; what `feed.InMemorySamples` is in memory.

    Attributes:
        path: the view set.
        views: the views to read.
        scalars: [N, S] float32; None where the network takes none.
        targets: [N] float32.
        rows: the rows of the view set that they are, [N].
    """

    path: Path
    views: tuple[str, ...]
    scalars: Tensor | None
    targets: Tensor
    rows: np.ndarray
    _files: dict[str, np.ndarray] = field(default_factory=dict, repr=False, compare=False)

    def __len__(self) -> int:
        return len(self.targets)

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"_files": {}}  # a worker opens the files for itself

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        vars(self).update(state)

    def take(self, index: Tensor) -> tuple[Inputs, Tensor]:
        """Inputs and targets at `index`, in its order.

        Raises:
            TransitError: a view holds a value that is not finite.
        """
        rows = self.rows[index.numpy()]
        inputs = {}
        for name in self.views:
            if name not in self._files:
                self._files[name] = np.load(self.path / f"{name}.npy", mmap_mode="r")
            values = self._files[name][rows]
            good = np.isfinite(values).all(axis=1)
            if not good.all():
                raise not_finite(self.path, name, int(rows[np.argmin(good)]))
            inputs[name] = torch.from_numpy(values)
        if self.scalars is not None:
            inputs["scalars"] = self.scalars[index]
        return inputs, self.targets[index]

    def subset(self, places: np.ndarray) -> OnDiskSamples:
        """Those at `places`."""
        index = torch.as_tensor(places)
        scalars = None if self.scalars is None else self.scalars[index]
        return OnDiskSamples(self.path, self.views, scalars, self.targets[index], self.rows[places])

    def chunks(self, size: int) -> Iterator[Inputs]:
        """The inputs of all, `size` at a time, in order."""
        for start in range(0, len(self), size):
            yield self.take(torch.arange(start, min(start + size, len(self))))[0]


def reading_workers(asked: int | None) -> int:
    """How many processes read ahead: as asked, else one for each efficiency core of a Mac, or up to 4 of the others."""
    if asked is not None:
        return asked
    efficiency = host.sysctl("hw.perflevel1.physicalcpu")
    return efficiency if isinstance(efficiency, int) else min(4, host.usable_cores() - 1)


class _MicroBatches(Dataset[Any]):
    """Stored examples, a micro-batch at a time."""

    def __init__(self, stored: OnDiskSamples) -> None:
        self._stored = stored

    def __getitem__(self, index: Any) -> tuple[Inputs, Tensor] | TransitError:
        try:
            return self._stored.take(index)
        except TransitError as error:  # raised here, the loader would bury it in a traceback
            return error


class _Places(Sampler[Tensor]):
    """The places of an epoch's micro-batches, set anew for each epoch."""

    def __init__(self) -> None:
        self.places: list[Tensor] = []

    def __iter__(self) -> Iterator[Tensor]:
        return iter(self.places)

    def __len__(self) -> int:
        return len(self.places)


class StreamingLoader:
    """Stored examples as a feed: the same micro-batches, in the same order, as from memory.

    Args:
        stored: what to read.
        device: where the batches go.
        workers: processes that read ahead; 0 reads between the steps.
    """

    def __init__(self, stored: OnDiskSamples, device: torch.device, workers: int) -> None:
        self._stored, self._device, self._places = stored, device, _Places()
        options: dict[str, Any] = {}
        if workers:
            options = {"persistent_workers": True, "prefetch_factor": PREFETCH, "multiprocessing_context": "spawn"}
        pinned = device.type == "cuda"  # MPS has no pinned memory: torch warns and does without
        self._loader = DataLoader(
            _MicroBatches(stored),
            batch_size=None,
            sampler=self._places,
            num_workers=workers,
            pin_memory=pinned,
            generator=torch.Generator(),  # else it draws from the one that dropout draws from, once an iterator
            **options,
        )

    def epoch(self, batching: Batching, seed: int, epoch: int, start: int = 0) -> Iterator[list[tuple[Inputs, Tensor]]]:
        """See `feed.BatchLoader.epoch`."""
        groups = batching.groups(order(len(self._stored), seed, epoch), start)
        self._places.places = [places for group in groups for places in group]
        batches = iter(self._loader)
        for group in groups:
            yield [self._move(next(batches)) for _ in group]

    def _move(self, batch: tuple[Inputs, Tensor] | TransitError) -> tuple[Inputs, Tensor]:
        if isinstance(batch, TransitError):
            raise batch
        inputs, targets = batch
        moved = {name: values.to(self._device, non_blocking=True) for name, values in inputs.items()}
        return moved, targets.to(self._device, non_blocking=True)
