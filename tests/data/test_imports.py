"""Views of other programs become a view set: recognised, mapped, or listed."""

import json

import h5py
import numpy as np
import pytest
import tfrecord_writer as writer

from transit_cli.data.catalogs.importer import import_views
from transit_cli.data.settings import ImportSettings
from transit_cli.data.split import split_of
from transit_cli.data.viewset import ViewSet
from transit_cli.results import TransitError


def views(rows, length, seed=0):
    view = np.random.default_rng(seed).normal(size=(rows, length)).astype(np.float32)
    view -= np.median(view, axis=1, keepdims=True)
    return view / -view.min(axis=1, keepdims=True)


def npz(path, rows=6, **extra):
    arrays = {"xg": views(rows, 31), "xl": views(rows, 11, 1), "y": np.arange(rows) % 2} | extra
    np.savez(path, **arrays)
    return arrays


def run(out, *files, **options):
    return import_views(ImportSettings(files=tuple(files), out=out, **options))


def test_the_names_of_the_guide(tmp_path):
    arrays = npz(tmp_path / "a.npz", kepid=1 + np.arange(6) // 2)
    result = run(tmp_path / "set", tmp_path / "a.npz")
    made = ViewSet.open(tmp_path / "set")
    assert np.array_equal(made.views["global"], arrays["xg"])
    assert np.array_equal(made.views["local"], arrays["xl"])
    assert made.labels.tolist() == ["J", "PC"] * 3
    assert made.tces["star"].tolist() == [f"KIC {1 + row // 2}" for row in range(6)]
    assert made.tces["signal"].tolist() == ["1", "2"] * 3
    assert made.splits.tolist() == [split_of(star) for star in made.tces["star"]]
    assert any("1 -> PC (3)" in text for text in result.data["notes"])


def test_npy_files_lie_side_by_side(tmp_path):
    for name, array in {"global_view": views(4, 31)[:, None, :], "local_view": views(4, 11)[:, :, None]}.items():
        np.save(tmp_path / f"{name}.npy", array)
    np.save(tmp_path / "label.npy", np.array(["PC", "junk", "eb", "AFP"]))
    run(tmp_path / "set", tmp_path)
    made = ViewSet.open(tmp_path / "set")
    assert made.lengths == {"global": 31, "local": 11}
    assert made.labels.tolist() == ["PC", "J", "EB", "AFP"]


def test_hdf5_with_groups_and_names_that_must_be_told(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["data/long"], file["data/short"] = views(3, 40), views(3, 9)
        file["data/what"] = [b"planet", b"blend", b"planet"]
    with pytest.raises(TransitError) as error:
        run(tmp_path / "set", tmp_path / "a.h5")
    assert "data/long (40 numbers)" in error.value.wanted
    assert "--map global=NAME,local=NAME" in error.value.fix
    told = ("global=data/long", "local=data/short", "label=data/what")
    with pytest.raises(TransitError, match="'blend'"):
        run(tmp_path / "set", tmp_path / "a.h5", map=told)
    run(tmp_path / "set", tmp_path / "a.h5", map=told, labels=("blend=EB",))
    assert ViewSet.open(tmp_path / "set").labels.tolist() == ["PC", "EB", "PC"]


@pytest.mark.parametrize(
    ("map_", "words"),
    [("global=xgg", "xgg"), ("global=y", "it is number"), ("glob=xg", "CANONICAL"), ("global", "CANONICAL")],
)
def test_a_wrong_map_names_what_is_possible(tmp_path, map_, words):
    npz(tmp_path / "a.npz")
    with pytest.raises(TransitError) as error:
        run(tmp_path / "set", tmp_path / "a.npz", map=(map_,))
    assert words in error.value.found + error.value.wanted + error.value.fix


def test_rows_no_network_can_use_are_dropped_with_their_reason(tmp_path):
    arrays = npz(tmp_path / "a.npz")
    arrays["xg"][1, 3], arrays["xl"][4] = np.nan, 0
    np.savez(tmp_path / "a.npz", **arrays)
    result = run(tmp_path / "set", tmp_path / "a.npz")
    made = ViewSet.open(tmp_path / "set")
    assert len(made) == 4
    assert result.data["dropped"] == 2
    reasons = dict(zip(made.dropped["star"], made.dropped["reason"], strict=True))
    assert reasons == {"row 1": "global view has values that are not finite", "row 4": "flat local view"}


def test_units_are_recognised_and_reported(tmp_path):
    npz(tmp_path / "a.npz", Period=np.full(6, 3.5, np.float32), Duration=np.full(6, 0.125), depth=np.full(6, 0.01))
    result = run(tmp_path / "set", tmp_path / "a.npz")
    tces = ViewSet.open(tmp_path / "set").tces
    assert tces["duration_hours"].tolist() == [3.0] * 6
    assert tces["depth_ppm"].tolist() == [10_000] * 6
    assert any("duration from Duration: days" in text for text in result.data["notes"])


def test_shards_with_different_views_are_refused(tmp_path):
    npz(tmp_path / "a.npz")
    np.savez(tmp_path / "b.npz", xg=views(2, 30), xl=views(2, 11))
    with pytest.raises(TransitError, match=r"b\.npz has views of global 30"):
        run(tmp_path / "set", tmp_path)


def test_arrays_of_different_lengths_are_refused(tmp_path):
    npz(tmp_path / "a.npz", kepid=np.arange(5))
    with pytest.raises(TransitError, match="kepid 5"):
        run(tmp_path / "set", tmp_path / "a.npz")


def test_duplicates_are_marked_and_kept(tmp_path):
    view = views(4, 31)[[0, 1, 0, 0]]
    np.savez(tmp_path / "a.npz", xg=view, xl=views(4, 11), tic_id=[7, 8, 7, 9])
    result = run(tmp_path / "set", tmp_path / "a.npz")
    assert ViewSet.open(tmp_path / "set").tces["duplicate"].tolist() == [0, 0, 1, 0]
    assert result.data["duplicates"] == 1


def test_the_published_split_is_by_file_name(tmp_path):
    for part in ("train-0", "train-1", "val", "x_test"):
        npz(tmp_path / f"{part}.npz", kepid=1 + np.arange(6))
    result = run(tmp_path / "set", tmp_path, split="published")
    made = ViewSet.open(tmp_path / "set")
    assert [int((made.splits == part).sum()) for part in ("train", "val", "test")] == [12, 6, 6]
    assert result.data["stars_in_several_parts"] == 6
    assert "6 stars" in result.warnings[0]
    npz(tmp_path / "other.npz", kepid=1 + np.arange(6))
    with pytest.raises(TransitError, match=r"other\.npz does not say"):
        run(tmp_path / "set2", tmp_path, split="published")


def test_astronet_records_from_the_command_line(tmp_path, forked_transit):
    for shard in range(2):
        rows = [
            {
                "global_view": [float(v) for v in views(1, 31, row)[0]],
                "local_view": [float(v) for v in views(1, 11, row)[0]],
                "kepid": [757450 + shard],
                "tce_plnt_num": [row + 1],
                "av_training_set": [(b"PC", b"AFP", b"NTP", b"UNK")[row]],
                "tce_period": [8.884923],
                "tce_time0bk": [134.452],
                "tce_duration": [0.0864],
            }
            for row in range(4)
        ]
        (tmp_path / f"train-{shard:05}-of-00002").write_bytes(writer.tfrecord(rows))
    files = sorted(tmp_path.glob("train-*"))
    done = forked_transit("data", "import", *files, tmp_path / "set", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["data"]["tces"] == 8
    tces = ViewSet.open(tmp_path / "set").tces
    assert tces["label"].tolist() == ["PC", "AFP", "NTP", "UNK"] * 2
    assert tces["star"].tolist() == ["KIC 757450"] * 4 + ["KIC 757451"] * 4
    assert tces["period_days"][0] == 8.884923
    assert tces["time_system"][0] == "BKJD"
    assert tces["duration_hours"][0] == pytest.approx(2.0736)
    again = forked_transit("data", "import", *files, tmp_path / "set")
    assert again.returncode == 4
    assert "exists already" in again.stderr


@pytest.mark.parametrize(
    ("content", "words"), [(None, "does not exist"), (b"hello", "none of these"), (b"PK\x03\x04 cut", "cannot be read")]
)
def test_what_cannot_be_read_is_named(tmp_path, content, words):
    file = tmp_path / ("a.npz" if content and content[:2] == b"PK" else "a.txt")
    if content:
        file.write_bytes(content)
    with pytest.raises(TransitError, match=words):
        run(tmp_path / "set", file)


def test_the_published_tess_set(tmp_path, shared_data):
    result = run(tmp_path / "set", shared_data / "tess_yu2019")
    made = ViewSet.open(tmp_path / "set")
    assert made.lengths == {"global": 201, "local": 61, "secondary": 61}
    counts = {label: int((made.labels == label).sum()) for label in ("PC", "EB", "J")}
    assert counts == {"PC": 443, "EB": 1924, "J": 12431}
    assert result.data["duplicates"] == 432
    assert result.data["stars_in_several_parts"] == 0
    assert any("Transit_Depth is mostly negative" in text for text in result.data["notes"])
    row = int(np.flatnonzero(made.tces["row_id"] == 5278)[0])
    assert made.tces["period_days"][row] == 1.378893
    assert made.tces["duration_hours"][row] == pytest.approx(0.15628374 * 24)


def test_a_view_set_is_not_imported_again(tmp_path):
    """Its arrays alone would lose the labels and stars of tces.csv."""
    (tmp_path / "views").mkdir()
    (tmp_path / "views" / "viewset.json").write_text("{}")
    with pytest.raises(TransitError, match="is a view set already") as error:
        import_views(ImportSettings(files=(tmp_path / "views",), out=tmp_path / "x"))
    assert error.value.fix.startswith(f"transit train {tmp_path / 'views'}")
