"""View sets: what is written is what is read; sets appear atomically; damage is named."""

import json

import numpy as np
import pytest

from transit_cli.data import viewset
from transit_cli.data.viewset import ViewSet
from transit_cli.results import TransitError


def small(path, count=5, **changes):
    rng = np.random.default_rng(count)
    views = {"global": rng.normal(size=(count, 20)), "local": rng.normal(size=(count, 10))}
    tces = {
        "star": [f"KIC {n}" for n in range(count)],
        "period_days": rng.uniform(1, 9, count),
        "signal": ["01"] * count,
        "label": ["PC", "AFP", "NTP", "UNK", "J"][:count],
        "split": ["train"] * count,
        "extra_count": np.arange(count, dtype=float),
    } | changes
    return viewset.write(path, views, tces, {"bins": "20/10"}), views, tces


def test_what_is_written_is_what_is_read(tmp_path):
    found, views, tces = small(tmp_path / "set")
    assert len(found) == 5
    assert found.lengths == {"global": 20, "local": 10}
    for name, view in views.items():
        np.testing.assert_array_equal(found.views[name], view.astype(np.float32))
    np.testing.assert_array_equal(found.tces["period_days"], tces["period_days"])  # to the last digit
    assert list(found.tces)[: len(viewset.COLUMNS)] == list(viewset.COLUMNS)
    assert found.tces["signal"][0] == "01"
    assert np.isnan(found.tces["snr"]).all()
    assert list(found.splits) == ["train"] * 5
    assert not found.simulated
    assert found.dropped == {}


def test_views_are_mapped_not_read(tmp_path):
    found, _, _ = small(tmp_path / "set")
    assert isinstance(found.views["global"], np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        found.views["global"][0, 0] = 1


def test_the_same_set_has_the_same_bytes(tmp_path):
    small(tmp_path / "a")
    small(tmp_path / "b")
    for file in (tmp_path / "a").iterdir():
        assert file.read_bytes() == (tmp_path / "b" / file.name).read_bytes()


def test_dropped_rows_and_simulation_are_kept(tmp_path):
    views = {"global": np.zeros((1, 20)), "local": np.zeros((1, 10))}
    viewset.write(
        tmp_path / "set",
        views,
        {"star": ["x"]},
        {"simulated": True},
        {"star": ["a, b"], "reason": ["flat view"]},
    )
    found = ViewSet.open(tmp_path / "set")
    assert found.simulated
    assert list(found.dropped["reason"]) == ["flat view"]
    assert list(found.dropped["star"]) == ["a, b"]


def test_an_empty_set_can_be_opened(tmp_path):
    views = {"global": np.zeros((0, 20)), "local": np.zeros((0, 10))}
    found = viewset.write(tmp_path / "set", views, {"star": []}, {})
    assert len(found) == 0
    assert found.tces["star"].shape == (0,)


def test_nothing_is_left_when_writing_fails(tmp_path):
    with pytest.raises(ValueError, match="columns of"):
        small(tmp_path / "set", label=["PC"])  # a column too short
    assert list(tmp_path.iterdir()) == []


def test_an_existing_folder_is_not_overwritten(tmp_path):
    small(tmp_path / "set")
    with pytest.raises(TransitError, match="exists already"):
        small(tmp_path / "set")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: (path / "viewset.json").unlink(), "is not a view set"),
        (lambda path: (path / "viewset.json").write_text("{"), "is not valid JSON"),
        (lambda path: (path / "global.npy").unlink(), "global.npy cannot be read"),
        (lambda path: (path / "local.npy").write_bytes((path / "local.npy").read_bytes()[:-4]), "local.npy"),
        (lambda path: np.save(path / "local.npy", np.zeros((5, 9), np.float32)), r"holds \(5, 9\)"),
        (lambda path: np.save(path / "local.npy", np.zeros((5, 10))), "float64"),
        (lambda path: _rewrite(path, viewset=3), "version 3"),
        (lambda path: _rewrite(path, count=6), "not \\(6, 20\\)"),
    ],
)
def test_damage_is_named(tmp_path, damage, message):
    small(tmp_path / "set")
    damage(tmp_path / "set")
    with pytest.raises(TransitError, match=message) as error:
        ViewSet.open(tmp_path / "set")
    assert error.value.fix


def _rewrite(path, **changes):
    info = json.loads((path / "viewset.json").read_text())
    (path / "viewset.json").write_text(json.dumps(info | changes))


def test_a_table_of_another_length_is_named(tmp_path):
    found, _, _ = small(tmp_path / "set")
    lines = (tmp_path / "set/tces.csv").read_text().splitlines()
    (tmp_path / "set/tces.csv").write_text("\n".join(lines[:-1]))
    with pytest.raises(TransitError, match="has 4 rows"):
        _ = found.tces


def test_a_ragged_row_is_named_with_its_line(tmp_path):
    (tmp_path / "t.csv").write_text("a,b\n1,2\n3\n")
    with pytest.raises(TransitError, match=r"t\.csv:3 has 1 cells"):
        viewset.read_table(tmp_path / "t.csv")


def test_a_missing_folder_says_so(tmp_path):
    with pytest.raises(TransitError, match="does not exist"):
        ViewSet.open(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("count", -1),
        ("count", True),
        ("count", float("nan")),
        ("views", float("nan")),
        ("views", {}),
        ("views", {"global": "201"}),
        ("views", {"../global": 20}),
        ("recipe", "NaN"),
        ("recipe", {"simulated": {"a": 1}}),
        ("recipe", {"split_fractions": [0.5, 0.25]}),
        ("recipe", {"split_fractions": [0.5, {}, 0.25]}),
        ("recipe", {"split_fractions": 1e30}),
        ("sha256", [1, 2]),
        ("sha256", float("-inf")),
        ("sha256", {"tces.csv": 1}),
    ],
)
def test_a_value_of_the_wrong_kind_is_named(tmp_path, key, value):
    small(tmp_path / "set")
    _rewrite(tmp_path / "set", **{key: value})
    with pytest.raises(TransitError, match=key) as error:
        ViewSet.open(tmp_path / "set")
    assert error.value.code == "viewset-damaged"
