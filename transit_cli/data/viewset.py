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

import hashlib
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
from transit_cli.data.storage.stacked_rows import StackedRows
from transit_cli.data.storage.table_file import TEXT, read_table, write_table
from transit_cli.results import TransitError
from transit_cli.utils.files import atomic_output, make_folder, remove_abandoned

#: Versions of the layout above: of one folder, and of shards. Sets of other versions are refused.
VERSION, SHARDED = 1, 2
INFO, TCES, DROPPED = "viewset.json", "tces.csv", "dropped.csv"

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
        info = _read_info(path)
        if info["viewset"] == SHARDED:
            _check_shards(path, info)
            return cls(path, info)
        for name, length in info["views"].items():
            file = path / f"{name}.npy"
            try:
                shape, kind = _npy_header(file)
            except (OSError, ValueError) as error:
                raise _damaged(path, f"{file.name} cannot be read: {error}") from None
            if shape != (info["count"], length) or kind != np.float32:
                raise _damaged(path, f"{file.name} holds {shape} {kind}, not ({info['count']}, {length}) float32")
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

    @cached_property
    def shards(self) -> tuple[ViewSet, ...]:
        """The sets that this one consists of; none if it is in one folder."""
        return tuple(ViewSet.open(self.path / name) for name in self.info.get("shards", ()))

    @cached_property
    def views(self) -> dict[str, np.ndarray | StackedRows]:
        """The views by name: memory-mapped, read-only, float32 [N, length]."""
        if "shards" in self.info:
            return {name: self.stored_rows(name) for name in self.lengths}
        return {name: np.load(self.path / f"{name}.npy", mmap_mode="r") for name in self.lengths}

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
        file = self.path / TCES
        columns = read_table(file)
        if columns.rows != len(self):
            raise _damaged(self.path, f"{TCES} has {columns.rows} rows, not {len(self)}")
        if checksum(file) != self.info["sha256"].get(TCES):
            columns = reconcile(file, columns, self.info, {name: name in TEXT for name in COLUMNS})
        return columns.without(ROW)

    def checked(self) -> ViewSet:
        """This set, after its arrays have been compared with the checksums that were written with them.

        Raises:
            TransitError: an array has changed since, as on a failing disk.
        """
        for shard in self.shards:
            shard.checked()
        for name in () if self.shards else self.lengths:
            file = self.path / f"{name}.npy"
            if checksum(file) != self.info["sha256"].get(file.name):
                raise _damaged(self.path, f"{file.name} has changed since it was written: its checksum does not match")
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
        return read_table(file) if file.exists() else Columns({})

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
    if path.exists():
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


def checksum(file: Path) -> str:
    """The SHA-256 of a file, in hexadecimal digits."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _read_info(path: Path) -> dict[str, Any]:
    if not (path / INFO).is_file():
        what = "is not a view set" if path.is_dir() else "is a file" if path.exists() else "does not exist"
        raise TransitError(
            f"{path} {what}",
            wanted=f"a view set: a folder with {INFO}, as `transit data` writes it",
            fix="make one: transit data simulate my_views",
            code="viewset-missing",
        )
    try:
        info = json.loads((path / INFO).read_text(encoding="utf-8"))
        version = info["viewset"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        raise _damaged(path, f"{INFO} cannot be read") from None
    if version not in {VERSION, SHARDED}:
        raise TransitError(
            f"{path} is a view set of version {version}",
            wanted=f"version {VERSION} or {SHARDED}, which this transit reads",
            fix="pip install --upgrade transit-cli",
            code="viewset-version",
        )
    valid = _VALID | ({"shards": _are_shards} if version == SHARDED else {})
    if wrong := next((key for key, is_valid in valid.items() if not is_valid(info.get(key))), ""):
        raise _damaged(path, f"`{wrong}` in {INFO} is missing or not what it should be")
    return info


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**40


def _are_views(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and bool(value)
        and all(name.isidentifier() and _is_count(length) and length for name, length in value.items())
    )


def _are_shards(value: Any) -> bool:
    names = isinstance(value, dict) and all(Path(name).name == name and name not in {"", ".."} for name in value)
    return names and all(_is_count(count) for count in value.values())


def _are_checksums(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(digest, str) for digest in value.values())


def _is_recipe(value: Any) -> bool:
    if not isinstance(value, dict) or type(value.get("simulated", False)) is not bool:
        return False
    fractions = value.get("split_fractions")
    if fractions is None:
        return True
    numbers = isinstance(fractions, list) and all(type(part) in {int, float} for part in fractions)
    return numbers and len(fractions) == 3 and abs(sum(fractions) - 1) < 1e-6 and min(fractions) >= 0


#: What viewset.json must hold.
_VALID = {"count": _is_count, "views": _are_views, "recipe": _is_recipe, "sha256": _are_checksums}


def _check_shards(path: Path, info: Mapping[str, Any]) -> None:
    """Raise the error for a shard that is missing, another one, or too short."""
    if sum(info["shards"].values()) != info["count"]:
        raise _damaged(path, f"{INFO} names shards of {sum(info['shards'].values()):,} rows, not {info['count']:,}")
    for shard, count in info["shards"].items():
        try:
            if checksum(path / shard / INFO) != info["sha256"].get(f"{shard}/{INFO}"):
                raise _damaged(path, f"{shard} is not the shard that {INFO} names")
            for name, length in info["views"].items():
                if (path / shard / f"{name}.npy").stat().st_size < 4 * count * length:
                    raise _damaged(path, f"{shard}/{name}.npy is too short")
        except OSError as error:
            raise _damaged(path, f"{shard} cannot be read: {error.strerror}") from None


def _damaged(path: Path, what: str) -> TransitError:
    return TransitError(
        f"{path}: {what}",
        wanted="a complete view set",
        fix=f"remove {path} and make it again with the command that made it",
        code="viewset-damaged",
    )


def _npy_header(file: Path) -> tuple[tuple[int, ...], np.dtype]:
    """Shape and type of a .npy file; mapping it checks that the file is long enough."""
    array = np.load(file, mmap_mode="r")
    return array.shape, array.dtype
