"""Quality flags of every product: which cadences they remove, and warnings about flags that are not understood."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from typing import NamedTuple

import numpy as np

from transit_cli.data.lightcurves.products import BAD_BITS, DEFINED_BITS, Flags, Product

#: Names of flag columns in files of other products, in order of preference.
FLAG_COLUMNS = ("QUALITY", "SAP_QUALITY", "QUALITY_FLAG", "QUALITY_FLAGS", "DQUALITY", "PDC_QUALITY", "QFLAG", "QUAL")
FLAG_COLUMNS += ("TESS_FLAGS", "TGLC_FLAGS", "PIXEL_QUALITY", "MOVING", "FLAG", "FLAGS", "IRQ1", "BAD", "MASK", "GOOD")
#: Other columns that look like flags.
_FLAG_LIKE = re.compile(r"QUAL|FLAG|^IRQ|^MOVING$|(?:^|_)(?:BAD|GOOD|VALID|MASK)")
#: Words of text columns.
_GOOD_WORDS = {"", "g", "good", "ok", "0", "none", "pass", "f", "false", "valid"}
_BAD_WORDS = {"b", "bad", "x", "c", "fail", "1", "t", "true", "invalid", "flagged"}
#: Columns in which a true value is a good cadence.
_TRUE_IS_GOOD = re.compile(r"(?:^|_)(?:GOOD|VALID|OK|USED?)(?:$|_)")
#: Columns that hold the mission's own bits also in files of other products.
_MISSION_BITS = {"QUALITY", "SAP_QUALITY", "QUALITY_FLAG", "QUALITY_FLAGS", "DQUALITY", "TESS_FLAGS", "QUAL", "QFLAG"}


class Quality(NamedTuple):
    """Cadences that flags remove.

    Attributes:
        bad: [n] bool.
        applied: each column with its rule.
        notes: flags that are not understood.
    """

    bad: np.ndarray
    applied: tuple[str, ...]
    notes: tuple[str, ...]


def bad_cadences(
    load: Callable[[str], np.ndarray],
    columns: Collection[str],
    *,
    product: Product,
    mission: str,
    flux: str,
    count: int,
) -> Quality:
    """Apply the quality columns of a file.

    Args:
        load: the values of a column.
        columns: names of all columns.
        product: whose flags are known; others are recognised by name.
        mission: "kepler", "k2" or "tess", whose bits apply to other products.
        flux: the flux column that is read.
        count: cadences.
    """
    bad = np.zeros(count, dtype=bool)
    applied: list[str] = []
    notes: list[str] = []
    documented = [flags for flags in product.flags if flags.column in columns]
    for flags in documented:
        if not flags.of or flux.endswith(flags.of):
            _apply(flags, load(flags.column), None, bad, (applied, notes))
    known = {flags.column for flags in product.flags}
    others = [name for name in columns if name not in known and _FLAG_LIKE.search(name) and "ERR" not in name]
    others.sort(key=lambda name: (FLAG_COLUMNS.index(name) if name in FLAG_COLUMNS else len(FLAG_COLUMNS), name))
    if documented and others:
        notes.append(f"flags: {', '.join(others)} are not documented for {product.name} and not applied")
    for name in [] if documented else others:
        survey = mission if name in _MISSION_BITS else ""
        _apply(Flags(name, BAD_BITS.get(survey)), load(name), DEFINED_BITS.get(survey), bad, (applied, notes))
    if count and bad.mean() > 0.5:
        notes.append(f"flags: they remove {int(bad.sum()):,} of {count:,} cadences")
    return Quality(bad, tuple(applied), tuple(notes))


def _apply(
    flags: Flags, values: np.ndarray, defined: int | None, bad: np.ndarray, said: tuple[list[str], list[str]]
) -> None:
    """Add the cadences that one column marks to `bad`; what was applied or not understood to `said`."""
    applied, notes = said
    name = flags.column
    if values.ndim > 1:
        values = values.reshape(len(values), -1)
        values = np.asarray(values.any(axis=1)) if values.dtype.kind == "b" else values
    if values.ndim > 1 or len(values) != len(bad):
        notes.append(f"flags: {name} holds arrays and is not understood")
        return
    if values.dtype.kind in "US":
        found = _from_text(flags, values)
    elif values.dtype.kind == "b":
        found = ~values if _TRUE_IS_GOOD.search(name) else values
    elif values.dtype.kind in "iuf" and _TRUE_IS_GOOD.search(name):
        found = ~(values > 0)
    elif values.dtype.kind in "iuf":
        found = _from_numbers(flags, values, defined, notes)
    else:
        found = None
    if found is None:
        notes.append(f"flags: {name} is not understood and not applied ({_examples(values)})")
        return
    if values.dtype.kind in "bUS" and len(found) and found.mean() > 0.5:
        notes.append(f"flags: {name} would remove {found.mean():.0%} of the cadences and is not applied")
        return
    bad |= found
    rule = f"{name} & {flags.bits}" if flags.bits is not None and values.dtype.kind in "iuf" else name
    applied.append(f"{rule}: {int(found.sum()):,}")


def _from_text(flags: Flags, values: np.ndarray) -> np.ndarray | None:
    words = np.char.lower(np.char.strip(values.astype(str)))
    unique = set(np.unique(words))
    if unique and all(re.fullmatch(r"[+-]?\d+(\.0*)?", word) for word in unique - {""}) and flags.good == (0,):
        numbers = np.array([float(word or 0) for word in words])
        return _from_numbers(flags, numbers, None, [])
    good = {str(word).lower() for word in flags.good if isinstance(word, str)} or _GOOD_WORDS
    if flags.good != (0,):
        return ~np.isin(words, list(good))
    return ~np.isin(words, list(good)) if unique <= _GOOD_WORDS | _BAD_WORDS else None


def _from_numbers(flags: Flags, values: np.ndarray, defined: int | None, notes: list[str]) -> np.ndarray | None:
    """Cadences that a column of numbers marks; bits that the mission does not define count as bad, with a note."""
    unknown = np.zeros(len(values), dtype=bool)
    if values.dtype.kind == "f":
        unknown = ~np.isfinite(values)
        if (values[~unknown] % 1 != 0).any() or (np.abs(values[~unknown]) >= 2**53).any():
            return None
        bits = np.where(unknown, 0, values).astype(np.int64).astype(np.uint64)
    else:
        # Bit 16 of a 16-bit column is its sign; widening must not extend it.
        bits = values.astype(f"u{values.dtype.itemsize}").astype(np.uint64)
    if flags.bits is None:
        good = [value for value in flags.good if isinstance(value, int)]
        return ~np.isin(bits, np.array(good, np.uint64)) | unknown
    found = (bits & np.uint64(flags.bits)) != 0
    if defined is not None:
        undefined = (bits & ~np.uint64(defined)) != 0
        if undefined.any():
            largest = int(np.bitwise_or.reduce(bits[undefined]) & ~np.uint64(defined)).bit_length()
            notes.append(f"flags: {flags.column} has bits up to {largest} that the mission does not define: left out")
        found |= undefined
    return found | unknown


def _examples(values: np.ndarray) -> str:
    return ", ".join(str(value) for value in np.unique(values)[:3]) if values.dtype.kind in "USbiuf" else "no numbers"
