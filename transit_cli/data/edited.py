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
from transit_cli.data.split import SPLITS
from transit_cli.data.storage.columns import Columns, Text
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
    digest, separator = hashlib.sha256(), ""
    for star in stars:
        digest.update(f"{separator}{star}".encode())
        separator = "\n"
    return digest.hexdigest()


def reconcile(file: Path, columns: Columns, info: Mapping[str, Any], required: Mapping[str, bool]) -> Columns:
    """The columns of an edited table in the order of the arrays, with canonical labels; the user is warned.

    Args:
        file: the table, for messages.
        columns: as they were read.
        info: what viewset.json holds.
        required: columns that must be there, and whether each holds text.

    Raises:
        TransitError: rows cannot be matched with the views, or a label, a split or a number is not understood.
    """
    missing = [name for name in required if name not in columns]
    if missing:
        raise _refused(file, f"it has no column {', '.join(missing)}, only {', '.join(list(columns)[:8])}")
    order, what = _order(file, columns, info)
    columns = columns.take(order)
    for name in filter(columns.is_text, columns):
        if bad := next((cell for cell in columns.unique(name)[0].tolist() if _DECIMAL_COMMA.match(cell)), ""):
            raise _refused(file, f"its column {name} holds {bad}: a decimal comma")
    words = next((name for name, is_text in required.items() if not is_text and columns.is_text(name)), "")
    if words:
        raise _refused(file, f"its column {words} holds words, not numbers only")
    mended = {"label": _labels(file, columns.text("label")), "split": _splits(file, columns.text("split"))}
    console.warn(f"{file} was edited after it was written: {what}; its labels and splits are used as they are now")
    return Columns({name: mended.get(name, columns.stored(name)) for name in columns})


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


def _labels(file: Path, labels: Text) -> Text:
    meanings = label_meanings(set(labels.unique[0].tolist()))
    unknown = sorted(word for word, label in meanings.items() if label is None)
    if unknown:
        raise _refused(file, f"its labels {', '.join(map(repr, unknown[:5]))} are not recognised")
    return Text(np.array([meanings.get(word, "") for word in labels.values.tolist()], np.str_), labels.codes)


def _splits(file: Path, splits: Text) -> Text:
    plain = Text(np.char.lower(np.char.strip(splits.values)), splits.codes)
    unknown = sorted(set(plain.unique[0].tolist()) - set(SPLITS))
    if unknown:
        raise _refused(file, f"its splits {', '.join(map(repr, unknown[:5]))} are not {', '.join(SPLITS)}")
    return plain


def _refused(file: Path, found: str) -> TransitError:
    return TransitError(
        f"{file} was edited after it was written, and cannot be used: {found}",
        wanted=f"the table as it was written, with other labels or splits, or sorted, if its column `{ROW}` is kept",
        fix=f"correct {file}, or make the view set again",
        code="viewset-edited",
    )
