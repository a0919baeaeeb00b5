"""The files of a view set, and what its viewset.json must hold."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transit_cli.data import npy
from transit_cli.parsing import schema
from transit_cli.results import TransitError
from transit_cli.utils import machine_errors, remote

if TYPE_CHECKING:
    import numpy as np

#: Versions of the layout: of one folder, and of shards. Sets of other versions are refused.
VERSION, SHARDED = 1, 2
INFO, TCES, DROPPED = "viewset.json", "tces.csv", "dropped.csv"


def checksum(file: Path) -> str:
    """The SHA-256 of a file, in hexadecimal digits."""
    with remote.local(file).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def read_info(path: Path) -> dict[str, Any]:
    """The content of viewset.json, checked.

    Raises:
        TransitError: there is no view set, or it is damaged or of another version.
    """
    if remote.url(path) and not remote.exists(path / INFO):
        raise _missing(path, "does not exist, or is not complete")
    if not remote.url(path) and not (path / INFO).is_file():
        what = "is not a view set" if path.is_dir() else "is a file" if path.exists() else "does not exist"
        raise _missing(path, what)
    source = schema.Source(
        str(path / INFO), "a complete view set", f"remove {path} and make it again", "viewset-damaged"
    )
    info = schema.parse(schema.load_text(remote.local(path / INFO), source), dict[str, Any], source)
    version = info.get("viewset")
    if type(version) is not int:
        raise damaged(path, f"{INFO} does not say which version it is of")
    if version not in {VERSION, SHARDED}:
        raise TransitError(
            f"{path} is a view set of version {version}",
            wanted=f"version {VERSION} or {SHARDED}, which this transit reads",
            fix="pip install --upgrade transit-cli",
            code="viewset-version",
        )
    valid = _VALID | ({"shards": _are_shards} if version == SHARDED else {})
    if wrong := next((key for key, is_valid in valid.items() if not is_valid(info.get(key))), ""):
        raise damaged(path, f"`{wrong}` in {INFO} is missing or not what it should be")
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


def check_shards(path: Path, info: Mapping[str, Any]) -> None:
    """Raise the error for a shard that is missing, another one, or too short."""
    if sum(info["shards"].values()) != info["count"]:
        raise damaged(path, f"{INFO} names shards of {sum(info['shards'].values()):,} rows, not {info['count']:,}")
    for shard, count in () if remote.url(path) else info["shards"].items():
        try:
            if checksum(path / shard / INFO) != info["sha256"].get(f"{shard}/{INFO}"):
                raise damaged(path, f"{shard} is not the shard that {INFO} names")
            for name, length in info["views"].items():
                if (path / shard / f"{name}.npy").stat().st_size < 4 * count * length:
                    raise damaged(path, f"{shard}/{name}.npy is too short")
        except OSError as error:
            machine_errors.raise_if_machine(error)
            raise damaged(path, f"{shard} cannot be read: {error.strerror}") from None


def _missing(path: Path, what: str) -> TransitError:
    return TransitError(
        f"{remote.url(path) or path} {what}",
        wanted=f"a view set: a folder with {INFO}, as `transit data` writes it",
        fix=_other_command(path),
        code="viewset-missing",
    )


def _other_command(path: Path) -> str:
    """What to do with a folder that is no view set: what it contains tells which command was meant."""
    if (path / "config.yaml").is_file():
        return f"this is a run: transit evaluate {path}, or transit predict {path} INPUT"
    if path.is_dir() and any(path.glob("*.fits*")):
        return (
            f"these are light curves: transit data prepare CATALOG {path} my_views, or transit search {path} found.csv"
        )
    return "make one: transit data prepare CATALOG LIGHT_CURVES my_views, or transit data simulate my_views"


def damaged(path: Path, what: str) -> TransitError:
    """The error for a set that is not as it was written."""
    return TransitError(
        f"{path}: {what}",
        wanted="a complete view set",
        fix=f"remove {path} and make it again with the command that made it",
        code="viewset-damaged",
    )


def npy_header(file: Path) -> tuple[tuple[int, ...], np.dtype]:
    """Shape and type of a .npy file, which is long enough for it."""
    with file.open("rb") as stream:
        shape, _, dtype = npy.header(stream, file.stat().st_size)
        if stream.tell() + math.prod(shape) * dtype.itemsize > file.stat().st_size:
            raise ValueError("it breaks off before its end")
    return shape, dtype
