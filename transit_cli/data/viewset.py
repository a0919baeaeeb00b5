"""View sets: folders of plain files that `train`, `evaluate` and `predict` read.

    global.npy    [N, G] float32   any NumPy reads it; here it is memory-mapped
    local.npy     [N, L] float32
    ...           further views ("secondary", "odd", "even"), one file each
    tces.csv      one row per TCE, in the order of the arrays, which its column `array_row` numbers
    dropped.csv   one row per TCE that could not become a view, with the reason (absent if there are none)
    viewset.json  recipe, versions, sizes and checksums

A set is written under a temporary name beside its own and renamed: it appears atomically.

A large set is a folder of shards, each of them a set of this form, and of a viewset.json that lists them: `shards`. All
commands read both forms.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from transit_cli import __version__
from transit_cli.data.catalogs import vocabulary
from transit_cli.data.edited import ROW, STARS, reconcile, stars_checksum
from transit_cli.data.storage.columns import Columns, Text, joined
from transit_cli.data.storage.set_files import (
    DROPPED,
    INFO,
    SHARDED,
    TCES,
    VERSION,
    check_shards,
    checksum,
    damaged,
    npy_header,
    read_info,
)
from transit_cli.data.storage.stacked_rows import StackedRows
from transit_cli.data.storage.table_file import TEXT, read_table, write_table
from transit_cli.results import TransitError
from transit_cli.utils import machine_errors, remote
from transit_cli.utils.files import atomic_output, make_folder, remove_abandoned

#: Columns that every set has, in this order; further scalar columns follow.
COLUMNS = (
    "star",
    "signal",
    "mission",
    "period_days",
    "epoch_days",
    "time_system",
    "duration_hours",
    "depth_ppm",
    "snr",
    "label",
    "split",
    "source",
)
#: Planet candidate, eclipsing binary, junk, other; astrophysical false positive, non-transiting phenomenon; unknown.
LABELS = tuple(vocabulary.LABELS)
#: The label of a TCE that has not been classified.
UNKNOWN = LABELS[-1]


TableColumn = Sequence[Any] | np.ndarray | Text


@dataclass(frozen=True)
class ViewSet:
    """A view set on disk.

    Attributes:
        path: its folder.
        info: the content of viewset.json.
    """

    path: Path
    info: Mapping[str, Any]

    @classmethod
    def open(cls, path: Path | str) -> ViewSet:
        """Open a set; its arrays are memory-mapped, its table is read on first access.

        Raises:
            TransitError: there is no view set, or a file of it is missing or of the wrong size.
        """
        path = Path(path)
        info = read_info(path)
        if info["viewset"] == SHARDED:
            check_shards(path, info)
            return cls(path, info)
        for name, length in info["views"].items():
            file = remote.local(path / f"{name}.npy")
            try:
                shape, kind = npy_header(file)
            except (OSError, ValueError) as error:
                machine_errors.raise_if_machine(error)
                raise damaged(path, f"{file.name} cannot be read: {error}") from None
            if shape != (info["count"], length) or kind != np.float32:
                raise damaged(path, f"{file.name} holds {shape} {kind}, not ({info['count']}, {length}) float32")
        return cls(path, info)

    def __len__(self) -> int:
        return int(self.info["count"])

    @property
    def lengths(self) -> dict[str, int]:
        """The length of each view, by name: what a network is built for."""
        return dict(self.info["views"])

    @property
    def recipe(self) -> Mapping[str, Any]:
        """How the set was made."""
        return self.info["recipe"]

    @property
    def simulated(self) -> bool:
        """Whether its light curves were simulated, which every figure made from it must state."""
        return bool(self.recipe.get("simulated", False))

    @property
    def local_span(self) -> float | None:
        """Half-width of the local view, in durations; None if the recipe does not say it."""
        recipe = self.recipe.get("views", self.recipe)
        span = recipe.get("local_span") if isinstance(recipe, Mapping) else None
        return float(span) if span else None

    @cached_property
    def shards(self) -> tuple[ViewSet, ...]:
        """The sets that this one consists of; none if it is in one folder."""
        return tuple(ViewSet.open(self.path / name) for name in self.info.get("shards", ()))

    @cached_property
    def views(self) -> dict[str, np.ndarray | StackedRows]:
        """The views by name: memory-mapped, read-only, float32 [N, length]."""
        if "shards" in self.info:
            return {name: self.stored_rows(name) for name in self.lengths}
        return {name: np.load(remote.local(self.path / f"{name}.npy"), mmap_mode="r") for name in self.lengths}

    def stored_rows(self, name: str) -> StackedRows:
        """A view as rows of its files, which can be sent to other processes."""
        counts = self.info.get("shards", {"": len(self)})
        files = [self.path / shard / f"{name}.npy" for shard in counts]
        return StackedRows(files, list(counts.values()), self.lengths[name])

    @cached_property
    def tces(self) -> Columns:
        """The table's columns by name, each [N]: text for the columns in `TEXT`, float64 for the others.

        A table that was edited after it was written is put into the order of the arrays, with a warning, or refused.
        """
        if "shards" in self.info:
            return joined([ViewSet.open(self.path / name).tces for name in self.info["shards"]])
        file = remote.local(self.path / TCES)
        columns = read_table(file)
        if columns.rows != len(self):
            raise damaged(self.path, f"{TCES} has {columns.rows} rows, not {len(self)}")
        if checksum(file) != self.info["sha256"].get(TCES):
            columns = reconcile(file, columns, self.info, {name: name in TEXT for name in COLUMNS})
        return columns.without(ROW)

    def checked(self) -> ViewSet:
        """This set, after its arrays have been compared with the checksums that were written with them.

        Raises:
            TransitError: an array has changed since, as on a failing disk.
        """
        for shard in () if remote.url(self.path) else self.shards:  # what is fetched was checked on its way
            shard.checked()
        for name in () if "shards" in self.info else self.lengths:
            file = self.path / f"{name}.npy"
            if checksum(file) != self.info["sha256"].get(file.name):
                raise damaged(self.path, f"{file.name} has changed since it was written: its checksum does not match")
        return self

    @property
    def splits(self) -> np.ndarray:
        """The part each TCE belongs to: "train", "val" or "test"."""
        return self.tces["split"]

    @property
    def labels(self) -> np.ndarray:
        """The label of each TCE, one of `LABELS`."""
        return self.tces["label"]

    def labelled(self, splits: Sequence[str]) -> np.ndarray:
        """The rows of these splits that have a label other than UNK, ascending: [R] int64.

        They are the rows that train and are evaluated; an empty label is no label.
        """
        labels, parts = self.tces.text("label"), self.tces.text("split")
        known = ~np.isin(labels.values, [UNKNOWN, ""])[labels.codes]
        return np.flatnonzero(np.isin(parts.values, splits)[parts.codes] & known)

    @cached_property
    def dropped(self) -> Columns:
        """The TCEs that could not become views: columns as in `tces`, and "reason"."""
        if "shards" in self.info:
            return joined([dropped for shard in self.shards if (dropped := shard.dropped)])
        file = self.path / DROPPED
        return read_table(remote.local(file)) if DROPPED in self.info["sha256"] else Columns({})

    def checksums(self) -> dict[str, str]:
        """The SHA-256 of every file as written, and of the tables as they are now, which may have been edited."""
        if "shards" not in self.info:
            return dict(self.info["sha256"]) | {TCES: checksum(self.path / TCES)}
        tables = [Path(name) / TCES for name in self.info["shards"]]
        return dict(self.info["sha256"]) | {table.as_posix(): checksum(self.path / table) for table in tables}


def write(
    path: Path | str,
    views: Mapping[str, np.ndarray],
    tces: Mapping[str, TableColumn],
    recipe: Mapping[str, Any],
    dropped: Mapping[str, TableColumn] | None = None,
) -> ViewSet:
    """Write a set atomically.

    Args:
        path: its folder, which must not exist yet.
        views: [N, length] by name; written as float32.
        tces: columns of N values by name; missing `COLUMNS` are written empty.
        recipe: how the set was made, in JSON types. "simulated": true if the light curves are.
        dropped: rows that could not become views, as `tces` with a column "reason".

    Raises:
        TransitError: `path` exists.
    """
    with writing(path) as folder:
        for name, view in views.items():
            np.save(folder / f"{name}.npy", np.asarray(view, dtype=np.float32))
        lengths = {name: int(view.shape[1]) for name, view in views.items()}
        finish(folder, lengths, tces, recipe, dropped)
    return ViewSet.open(path)


@contextmanager
def writing(path: Path | str) -> Iterator[Path]:
    """A temporary folder that becomes `path` when the block ends without an exception, and is removed otherwise.

    Raises:
        TransitError: `path` exists.
    """
    path = Path(path)
    refuse_existing(path)
    make_folder(path.parent)
    remove_abandoned(path.parent)
    with atomic_output(path) as folder:
        folder.mkdir()
        yield folder
        refuse_existing(path)


def refuse_existing(path: Path) -> None:
    """Raise `TransitError` if an output exists already."""
    if remote.exists(path):
        raise TransitError(
            f"{path} exists already",
            wanted="a new name, so that nothing is overwritten",
            fix=f"give another name, or remove {path}",
            code="output-exists",
        )


def finish(
    folder: Path,
    lengths: Mapping[str, int],
    tces: Mapping[str, TableColumn],
    recipe: Mapping[str, Any],
    dropped: Mapping[str, TableColumn] | None = None,
) -> None:
    """Write the tables and viewset.json of a set whose arrays are in `folder`.

    The same set has the same bytes: nothing that is written depends on the time or the machine.
    """
    count = len(next(iter(tces.values()), ()))
    columns = {name: tces.get(name, [""] * count) for name in COLUMNS} | dict(tces)
    write_table(folder / TCES, columns | {ROW: range(count)})
    if dropped and len(next(iter(dropped.values()))):
        write_table(folder / DROPPED, dropped)
    info = {
        "viewset": VERSION,
        "count": count,
        STARS: stars_checksum(columns["star"]),
        "views": dict(lengths),
        "recipe": dict(recipe),
        "versions": {"transit": __version__},
        "sha256": {file.name: checksum(file) for file in sorted(folder.iterdir()) if file.name != INFO},
    }
    (folder / INFO).write_text(json.dumps(info, indent=2) + "\n", encoding="utf-8")
