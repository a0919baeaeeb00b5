"""Catalogs as people have them: each is read right, or refused with its cause named.

Sources are public bug reports and public files; each test names its own. Small tables are written here as they were met.
"""

import numpy as np
import pytest

from transit_cli.data.catalogs.catalog import read
from transit_cli.results import TransitError

HEADER = "tic_id,period_days,epoch_bjd,duration_hours,depth_ppm,label"
ROW = "987654321,3.1,2458327.3,2.4,5000,PC"


@pytest.fixture
def catalog(tmp_path):
    def catalog(text, mission="tess", name="table.csv"):
        file = tmp_path / name
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
        return read(file, mission)

    return catalog


def jd(tce):
    return tce.epoch + tce.reference_jd


def is_the_row(tce):
    """Whether the row is that of the source: TIC 987654321, 3.1 d, BJD 2458327.3, 2.4 h, 5000 ppm, PC."""
    numbers = (tce.period, jd(tce), tce.duration * 24, tce.depth_ppm)
    assert numbers == pytest.approx((3.1, 2458327.3, 2.4, 5000), rel=1e-9)
    return (tce.star, tce.label, tce.problem) == ("TIC 987654321", "PC", "")


def test_a_star_is_in_the_column_that_has_it(catalog):  # StarHarbor's merged Kepler, K2 and TESS table
    found = catalog(
        "kepid,epic_id,tic_id,period_days,epoch_bjd,duration_hours\n"
        ",,987654321,3.1,2458327.3,2.4\n,,100100827,0.94145223,2458375.169883,2.18\n"
        "11442793,,,331.60059,2454973.49631,14.74\n,201912552,,32.9396,2457264.39142,2.66\n,,,3.1,2458327.3,2.4\n",
        "",
    ).tces
    assert [tce.star for tce in found] == ["TIC 987654321", "TIC 100100827", "KIC 11442793", "EPIC 201912552", "row 4"]
    assert [tce.mission for tce in found[:4]] == ["tess", "tess", "kepler", "k2"]
    assert found[4].problem == "the row names no star"


EXOMINER = """uid,target_id,tce_plnt_num,label,tce_period,tce_duration,tce_time0bk,tce_max_mult_ev
65412605-1-S33,65412605,1,CP,4.400832653045654,0.2033558189868927,2201.8896484375,113.49
186812530-1-S34,186812530,1,BD,3.6775031089782715,0.07972556352615356,2231.201904296875,53.13
38846515-1-S1,38846515,1,KP,2.8494930267333984,0.157973974943161,1326.7445068359375,126.18
"""


def test_names_of_keplers_pipeline_in_a_table_of_tess(
    catalog,
):  # nasa/ExoMiner, ensemble_ranked_predictions_testset.csv
    found = catalog(EXOMINER).tces
    assert [tce.duration * 24 for tce in found] == pytest.approx([4.88, 1.913, 3.791], abs=2e-3)
    assert [tce.reference_jd for tce in found] == [2457000.0] * 3
    assert [tce.label for tce in found] == ["PC", "AFP", "PC"]  # CP, BD (brown dwarf), KP
    unknown = catalog(EXOMINER, "").tces  # the same without a mission: BKJD and BTJD are both possible
    assert all("BKJD" in tce.problem and "BTJD" in tce.problem for tce in unknown)


@pytest.mark.parametrize("order", [1, -1])
def test_epochs_of_two_systems_in_one_column(catalog, order):  # ExoFOP rows beside own detections; lightkurve#1278
    rows = [ROW, ROW.replace("2458327.3", "1327.3")][::order]
    found = catalog("\n".join([HEADER, *rows]))
    assert all(is_the_row(tce) for tce in found.tces)
    assert any("BTJD in 1 rows" in note for note in found.notes)


def test_a_system_is_not_its_own_host_star(catalog):  # hostname of the archive's PS table, which states no units here
    found = catalog(
        "pl_name,hostname,pl_orbper,pl_tranmid,pl_trandep,pl_trandur\n"
        "Kepler-90 h,Kepler-90,331.60059,2454973.49631,0.94,14.74\nK2-18 b,K2-18,32.939614,2457264.39142,0.29,2.66\n"
        "TOI-700 d,TOI-700,37.42,2458330.83,0.07,3.2\nHAT-P-7 b,HAT-P-7,2.2047,2454954.358,0.6,3.88\n",
        "",
    ).tces
    assert [tce.star for tce in found] == ["Kepler-90", "K2-18", "TOI-700", "HAT-P-7"]
    assert [tce.depth_ppm for tce in found] == pytest.approx([9400, 2900, 700, 6000])


