"""Saved networks: what is damaged or not trusted is refused by name, and nothing is executed."""

import json
import struct

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from transit_cli.model import card, registry, saved
from transit_cli.model.card import Card
from transit_cli.results import TransitError

VIEWS = {"global": 32, "local": 16}
EVIL = "from pathlib import Path\nPath(__file__).with_suffix('.executed').touch()\n"


def save(file, network="two-branch", **changes):
    torch.manual_seed(0)
    states = [registry.build("two-branch", VIEWS, 1).state_dict() for _ in range(2)]
    scalars = [{"column": "snr", "log": True, "center": 1.0, "scale": 0.5}]
    saved.save(file, states, Card(network, VIEWS, ["PC"], **{"members": 2, "scalars": scalars} | changes))
    return file


@pytest.fixture(scope="module")
def content(tmp_path_factory):
    return save(tmp_path_factory.mktemp("saved") / saved.FILE).read_bytes()


def header_of(content):
    (length,) = struct.unpack("<Q", content[:8])
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def with_card(content, change):
    """The file with another card, its checksum left as it was unless the card is of version 1."""
    header, tensors = header_of(content)
    values = json.loads(header["__metadata__"]["transit"])
    header["__metadata__"]["transit"] = change(values)
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + tensors


def refused(tmp_path, content):
    file = tmp_path / saved.FILE
    file.write_bytes(content)
    with pytest.raises(TransitError) as caught:
        saved.load(file)
    return caught.value


def test_what_was_saved_is_loaded(content, tmp_path):
    (tmp_path / saved.FILE).write_bytes(content)
    networks, found = saved.load(tmp_path / saved.FILE)
    torch.manual_seed(0)
    for network in networks:
        expected = registry.build("two-branch", VIEWS, 1).state_dict()
        assert all(torch.equal(value, expected[name]) for name, value in network.state_dict().items())
    assert (found.members, found.version) == (2, card.VERSION)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("members", 0), ("members", "2"), ("members", True), ("members", 3), ("members", 10**9),
        ("target", "PC"), ("target", []), ("target", [1]),
        ("views", {}), ("views", {"global": -1}), ("views", {"global": 2.5}), ("views", ["global"]), ("views", None),
        ("network", "astronet"), ("views", {"local": 16, "global": 32}),
        ("scalars", [{}]), ("scalars", "snr"), ("scalars", []),
        ("scalars", [{"column": "snr", "log": True, "center": float("nan"), "scale": 1}]),
        ("scalars", [{"column": "snr", "log": True, "center": 0, "scale": 0}]),
        ("folds", [1]), ("folds", {}), ("network", None), ("network", ""), ("network", "no-such"),
        ("trained_on", 5), ("trained_on", "\ud800"), ("simulated", "yes"), ("figures", []), ("version", 99), ("version", None),
    ],
)  # fmt: skip
def test_a_card_with_a_bad_value_is_refused(content, tmp_path, name, value):
    """Also in files of version 1, which have no checksum that would notice."""
    changed = with_card(content, lambda values: json.dumps(values | {"version": 1, name: value}))
    assert refused(tmp_path, changed).code in {"model-unusable", "network-unknown", "network-unusable"}


@pytest.mark.parametrize(
    "text", ["", "null", "[]", "5", "{", "[" * 100_000, '{"version": 1}', '{"network": ' + "9" * 5000 + "}"]
)
def test_a_card_that_is_no_card_is_refused(content, tmp_path, text):
    assert refused(tmp_path, with_card(content, lambda _: text)).code == "model-unusable"


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_changed_byte_goes_unnoticed(content, tmp_path, data):
    place = data.draw(st.integers(0, len(content) - 1))
    change = data.draw(st.integers(1, 255))
    damaged = bytearray(content)
    damaged[place] ^= change
    error = refused(tmp_path, bytes(damaged))
    assert error.found


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(length=st.integers(0, 30_000))
def test_a_cut_file_is_refused(content, tmp_path, length):
    refused(tmp_path, content[:length])


def test_lengths_that_would_need_gigabytes_are_refused_before_they_are_allocated(tmp_path):
    state = registry.build("astronet", {"global": 125}).state_dict()
    file = tmp_path / saved.FILE
    saved.save(file, [state], Card("astronet", {"global": 10**6}, ["PC"]))
    with pytest.raises(TransitError, match="does not fit the network"):
        saved.load(file)


def test_weights_that_are_not_finite_are_refused(tmp_path):
    states = [registry.build("two-branch", VIEWS).state_dict()]
    next(iter(states[0].values())).view(-1)[0] = float("nan")
    saved.save(tmp_path / saved.FILE, states, Card("two-branch", VIEWS, ["PC"]))
    with pytest.raises(TransitError, match="not finite"):
        saved.load(tmp_path / saved.FILE)


def test_a_python_file_is_executed_only_if_it_is_trusted(tmp_path):
    (tmp_path / "net.py").write_text(EVIL + "from transit_cli.model.two_branch import build\n")
    file = save(tmp_path / saved.FILE, "net.py:build")
    with pytest.raises(TransitError, match=r"net\.py") as caught:
        saved.load(file)
    assert caught.value.code == "network-untrusted"
    assert "--trust" in caught.value.fix
    assert saved.read(file)[0].network == "net.py:build"
    assert not (tmp_path / "net.executed").exists()
    saved.load(file, trust=True)
    assert (tmp_path / "net.executed").exists()


@pytest.mark.parametrize("place", ["absolute", "parent", "folder", "current", "missing"])
@pytest.mark.parametrize("trust", [False, True])
def test_a_python_file_elsewhere_is_never_executed(tmp_path, monkeypatch, place, trust):
    run = tmp_path / "run"
    (run / "sub").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    source, name = {
        "absolute": (tmp_path / "evil.py", f"{tmp_path}/evil.py:build"),
        "parent": (tmp_path / "evil.py", "../evil.py:build"),
        "folder": (run / "sub" / "evil.py", "sub/evil.py:build"),
        "current": (tmp_path / "evil.py", "evil.py:build"),
        "missing": (tmp_path / "other.py", "evil.py:build"),
    }[place]
    source.write_text(EVIL)
    file = save(run / saved.FILE, name)
    with pytest.raises(TransitError) as caught:
        saved.load(file, trust=trust)
    assert caught.value.code == "model-unusable"
    assert not list(tmp_path.rglob("*.executed"))
