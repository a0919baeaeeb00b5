"""Parquet files with one light curve per row: the views of the files that they were made from, read once, or refused."""

import numpy as np
import pytest

import tests.data.test_prepare as prepared
from tests.data.bulk_maker import write
from transit_cli.data import bulk
from transit_cli.data.file_check import check
from transit_cli.data.lightcurves import readers
from transit_cli.data.lightcurves.file_index import FileIndex
from transit_cli.data.prepare import prepare
from transit_cli.data.settings import CheckSettings, PrepareSettings
from transit_cli.data.viewset import ViewSet
from transit_cli.results import TransitError

pytest.importorskip("pyarrow")
survey = prepared.survey


def views_of(folder, light_curves, out, **changes):
    settings = {"bins": "201/61", "workers": 1} | changes
    prepare(PrepareSettings(catalog=folder / "tces.csv", light_curves=light_curves, out=folder / out, **settings))
    return ViewSet.open(folder / out)


@pytest.mark.parametrize("nested", [False, True])
def test_the_rows_of_a_file_give_the_views_of_the_files_that_they_were_made_from(survey, nested):
    whole = write(survey, survey / "survey.parquet", nested=nested)
    by_file, by_row = (views_of(survey, source, out) for source, out in ((survey / "curves", "files"), (whole, "rows")))
    assert len(by_file) == prepared.STARS + 1
    for name, view in by_file.views.items():
        np.testing.assert_array_equal(view, by_row.views[name])
    assert by_row.tces["source"][0] == "survey.parquet[0] (+1)"
    assert by_file.tces["period_days"].tolist() == by_row.tces["period_days"].tolist()


def test_a_folder_with_such_a_file_shards_and_other_processes_give_the_same_views(survey):
    (survey / "bulk").mkdir()
    whole = write(survey, survey / "bulk/survey.parquet")
    single = views_of(survey, whole, "single")
    for out, changes in (("shards", {"shards": 3}), ("processes", {"workers": 2})):
        other = views_of(survey, survey / "bulk", out, **changes)
        assert single.tces["star"].tolist() == other.tces["star"].tolist()
        for name, view in single.views.items():
            np.testing.assert_array_equal(view, other.views[name][:])
    write(survey, whole, rows_per_group=2)
    with pytest.raises(TransitError, match="made of other light curves"):
        views_of(survey, whole, "single")


def test_a_file_is_read_once_in_the_order_of_its_rows(survey, monkeypatch):
    with (survey / "tces.csv").open() as stream:
        lines = stream.read().splitlines()
    (survey / "tces.csv").write_text("\n".join([*lines[:2], *reversed(lines[2:])]) + "\n")
    whole = write(survey, survey / "survey.parquet")
    monkeypatch.setattr(bulk, "BATCH", 2)
    sought = []
    original = bulk._seek
    monkeypatch.setattr(bulk, "_seek", lambda *given: sought.append(given) or original(*given))
    bulk._positions.clear()
    views_of(survey, whole, "set")
    assert len(sought) == 1


def test_rows_are_found_wherever_they_are_asked_for(survey):
    whole = write(survey, survey / "survey.parquet", rows_per_group=5)
    times = [readers.read(path).time for path in bulk.names(whole)]
    assert len(times) == 2 * prepared.STARS
    for number in (11, 0, 7, 3, 3, 10):
        np.testing.assert_array_equal(readers.read(bulk.name(whole, number)).time, times[number])
    with pytest.raises(ValueError, match="has no row 12"):
        readers.read(bulk.name(whole, 12))


def test_its_units_and_zero_points_are_read_as_those_of_other_tables(survey):
    whole = write(survey, survey / "survey.parquet", TIME="time (BJD - 2454833)", BJDREFI="", TELESCOP="")
    curve = readers.read(bulk.name(whole, 0))
    assert (curve.star, curve.reference_jd, curve.column) == ("KIC 1", 2454833.0, "PDCSAP_FLUX")
    result = check(CheckSettings(files=(whole,)))
    assert [row["star"] for row in result.data["files"]][:3] == ["KIC 1", "KIC 1", "KIC 2"]


@pytest.mark.parametrize(
    ("names", "found"),
    [
        ({"kepid": "number"}, "no column names the stars of its 12 light curves"),
        ({"TIME": "when"}, "no time and flux columns among"),
        ({"PDCSAP_FLUX": "brightness"}, "no time and flux columns among"),
    ],
)
def test_columns_that_are_not_understood_are_refused(survey, names, found):
    whole = write(survey, survey / "survey.parquet", **names)
    with pytest.raises(TransitError, match=found) as refused:
        FileIndex.of(whole)
    assert "tic_id" in refused.value.wanted


def test_a_damaged_file_is_refused(survey):
    whole = write(survey, survey / "survey.parquet")
    content = bytearray(whole.read_bytes())
    whole.write_bytes(content[: len(content) // 2])
    with pytest.raises(TransitError, match="cannot be read as light curves"):
        FileIndex.of(whole)
    content[200:4000] = bytes(3800)
    whole.write_bytes(content)
    index = FileIndex.of(whole)
    for path in index.files:
        try:
            readers.read(path)
        except ValueError as reason:
            assert str(reason)  # noqa: PT017 - some rows are still whole