@pytest.mark.parametrize("rows", [1, 2])
def test_units_that_comments_state(catalog, rows):  # ErinHaywardLang/exoplanet-habitability column_descriptions.md
    lines = [
        "# This file was produced by the NASA Exoplanet Archive",
        "# COLUMN pl_orbper:      Orbital Period [days]",
        "# COLUMN pl_trandep:     Transit Depth [%]",
        "# COLUMN pl_trandur:     Transit Duration [hours]",
        "pl_name,hostname,tic_id,pl_orbper,pl_tranmid,pl_trandep,pl_trandur",
        "WASP-18 b,WASP-18,TIC 100100827,0.94145223,2458375.169883,0.948,2.18",
        "HATS-3 b,HATS-3,TIC 336732616,3.5478510,2456155.96734,1.04,3.49",
    ]
    found = catalog("\n".join(lines[: 5 + rows])).tces
    assert [tce.depth_ppm for tce in found] == pytest.approx([9480, 10400][:rows])
    assert found[0].star == "TIC 100100827"
    assert found[0].other_names == ("WASP-18",)


def test_the_download_of_exofop(catalog):  # tess-atlas/exofop_data
    found = catalog(
        "TIC ID,TOI,TESS Disposition,TFOPWG Disposition,TESS Mag,Epoch (BJD),Epoch (BJD) err,Period (days),"
        "Period (days) err,Duration (hours),Duration (hours) err,Depth (mmag),Depth (mmag) err,Depth (ppm),Planet SNR\n"
        "987654321,901.01,KP,KP,10.61,2458327.3,0.0005,3.1,1e-5,2.4,0.01,5.4,0.0166,5000.0,430.25754\n"
        "987654321,901.02,PC,FP,10.61,2458328.3,0.0005,4.4,1e-5,2.4,0.01,5.4,0.0166,500.0,430.25754\n"
        "987654321,901.03,PC,,10.61,2458328.3,0.0005,5.4,1e-5,2.4,0.01,5.4,0.0166,500.0,430.25754\n",
        "",
    ).tces
    assert [(tce.signal, tce.label) for tce in found] == [("901.01", "PC"), ("901.02", "AFP"), ("901.03", "PC")]
    assert (found[0].epoch_error, found[0].period_error, found[0].snr) == (0.0005, 1e-5, 430.25754)
    assert [tce.depth_ppm for tce in found] == [5000, 500, 500]


@pytest.mark.parametrize(
    ("words", "labels"),
    [
        (("1", "0"), ["PC", "J"]),  # smartonion/BayesianTESS, toi_per_star_labels.csv
        (("1.0", "0.0"), ["PC", "J"]),
        (("True", "False"), ["PC", "J"]),
        (("1", "0", "2"), ["UNK"] * 3),  # numbers of classes
        (("pc", "Eclipsing_Binary", "NEB"), ["PC", "EB", "AFP"]),
        (("APC", "", "blend"), ["UNK"] * 3),
    ],
)
def test_labels(catalog, words, labels):
    rows = [ROW.replace("PC", word) for word in words]
    assert [tce.label for tce in catalog("\n".join([HEADER, *rows])).tces] == labels


def test_a_label_that_is_left_out_is_shown(catalog):
    found = catalog("\n".join([HEADER, ROW, ROW.replace("PC", "blend"), ROW.replace("PC", "blend")]))
    assert "label from label: PC -> PC (1)" in found.notes
    assert "labels that are not recognised are UNK: blend (2)" in found.notes


def test_an_ecsv_table_of_quantities(tmp_path):  # astroquery's NasaExoplanetArchive; glue-viz/glue#2487, astropy#6181
    from astropy import units as u
    from astropy.coordinates import SkyCoord
    from astropy.table import QTable
    from astropy.time import Time, TimeDelta

    table = QTable(
        {
            "tic_id": ["TIC 987654321"] * 2,
            "pl_orbper": [74.4, 105.6] * u.h,
            "pl_tranmid": Time([2458327.3, 2458328.3], format="jd", scale="tdb"),
            "pl_trandur": TimeDelta([0.1, 0.2], format="jd"),
            "pl_trandep": [0.5, 0.05] * u.percent,
            "label": ["PC", "FP"],
            "sky_coord": SkyCoord([10, 11] * u.deg, [20, 21] * u.deg),
        }
    )
    table.write(tmp_path / "t.ecsv", format="ascii.ecsv")
    first, second = read(tmp_path / "t.ecsv").tces
    assert is_the_row(first)
    assert (second.period, jd(second), second.depth_ppm) == pytest.approx((4.4, 2458328.3, 500))


