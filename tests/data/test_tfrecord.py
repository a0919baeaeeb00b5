"""TFRecords are read exactly, and damage is named."""

import gzip

import numpy as np
import pytest
import tfrecord_writer as writer
from hypothesis import given, settings
from hypothesis import strategies as st

from transit_cli.data.catalogs.tfrecord import is_tfrecord, read
from transit_cli.results import TransitError

#: {"a": int64 [1, -1, 300], "b": float [1.5, -0.25], "label": bytes ["PC", "EB"], "none": no kind at all}, as Google's
#: protobuf 7.36 serialises the tf.train.Example; and the record around it.
GOLDEN = (
    "0a4a0a160a016112111a0f0a0d01ffffffffffffffffff01ac020a110a0162120c120a0a080000c03f000080be"
    "0a130a056c6162656c120a0a080a0250430a0245420a080a046e6f6e651200"
)
GOLDEN_RECORD = bytes.fromhex("4c00000000000000f5d4a2a0" + GOLDEN + "3814b8dc")

VIEWS = [{"global_view": [0.5, -1.0, 0.25], "kepid": [11442793 + i], "label": [b"PC"]} for i in range(5)]


def test_an_example_as_protobuf_serialises_it(tmp_path):
    (tmp_path / "r").write_bytes(GOLDEN_RECORD * 3)
    found = read(tmp_path / "r")
    assert {name: feature.length for name, feature in found.items()} == {"a": 3, "b": 2, "label": 2, "none": 0}
    assert found["a"].values.tolist() == [1, -1, 300] * 3
    assert found["b"].values.tolist() == [1.5, -0.25] * 3
    assert found["label"].values.tolist() == [b"PC", b"EB"] * 3


names = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20)
floats = st.lists(st.floats(width=32, allow_nan=False), max_size=40)
values = (
    floats | st.lists(st.integers(-(2**63), 2**63 - 1), max_size=40) | st.lists(st.binary(max_size=300), max_size=4)
)
examples = st.lists(st.dictionaries(names, values, max_size=8), min_size=1, max_size=6)


@settings(max_examples=150, deadline=None)
@given(examples, st.randoms())
def test_whatever_is_written_is_read(tmp_path_factory, rows, random):
    shuffled = [dict(random.sample(sorted(row.items()), len(row))) for row in rows]  # a map has no order
    file = tmp_path_factory.mktemp("r") / "rows"
    file.write_bytes(writer.tfrecord(shuffled))
    found = read(file)
    assert set(found) == {name for row in rows for name in row}
    for name, feature in found.items():
        assert feature.counts.tolist() == [len(row.get(name, [])) for row in rows]
        assert feature.values.tolist() == [value for row in rows for value in row.get(name, [])]


def test_gzip_is_seen_through(tmp_path):
    (tmp_path / "r").write_bytes(gzip.compress(writer.tfrecord(VIEWS)))
    assert is_tfrecord(tmp_path / "r")
    assert read(tmp_path / "r")["kepid"].values.tolist() == [11442793 + i for i in range(5)]


def test_every_damaged_byte_is_found_and_its_record_named(tmp_path):
    whole = writer.tfrecord(VIEWS)
    size = len(whole) // len(VIEWS)
    for place in range(0, len(whole), 7):
        data = bytearray(whole)
        data[place] ^= 0x20
        (tmp_path / "r").write_bytes(data)
        with pytest.raises(TransitError, match=rf"record {place // size}\b"):
            read(tmp_path / "r")


@pytest.mark.parametrize("missing", [1, 3, 4, 5, 30])
def test_a_cut_file_is_found(tmp_path, missing):
    (tmp_path / "r").write_bytes(writer.tfrecord(VIEWS)[:-missing])
    with pytest.raises(TransitError, match="ends within record 4"):
        read(tmp_path / "r")


@pytest.mark.parametrize(
    "body", [b"\x12\x00", b"\x0a\x05\x0a", b"hello", b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"]
)
def test_records_of_something_else_are_refused(tmp_path, body):
    (tmp_path / "r").write_bytes(writer.record(body))
    with pytest.raises(TransitError, match="TFRecords, but not of"):
        read(tmp_path / "r")


def test_other_files_are_not_taken_for_tfrecords(tmp_path):
    for content in (b"", b"short", b"\x1f\x8b damaged gzip", b"star,label\nKIC 1,PC\n", b"\x93NUMPY" + bytes(100)):
        (tmp_path / "other").write_bytes(content)
        assert not is_tfrecord(tmp_path / "other")


def test_the_published_tess_set(shared_data):
    found = read(shared_data / "tess_yu2019" / "val-00000-of-00001")
    assert {found[name].length for name in ("global_view", "local_view", "secondary_view")} == {201, 61}
    assert len(found["tic_id"].values) == 1648
    views = found["global_view"].values.reshape(-1, 201)
    assert np.allclose(np.median(views, axis=1), 0, atol=1e-6)
    assert np.allclose(views.min(axis=1), -1)
    assert set(found["Disposition"].values) == {b"PC", b"EB", b"J"}
    assert {type(value) for value in found["toi_id"].values} == {float, bytes}  # the authors mixed the two
