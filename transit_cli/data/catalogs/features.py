"""Which feature of a foreign file is what: recognised by name, or told with `--map`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from transit_cli.convert import nearest
from transit_cli.results import TransitError

#: Our names for arrays of [N, L] values, and what others call them (compared without case, `_`, `-`, `.` and spaces).
VIEWS = {
    "global": ("global view", "spatial global", "x global", "xg", "g"),
    "local": ("local view", "spatial local", "x local", "xl", "l"),
    "secondary": ("secondary view", "weak secondary", "x secondary", "xs"),
    "odd": ("odd view", "local odd", "local view odd"),
    "even": ("even view", "local even", "local view even"),
}

#: Our names for columns of [N] values. Names of AstroNet (kepid, tce_...), Yu et al. 2019 (tic_id, Epoc) and ExoMiner.
COLUMNS = {
    "star": ("tic id", "kepid", "kic", "kic id", "tic", "epic", "epic id", "target id", "target", "star id"),
    "signal": ("tce plnt num", "planet num", "tce", "tce id", "signal id"),
    "period_days": ("period", "tce period", "orbital period", "per"),
    "epoch_days": ("epoc", "epoch", "t0", "tce time0bk", "tce time0bt", "tce time0", "time0"),
    "duration": ("duration", "tce duration", "dur"),
    "duration_hours": ("duration hours", "duration h"),
    "depth_ppm": ("depth", "transit depth", "tce depth"),
    "snr": ("snr", "sn", "tce model snr", "mes", "tce max mult ev"),
    "label": ("disposition", "av training set", "labels", "y", "class", "target label"),
}

#: Labels of the house, and what others call them.
LABELS = {
    "PC": ("planet candidate", "planet", "candidate", "confirmed", "cp", "kp", "apc", "1"),
    "EB": ("eclipsing binary", "e"),
    "J": ("junk", "0"),  # 0 of a 0/1 label: not a signal that is looked for, whatever it is
    "O": ("other",),
    "AFP": ("astrophysical false positive",),
    "NTP": ("non-transiting phenomenon",),
    "UNK": ("unknown", "unlabelled", ""),
}


def _plain(name: str) -> str:
    return re.sub(r"[\s_.\-]", "", name.rsplit("/", 1)[-1].lower())


_KNOWN = {_plain(word): ours for table in (VIEWS, COLUMNS) for ours, words in table.items() for word in (ours, *words)}
_KNOWN_LABELS = {word.lower(): ours for ours, words in LABELS.items() for word in (ours, *words)}


@dataclass(frozen=True)
class Recognised:
    """Arrays under our names.

    Attributes:
        views: [N, L] float32, by view name.
        columns: [N] values, by column name.
        other: [N] numbers whose name says nothing to us, by their own name.
        names: our name -> the name in the file.
    """

    views: dict[str, np.ndarray]
    columns: dict[str, np.ndarray]
    other: dict[str, np.ndarray]
    names: dict[str, str]


def recognise(arrays: Mapping[str, np.ndarray], mapping: Sequence[str], where: str) -> Recognised:
    """Sort arrays into views, columns and other numbers.

    Args:
        arrays: [N] or [N, L] (or [N, L, 1], [N, 1, L]), by the name they have in the file.
        mapping: what the user says, as "global=NAME"; it wins over recognition.
        where: the file, for the words of an error.

    Raises:
        TransitError: no global or local view; the features are listed.
    """
    names = _told(arrays, mapping)
    for name in arrays:
        ours = _KNOWN.get(_plain(name))
        if ours and ours not in names and name not in names.values() and _fits(arrays[name], ours):
            names[ours] = name
    missing = [view for view in ("global", "local") if view not in names]
    if missing:
        raise TransitError(
            f"{where} has no {' and no '.join(missing)} view that is recognised",
            wanted=f"features of several numbers each; it holds {_listing(arrays)}",
            fix="--map " + ",".join(f"{view}=NAME" for view in missing),
            code="view-not-recognised",
        )
    views = {
        ours: np.ascontiguousarray(_squeeze(arrays[name]), np.float32) for ours, name in names.items() if ours in VIEWS
    }
    columns = {ours: _column(arrays[name]) for ours, name in names.items() if ours in COLUMNS}
    used = set(names.values())
    other = {
        re.sub(r"\W", "_", name.rsplit("/", 1)[-1].lower()): _column(array)
        for name, array in arrays.items()
        if name not in used and _squeeze(array).ndim == 1 and array.dtype.kind in "fiub"
    }
    return Recognised(views, columns, other, names)


def _told(arrays: Mapping[str, np.ndarray], mapping: Sequence[str]) -> dict[str, str]:
    names = {}
    for item in mapping:
        ours, _, name = item.partition("=")
        if not name or ours not in (*VIEWS, *COLUMNS):
            raise TransitError(
                f"--map is {item}",
                wanted=f"OURS=THEIRS, with OURS one of {', '.join((*VIEWS, *COLUMNS))}",
                fix="--map global=NAME,local=NAME",
                code="map",
            )
        if name not in arrays:
            guess = nearest(name, arrays)
            raise TransitError(
                f"--map names {name}, which the files do not have",
                wanted=f"one of {_listing(arrays)}",
                fix=f"--map {ours}={guess}" if guess else "give a name from the list",
                code="map",
            )
        if not _fits(arrays[name], ours):
            kind = "several numbers per row" if ours in VIEWS else "one value per row"
            raise TransitError(
                f"--map gives {name} as {ours}, but it is {_shape(arrays[name])}",
                wanted=f"{kind}; the files hold {_listing(arrays)}",
                fix="give another name",
                code="map",
            )
        names[ours] = name
    return names


def _squeeze(array: np.ndarray) -> np.ndarray:
    """Without the axes of length 1 that networks want and files keep."""
    return array.reshape(len(array), *(size for size in array.shape[1:] if size != 1))


def _fits(array: np.ndarray, ours: str) -> bool:
    squeezed = _squeeze(array)
    if ours in VIEWS:
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


def labels(values: np.ndarray, told: Sequence[str]) -> np.ndarray:
    """Labels of the house for whatever the file calls them.

    Args:
        values: [N] text or numbers.
        told: what the user says, as "0=J".

    Raises:
        TransitError: a label means nothing to us; all of the file's labels are listed.
    """
    if values.dtype.kind == "f" and (values == np.round(values)).all():
        values = values.astype(np.int64)
    found, inverse = np.unique(values.astype(str), return_inverse=True)
    known = dict(_KNOWN_LABELS)
    for item in told:
        theirs, _, ours = item.partition("=")
        if ours not in LABELS:
            raise TransitError(
                f"--labels is {item}",
                wanted=f"THEIRS=OURS, with OURS one of {', '.join(LABELS)}",
                fix="--labels 0=J,1=PC",
                code="labels",
            )
        known[theirs.lower()] = ours
    strange = [label for label in found.tolist() if label.strip().lower() not in known]
    if strange:
        shown = ", ".join(map(repr, strange[:12])) + (f" and {len(strange) - 12} more" if len(strange) > 12 else "")
        raise TransitError(
            f"the labels have values that are not recognised: {shown}",
            wanted=f"labels that are, or stand for, {', '.join(LABELS)}",
            fix="--labels " + ",".join(f"{label}=O" for label in strange[:3]),
            code="labels",
        )
    return np.array([known[label.strip().lower()] for label in found.tolist()], dtype=str)[inverse]
