"""Sets in shards: the rows of one folder, whoever makes the shards, in any order; read as one set; damage is named."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import tests.data.test_prepare as prepared
from transit_cli.data.inspection import info
from transit_cli.data.settings import SimulateSettings
from transit_cli.data.shards.shard import Shard
from transit_cli.data.simulation import simulate
from transit_cli.data.storage.columns import Columns, Text, joined
from transit_cli.data.storage.stacked_rows import StackedRows
from transit_cli.data.storage.table_file import BLOCK, read_table, write_table
from transit_cli.data.viewset import ViewSet
from transit_cli.results import TransitError

survey = prepared.survey


def digests(folder):
    files = (file for file in folder.rglob("*") if file.is_file() and file.parent.name != "plan")
    return {str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def simulated(out, **options):
    return SimulateSettings(out=out, **{"tces": 14, "mission": "tess", "workers": 1} | options)


@pytest.fixture(scope="module")
def sharded(tmp_path_factory):
    return simulate.make(simulated(tmp_path_factory.mktemp("sharded") / "set", shards=4))


def assert_same_rows(one, other):
    assert len(one) == len(other)
    assert list(one.tces) == list(other.tces)
    for name, column in one.tces.items():
        np.testing.assert_array_equal(column, other.tces[name])
    for name, view in one.views.items():
        np.testing.assert_array_equal(view, other.views[name][:])


@given(total=st.integers(0, 10_000), count=st.integers(1, 500))
def test_shards_divide_the_work_evenly_and_in_order(total, count):
    parts = [Shard(number, count).part(total) for number in range(1, count + 1)]
    assert [part.start for part in parts] == [0, *(part.stop for part in parts[:-1])]
    assert parts[-1].stop == total
    sizes = [part.stop - part.start for part in parts]
    assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize("text", ["", "3", "0/4", "5/4", "a/b", "1/100000", "1/2/3"])
def test_a_shard_that_is_none_is_refused(text):
    with pytest.raises(TransitError, match="--shard is"):
        Shard.parse(text)


def test_simulated_shards_hold_the_rows_of_one_folder_and_are_one_set(tmp_path, sharded):
    single = simulate.make(simulated(tmp_path / "single"))
    assert_same_rows(single, sharded)
    assert sharded.labelled(("train",)).tolist() == single.labelled(("train",)).tolist()
    assert sharded.recipe == single.recipe
    assert info(sharded, check=True).exit_code == 0
    assert [len(shard) for shard in sharded.shards] == [3, 4, 3, 4]


def test_one_shard_after_another_in_any_order_gives_the_same_bytes(tmp_path, sharded):
    out = tmp_path / "set"
    lines = [simulate.simulate(simulated(out, shard=f"{number}/4")) for number in (3, 1, 3, 4, 2)]
    assert [line.data["missing_shards"] for line in lines] == [3, 2, 2, 1, 0]
    assert digests(out) == digests(sharded.path)


def test_other_options_and_other_sets_are_refused(tmp_path, sharded):
    for changes in ({"shard": "1/4", "seed": 1}, {"shard": "1/5"}, {"shards": 3}):
        with pytest.raises(TransitError, match="exists already"):
            simulate.make(simulated(sharded.path, **changes)) if "shards" in changes else simulate.simulate(
                simulated(sharded.path, **changes)
            )
    simulate.make(simulated(tmp_path / "single", tces=2))
    with pytest.raises(TransitError, match="exists already"):
        simulate.simulate(simulated(tmp_path / "single", shard="1/4"))


def exchange(one, other):
    one.rename(one.parent / "aside")
    other.rename(one)
    (one.parent / "aside").rename(other)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: (path / "shard-00002-of-00004/viewset.json").unlink(), "shard-00002-of-00004 cannot be read"),
        (lambda path: (path / "shard-00003-of-00004/local.npy").write_bytes(b""), "local.npy is too short"),
        (lambda path: exchange(path / "shard-00001-of-00004", path / "shard-00004-of-00004"), "not the shard"),
    ],
)
def test_damage_of_a_shard_is_named(tmp_path, damage, message):
    made = simulate.make(simulated(tmp_path / "set", tces=4, shards=4))
    damage(made.path)
    with pytest.raises(TransitError, match=message):
        ViewSet.open(made.path)


def test_an_edited_table_of_a_shard_counts_and_its_check_fails(tmp_path):
    made = simulate.make(simulated(tmp_path / "set", tces=4, shards=2))
    file = made.path / "shard-00002-of-00002/tces.csv"
    before = made.checksums()
    file.write_text(
        file.read_text()
        .replace(",J,", ",NTP,")
        .replace(",PC,", ",NTP,")
        .replace(",EB,", ",NTP,")
        .replace(",O,", ",NTP,")
    )
    again = ViewSet.open(made.path)
    with pytest.warns(UserWarning, match="edited after it was written"):
        assert again.labels[2:].tolist() == ["NTP"] * 2
    assert again.checksums() != before
    assert "shard-00002-of-00002/tces.csv" in next(c.found for c in info_checks(again) if c.name == "checksums")


def info_checks(views):
    from transit_cli.data.inspection import verify

    return verify(views)


def test_prepare_in_shards_gives_the_rows_and_drops_of_one_folder(survey):
    prepared.append(survey, (999, 3.0, 140, 3, 100, "PC"), (2, 300.0, 180, 3, 100, "PC"))
    prepared.run(survey, "single")
    prepared.run(survey, "all", shards=3)
    single, together = ViewSet.open(survey / "single"), ViewSet.open(survey / "all")
    assert_same_rows(single, together)
    assert sorted(single.dropped["reason"]) == sorted(together.dropped["reason"])
    for number in (2, 3, 1, 2):
        result = prepared.run(survey, "one by one", shard=f"{number}/3")
    assert result.data["missing_shards"] == 0
    assert digests(survey / "all") == digests(survey / "one by one")
    assert prepared.run(survey, "all", shards=3).data["tces"] == len(single)
    with pytest.raises(TransitError, match="another options"):
        prepared.run(survey, "all", shards=3, secondary=True)
    prepared.append(survey, (3, 3.0, 140, 3, 100, "PC"))
    with pytest.raises(TransitError, match="another catalog"):
        prepared.run(survey, "all", shard="1/3")


def test_a_changed_light_curve_is_noticed(survey):
    prepared.run(survey, "set", shards=2)
    file = next((survey / "curves").rglob("*.fits"))
    os.utime(file, ns=(1, 1))
    with pytest.raises(TransitError, match="another light curves"):
        prepared.run(survey, "set", shards=2)


@given(counts=st.lists(st.integers(0, 5), min_size=1, max_size=6), data=st.data())
@settings(max_examples=40, deadline=None)
def test_stacked_rows_are_indexed_as_one_array(tmp_path_factory, counts, data):
    folder = tmp_path_factory.mktemp("rows")
    parts = [np.random.default_rng(n).normal(size=(count, 3)).astype(np.float32) for n, count in enumerate(counts)]
    for number, part in enumerate(parts):
        np.save(folder / f"{number}.npy", part)
    whole, total = np.concatenate(parts), sum(counts)
    rows = StackedRows([folder / f"{number}.npy" for number in range(len(counts))], counts, 3)
    assert rows.shape == whole.shape
    begin, end, step = (data.draw(st.integers(-total - 1, total + 1)) for _ in range(2)), None, 1
    begin, end = begin
    step = data.draw(st.sampled_from([1, 2, -1]))
    np.testing.assert_array_equal(rows[begin:end:step], whole[begin:end:step])
    if total:
        index = np.array(data.draw(st.lists(st.integers(-total, total - 1), max_size=9)), int)
        np.testing.assert_array_equal(rows[index], whole[index])
        np.testing.assert_array_equal(rows[int(index[0]) if len(index) else 0], whole[index[0] if len(index) else 0])
    np.testing.assert_array_equal(np.asarray(rows), whole)


@given(parts=st.lists(st.lists(st.sampled_from(["", "a", "b", "é"]), max_size=6), min_size=1, max_size=4))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_columns_of_text_are_what_numpy_makes_of_them(parts):
    tables = [Columns({"t": Text.of(part), "n": np.arange(len(part)) * 1.0}) for part in parts]
    whole, flat = joined(tables), [cell for part in parts for cell in part]
    assert whole["t"].tolist() == flat
    names, codes = whole.unique("t")
    expected, places = np.unique(np.array(flat, str), return_inverse=True)
    assert names.tolist() == expected.tolist()
    assert codes.tolist() == places.tolist()
    assert joined([whole, Columns({"other": Text.of(["x"])})])["t"].tolist() == [*flat, ""]


def test_a_long_table_is_read_as_it_was_written_though_words_come_late(tmp_path):
    rows = 2 * BLOCK + 3
    late = ["1"] * rows
    late[-1] = "word"
    numbers = np.arange(rows) / 7
    write_table(tmp_path / "t.csv", {"star": Text.of([f"S {n}" for n in range(rows)]), "x": numbers, "late": late})
    found = read_table(tmp_path / "t.csv")
    np.testing.assert_array_equal(found["x"], numbers)
    assert found["late"].tolist() == late
    assert found["star"][-1] == f"S {rows - 1}"


@pytest.mark.torture
def test_killed_workers_and_commands_leave_the_same_bytes(tmp_path):
    options = ["--tces", "120", "--mission", "tess", "--shards", "12"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}

    def command(out, workers):
        line = [sys.executable, "-m", "transit_cli", "data", "simulate", out, *options, "--workers", str(workers)]
        return subprocess.Popen(line, env=environment, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)

    begin = time.monotonic()
    assert command(str(tmp_path / "whole"), 1).wait() == 0
    seconds, kills = time.monotonic() - begin, 0
    while True:
        process = command(str(tmp_path / "killed"), 1 + kills % 2)
        try:
            process.wait(timeout=seconds * (0.6 + 0.1 * kills))
            break
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            kills += 1
            time.sleep(0.2)
    assert kills
    assert digests(tmp_path / "killed") == digests(tmp_path / "whole")
    assert json.loads((tmp_path / "killed/viewset.json").read_text())["count"] == 120
