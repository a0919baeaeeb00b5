"""View sets: folders of plain files that `train`, `evaluate` and `predict` read.

    global.npy    [N, G] float32   any NumPy reads it; here it is memory-mapped
    local.npy     [N, L] float32
    ...           further views ("secondary", "odd", "even"), one file each
    tces.csv      one row per TCE, in the order of the arrays, which its column `array_row` numbers
    dropped.csv   one row per TCE that could not become a view, with the reason (absent if there are none)
    viewset.json  recipe, versions, sizes and checksums

A set is written under a temporary name beside its own and renamed: it appears atomically.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from transit_cli import __version__
from transit_cli.data import npy
from transit_cli.data.catalogs import vocabulary
from transit_cli.data.edited import ROW, STARS, reconcile, stars_checksum
from transit_cli.parsing import csv_text, schema
from transit_cli.results import TransitError
from transit_cli.utils.files import atomic_output, make_folder, remove_abandoned

#: Version of the layout above. Sets of other versions are refused.
VERSION = 1
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
#: Columns of text. Every other column holds numbers; an empty cell is NaN.
TEXT = frozenset({"star", "signal", "mission", "time_system", "label", "split", "source", "reason", "note"})

#: Planet candidate, eclipsing binary, junk, other; astrophysical false positive, non-transiting phenomenon; unknown.
LABELS = tuple(vocabulary.LABELS)
#: The label of a TCE that has not been classified.
UNKNOWN = LABELS[-1]


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
    def views(self) -> dict[str, np.ndarray]:
        """The views by name: memory-mapped, read-only, float32 [N, length]."""
        return {name: np.load(self.path / f"{name}.npy", mmap_mode="r") for name in self.lengths}

    @cached_property
    def tces(self) -> dict[str, np.ndarray]:
        """The table's columns by name, each [N]: text for the columns in `TEXT`, float64 for the others.

        A table that was edited after it was written is put into the order of the arrays, with a warning, or refused.
        """
        file = self.path / TCES
        columns = read_table(file)
        rows = len(next(iter(columns.values()), ()))
        if rows != len(self):
            raise _damaged(self.path, f"{TCES} has {rows} rows, not {len(self)}")
        if checksum(file) != self.info["sha256"].get(TCES):
            columns = reconcile(file, columns, self.info, {name: name in TEXT for name in COLUMNS})
        return {name: column for name, column in columns.items() if name != ROW}

    def checked(self) -> ViewSet:
        """This set, after its arrays have been compared with the checksums that were written with them.

        Raises:
            TransitError: an array has changed since, as on a failing disk.
        """
        for name in self.lengths:
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
        known = (self.labels != UNKNOWN) & (self.labels != "")
        return np.flatnonzero(np.isin(self.splits, splits) & known)

    @cached_property
    def dropped(self) -> dict[str, np.ndarray]:
        """The TCEs that could not become views: columns as in `tces`, and "reason"."""
        file = self.path / DROPPED
        return read_table(file) if file.exists() else {}


def write(
    path: Path | str,
    views: Mapping[str, np.ndarray],
    tces: Mapping[str, Sequence[Any] | np.ndarray],
    recipe: Mapping[str, Any],
    dropped: Mapping[str, Sequence[Any] | np.ndarray] | None = None,
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
    tces: Mapping[str, Sequence[Any] | np.ndarray],
    recipe: Mapping[str, Any],
    dropped: Mapping[str, Sequence[Any] | np.ndarray] | None = None,
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


def write_table(file: Path, columns: Mapping[str, Iterable[Any] | np.ndarray]) -> None:
    """Write columns as CSV. Numbers keep all their digits, integers have no point; NaN is an empty cell."""
    cells = [[_cell(value) for value in column] for column in columns.values()]
    with file.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(map(csv_text.quoted, columns))
        writer.writerows(zip(*cells, strict=True))


def _cell(value: Any) -> str:
    if isinstance(value, float | np.floating):
        number = float(value)
        if np.isnan(number):
            return ""
        return str(int(number)) if number.is_integer() and abs(number) < 1e15 else repr(number)
    return csv_text.quoted(str(value))


def read_table(file: Path) -> dict[str, np.ndarray]:
    """The columns of a CSV file: text for `TEXT` and for columns that are not numeric, float64 for the others."""
    names, *rows = _cells(file) or [[""]]
    if any(len(row) != len(names) for row in rows):
        line = next(number for number, row in enumerate(rows, 2) if len(row) != len(names))
        raise TransitError(
            f"{file}:{line} has {len(rows[line - 2])} cells, not {len(names)}",
            wanted="one cell per column",
            fix=f"correct {file}:{line}",
            code="table-damaged",
        )
    names = [csv_text.plain(name) for name in names]
    return {name: _column(name, [row[index] for row in rows]) for index, name in enumerate(names)}


def _cells(file: Path) -> list[list[str]]:
    """The cells of a CSV file as it was written, or as a spreadsheet saves it: with a mark, semicolons or tabs."""
    try:
        content = file.read_bytes()
        text = content.decode("utf-16" if content[:2] in {b"\xff\xfe", b"\xfe\xff"} else "utf-8-sig")
        header = text.partition("\n")[0]
        delimiter = max(",;\t", key=header.count)
        return [row for row in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter) if any(row)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise TransitError(
            f"{file} cannot be read: {getattr(error, 'strerror', None) or error}",
            wanted="a CSV table in UTF-8",
            fix=f"correct {file}, or make it again",
            code="table-damaged",
        ) from None


def _column(name: str, cells: Sequence[str]) -> np.ndarray:
    if name not in TEXT:
        try:
            return np.array([float(cell) if cell else np.nan for cell in cells], dtype=np.float64)
        except ValueError:
            pass
    return np.array([csv_text.plain(cell) for cell in cells], dtype=np.str_)


def _read_info(path: Path) -> dict[str, Any]:
    if not (path / INFO).is_file():
        what = "is not a view set" if path.is_dir() else "is a file" if path.exists() else "does not exist"
        raise TransitError(
            f"{path} {what}",
            wanted=f"a view set: a folder with {INFO}, as `transit data` writes it",
            fix="make one: transit data simulate my_views",
            code="viewset-missing",
        )
    source = schema.Source(
        str(path / INFO), "a complete view set", f"remove {path} and make it again", "viewset-damaged"
    )
    info = schema.parse(schema.load_text(path / INFO, source), dict[str, Any], source)
    version = info.get("viewset")
    if type(version) is not int:
        raise _damaged(path, f"{INFO} does not say which version it is of")
    if version != VERSION:
        raise TransitError(
            f"{path} is a view set of version {version}",
            wanted=f"version {VERSION}, which this transit reads",
            fix="pip install --upgrade transit-cli",
            code="viewset-version",
        )
    if wrong := next((key for key, is_valid in _VALID.items() if not is_valid(info.get(key))), ""):
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


def _damaged(path: Path, what: str) -> TransitError:
    return TransitError(
        f"{path}: {what}",
        wanted="a complete view set",
        fix=f"remove {path} and make it again with the command that made it",
        code="viewset-damaged",
    )


def _npy_header(file: Path) -> tuple[tuple[int, ...], np.dtype]:
    """Shape and type of a .npy file, which is long enough for it."""
    with file.open("rb") as stream:
        shape, _, dtype = npy.header(stream, file.stat().st_size)
        if stream.tell() + math.prod(shape) * dtype.itemsize > file.stat().st_size:
            raise ValueError("it breaks off before its end")
    return shape, dtype