@pytest.mark.parametrize("kind", ["fits", "votable", "ecsv"])
def test_typed_tables(tmp_path, kind):
    from astropy import units as u
    from astropy.table import MaskedColumn, Table

    table = Table({"tic_id": np.array([987654321, 5]), "period": [3.1, 9.9], "t0": [1327.3, 1400.0]})
    table["duration"] = MaskedColumn([144.0, -1.0], mask=[False, True])
    table["depth"], table["label"] = [5.0, 6.0], ["PC", "EB"]
    table["period"].unit, table["duration"].unit, table["t0"].unit = u.day, u.min, u.day
    if kind == "ecsv":
        table["depth"] = table["depth"] * 1000
        table["depth"].unit = "ppm"
    else:
        table.rename_column("depth", "depth_ppt")
    file = tmp_path / f"t.{kind}"
    table.write(file, format={"ecsv": "ascii.ecsv"}.get(kind, kind))
    first, second = read(file).tces
    assert is_the_row(first)
    assert second.problem == "duration is not a finite number"


def test_a_parquet_table(tmp_path):
    pyarrow = pytest.importorskip("pyarrow", reason="no extra brings pyarrow")
    from pyarrow import parquet

    columns = {"tic_id": [987654321], "period_days": [3.1], "epoch_bjd": [2458327.3], "duration_hours": [2.4]}
    parquet.write_table(pyarrow.table(columns | {"depth_ppm": [5000.0], "label": ["PC"]}), tmp_path / "t.parquet")
    assert is_the_row(read(tmp_path / "t.parquet").tces[0])


def test_values_that_are_missing_cost_their_row_only(catalog):  # single transits: mkunimoto/LEO-Vetter#13
    rows = ["987654321,null,nan,--,N/A,", "987654321,inf,2458327.3,2.4,,FP", "987654321,-3.1,2458327.3,2.4,,FP"]
    found = catalog("\n".join([HEADER, ROW, *rows, "987654321,3.1,0,2.4,,FP"])).tces
    assert is_the_row(found[0])
    assert [tce.problem for tce in found[1:]] == [
        "period is not a finite number",
        "period is not a finite number",
        "period is -3.1, not positive",
        "epoch is not a finite number",
    ]
    assert all(np.isnan(tce.period) or tce.period == 3.1 for tce in found)


def test_a_column_that_is_there_twice(catalog):  # joined tables
    with pytest.raises(TransitError, match="period_days twice"):
        catalog("tic_id,period_days,period_days,epoch_bjd,duration_hours\n987654321,3.1,99.9,2458327.3,2.4\n")
    same = catalog(
        "tic_id,period_days,Period_Days,epoch_bjd,duration_hours,depth_ppm,label\n987654321,3.1,3.1,2458327.3,2.4,5000,PC\n"
    )
    assert is_the_row(same.tces[0])


FIXED = """\
tic_id        period_days epoch_bjd   duration_hours depth_ppm label
TIC 987654321         3.1 2458327.3              2.4      5000 PC
TIC 100100827         0.9 2458375.2              2.2           KP
"""

