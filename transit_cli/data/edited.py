"""A view set's table that was edited after it was written: its rows are put back beside their views, or it is refused.

People sort tables, correct labels, and save them from spreadsheets. The arrays keep their order, so that a row belongs
to the views that its column `array_row` names; a table without that column is accepted only if its stars are in their
places.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from transit_cli import console
from transit_cli.data.catalogs.vocabulary import label_meanings
from transit_cli.data.split import PARTS
from transit_cli.results import TransitError

if TYPE_CHECKING:
    from pathlib import Path

#: The column of a view set's table that names the row of the arrays.
ROW = "array_row"
#: The key in viewset.json of the checksum of the stars.
STARS = "stars_sha256"
_DECIMAL_COMMA = re.compile(r"^[+-]?\d+,\d+$")


def stars_checksum(stars: Iterable[Any]) -> str:
    """The SHA-256 of the stars of all rows, in order."""
    return hashlib.sha256("\n".join(map(str, stars)).encode()).hexdigest()


def reconcile(file: Path, columns: dict[str, np.ndarray], info: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The columns of an edited table in the order of the arrays, with canonical labels; the user is warned.

    Args:
        file: the table, for messages.
        columns: as they were read.
        info: what viewset.json holds.

    Raises:
        TransitError: rows cannot be matched with the views, or a label, a split or a number is not understood.
    """
    missing = [name for name in ("star", "label", "split") if name not in columns]
    if missing:
        raise _refused(file, f"it has no column {', '.join(missing)}, only {', '.join(list(columns)[:8])}")
    order, what = _order(file, columns, info)
    columns = {name: column[order] for name, column in columns.items()}
    for name, column in columns.items():
        if column.dtype.kind == "U" and (bad := next((c for c in column.tolist() if _DECIMAL_COMMA.match(c)), "")):
            raise _refused(file, f"its column {name} holds {bad}: a decimal comma")
    columns["label"] = _labels(file, columns["label"])
    columns["split"] = _splits(file, columns["split"])
    console.warn(f"{file} was edited after it was written: {what}; its labels and splits are used as they are now")
    return columns


def _order(file: Path, columns: Mapping[str, np.ndarray], info: Mapping[str, Any]) -> tuple[np.ndarray, str]:
    """The rows in the order of the arrays, and how they were matched."""
    stars = columns["star"]
    count = len(stars)
    if ROW in columns:
        rows = columns[ROW]
        if rows.dtype.kind != "f" or not np.array_equal(np.sort(rows), np.arange(count)):
            raise _refused(file, f"its column `{ROW}` does not name each of the {count} rows once")
        order = np.argsort(rows, kind="stable")
        if STARS in info and stars_checksum(stars[order]) != info[STARS]:
            raise _refused(file, f"its stars are not those of the rows that the column `{ROW}` names")
        moved = int((order != np.arange(count)).sum())
        return (
            order,
            f"{moved:,} rows were moved, and are matched by the column `{ROW}`" if moved else "no row was moved",
        )
    if STARS not in info or stars_checksum(stars) != info[STARS]:
        raise _refused(file, f"it has no column `{ROW}`, so that its rows cannot be matched with the views")
    if len(set(stars.tolist())) != count:
        raise _refused(file, f"it has no column `{ROW}`, and some stars have several rows that may have changed places")
    return np.arange(count), "its stars are in their places"


def _labels(file: Path, labels: np.ndarray) -> np.ndarray:
    meanings = label_meanings(set(labels.tolist()))
    unknown = sorted(word for word, label in meanings.items() if label is None)
    if unknown:
        raise _refused(file, f"its labels {', '.join(map(repr, unknown[:5]))} are not recognised")
    return np.array([meanings[word] for word in labels.tolist()], dtype=np.str_)


def _splits(file: Path, splits: np.ndarray) -> np.ndarray:
    plain = np.char.lower(np.char.strip(splits.astype(np.str_)))
    unknown = sorted(set(plain.tolist()) - set(PARTS))
    if unknown:
        raise _refused(file, f"its splits {', '.join(map(repr, unknown[:5]))} are not {', '.join(PARTS)}")
    return plain


def _refused(file: Path, found: str) -> TransitError:
    return TransitError(
        f"{file} was edited after it was written, and cannot be used: {found}",
        wanted=f"the table as it was written, with other labels or splits, or sorted, if its column `{ROW}` is kept",
        fix=f"correct {file}, or make the view set again",
        code="viewset-edited",
    )
