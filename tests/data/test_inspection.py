"""`transit data info`: counts are right, and every planted fault is found by its check."""

import json

import numpy as np
import pytest

from transit_cli.data import viewset
from transit_cli.data.inspection import info, verify
from transit_cli.data.split import split
from transit_cli.data.viewset import ViewSet

COUNT = 40


@pytest.fixture
def make(tmp_path):
    def make(change=lambda views, tces: None, recipe=None):
        rng = np.random.default_rng(0)
        views = {"global": rng.normal(size=(COUNT, 30)), "local": rng.normal(size=(COUNT, 12))}
        for name, view in views.items():
            centred = view - np.median(view, axis=1, keepdims=True)
            views[name] = centred / -centred.min(axis=1, keepdims=True)
        stars = np.array([f"KIC {n // 2}" for n in range(COUNT)])
        tces = {
            "star": stars,
            "period_days": rng.uniform(1, 9, COUNT),
            "epoch_days": rng.uniform(100, 109, COUNT),
            "duration_hours": np.full(COUNT, 3.0),
            "label": np.where(np.arange(COUNT) % 4, "AFP", "PC"),
            "split": split(stars).astype("U9"),
        }
        change(views, tces)
        dropped = {"star": ["KIC 7"], "reason": ["flat view"]}
        return viewset.write(tmp_path / "set", views, tces, recipe or {}, dropped)

    return make


def statuses(views):
    return {check.name: check.status for check in verify(views)}


def test_a_good_set_passes_every_check(make):
    assert set(statuses(make()).values()) == {"ok"}


def test_counts(make):
    data = info(make(), check=True).data
    assert data["tces"] == COUNT
    assert data["stars"] == COUNT // 2
    assert sum(data["labels"]["PC"].values()) == COUNT // 4
    assert list(data["labels"]) == ["PC", "AFP"]
    assert data["dropped"] == {"flat view": 1}
    assert data["view_statistics"]["global"]["minimum"] == pytest.approx(-1)


def put(column, row, value):
    return lambda views, tces: tces[column].__setitem__(row, value)


def other_split(views, tces):
    tces["split"][0] = "test" if tces["split"][0] != "test" else "val"


@pytest.mark.parametrize(
    ("change", "check", "status"),
    [
        (lambda views, tces: views["global"].__setitem__((3, 4), np.nan), "finite", "fail"),
        (lambda views, tces: views["local"].__imul__(2.0), "normalised", "warn"),
        (other_split, "split by star", "fail"),
        (put("split", 0, "holdout"), "split by star", "fail"),
        (lambda views, tces: tces["split"].fill("train"), "split by hash", "warn"),
        (put("label", 2, "XY"), "labels", "fail"),
        (put("duration_hours", 1, 24 * 10.0), "signals", "warn"),
        (put("period_days", 1, np.nan), "signals", "warn"),
        (lambda views, tces: [view.__setitem__(1, view[0]) for view in views.values()], "distinct", "warn"),
    ],
)
def test_a_planted_fault_is_found(make, change, check, status):
    views = make(change)
    assert statuses(views)[check] == status
    assert int(info(views, check=True).exit_code) == (status == "fail")


@pytest.mark.filterwarnings("ignore:.*was edited after it was written")
@pytest.mark.parametrize(
    ("name", "was", "becomes"),
    [
        ("global.npy", b"\x00\x00\x80\xbf", b"\x01\x00\x80\xbf"),
        ("tces.csv", b"AFP", b"NTP"),
        ("dropped.csv", b"7", b"8"),
    ],
)
def test_a_changed_file_is_found(make, name, was, becomes):
    views = make()
    file = views.path / name
    assert was in file.read_bytes()
    file.write_bytes(file.read_bytes().replace(was, becomes, 1))
    assert statuses(ViewSet.open(views.path))["checksums"] == "fail"


def test_repeated_rows_and_leaks_are_warned_of(make):
    def change(views, tces):
        for name in ("star", "period_days", "epoch_days"):
            tces[name][1] = tces[name][0]
        other_split(views, tces)

    result = info(make(change))
    assert any("more than one split" in text for text in result.warnings)
    assert any("1 rows repeat" in text for text in result.warnings)


def test_simulated_sets_are_labelled_wherever_they_are_shown(make):
    result = info(make(recipe={"simulated": True}))
    assert "simulated" in result.verdict
    assert "simulated" in result.blocks[0].title
    assert result.data["simulated"] is True


def test_the_command_answers_and_fails_with_its_codes(make, forked_transit, tmp_path):
    views = make(put("label", 2, "XY"))
    found = forked_transit("data", "info", views.path, "--check", "--json")
    assert found.returncode == 1
    assert json.loads(found.stdout)["data"]["tces"] == COUNT
    missing = forked_transit("data", "info", tmp_path / "nothing")
    assert missing.returncode == 4
    assert "to fix" in missing.stderr
