"""Arrays of HDF5 files, read in a child process: on damaged files the HDF5 library may crash, or never return."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from transit_cli.utils import bounded, isolation, machine_errors
from transit_cli.utils.packages import check_installed

if TYPE_CHECKING:
    from collections.abc import Callable

#: Seconds for a file, and bytes that are read in a further second at the least.
SECONDS, BYTES_PER_SECOND = 20.0, 10e6


def read(file: Path) -> dict[str, np.ndarray]:
    """The arrays of a file by name; text is [N] objects of type bytes.

    Raises:
        ValueError: the file is damaged, refers to another one, or declares more than its size allows.
        TransitError: h5py is missing.
    """
    check_installed("h5py", "data", "reading HDF5")
    found: dict[str, np.ndarray] = {}
    with tempfile.TemporaryDirectory() as folder:

        def take(event: dict[str, Any]) -> None:
            if "texts" in event:
                values = np.empty(len(event["texts"]), object)
                values[:] = [text.encode("latin-1") for text in event["texts"]]
                found[event["name"]] = values
            elif "array" in event:
                found[event["name"]] = np.load(Path(folder, event["array"]))
            problem.append(event.get("problem", ""))

        problem: list[str] = []
        seconds = SECONDS + file.stat().st_size / BYTES_PER_SECOND
        job = {"file": str(file.absolute()), "folder": folder}
        ended = isolation.run_child("transit_cli.data.hdf5", job, take, timeout=seconds)
    if reason := next(filter(None, problem), ""):
        machine_errors.raise_if_machine(OSError(reason))
        raise ValueError(reason)
    if ended.kind != "done":
        raise ValueError("the HDF5 library does not come to an end" if ended.kind == "hung" else "it is damaged")
    return found


def read_job(job: dict[str, Any], emit: Callable[[dict[str, Any]], None]) -> None:
    """Read `job["file"]` in the child: arrays go to files in `job["folder"]`, texts into events."""
    import h5py

    size, held = Path(job["file"]).stat().st_size, 0

    def take(name: str, item: Any) -> None:
        nonlocal held
        if not isinstance(item, h5py.Dataset) or not item.ndim:
            return
        if item.external or item.is_virtual:
            raise ValueError(f"{name} lies in another file")
        held += item.nbytes
        bounded.check(held, size)
        if item.dtype.hasobject:  # text of any length, each of which may be the whole file
            emit({"name": name, "texts": _texts(item, size)})
        else:
            array = f"{held}-{len(name)}-{item.id.id}.npy"
            np.save(Path(job["folder"], array), np.asarray(item))
            emit({"name": name, "array": array})

    try:
        with h5py.File(job["file"]) as opened:
            opened.visititems(take)
    except Exception as error:  # noqa: BLE001 - HDF5 raises many kinds for a damaged file
        emit({"problem": str(error).strip()[:300] or type(error).__name__})


def _texts(item: Any, size: int) -> list[str]:
    if item.ndim != 1 or item.dtype.fields or len(item) > size:
        raise ValueError(f"{item.name} is not a list of text")
    values: list[str] = []
    held = 0
    for index in range(len(item)):
        value = item[index]
        if not isinstance(value, str | bytes):
            raise ValueError(f"{item.name} is not a list of text")  # noqa: TRY004 - a fault of the file
        values.append((value.encode() if isinstance(value, str) else value).decode("latin-1"))
        held += len(values[-1])
        bounded.check(held, size)
    return values


if __name__ == "__main__":
    isolation.serve(read_job)
