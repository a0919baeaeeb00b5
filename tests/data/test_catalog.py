"""Catalogs: columns, units, time systems and labels of archive tables and of user tables."""

from collections import Counter

import numpy as np
import pytest

from transit_cli.data.catalogs.catalog import read
from transit_cli.data.catalogs.features import labels
from transit_cli.data.catalogs.vocabulary import LABELS, plain, split_unit, stated_unit
from transit_cli.results import TransitError


def table(tmp_path, text):
    file = tmp_path / "table.csv"
    file.write_text(text)
    return file


@pytest.mark.parametrize(
    ("name", "count", "labels"),
    [
        ("dr24_tce.csv", 20367, {"PC": 3600, "AFP": 9596, "NTP": 2541, "UNK": 4630}),
        ("koi_cumulative.csv", 9564, {"PC": 4725, "AFP": 4839}),
        ("toi.csv", 7703, {"PC": 5946, "AFP": 1197, "NTP": 98, "UNK": 462}),
    ],
)
def test_archive_tables(shared_data, name, count, labels):
    found = read(shared_data / "catalogs" / name)
    assert len(found.tces) == count
    assert Counter(tce.label for tce in found.tces) == labels


def test_first_rows_of_the_archive_tables(shared_data):
    koi = read(shared_data / "catalogs/koi_cumulative.csv").tces[0]
    assert (koi.star, koi.signal, koi.reference_jd, koi.mission) == ("KIC 10797460", "K00752.01", 2454833.0, "kepler")
    assert koi.duration == pytest.approx(2.9575 / 24)
    assert (koi.period_error, koi.epoch_error, koi.snr) == (2.775e-5, 2.16e-3, 35.8)
    toi = read(shared_data / "catalogs/toi.csv").tces[0]
    assert (toi.star, toi.signal, toi.reference_jd, toi.label) == ("TIC 50365310", "1000.01", 0.0, "AFP")
    assert toi.epoch == 2459229.630046


def test_columns_of_a_user_table(tmp_path):
    found = read(table(tmp_path, "# mine\nTIC ID;Period (days);T0 [BTJD];Duration;Depth\n42;3.5;1600.1;0.1;0.002\n"))
    (tce,) = found.tces
    assert (tce.star, tce.signal, tce.period, tce.epoch, tce.reference_jd) == ("TIC 42", "#1", 3.5, 1600.1, 2457000.0)
    assert tce.duration == pytest.approx(0.1)
    assert tce.depth_ppm == pytest.approx(2000)
    assert tce.label == "UNK"
    assert any("duration from Duration: days" in note for note in found.notes)
    assert any("BTJD" in words for words in found.notes)


@pytest.mark.parametrize(
    ("row", "zero"),
    [
        ("kepid,tce_period,tce_time0,tce_duration\n1,2,2455000.5,3", 0.0),
        ("kepid,tce_period,tce_time0bk,tce_duration\n1,2,140,3", 2454833.0),
        ("tic,period,epoch,duration\n1,2,1600,3", 2457000.0),
        ("star,period,epoch,duration,time_system\n1,2,140,3,BKJD", 2454833.0),
    ],
)
def test_time_systems(tmp_path, row, zero):
    assert read(table(tmp_path, row)).tces[0].reference_jd == zero


@pytest.mark.parametrize(
    ("name", "values", "days"),
    [
        ("duration", "2.4", 0.1),
        ("duration", "0.1", 0.1),
        ("duration_hours", "0.5", 0.5 / 24),
        ("duration_days", "1.5", 1.5),
        ("koi_duration", "0.6", 0.6 / 24),
    ],
)
def test_durations_in_hours_or_days(tmp_path, name, values, days):
    assert read(table(tmp_path, f"kic,period,t0,{name}\n1,9,140,{values}\n")).tces[0].duration == pytest.approx(days)


def test_ecsv_with_units(tmp_path):
    from astropy.table import Table

    made = Table(
        {"tic": [1, 2], "period": [3.0, 4.0], "t0": [1500.0, 1501.0], "duration": [90.0, 60.0], "depth": [1.0, 2.0]}
    )
    made["duration"].unit, made["depth"].unit = "min", "%"
    made.write(tmp_path / "t.ecsv", format="ascii.ecsv")
    tce = read(tmp_path / "t.ecsv").tces[1]
    assert (tce.duration, tce.depth_ppm) == (pytest.approx(60 / 1440), pytest.approx(20000))


