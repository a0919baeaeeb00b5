"""Which array of a file is which view or column: recognised by its name, or stated by the user with `--map`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from transit_cli.data.catalogs.vocabulary import COLUMNS, LABELS, VIEWS, canonical_columns, label_meanings, split_unit
from transit_cli.parsing.convert import nearest
from transit_cli.results import TransitError

_VIEWS = tuple(spec.name for spec in VIEWS)
#: Columns that are read from files of arrays.
_COLUMNS = tuple(spec for spec in COLUMNS if spec.name not in {"mission", "time_system", "label_2", "file"})
#: What `--map` takes on its left.
_KEYS = (*_VIEWS, *(spec.name for spec in _COLUMNS))


@dataclass(frozen=True)
class Recognised:
    """The arrays of a file under canonical names.

    Attributes:
        views: [N, L] float32, by view name.
        columns: [N] values, by column name.
        other: [N] numbers under names that are not recognised.
        names: canonical name -> name in the file.
        units: column name -> the unit that `--map` states, as in duration_hours=NAME.
    """

    views: dict[str, np.ndarray]
    columns: dict[str, np.ndarray]
    other: dict[str, np.ndarray]
    names: dict[str, str]
    units: dict[str, str]


def recognise(arrays: Mapping[str, np.ndarray], user_mapping: Sequence[str], where: str) -> Recognised:
    """Sort arrays into views, columns and other numbers.

    Args:
        arrays: [N] or [N, L] (or [N, L, 1], [N, 1, L]), by the name they have in the file.
        user_mapping: what the user states, as "global=NAME"; it takes precedence over recognition.
        where: the file, for error messages.

    Raises:
        TransitError: no global or local view; the features are listed.
    """
    names, units = _mapped(arrays, user_mapping)
    taken = set(names.values())
    for specs, is_view in ((VIEWS, True), (_COLUMNS, False)):
        fitting = [name for name, array in arrays.items() if name not in taken and _fits(array, view=is_view)]
        wanted = [spec for spec in specs if spec.name not in names]
        names |= canonical_columns(fitting, wanted, arrays=True)
    missing = [view for view in ("global", "local") if view not in names]
    if missing:
        raise TransitError(
            f"{where} has no {' and no '.join(missing)} view that is recognised",
            wanted=f"features of several numbers each; it holds {_listing(arrays)}",
            fix="--map " + ",".join(f"{view}=NAME" for view in missing),
            code="view-not-recognised",
        )
    names = {name: source for source in arrays for name, s in names.items() if s == source}
    views = {
        name: np.ascontiguousarray(_squeeze(arrays[source]), np.float32)
        for name, source in names.items()
        if name in _VIEWS
    }
    columns = {name: _column(arrays[source]) for name, source in names.items() if name not in _VIEWS}
    used = set(names.values())
    other = {
        re.sub(r"\W", "_", name.rsplit("/", 1)[-1].lower()): _column(array)
        for name, array in arrays.items()
        if name not in used and _squeeze(array).ndim == 1 and array.dtype.kind in "fiub"
    }
    return Recognised(views, columns, other, names, units)


def _mapped(arrays: Mapping[str, np.ndarray], user_mapping: Sequence[str]) -> tuple[dict[str, str], dict[str, str]]:
    """Canonical names and units that the user states."""
    names: dict[str, str] = {}
    units: dict[str, str] = {}
    for item in user_mapping:
        stated, _, source = item.partition("=")
        key, unit = (stated, "") if stated in _KEYS else split_unit(stated)
        if not source or key not in _KEYS:
            raise TransitError(
                f"--map is {item}",
                wanted=f"CANONICAL=SOURCE, with CANONICAL one of {', '.join(_KEYS)}; a unit may follow: duration_hours",
                fix="--map global=NAME,local=NAME",
                code="map",
            )
        if source not in arrays:
            guess = nearest(source, arrays)
            raise TransitError(
                f"--map names {source}, which the files do not have",
                wanted=f"one of {_listing(arrays)}",
                fix=f"--map {key}={guess}" if guess else "give a name from the list",
                code="map",
            )
        if not _fits(arrays[source], view=key in _VIEWS):
            kind = "several numbers per row" if key in _VIEWS else "one value per row"
            raise TransitError(
                f"--map gives {source} as {key}, but it is {_shape(arrays[source])}",
                wanted=f"{kind}; the files hold {_listing(arrays)}",
                fix="give another name",
                code="map",
            )
        names[key] = source
        if unit:
            units[key] = unit
    return names, units


def _squeeze(array: np.ndarray) -> np.ndarray:
    """The array without axes of length 1, which networks expect and files keep."""
    return array.reshape(len(array), *(size for size in array.shape[1:] if size != 1))


def _fits(array: np.ndarray, *, view: bool) -> bool:
    squeezed = _squeeze(array)
    if view:
        return squeezed.ndim == 2 and array.dtype.kind in "fiu"
    return squeezed.ndim == 1


def _column(array: np.ndarray) -> np.ndarray:
    """[N] values; bytes as text."""
    array = _squeeze(array)
    if array.dtype.kind == "S":
        return np.char.decode(array, "utf-8", "replace")
    if array.dtype.kind == "O":
        return np.array([v.decode("utf-8", "replace") if isinstance(v, bytes) else str(v) for v in array], dtype=str)
    return array


def _shape(array: np.ndarray) -> str:
    kind = "text" if array.dtype.kind in "SUO" else "numbers"
    sizes = " x ".join(str(size) for size in array.shape[1:])
    return f"{sizes} {kind}" if sizes else kind.removesuffix("s")


def _listing(arrays: Mapping[str, np.ndarray]) -> str:
    return ", ".join(f"{name} ({_shape(array)})" for name, array in arrays.items()) or "nothing"


def labels(values: np.ndarray, user_labels: Sequence[str]) -> tuple[np.ndarray, list[str]]:
    """Canonical labels for the labels of a file, and a note on what was mapped.

    Args:
        values: [N] text or numbers.
        user_labels: what the user states, as "0=J".

    Raises:
        TransitError: a label is not recognised; all such labels of the file are listed.
    """
    known: dict[str, str] = {}
    for item in user_labels:
        source, _, canonical = item.partition("=")
        if canonical not in LABELS:
            raise TransitError(
                f"--labels is {item}",
                wanted=f"SOURCE=CANONICAL, with CANONICAL one of {', '.join(LABELS)}",
                fix="--labels 0=J,1=PC",
                code="labels",
            )
        known[source.strip().lower()] = canonical
    found, inverse, counts = np.unique(values.astype(str), return_inverse=True, return_counts=True)
    meanings = label_meanings(found.tolist(), known, arrays=True)
    strange = [word for word, label in meanings.items() if label is None]
    if strange:
        shown = ", ".join(map(repr, strange[:12])) + (f" and {len(strange) - 12} more" if len(strange) > 12 else "")
        raise TransitError(
            f"the labels have values that are not recognised: {shown}",
            wanted=f"labels that are, or stand for, {', '.join(LABELS)}",
            fix="--labels " + ",".join(f"{label}=O" for label in strange[:3]),
            code="labels",
        )
    words = [f"{word or 'empty'} -> {meanings[word]} ({n:,})" for word, n in zip(found.tolist(), counts, strict=True)]
    return np.array(list(meanings.values()), dtype=str)[inverse], [f"labels: {', '.join(words[:12])}"]
