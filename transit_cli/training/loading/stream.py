"""Samples that do not fit in memory: read from the view set's files while the network trains.

Worker processes gather micro-batches from memory-mapped files. They are spawned, not forked (a fork after Metal has
been used hangs), persist through all epochs, and hold CPU tensors only: MPS tensors cannot be passed between processes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from transit_cli.data.views.make import unit_depth
from transit_cli.device import host
from transit_cli.results import TransitError
from transit_cli.training.batch import Batch
from transit_cli.training.loading.samples import epoch_order, not_finite_error
from transit_cli.training.loading.workers import loader_workers

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from transit_cli.data.storage.stacked_rows import StackedRows
    from transit_cli.training.loading.samples import Batching, BatchLoader, Inputs

#: Micro-batches that each worker reads ahead.
PREFETCH = 2


@dataclass(frozen=True)
class OnDiskSamples:
    """Samples that are read from the view set's files when they are taken.

    Attributes:
        path: the view set.
        views: the views to read, by name.
        scalars: [N, S] float32; None if the network takes none.
        targets: [N] float32.
        rows: the rows of the view set, [N].
        unit: the views to divide by their own depth.
    """

    path: Path
    views: Mapping[str, StackedRows]
    scalars: Tensor | None
    targets: Tensor
    rows: np.ndarray
    unit: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.targets)

    def take(self, index: Tensor) -> tuple[Inputs, Tensor]:
        """Inputs and targets at `index`, in its order.

        Raises:
            TransitError: a view holds a value that is not finite.
        """
        rows = self.rows[index.numpy()]
        inputs = {}
        for name, stored in self.views.items():
            values = stored[rows]
            good = np.isfinite(values).all(axis=1)
            if not good.all():
                raise not_finite_error(self.path, name, int(rows[np.argmin(good)]))
            inputs[name] = torch.from_numpy(unit_depth(values) if name in self.unit else values)
        if self.scalars is not None:
            inputs["scalars"] = self.scalars[index]
        return inputs, self.targets[index]

    def subset(self, indices: np.ndarray) -> OnDiskSamples:
        """The samples at `indices`."""
        index = torch.as_tensor(indices)
        scalars = None if self.scalars is None else self.scalars[index]
        return OnDiskSamples(self.path, self.views, scalars, self.targets[index], self.rows[indices], self.unit)

    def chunks(self, size: int) -> Iterator[Inputs]:
        """The inputs of all samples in order, at most `size` at a time."""
        for start in range(0, len(self), size):
            yield self.take(torch.arange(start, min(start + size, len(self))))[0]

    def loader(self, device: torch.device, workers: int | None) -> BatchLoader:
        """A loader with `workers` processes that read ahead; None for this machine's `loader_workers`."""
        if workers is None:
            efficiency = host.sysctl("hw.perflevel1.physicalcpu")
            workers = loader_workers(host.usable_cores(), efficiency if isinstance(efficiency, int) else None)
        return StreamingLoader(self, device, workers)


class _MicroBatches(Dataset[Any]):
    """The samples as a dataset of micro-batches, by their indices."""

    def __init__(self, samples: OnDiskSamples) -> None:
        self._samples = samples

    def __getitem__(self, index: Any) -> tuple[Inputs, Tensor] | TransitError:
        try:
            return self._samples.take(index)
        except TransitError as error:  # raised here, the DataLoader would wrap it in a traceback
            return error


class _EpochSampler(Sampler[Tensor]):
    """The indices of each micro-batch of an epoch, replaced for every epoch."""

    def __init__(self) -> None:
        self.batches: list[Tensor] = []

    def __iter__(self) -> Iterator[Tensor]:
        return iter(self.batches)

    def __len__(self) -> int:
        return len(self.batches)


class StreamingLoader:
    """Reads samples from disk: the same micro-batches in the same order as `DeviceLoader`.

    Args:
        samples: what to read.
        device: where the batches go.
        workers: processes that read ahead; 0 reads between the steps.
    """

    def __init__(self, samples: OnDiskSamples, device: torch.device, workers: int) -> None:
        self._samples, self._device, self._sampler = samples, device, _EpochSampler()
        options: dict[str, Any] = {}
        if workers:
            options = {"persistent_workers": True, "prefetch_factor": PREFETCH, "multiprocessing_context": "spawn"}
        pinned = device.type == "cuda"  # MPS has no pinned memory: torch would warn
        self._loader = DataLoader(
            _MicroBatches(samples),
            batch_size=None,
            sampler=self._sampler,
            num_workers=workers,
            pin_memory=pinned,
            generator=torch.Generator(),  # by default, each iterator would draw from the global one, as dropout does
            **options,
        )

    def epoch(self, batching: Batching, seed: int, epoch: int, start: int = 0) -> Iterator[list[Batch]]:
        """See `BatchLoader.epoch`."""
        groups = batching.groups(epoch_order(len(self._samples), seed, epoch), start)
        self._sampler.batches = [indices for group in groups for indices in group]
        batches = iter(self._loader)
        for group in groups:
            yield [self._move(next(batches)) for _ in group]

    def _move(self, batch: tuple[Inputs, Tensor] | TransitError) -> Batch:
        if isinstance(batch, TransitError):
            raise batch
        return Batch(*batch).to(self._device, non_blocking=True)