def test_a_cell_without_a_number_is_left_for_the_views_to_refuse(tmp_path):
    found = read(table(tmp_path, "kic,period,t0,duration\n1,,140,3\n2,n/a,,\n"))
    assert np.isnan([tce.period for tce in found.tces]).all()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n1,2\n", "no column for star, period, epoch, duration"),
        ("kic,period,duration\n1,2,3\n", "no column for epoch"),
        ("", "no column"),
        ("kic,period,t0,duration\n1,2\n", "row of 2 cells under 4 columns"),
        ("# %ECSV 1.0\n# ---\nnonsense", "not ECSV"),
    ],
)
def test_what_is_no_catalog_says_so(tmp_path, text, message):
    with pytest.raises(TransitError, match=message) as error:
        read(table(tmp_path, text))
    assert error.value.fix


def test_a_missing_or_binary_file_says_so(tmp_path):
    with pytest.raises(TransitError, match="No such file"):
        read(tmp_path / "none.csv")
    (tmp_path / "b.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(TransitError, match="not text"):
        read(tmp_path / "b.csv")


@pytest.mark.parametrize(
    ("header", "fix"),
    [
        ("kic,periodd,t0,duration", "--map period=periodd"),
        ("name,P,T0,dur", "--map star=name"),
        ("kic,begin,epock_mjd,length_hours", "--map period=COLUMN,epoch=epock_mjd,duration=COLUMN"),
    ],
)
def test_a_missing_column_is_mapped_and_never_renamed(tmp_path, header, fix):
    """A column under its own name keeps the unit that the name states."""
    with pytest.raises(TransitError) as error:
        read(table(tmp_path, f"{header}\n1,2,3,4\n"))
    assert error.value.fix == fix


@pytest.mark.parametrize(
    ("header", "mapping", "period", "reference"),
    [
        ("name,W,T0,dur", ("star=name", "period=W"), 48.0, 2457000.0),
        ("name,W,T0,dur", ("star=name", "period_hours=W", "epoch_mjd=T0"), 2.0, 2400000.5),
        ("star,W_hours,begin_mjd,dur", ("period=W_hours", "epoch=begin_mjd"), 2.0, 2400000.5),
        ("star,period,W,T0,dur", ("period=W",), 48.0, 2457000.0),
    ],
)
def test_columns_that_the_user_states(tmp_path, header, mapping, period, reference):
    cells = {"name": "TIC 5", "star": "TIC 5", "period": "7"} | dict.fromkeys(("W", "W_hours"), "48")
    epoch = 1400 if reference == 2457000.0 else 58400
    cells |= {"dur": "3"} | dict.fromkeys(("T0", "begin_mjd"), str(epoch))
    row = ",".join(cells[name] for name in header.split(","))
    (tce,) = read(table(tmp_path, f"{header}\n{row}\n"), "tess", mapping).tces
    assert (tce.star, tce.period, tce.epoch + tce.reference_jd, tce.duration) == (
        "TIC 5",
        period,
        epoch + reference,
        0.125,
    )


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        ("period", "--map is period"),
        ("perod=period_hours", "--map is perod"),
        ("period=nothing", "which the catalog does not have"),
        ("period_days=period_hours", "in days, and the catalog says hours"),
    ],
)
def test_a_mapping_that_cannot_be_is_refused(tmp_path, mapping, message):
    with pytest.raises(TransitError, match=message) as error:
        read(table(tmp_path, "kic,period_hours,t0,duration\n1,2,140,1\n"), mapping=[mapping])
    assert error.value.fix.startswith("--map period=")


@pytest.mark.parametrize("word", [word for words in LABELS.values() for word in words if word])
def test_prepare_and_import_map_labels_alike(tmp_path, word):
    rows = table(tmp_path, f"kic,period,t0,duration,label\n1,9,140,3,{word.upper()}\n")
    (tce,) = read(rows).tces
    assert [tce.label] == labels(np.array([word]), ())[0].tolist()


def test_a_label_that_is_not_known_is_no_negative(tmp_path):
    found = read(table(tmp_path, "kic,period,t0,duration,label\n1,9,140,3,blend\n1,9,140,3,APC\n1,9,140,3,PC\n"))
    assert [tce.label for tce in found.tces] == ["UNK", "UNK", "PC"]
    assert "labels that are not recognised are UNK: blend (1)" in found.notes


@pytest.mark.parametrize(
    ("name", "base", "unit"),
    [
        ("Duration (hours)", "duration", "hours"),
        ("durationHours", "duration", "hours"),
        ("pl_orbper", "plorbper", ""),
        ("T0 [BJD - 2457000]", "t0", "bjd - 2457000"),
        ("Epoch (BJD) err", "epocherr", "bjd"),
        ("epoch_btjd", "epoch", "btjd"),
        ("Depth [%]", "depth", "%"),
        ("Mass (M_Earth)", "massmearth", ""),
    ],
)
def test_units_that_a_name_states(name, base, unit):
    assert stated_unit(name) == unit
    assert base in {plain(split_unit(name)[0]), plain(name)[: -len(unit) or None]}
