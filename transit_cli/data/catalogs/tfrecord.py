"""TFRecord files of `tf.train.Example` read into NumPy arrays, without TensorFlow or a Python loop over records.

A TFRecord file is a run of records: length (uint64), masked CRC32C of the length, bytes, masked CRC32C of the bytes
(tensorflow/core/lib/io/record_writer.h). An Example is a protocol buffer that maps feature names to lists of bytes,
floats or integers (tensorflow/core/example/feature.proto), in an order that may differ from record to
record. All records of a file are decoded in lockstep: one NumPy operation advances every record's cursor by one field.
"""

from __future__ import annotations

import gzip
import struct
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from transit_cli.results import TransitError
from transit_cli.utils import bounded
from transit_cli.utils.packages import require

if TYPE_CHECKING:
    from pathlib import Path

#: A key (field 1), a value (field 2), a list or a packed run (field 1): each followed by a length.
_FIELD_1, _FIELD_2 = 0x0A, 0x12


#: The number of values of each record, and all values.
_Values = tuple[np.ndarray, np.ndarray]


class _Malformed(Exception):  # noqa: N818 - it never leaves this module
    """The bytes are not those of a `tf.train.Example`."""


@dataclass(frozen=True)
class Feature:
    """One feature of every record of a file.

    Attributes:
        counts: [N] int64, the number of values of each record; 0 if it lacks the feature.
        values: [sum of counts] all values in the order of the records: float32, int64, bytes (object), or Python
            objects where records differ in kind.
    """

    counts: np.ndarray
    values: np.ndarray

    @property
    def length(self) -> int | None:
        """Values per record if all records have equally many, else None."""
        return int(self.counts[0]) if len(self.counts) and (self.counts == self.counts[0]).all() else None


def read(path: Path) -> dict[str, Feature]:
    """Every feature of one TFRecord file (plain or gzip), by name, with the records in the order of the file.

    Raises:
        TransitError: the file is truncated or damaged (the record is named), or does not hold Examples.
    """
    data = bounded.read_bytes(path)
    if data[:2] == b"\x1f\x8b":
        try:
            data = bounded.gunzip(data)
        except ValueError as error:
            raise _damaged(path, str(error)) from None
    starts, lengths = _records(data, path)
    try:
        return _decode(np.frombuffer(data, np.uint8), starts, starts + lengths)
    except (_Malformed, IndexError):
        raise TransitError(
            f"{path} holds TFRecords, but not of tf.train.Example",
            wanted="one Example per record, as AstroNet's preprocessing writes them",
            fix="convert the file to .npz and import that",
            code="tfrecord-not-example",
        ) from None


def is_tfrecord(path: Path) -> bool:
    """Whether a file begins with a TFRecord (its first length agrees with that length's checksum)."""
    with path.open("rb") as file:
        head = file.read(12)
    if head[:2] == b"\x1f\x8b":
        with gzip.open(path) as file:
            try:
                head = file.read(12)
            except (OSError, EOFError, zlib.error):
                return False
    return len(head) == 12 and struct.unpack_from("<I", head, 8)[0] == _masked_crc(head[:8])