DIALECTS = {
    "plain": f"{HEADER}\n{ROW}\n",
    "crlf": f"{HEADER}\r\n{ROW}\r\n",
    "semicolons": f"{HEADER}\n{ROW}\n".replace(",", ";"),
    "tabs": f"{HEADER}\n{ROW}\n".replace(",", "\t"),
    "bars": f"{HEADER}\n{ROW}\n".replace(",", "|"),  # ExoFOP's pipe tables
    "markdown": f"|{HEADER}|\n|---,---,---,---,---,---|\n|{ROW}|\n".replace(",", "|"),
    "blanks": f"{HEADER}\n{ROW}\n".replace(",", "  "),
    "fixed width": FIXED,
    "header in a comment": f"# Kepler EB catalog\n#{HEADER}\n{ROW}\n",
    "excel's separator": f"sep=,\n{HEADER}\n{ROW}\n",
    "byte order mark": b"\xef\xbb\xbf" + f"{HEADER}\n{ROW}\n".encode(),
    "utf-16": f"{HEADER}\n{ROW}\n".encode("utf-16"),
    "utf-16 without a mark": f"{HEADER}\n{ROW}\n".encode("utf-16-le"),
    "latin-1": f"{HEADER},note\n{ROW},M\u00fcller \u00b0\n".encode("latin-1"),
    "scientific star": f"{HEADER}\n{ROW}\n".replace("987654321", "9.87654321E+08"),
    "star as float": f"{HEADER}\n{ROW}\n".replace("987654321", "987654321.0"),
    "star named": f"{HEADER}\n{ROW}\n".replace("987654321", "TIC 987654321.01"),
    "units in a row": f"tic_id,period,epoch,duration,depth,label\n,d,BJD,h,ppm,\n{ROW}\n",
    "rules below the header": f"{HEADER}\n----,----,----,----,----,----\n{ROW}\n",
    "units in the cells": f"tic_id,period,epoch_bjd,duration,depth,label\n{ROW}\n".replace("2.4", "144 min"),
    "trailing separators": f"{HEADER},\n{ROW},\n",
    "an index": f",{HEADER}\n0,{ROW}\n",
    "quotes": '"' + f"{HEADER}\n{ROW}\n".replace(",", '","').replace("\n", '"\n"')[:-1],
    "dashtable": (  # nasa/ExoMiner, exominer_vetting_tess-spoc-2-min-s1s67_dashtable
        "TCE ID,TIC ID,Planet Number,Orbital Period [day],Transit Duration [hour],Transit Epoch [BTJD],"
        "Transit Depth [ppm],Label\n987654321-1-S1,987654321,1,3.1,2.4,1327.3,5000,PC\n"
    ),
    "bjd minus": f"{HEADER}\n{ROW}\n".replace("epoch_bjd", "T0 (BJD-2450000)").replace("2458327.3", "8327.3"),
    "modified date": f"{HEADER}\n{ROW}\n".replace("epoch_bjd", "epoch_mjd").replace("2458327.3", "58326.8"),
    "reduced date": f"{HEADER}\n{ROW}\n".replace("epoch_bjd", "epoch_rjd").replace("2458327.3", "58327.3"),
    "column of systems": (
        "tic_id,period,epoch,time_system,duration_hours,depth_ppm,label\n987654321,3.1,3494.3,BKJD,2.4,5000,PC\n"
    ),
    "header repeated": f"{HEADER}\n{ROW}\n{HEADER}\n{ROW}\n",
}


@pytest.mark.parametrize("dialect", DIALECTS)
def test_dialects_that_are_read(catalog, dialect):
    assert is_the_row(catalog(DIALECTS[dialect]).tces[0])


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        (f"{HEADER}\n{ROW}\n".replace(",", ";").replace(".", ","), "decimal comma"),  # Excel in Europe
        (f"{HEADER}\n" + ROW.replace("2458327.3", '"2,458,327.3"'), "separator of thousands"),
        (f"{HEADER}\n" + ROW.replace(".", ","), "decimal commas"),
        (f"{HEADER}\n", "no rows"),
        (b"PK\x03\x04 xlsx", "Excel workbook"),
        (b"<!DOCTYPE html><html>", "web page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer"),
        (b'{"a": 1}', "JSON"),
        (b"PAR1 broken", "pyarrow|Parquet"),
        (b"SIMPLE  =  broken", "FITS"),
        (b"<?xml version='1.0'?><VOTABLE>", "VOTable"),
        (b"", "no column"),
        (f"{HEADER}\n{ROW}\n".replace("duration_hours", "duration [parsec]").replace("2.4", "0.6"), "parsec"),
    ],
)
def test_what_cannot_be_read_is_refused_with_its_cause(catalog, text, cause):
    with pytest.raises(TransitError, match=cause) as error:
        catalog(text)
    assert error.value.fix


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        (("2458327.3", "58327.3"), "modified or a reduced"),  # half a day apart: neither is guessed
        (("2458327.3", "8327.3"), "no BTJD of tess"),
        (("2458327.3", "170.5"), "no BTJD of tess"),
        (("2458327.3", "24583273"), "2050"),
        (("2.4", "80"), "longer than period"),
        (("2.4", "0.1"), "another unit"),  # days among hours
        (("3.1", "3.1 ppm"), "no unit"),
        (("3.1", "3.1.0"), "not a number"),
        (("987654321", "9.877E+08"), "rounded"),
        (("987654321", ""), "no star"),
        (("987654321", "0"), "no star"),
    ],
)
def test_a_row_that_is_doubtful_is_a_problem(catalog, change, cause):
    good = ROW.replace("987654321", "987654322")
    one, other = catalog("\n".join([HEADER, ROW.replace(*change), good])).tces
    assert cause in one.problem
    assert other.problem == ""


