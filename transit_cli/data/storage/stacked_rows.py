"""The rows of several .npy files as one array that is read where it is indexed: the views of a set in shards."""

from __future__ import annotations

from itertools import accumulate
from typing import TYPE_CHECKING, Any

import numpy as np

from transit_cli.utils import remote
from transit_cli.utils.files import allow_open_files

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path


class StackedRows:
    """Arrays [n, length] float32 of several .npy files, one below the other. Indexing gives rows as NumPy arrays.

    Files are memory-mapped when a row of them is first read. Pickled, it is the names of the files.

    Args:
        files: the files, in order.
        counts: the number of rows of each.
        length: the length of a row.
    """

    dtype, ndim = np.dtype(np.float32), 2

    def __init__(self, files: Sequence[Path], counts: Sequence[int], length: int) -> None:
        self.files, self.counts, self.length = list(files), list(counts), length
        self._starts = np.array([0, *accumulate(counts)], np.int64)
        self._maps: list[np.ndarray | None] = [None] * len(self.files)
        self._memory: tuple[np.ndarray, np.ndarray] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"_maps": [None] * len(self.files), "_memory": None}

    def __len__(self) -> int:
        return int(self._starts[-1])

    @property
    def shape(self) -> tuple[int, int]:
        """The number of rows, and their length."""
        return len(self), self.length

    def __getitem__(self, key: int | np.integer | slice | np.ndarray) -> np.ndarray:
        if isinstance(key, slice):
            start, stop, step = key.indices(len(self))
            return self._contiguous(start, stop) if step == 1 else self._take(np.arange(start, stop, step))
        if isinstance(key, int | np.integer):
            row = int(key) + (len(self) if key < 0 else 0)
            if not 0 <= row < len(self):
                raise IndexError(f"row {key} of {len(self)}")
            return self._contiguous(row, row + 1)[0]
        rows = np.asarray(key)
        return self._take(np.flatnonzero(rows) if rows.dtype == bool else rows)

    def __iter__(self) -> Iterator[np.ndarray]:
        return (row for index in range(len(self.files)) for row in self._map(index))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self[:], dtype=dtype)

    def _map(self, index: int) -> np.ndarray:
        found = self._maps[index]
        if found is None:
            if not any(part is not None for part in self._maps):
                allow_open_files()  # a mapped file stays open
            found = np.asarray(
                np.load(remote.local(self.files[index]), mmap_mode="r")
            )  # indexing np.memmap itself is slow
            self._maps[index] = found
        return found

    def _contiguous(self, start: int, stop: int) -> np.ndarray:
        parts = []
        first = int(np.searchsorted(self._starts, start, side="right")) - 1
        for index in range(max(first, 0), len(self.files)):
            offset = int(self._starts[index])
            if offset >= stop:
                break
            parts.append(self._map(index)[max(start - offset, 0) : stop - offset])
        return np.concatenate(parts) if parts else np.empty((0, self.length), self.dtype)

    def _take(self, rows: np.ndarray) -> np.ndarray:
        rows = np.where(rows < 0, rows + len(self), rows)
        if len(rows) and not 0 <= rows.min() <= rows.max() < len(self):
            raise IndexError(f"a row outside 0 to {len(self) - 1}")
        if len(self.files) == 1:
            return self._map(0)[rows]
        if not len(rows):
            return np.empty((0, self.length), self.dtype)
        memory, places = self._memory = self._memory or self._one_array()
        return memory[places[rows]]

    def _one_array(self) -> tuple[np.ndarray, np.ndarray]:
        """All files as one array, and the place of each row in it: rows of many files are gathered by one call.

        Returns:
            An array whose element k is the `length` numbers that begin 4 k bytes after the first mapped byte of all;
            and [N] the k of each row. Between the files the array spans memory that is not ours, and is not read.
        """
        used = [index for index, count in enumerate(self.counts) if count]
        maps = [self._map(index) for index in used]
        begins = np.array([part.__array_interface__["data"][0] for part in maps], np.int64)
        first, last = int(begins.argmin()), int(begins.argmax())
        size = (int(begins[last] - begins[first]) + maps[last].nbytes) // self.dtype.itemsize
        shape, step = (size - self.length + 1, self.length), self.dtype.itemsize
        memory = np.lib.stride_tricks.as_strided(maps[first], shape, (step, step), writeable=False)
        offsets = (begins - begins[first]) // step - self._starts[used] * self.length
        counts = np.array(self.counts)[used]
        return memory, np.repeat(offsets, counts) + np.arange(len(self)) * self.length


class RowRange:
    """Consecutive rows of an array, read where it is indexed.

    Args:
        rows: [N, length].
        part: which of them.
    """

    def __init__(self, rows: StackedRows, part: slice) -> None:
        self._rows, self._part = rows, range(*part.indices(len(rows)))

    def __len__(self) -> int:
        return len(self._part)

    @property
    def shape(self) -> tuple[int, int]:
        """The number of rows, and their length."""
        return len(self), self._rows.length

    def __getitem__(self, key: int | np.integer | slice) -> np.ndarray:
        if isinstance(key, slice):
            chosen = self._part[key]
            return self._rows[chosen.start : chosen.stop : chosen.step]
        return self._rows[self._part[int(key)]]


#: A view of a set, or of a part of one: float32 [N, length].
StoredView = np.ndarray | StackedRows | RowRange