def _masked_crc(data: bytes) -> int:
    crc = require("google_crc32c", "", "reading TFRecords").value(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def _damaged(path: Path, what: str) -> TransitError:
    return TransitError(
        f"{path} is damaged: {what}", wanted="a complete TFRecord file", fix="fetch it again", code="tfrecord-damaged"
    )


def _records(data: bytes, path: Path) -> tuple[np.ndarray, np.ndarray]:
    """The offset and length of each record's bytes; every checksum is verified."""
    starts: list[int] = []
    lengths: list[int] = []
    at = 0
    while at < len(data):
        if len(data) - at < 12:
            raise _damaged(path, f"it ends within record {len(starts)}")
        length, length_crc = struct.unpack_from("<QI", data, at)
        if length_crc != _masked_crc(data[at : at + 8]):
            raise _damaged(path, f"the length of record {len(starts)} does not have its checksum")
        start, end = at + 12, at + 12 + length
        if end + 4 > len(data):
            raise _damaged(path, f"it ends within record {len(starts)}")
        if struct.unpack_from("<I", data, end)[0] != _masked_crc(data[start:end]):
            raise _damaged(path, f"record {len(starts)} does not have its checksum")
        starts.append(start)
        lengths.append(length)
        at = end + 4
    return np.array(starts, np.int64), np.array(lengths, np.int64)


def _decode(data: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> dict[str, Feature]:
    """Decode the records at `starts`..`ends` of `data`."""
    records = len(starts)
    filled = np.flatnonzero(ends > starts)
    begin, end = _field(data, starts[filled], _FIELD_1)  # Example.features
    if (end != ends[filled]).any():
        raise _Malformed
    record, entry, entry_end = _entries(data, filled, begin, end)
    key, key_end = _field(data, entry, _FIELD_1)
    if (key_end > entry_end).any():
        raise _Malformed
    named = _group(data, key, key_end - key)
    has_value = key_end < entry_end
    value, value_end = key_end.copy(), key_end.copy()
    value[has_value], value_end[has_value] = _field(data, key_end[has_value], _FIELD_2)
    if (value_end > entry_end).any() or 8 * len(named) * records > bounded.limit(len(data)):
        raise _Malformed
    features = {}
    for name, members in named.items():
        rows = record[members]
        if len(np.unique(rows)) != len(rows):  # a map's key given twice: the last counts
            last = len(rows) - 1 - np.unique(rows[::-1], return_index=True)[1]
            members, rows = members[last], rows[last]  # noqa: PLW2901
        order = np.argsort(rows, kind="stable")
        members, rows = members[order], rows[order]  # noqa: PLW2901
        count, values = _values(data, value[members], value_end[members])
        counts = np.zeros(records, np.int64)
        counts[rows] = count
        features[name] = Feature(counts, values)
    return features


def _varints(data: np.ndarray, at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The variable-length integers at offsets `at`, and the offsets behind them."""
    value = data[at].astype(np.int64)
    after = at + 1
    more = np.flatnonzero(value >= 0x80)
    value &= 0x7F
    for shift in range(7, 70, 7):  # a negative int64 takes ten bytes
        if not len(more):
            break
        byte = data[after[more]].astype(np.int64)
        value[more] |= (byte & 0x7F) << shift
        after[more] += 1
        more = more[byte >= 0x80]
    if len(more):
        raise _Malformed
    return value, after


def _field(data: np.ndarray, at: np.ndarray, tag: int) -> tuple[np.ndarray, np.ndarray]:
    """Begin and end of the length-delimited fields at `at`, each of which must have this tag."""
    if (data[at] != tag).any():
        raise _Malformed
    length, begin = _varints(data, at + 1)
    end = begin + length
    if (length < 0).any() or (end > len(data)).any():
        raise _Malformed
    return begin, end


def _entries(
    data: np.ndarray, record: np.ndarray, at: np.ndarray, end: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The entries of every record's feature map: record, begin and end of each."""
    found: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    left = at < end
    while left.any():
        record, at, end = record[left], at[left], end[left]
        begin, after = _field(data, at, _FIELD_1)
        if (after > end).any():
            raise _Malformed
        found.append((record, begin, after))
        left, at = after < end, after
    if not found:
        return record[left], at[left], end[left]
    records, begins, ends = (np.concatenate(part) for part in zip(*found, strict=True))
    return records, begins, ends


def _group(data: np.ndarray, at: np.ndarray, length: np.ndarray) -> dict[str, np.ndarray]:
    """The entries of each name."""
    groups = {}
    for size in np.unique(length):
        sized = np.flatnonzero(length == size)
        text = np.ascontiguousarray(_gather(data, at[sized], int(size)))
        while len(sized):  # a handful of names: taking them out one by one beats sorting all
            same = (text == text[0]).all(axis=1)
            groups[text[0].tobytes().decode("utf-8", "replace")] = sized[same]
            sized, text = sized[~same], text[~same]
    return dict(sorted(groups.items()))


def _gather(data: np.ndarray, at: np.ndarray, size: int) -> np.ndarray:
    """[len(at), size] bytes at the offsets `at`."""
    if not len(at) or not size:
        return np.empty((len(at), size), np.uint8)
    return np.lib.stride_tricks.sliding_window_view(data, size)[at]


def _values(data: np.ndarray, at: np.ndarray, end: np.ndarray) -> _Values:
    """The number of values of each Feature message, and all values."""
    count = np.zeros(len(at), np.int64)
    filled = np.flatnonzero(end > at)
    parts: list[np.ndarray] = []
    owners: list[np.ndarray] = []
    for tag in np.unique(data[at[filled]]).tolist():  # one kind, except in files as Yu et al. 2019 published
        rows = filled[data[at[filled]] == tag]
        begin, list_end = _field(data, at[rows], tag)
        if tag & 7 != 2 or tag >> 3 not in _DECODE or (list_end != end[rows]).any():
            raise _Malformed
        some = list_end > begin
        rows, begin, list_end = rows[some], begin[some], list_end[some]
        count[rows], values = _DECODE[tag >> 3](data, begin, list_end)
        parts.append(values)
        owners.append(np.repeat(rows, count[rows]))
    if len(parts) <= 1:
        return count, parts[0] if parts else np.empty(0, np.float32)
    mixed = np.concatenate([part.astype(object) for part in parts])
    return count, mixed[np.argsort(np.concatenate(owners), kind="stable")]


def _packed(data: np.ndarray, at: np.ndarray, end: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Begin and end of each list's one packed run; every writer of Examples packs its numbers."""
    begin, run_end = _field(data, at, _FIELD_1)
    if (run_end != end).any():
        raise _Malformed
    return begin, run_end


def _floats(data: np.ndarray, at: np.ndarray, end: np.ndarray) -> _Values:
    begin, end = _packed(data, at, end)
    sizes = end - begin
    if (sizes % 4).any():
        raise _Malformed
    if (sizes == sizes[:1]).all():
        raw = _gather(data, begin, int(sizes[0]) if len(sizes) else 0)
    else:
        raw = data[_spans(begin, sizes)]
    return sizes // 4, np.ascontiguousarray(raw).reshape(-1).view("<f4")


def _integers(data: np.ndarray, at: np.ndarray, end: np.ndarray) -> _Values:
    begin, end = _packed(data, at, end)
    raw = data[_spans(begin, end - begin)]
    last = raw < 0x80  # the last byte of each integer
    if len(raw) and not last[-1]:
        raise _Malformed
    first = np.concatenate(([0], np.flatnonzero(last)[:-1] + 1)) if len(raw) else np.empty(0, np.int64)
    values, _ = _varints(raw, first)
    ends_before = np.concatenate(([0], np.cumsum(last)))
    edges = np.concatenate(([0], np.cumsum(end - begin)))
    return np.diff(ends_before[edges]), values


def _texts(data: np.ndarray, at: np.ndarray, end: np.ndarray) -> _Values:
    count = np.zeros(len(at), np.int64)
    values: list[bytes] = []
    owners: list[np.ndarray] = []
    row = np.arange(len(at))
    while len(at):
        begin, after = _field(data, at, _FIELD_1)
        if (after > end).any():
            raise _Malformed
        values += [data[start:stop].tobytes() for start, stop in zip(begin.tolist(), after.tolist(), strict=True)]
        owners.append(row)
        count[row] += 1
        left = after < end
        row, at, end = row[left], after[left], end[left]
    order = np.argsort(np.concatenate(owners), kind="stable") if owners else np.empty(0, np.int64)
    found = np.empty(len(values), object)
    found[:] = values
    return count, found[order]


def _spans(begin: np.ndarray, size: np.ndarray) -> np.ndarray:
    """The offsets begin, begin + 1, ... of every span, concatenated."""
    offset = np.repeat(begin - np.concatenate(([0], np.cumsum(size)[:-1])), size)
    return np.arange(int(size.sum())) + offset


_DECODE = {1: _texts, 2: _floats, 3: _integers}  # field numbers of Feature.kind