def test_a_depth_that_cannot_be_is_left_out(catalog):
    rows = [ROW, ROW.replace("5000", "2000000"), ROW.replace("5000", "-3"), ROW.replace("5000", "0")]
    found = catalog("\n".join([HEADER, *rows])).tces
    assert [tce.problem for tce in found] == [""] * 4
    assert found[0].depth_ppm == 5000
    assert np.isnan([tce.depth_ppm for tce in found[1:]]).all()


@pytest.mark.parametrize(
    ("name", "cell", "ppm"),
    [
        ("depth", "0.005", 5000),
        ("depth (%)", "0.5", 5000),
        ("depth_ppt", "5", 5000),
        ("Depth [mmag]", "5.4424", 5000),
        ("depth", "0.948", np.nan),  # a fraction or percent: left out
        ("depth", "5", np.nan),  # percent, ppt or ppm: left out
    ],
)
def test_depths(catalog, name, cell, ppm):
    (tce,) = catalog(f"{HEADER}\n{ROW}\n".replace("depth_ppm", name).replace("5000", cell)).tces
    assert tce.depth_ppm == pytest.approx(ppm, rel=1e-4, nan_ok=True)


def test_star_numbers_that_float32_damaged(catalog):  # desihub/desisim#456
    numbers = [270501376, 270501440, 987654336, 25155312]
    rows = [ROW.replace("987654321", str(number)) for number in numbers]
    with pytest.raises(TransitError, match="rounded to float32"):
        catalog("\n".join([HEADER, *rows]))
    header = HEADER + ",star"
    found = catalog("\n".join([header, *(f"{row},Star {n}" for n, row in enumerate(rows))]))
    assert [tce.star for tce in found.tces] == ["Star 0", "Star 1", "Star 2", "Star 3"]


def test_float32_columns_of_typed_tables(tmp_path):
    from astropy.table import Table

    table = Table({"tic_id": np.array([270501383, 270501384]), "period": [3.1, 3.2], "duration_hours": [2.4, 2.4]})
    table["epoch_bjd"] = np.array([2458327.3, 2458328.3], np.float32)
    table.write(tmp_path / "epochs.fits")
    with pytest.raises(TransitError, match="float32"):
        read(tmp_path / "epochs.fits")
    table["epoch_bjd"] = [2458327.3, 2458328.3]
    table["tic_id"] = table["tic_id"].astype(np.float32)
    table.write(tmp_path / "stars.fits")
    with pytest.raises(TransitError, match="rounded to float32"):
        read(tmp_path / "stars.fits")


@pytest.mark.parametrize(
    ("column", "cell", "name"),
    [
        ("gaia_dr3_id", "5707485527450614656", "Gaia DR3 5707485527450614656"),
        ("gaia_id", "Gaia DR2 5707485527450614656", "Gaia DR2 5707485527450614656"),
        ("star", "Gaia DR3 5707485527450614656", "Gaia DR3 5707485527450614656"),
        ("star", "K00752.01", "KOI-752"),
        ("star", "EPIC 201912552.01", "EPIC 201912552"),
        ("star", "TIC100100827", "TIC 100100827"),
        ("kepid", "011442793", "KIC 11442793"),
        ("star", "kepler-90 b", "Kepler-90"),
    ],
)
def test_names_of_stars(catalog, column, cell, name):
    (tce,) = catalog(f"{column},period_days,epoch_bjd,duration_hours\n{cell},3.1,2458327.3,2.4\n", "").tces
    assert (tce.star, tce.problem) == (name, "")


def test_a_gaia_number_that_was_a_float_is_refused(catalog):
    text = f"{HEADER}\n{ROW}\n".replace("tic_id", "gaia_dr3_id").replace("987654321", "5.707485527450615e+18")
    assert "rounded" in catalog(text).tces[0].problem


def test_durations_that_may_be_hours_or_days_are_refused(catalog):
    with pytest.raises(TransitError, match="hours or days") as error:
        catalog("tic_id,period,epoch_bjd,duration\n1,3.1,2458327.3,0.5\n")
    assert "duration_hours" in error.value.fix
