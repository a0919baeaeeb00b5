"""JSON from outside: any bytes give a typed value or a `TransitError`."""

import json
import os
import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transit_cli.config import Range
from transit_cli.parsing import schema
from transit_cli.results import TransitError

SOURCE = schema.Source("a.json", "a file of this test", "write it again", "test-damaged")


@dataclass(frozen=True)
class Inner:
    name: str
    count: Annotated[int, Range(0, 10)] = 1


@dataclass(frozen=True)
class Everything:
    kind: Literal["one", "two", 3]
    inner: Inner
    pair: tuple[int, str]
    numbers: Annotated[tuple[float, ...], schema.NotEmpty()]
    table: dict[str, Inner]
    path: Path | None = None
    either: int | str = 0
    passing: Annotated[bool, schema.Key("pass")] = False
    anything: Any = None
    names: tuple[str, ...] = field(default=())


GOOD = {
    "kind": "two",
    "inner": {"name": "a", "count": 3, "of a later version": 1},
    "pair": [1, "b"],
    "numbers": [1, 2.5],
    "table": {"x": {"name": "ä"}},
    "path": "a/b",
    "either": "text",
    "pass": True,
    "anything": {"a": [None]},
}


def changed(**changes):
    return json.dumps(GOOD | changes)


def parsed(text, kind=Everything):
    return schema.parse(text, kind, SOURCE)


def test_a_document_becomes_typed_values():
    found = parsed(json.dumps(GOOD))
    assert found == Everything(
        "two", Inner("a", 3), (1, "b"), (1.0, 2.5), {"x": Inner("ä")}, Path("a/b"), "text", True, {"a": [None]}
    )
    assert type(found.numbers[0]) is float


@pytest.mark.parametrize(
    ("text", "found", "wanted"),
    [
        (changed(inner={"name": "a", "count": 11}), "inner.count: 11", "0 <= x <= 10"),
        (changed(inner={"name": 1}), "inner.name: 1", "text"),
        (changed(inner={}), "inner: no 'name'", "the key 'name'"),
        (changed(inner=[]), "inner: a list", "an object"),
        (changed(pair=[1]), "pair: a list of 1", "a list of 2"),
        (changed(pair=[1, 2]), "pair[1]: 2", "text"),
        (changed(numbers=[]), "numbers: nothing", "at least one"),
        (changed(numbers=[1, "2"]), "numbers[1]: '2'", "a number"),
        (changed(numbers=[float("nan")]), "numbers[0]: nan", "a number"),
        (changed(numbers=[10**400]), "numbers[0]: 1000", "a number"),
        (changed(numbers=[True]), "numbers[0]: True", "a number"),
        (changed(kind="3"), "kind: '3'", "one or two or 3"),
        (changed(table={"x": None}), "table.x: nothing", "an object"),
        (changed(path="a\0b"), "path:", "a path"),
        (changed(either=1.5), "either: 1.5", "a whole number or text"),
        (changed(**{"pass": 1}), "pass: 1", "true or false"),
        ("[]", "has a list", "an object"),
        ("null", "has nothing", "an object"),
        ("{", "not valid JSON", "a file of this test"),
        ("[" * 100_000, "nested too deeply", "a file of this test"),
        (changed(kind="two", anything="\ud800"), "not valid JSON", "a file of this test"),
        ('{"kind": ' + "9" * 5000 + "}", "not valid JSON", "a file of this test"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(text, found, wanted):
    with pytest.raises(TransitError) as refused:
        parsed(text)
    assert found in refused.value.found
    assert wanted in refused.value.wanted
    assert refused.value.code == "test-damaged"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text() | st.sampled_from(sorted(GOOD)), inner),
    max_leaves=8,
)


@given(st.fixed_dictionaries({}, optional={key: JSON | st.just(value) for key, value in GOOD.items()}) | JSON)
def test_any_json_is_a_value_or_a_typed_error(value):
    try:
        assert isinstance(parsed(json.dumps(value)), Everything)
    except TransitError as refused:
        refused.found.encode()


def test_any_bytes_of_a_file_are_a_value_or_a_typed_error(tmp_path):
    file, moments = tmp_path / "a.json", random.Random(1)
    for _ in range(1000):
        content = bytearray(json.dumps(GOOD).encode())
        for _ in range(moments.randint(1, 4)):
            content[moments.randrange(len(content))] = moments.randrange(256)
        file.write_bytes(content[: moments.randint(1, 2 * len(content))])
        try:
            assert isinstance(schema.read(file, Everything, SOURCE), Everything)
        except TransitError as refused:
            refused.found.encode()


def test_files_that_would_block_or_fill_memory_are_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(TransitError, match="is not a regular file"):
        schema.read(tmp_path / "pipe", Inner, SOURCE)
    with (tmp_path / "large").open("wb") as stream:
        stream.truncate(schema.MAX_BYTES + 1)
    with pytest.raises(TransitError, match="bytes"):
        schema.read(tmp_path / "large", Inner, SOURCE)
    with pytest.raises(TransitError, match="is a folder"):
        schema.read(tmp_path, Inner, SOURCE)
    with pytest.raises(TransitError, match="No such file"):
        schema.read(tmp_path / "absent", Inner, SOURCE)


def test_a_byte_order_mark_is_accepted(tmp_path):
    (tmp_path / "a").write_bytes(b'\xef\xbb\xbf{"name": "x"}')
    assert schema.read(tmp_path / "a", Inner, SOURCE) == Inner("x")
