"""Arrays by name from TFRecord, .npz, .npy and HDF5 files."""

from __future__ import annotations

import io
import math
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING

import numpy as np

from transit_cli.data import hdf5, npy
from transit_cli.data.catalogs import tfrecord
from transit_cli.data.storage.set_files import INFO
from transit_cli.results import TransitError
from transit_cli.utils import bounded, machine_errors

if TYPE_CHECKING:
    from pathlib import Path

_HDF5 = {".h5", ".hdf5", ".hdf"}


@dataclass(frozen=True)
class ArraySource:
    """Arrays of one file, or of the .npy files of one folder (`global.npy`, `local.npy`, `labels.npy`).

    Attributes:
        name: the file's name, or the folder's for .npy files.
        arrays: [N, ...] by name, all with the same N.
    """

    name: str
    arrays: Mapping[str, np.ndarray]

    @property
    def rows(self) -> int:
        """The number of rows of every array."""
        return len(next(iter(self.arrays.values()), ()))


def files_in(paths: Sequence[Path]) -> list[Path]:
    """The files that `paths` name; of a folder all files of a known kind, sorted by name.

    Raises:
        TransitError: one does not exist or is a view set, a folder has none, or a file is of no known kind.
    """
    found: list[Path] = []
    for path in paths:
        if (path / INFO).is_file():
            raise TransitError(
                f"{path} is a view set already",
                wanted="arrays that another program made: of a view set, labels and stars would be lost",
                fix=f"transit train {path}, or transit data info {path}",
                code="viewset-imported",
            )
        if path.is_dir():
            inside = [file for file in sorted(path.iterdir()) if file.is_file() and _is_known(file)]
            if not inside:
                raise _unknown(path, "no file in it is one")
            found += inside
        elif not path.exists():
            raise TransitError(f"{path} does not exist", wanted="a file or folder of views", fix="correct the path")
        elif not _is_known(path):
            raise _unknown(path, "it is none")
        else:
            found.append(path)
    return found


def _unknown(path: Path, what: str) -> TransitError:
    wanted = "TFRecord, .npz, .npy or HDF5 files"
    return TransitError(f"{path}: {what} of these", wanted=wanted, fix="give such files", code="file-kind")


def _is_known(path: Path) -> bool:
    return path.suffix.lower() in {".npz", ".npy", *_HDF5} or tfrecord.is_tfrecord(path)


def sources(files: Sequence[Path]) -> Iterator[ArraySource]:
    """Read files one by one; the .npy files of one folder are one source.

    Raises:
        TransitError: a file is damaged, or its arrays differ in their number of rows.
    """
    columns: dict[Path, list[Path]] = {}
    for file in files:
        if file.suffix.lower() == ".npy":
            columns.setdefault(file.parent, []).append(file)
        else:
            yield _checked(ArraySource(file.name, _read(file)), file)
    for folder, members in columns.items():
        arrays = {name: array for member in members for name, array in _load(member).items()}
        yield _checked(ArraySource(folder.resolve().name, arrays), folder)


def _read(file: Path) -> dict[str, np.ndarray]:
    if file.suffix.lower() == ".npz":
        return _load(file)
    if file.suffix.lower() in _HDF5:
        return _read_hdf5(file)
    return {name: _matrix(feature) for name, feature in tfrecord.read(file).items()}


def _load(file: Path) -> dict[str, np.ndarray]:
    """The arrays of a .npz file by name, or the one of a .npy file by the file's name."""
    content = bounded.read_bytes(file)
    try:
        if content[:2] != b"PK":
            return {file.stem: _npy(io.BytesIO(content), len(content))}
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = archive.infolist()
            bounded.check(sum(member.file_size for member in members), len(content))
            found = {}
            for member in members:
                with archive.open(member) as stream:
                    found[member.filename.removesuffix(".npy")] = _npy(stream, member.file_size)
            return found
    except Exception as error:  # noqa: BLE001 - zipfile, zlib and the parser of the headers raise many kinds
        machine_errors.raise_if_machine(error)
        raise _damaged(file, error) from None


def _npy(stream: IO[bytes], size: int) -> np.ndarray:
    """The array in a .npy file of `size` bytes.

    Raises:
        ValueError: it is not one, holds Python objects, or its header declares more than the file has.
    """
    shape, fortran, dtype = npy.header(stream, size)
    declared = math.prod(shape) * dtype.itemsize
    content = stream.read(declared)
    if len(content) != declared:
        raise ValueError("it breaks off before its end")
    if stream.read(1):  # and zipfile compares the checksum once the end is reached
        raise ValueError("there are bytes behind its array")
    array = np.frombuffer(content, dtype) if declared else np.empty(math.prod(shape), dtype)
    return array.reshape(shape[::-1]).T if fortran else array.reshape(shape)


def _damaged(file: Path, error: Exception) -> TransitError:
    return TransitError(
        f"{file} cannot be read: {str(error) or type(error).__name__}",
        wanted="a complete file without Python objects",
        fix="write it again",
        code="file-damaged",
    )


def _read_hdf5(file: Path) -> dict[str, np.ndarray]:
    try:
        return hdf5.read(file)
    except ValueError as error:
        raise _damaged(file, error) from None


def _matrix(feature: tfrecord.Feature) -> np.ndarray:
    """[N] or [N, L] values of a TFRecord feature; a feature that some records lack gets NaN or "" there."""
    if feature.length == 1:
        return feature.values
    if feature.length:
        return feature.values.reshape(-1, feature.length)
    if len(feature.counts) and feature.counts.max() <= 1:
        kind = feature.values.dtype.kind
        missing = np.nan if kind in "fi" else b""
        filled = np.full(len(feature.counts), missing, np.float64 if kind in "fi" else object)
        filled[feature.counts == 1] = feature.values
        return filled
    ragged = np.empty(len(feature.counts), object)  # of several lengths: a name to list, not a view to use
    ragged[:] = [b""] * len(ragged)
    return ragged


def _checked(source: ArraySource, where: Path) -> ArraySource:
    rows = {name: array.shape[0] if array.ndim else 0 for name, array in source.arrays.items()}
    if not rows or max(rows.values()) == 0:
        raise TransitError(f"{where} holds no rows", wanted="at least one view", fix="give another file", code="empty")
    if len(set(rows.values())) > 1:
        shown = ", ".join(f"{name} {count:,}" for name, count in rows.items())
        raise TransitError(
            f"the arrays of {where} differ in their number of rows: {shown}",
            wanted="one row per signal in every array",
            fix="remove the arrays that do not belong to the views",
            code="rows-differ",
        )
    return source
