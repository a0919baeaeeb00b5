"""Light curves as people have them, after public reports: read right, or refused with the cause.

Each case names the report that it follows. The injected signal is the same everywhere: 3.1 d, BTJD 1327.3, 2.4 h,
5000 ppm.
"""

import os
from dataclasses import replace

import numpy as np
import product_files
import pytest
from astropy.io import fits
from astropy.table import QTable
from astropy.time import Time

from transit_cli.data.lightcurves import file_index
from transit_cli.data.lightcurves.lightcurve import UnreadableError
from transit_cli.data.lightcurves.readers import read, star_of_file
from transit_cli.data.prepare import prepare
from transit_cli.data.settings import FoldSettings, PrepareSettings
from transit_cli.data.views.inspect_signal import inspect_signal
from transit_cli.data.viewset import ViewSet
from transit_cli.results import TransitError

EPOCH, BJD = 1327.3, 2458327.3
TIME, FLUX, _, FLAGGED = product_files.curve(EPOCH, EPOCH - 2)
CLEAN = FLUX + 0.03 * FLAGGED


def write(
    path, *, time=TIME, flux=CLEAN, unit=None, time_unit=None, primary=None, table=None, time_format="D", more=()
):
    """A FITS light curve in which only what a case is about differs."""
    columns = [
        fits.Column("TIME", time_format, array=time, unit=time_unit),
        fits.Column("FLUX", "D", array=flux, unit=unit),
    ]
    columns += [fits.Column(name, form, array=array, null=null) for name, form, array, null in more]
    head, body = fits.PrimaryHDU(), fits.BinTableHDU.from_columns(columns)
    head.header.update({"OBJECT": "TIC 987654321"} if primary is None else primary)
    body.header.update({"BJDREFI": 2457000, "BJDREFF": 0.0} if table is None else table)
    path.parent.mkdir(parents=True, exist_ok=True)
    fits.HDUList([head, body]).writeto(path, overwrite=True)
    return path


def fold(file, epoch=BJD, **changes):
    settings = {"period": 3.1, "epoch": epoch, "duration": 2.4} | changes
    return inspect_signal(FoldSettings(light_curve=file, **settings))


def depth(file, epoch=BJD):
    return fold(file, epoch).data["measured_depth_ppm"]


RIGHT = pytest.approx(5000, rel=0.02)


# Time systems: lightkurve#1535, #1450, #1340; FITS Standard 4.0, section 9.2.2


@pytest.mark.parametrize(
    ("table", "shift", "unit"),
    [
        ({"JDREFI": 2457000, "JDREFF": 0.0}, 0, "d"),
        ({"JDREFI": 2458000, "JDREFF": 0.25}, -1000.25, "d"),
        ({"JDREF": 2457000.0}, 0, "d"),
        ({"BJDREF": 2457000.0}, 0, None),
        ({"MJDREFI": 56999, "MJDREFF": 0.5}, 0, "d"),
        ({"MJDREF": 56999.5}, 0, "d"),
        ({"MJDREFI": 0, "MJDREFF": 0.0}, 56999.5, "d"),
        ({"BJDREFI": 2457000, "TIMEZERO": 1300.0}, -1300, "d"),
        ({"TIMEZERO": 2458000.0}, -1000, "d"),
        ({}, 0, "BJD_TDB - 2457000"),
        ({}, 0, "BJD - 2457000, days"),
        ({}, 0, "btjd"),
        ({}, 2167, "bkjd"),
        ({}, 56999.5, "mjd"),
        ({}, 2457000, "d"),
        ({}, 2457000, "jd"),
        ({"BJDREFI": 2457000}, 2457000, "d"),  # full Julian Dates beside a reference
        ({}, 7000, "BJD - 2450000"),
        ({}, 0, "days since 2457000"),
        ({}, 0, "BJD-TDB - 2,457,000.0 d"),
        ({}, 6999.5, "MJD - 50000"),
        ({"BJDREFI": 2457000, "TIMEUNIT": "d"}, 0, None),
    ],
)
def test_the_reference_of_time_is_read_wherever_it_is_stated(tmp_path, table, shift, unit):
    file = write(tmp_path / "a.fits", time=TIME + shift, table=table, time_unit=unit)
    assert depth(file) == RIGHT


@pytest.mark.parametrize(("unit", "factor"), [("s", 86400), ("min", 1440), ("h", 24), ("hours", 24), ("d", 1)])
@pytest.mark.parametrize("where", ["TIMEUNIT", "column"])
def test_units_of_time(tmp_path, unit, factor, where):
    table = {"BJDREFI": 2457000} | ({"TIMEUNIT": unit} if where == "TIMEUNIT" else {})
    file = write(tmp_path / "a.fits", time=TIME * factor, table=table, time_unit=unit if where == "column" else None)
    assert depth(file) == RIGHT


def test_contradicting_references_are_refused_unless_the_mission_decides(tmp_path):
    file = write(tmp_path / "a.fits", table={"BJDREFI": 2457000}, time_unit="bkjd", primary={})
    with pytest.raises(UnreadableError, match="contradict"):
        read(file)
    file = write(tmp_path / "b.fits", table={"BJDREFI": 2454833}, time_unit="btjd", primary={"TELESCOP": "TESS"})
    assert read(file).reference_jd == 2457000


@pytest.mark.parametrize("value", ["X", "", "nan", "2457000d"])
def test_a_header_that_is_not_a_number_is_named(tmp_path, value):
    with pytest.raises(UnreadableError, match="BJDREFF is"):
        read(write(tmp_path / "a.fits", table={"BJDREFI": 2457000, "BJDREFF": value}))


def test_times_without_a_reference_never_meet_a_julian_date(tmp_path):
    file = write(tmp_path / "a.fits", table={}, time_unit="jd", primary={"OBJECT": "WASP-18"})
    with pytest.raises(TransitError, match=r"have no reference; as BTJD they would contain it"):
        fold(file)
    assert depth(file, EPOCH) == RIGHT  # as the light curve counts them
    assert any("time reference unknown" in note for note in fold(file, EPOCH).warnings)


def test_an_epoch_of_another_time_system_is_refused_with_the_nearest(tmp_path):
    file = write(tmp_path / "a.fits", table={}, time=TIME + 2457000)
    with pytest.raises(TransitError, match=r"years from the data.*as BTJD it would lie within"):
        fold(file, EPOCH)
    file = write(tmp_path / "b.fits")
    with pytest.raises(TransitError, match="as MJD it would lie within"):
        fold(file, BJD - 2400000.5)
    assert any("as BKJD it would lie within the data" in text for text in fold(file, EPOCH + 2167).warnings)


def test_folded_light_curves_are_refused(tmp_path):
    phase = np.sort((TIME - EPOCH + 1.55) % 3.1 - 1.55)
    header = {"CREATOR": "lightkurve.FoldedLightCurve.to_fits()", "PERIOD": 3.1, "PHEPOCH": 0.0}
    with pytest.raises(UnreadableError, match="folded"):
        read(write(tmp_path / "a.fits", time=phase, primary=header, table={}))
    with pytest.raises(UnreadableError, match="phases"):
        read(write(tmp_path / "b.fits", time=phase, table={}, primary={}))
    (tmp_path / "c.csv").write_text("phase,flux\n" + "\n".join(f"{p},{f}" for p, f in zip(phase, CLEAN, strict=True)))
    with pytest.raises(UnreadableError, match="no times"):
        read(tmp_path / "c.csv")


def test_astropy_writes_times_as_two_numbers(tmp_path):  # lightkurve#1340, astropy#16413
    QTable({"time": Time(TIME + 2457000, format="jd", scale="tdb"), "flux": CLEAN}).write(tmp_path / "a.fits")
    assert depth(tmp_path / "a.fits") == RIGHT


def test_float32_times_that_do_not_resolve_the_cadence_are_refused(tmp_path):
    with pytest.raises(UnreadableError, match="float32"):
        read(write(tmp_path / "a.fits", time=TIME + 2457000, table={}, time_format="E"))
    with pytest.raises(UnreadableError, match="float32"):  # widened later
        read(write(tmp_path / "b.fits", time=(TIME + 2457000).astype(np.float32).astype(float), table={}))
    assert depth(write(tmp_path / "c.fits", time_format="E")) == RIGHT


# Quality flags: lightkurve#1067, eleanor's set_quality


def bad(kind):
    return np.where(FLAGGED, kind, np.zeros_like(kind))


@pytest.mark.parametrize(
    ("name", "form", "values"),
    [
        ("QUALITY", "J", bad(32)),
        ("QUALITY", "D", bad(32.0)),
        ("QUALITY", "K", bad(1 << 18)),
        ("QUALITY", "I", bad(np.int16(-32736))),  # bits 6 and 16, the sign of a 16-bit number
        ("QUALITY", "8A", np.where(FLAGGED, "32", "0")),
        ("FLAG", "4A", np.where(FLAGGED, "bad", "good")),
        ("FLAGS", "L", FLAGGED),
        ("GOOD", "L", ~FLAGGED),
        ("IS_VALID", "J", (~FLAGGED).astype(int)),
        ("DQUALITY", "J", bad(1)),
        ("SAP_QUALITY", "J", bad(8)),
        ("MOVING", "J", bad(1)),
        ("TESS_flags", "J", bad(128)),
        ("my_flag", "J", bad(5)),
    ],
)
def test_flags_of_every_type_are_applied(tmp_path, name, form, values):
    file = write(tmp_path / "a.fits", flux=FLUX, primary={"TELESCOP": "TESS"}, more=[(name, form, values, None)])
    curve = read(file)
    assert curve.flagged == product_files.FLAGGED
    assert abs(fold(file).data["secondary_depth_ppm"]) < 500


@pytest.mark.parametrize(
    ("name", "form", "values"),
    [
        ("QUALITY", "D", np.linspace(0, 1, len(TIME))),
        ("QUALITY", "6A", np.where(FLAGGED, "sunny", "cloudy")),
        ("QUALITY", "3J", np.zeros((len(TIME), 3), int)),
        ("MASK", "L", ~FLAGGED),
    ],
)
def test_flags_that_are_not_understood_are_a_doubt(tmp_path, name, form, values):
    curve = read(write(tmp_path / "a.fits", primary={"TELESCOP": "TESS"}, more=[(name, form, values, None)]))
    assert len(curve.time) == len(TIME)
    assert any(note.startswith(f"flags: {name}") for note in curve.notes)


def test_missing_flags_of_a_nullable_column(tmp_path):
    values = np.where(FLAGGED, -99, 0)
    curve = read(write(tmp_path / "a.fits", primary={"TELESCOP": "TESS"}, more=[("QUALITY", "J", values, -99)]))
    assert curve.flagged == product_files.FLAGGED


def test_a_file_with_every_cadence_flagged_says_so(tmp_path):
    file = write(
        tmp_path / "a.fits", primary={"TELESCOP": "TESS"}, more=[("QUALITY", "J", np.full(len(TIME), 1), None)]
    )
    with pytest.raises(UnreadableError, match=r"all .* cadences are flagged"):
        read(file)


# Flux scales: lightkurve#956, #1453, #569, #873; eleanor#175


@pytest.mark.parametrize(
    ("flux", "unit"),
    [
        (CLEAN * 15000, "e-/s"),
        (CLEAN * 15000, None),
        (CLEAN, None),
        (CLEAN - 1, None),
        (CLEAN * 1e6, "ppm"),
        ((CLEAN - 1) * 1e6, "relative flux (ppm)"),
        (CLEAN * 1e3, "ppt"),
        (CLEAN * 100, "%"),
        (CLEAN * 100, "percent"),
        ((CLEAN - 1) * 1e6, "ppm"),
        ((CLEAN - 1) * 1e3, "ppt"),
        ((CLEAN - 1) * 100, "%"),
        (12 - 2.5 * np.log10(CLEAN), "mag"),
        ((12 - 2.5 * np.log10(CLEAN)) * 1000, "mmag"),
        (np.where(FLAGGED, -9999.0, CLEAN), None),
        (np.where(FLAGGED, -9999.0, CLEAN * 15000), "e-/s"),
        (np.where(FLAGGED, -999.0, (CLEAN - 1) * 1e6), "ppm"),
        (np.where(FLAGGED, 99.99, 12 - 2.5 * np.log10(CLEAN)), "mag"),
        (np.where(FLAGGED, np.inf, CLEAN), None),
        (np.where(FLAGGED, -np.inf, CLEAN), None),
        (np.where(FLAGGED, 0.0, CLEAN), None),
        (np.where(FLAGGED, 1e30, CLEAN), None),
        (np.where(FLAGGED, -0.9, CLEAN), None),  # darker than no light
    ],
)
def test_flux_of_every_scale_gives_the_same_depth(tmp_path, flux, unit):
    assert depth(write(tmp_path / "a.fits", flux=flux, unit=unit)) == RIGHT


@pytest.mark.parametrize(
    ("flux", "unit", "reason"),
    [
        (np.zeros(len(TIME)), None, "0 throughout"),
        (np.full(len(TIME), 7.0), None, "constant"),
        (np.full(len(TIME), np.nan), None, "no finite number"),
        ((CLEAN - 1) * 1e6, None, "no unit and is about 0"),
        ((CLEAN - 1) * 1e3 * 3, None, "no unit"),
        (CLEAN * 3e5, "ppm", "neither about 0 nor about"),
        (-CLEAN, None, "not positive"),
        (np.where(np.arange(len(TIME)) % 4 == 0, -5.0, CLEAN), None, "far below zero"),
    ],
)
def test_flux_that_cannot_be_scaled_is_refused(tmp_path, flux, unit, reason):
    with pytest.raises(UnreadableError, match=reason):
        read(write(tmp_path / "a.fits", flux=flux, unit=unit))


def test_whole_numbers_with_a_null_value(tmp_path):
    counts = np.where(FLAGGED, -1, np.round(CLEAN * 1e6)).astype(np.int32)
    columns = [fits.Column("TIME", "D", array=TIME), fits.Column("FLUX", "J", array=counts, null=-1)]
    table = fits.BinTableHDU.from_columns(columns)
    table.header["BJDREFI"] = 2457000
    table.writeto(tmp_path / "a.fits")
    assert read(tmp_path / "a.fits").finite == len(TIME) - product_files.FLAGGED
    assert depth(tmp_path / "a.fits") == RIGHT


def test_the_corrected_flux_is_chosen_by_meaning_not_by_alphabet(tmp_path):
    raw = product_files.curve(EPOCH, EPOCH - 2)[2]
    more = [("A_FLUX_RAW", "D", raw, None), ("Z_FLUX_CORR", "D", CLEAN, None)]
    table = fits.BinTableHDU.from_columns(
        [fits.Column("TIME", "D", array=TIME), *(fits.Column(name, form, array=array) for name, form, array, _ in more)]
    )
    table.header["BJDREFI"] = 2457000
    table.writeto(tmp_path / "a.fits")
    assert read(tmp_path / "a.fits").column == "Z_FLUX_CORR"
    table.columns.change_name("Z_FLUX_CORR", "B_FLUX")
    table.writeto(tmp_path / "b.fits")
    with pytest.raises(UnreadableError, match=r"several flux columns.*--flux-column"):
        read(tmp_path / "b.fits")
    assert read(tmp_path / "b.fits", "b_flux").column == "B_FLUX"


# Stars: lightkurve#1286; names of the NASA Exoplanet Archive


@pytest.mark.parametrize(
    ("header", "name", "star"),
    [
        ({"OBJECT": "Kepler-90"}, "Kepler-90.fits", "Kepler-90"),
        ({"OBJECT": "K2-18"}, "K2-18.fits", "K2-18"),
        ({"TICID": "218795833", "OBJECT": "Gaia DR3 5707485527450614656"}, "x.fits", "TIC 218795833"),
        ({"TICID": 5}, "tic7.fits", "TIC 5"),
        ({}, "tic7.fits", "TIC 7"),
        ({"KEPLERID": 201367065}, "x.fits", "EPIC 201367065"),
        ({"OBJECT": "987654321", "MISSION": "TESS"}, "x.fits", "TIC 987654321"),
        (
            {"OBJECT": ""},
            "hlsp_tglc_tess_ffi_gaiaid-5707485527450614656-s0008_llc.fits",
            "Gaia DR3 5707485527450614656",
        ),
        ({"OBJECT": "WASP-18"}, "tic100100827_s02.fits", "WASP-18"),
        ({"OBJECT": "unknown"}, "tic100100827_s02.fits", "TIC 100100827"),
    ],
)
def test_the_header_names_the_star_before_the_file_does(tmp_path, header, name, star):
    file = write(tmp_path / name, primary=header)
    assert read(file).star == star_of_file(file) == star


def test_a_file_name_that_contradicts_the_header_is_a_doubt(tmp_path):
    assert (
        "TIC 5 in the header, TIC 7 in the file name"
        in read(write(tmp_path / "tic7.fits", primary={"TICID": 5})).notes[0]
    )


# Damage: one bad file costs one star


def bomb(tmp_path, **cards):
    file = write(tmp_path / "a.fits")
    content = file.read_bytes()
    for keyword, value in cards.items():
        at = content.rindex(f"{keyword:8}=".encode())
        content = content[:at] + f"{keyword:8}= {value:>20}".encode() + content[at + 30 :]
    file.write_bytes(content)
    return file


@pytest.mark.parametrize(
    "cards",
    [
        {"NAXIS2": 10**15},
        {"NAXIS1": 10**15},
        {"PCOUNT": 10**17},
        {"TFIELDS": 10**8},
        {"NAXIS2": -5},
        {"NAXIS2": -1000},
        {"PCOUNT": -100000},
        {"TFORM1": "'999999999D'"},
    ],
)
def test_sizes_are_checked_before_anything_is_allocated(tmp_path, cards):
    with pytest.raises(UnreadableError):
        read(bomb(tmp_path, **cards))


# Whole runs


def row(star="TIC 987654321", epoch=BJD, label="PC"):
    return f"{star},3.1,{epoch},2.4,5000,{label}"


def run(folder, rows, out="set", **changes):
    (folder / "one.csv").write_text(
        "\n".join(["star,period_days,epoch_bjd,duration_hours,depth_ppm,label", *rows]) + "\n"
    )
    settings = {"bins": "201/61", "workers": 1, "mission": "tess"} | changes
    prepare(PrepareSettings(catalog=folder / "one.csv", light_curves=folder / "lcs", out=folder / out, **settings))
    return ViewSet.open(folder / out)


def sector(folder, number, **changes):
    time = product_files.observed(1325.3 + 28 * (number - 1))
    phase = (time - EPOCH + 1.55) % 3.1 - 1.55
    flux = 1 + np.random.default_rng(number).normal(0, 2e-4, len(time)) - 0.005 * (np.abs(phase) < 0.05)
    return {"time": time, "flux": flux, "primary": {"TICID": 987654321, "TELESCOP": "TESS", "SECTOR": number}} | changes


def test_the_same_file_name_in_every_sectors_folder(tmp_path):  # tasoc/photometry#21
    for number in (1, 2, 3):
        write(tmp_path / f"lcs/s{number:04}/TIC987654321.fits", **sector(tmp_path, number))
    views = run(tmp_path, [row()])
    assert views.tces["cadences"][0] == sum(len(sector(tmp_path, number)["time"]) for number in (1, 2, 3))
    assert views.tces["segment"][0] == "S1 S2 S3"
    assert views.tces["transits"][0] > 22


def test_a_sector_inside_the_gap_of_a_stitched_file_is_used(tmp_path):  # lightkurve#884
    one, two, three = (sector(tmp_path, number) for number in (1, 2, 3))
    both = {key: np.concatenate([one[key], three[key]]) for key in ("time", "flux")}
    write(tmp_path / "lcs/stitched.fits", **(one | both))
    write(tmp_path / "lcs/s2.fits", **two)
    write(tmp_path / "lcs/s3-again.fits", **three)
    views = run(tmp_path, [row()])
    assert views.tces["cadences"][0] == sum(len(part["time"]) for part in (one, two, three))


def test_a_replaced_light_curve_is_seen(tmp_path, monkeypatch):  # reprocessed under the same name, with the same size
    monkeypatch.setattr(file_index, "UNSETTLED_NS", 0)
    file = write(tmp_path / "lcs/TIC987654321.fits", **sector(tmp_path, 1))
    before = run(tmp_path, [row()])
    assert before.tces["measured_depth_ppm"][0] == RIGHT
    status = file.stat()
    flat = sector(tmp_path, 1)
    write(file, **(flat | {"flux": flat["flux"] + 0.005 * (flat["flux"] < 0.998)}))
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert file.stat().st_size == status.st_size
    with pytest.raises(TransitError, match="made of other light curves"):
        run(tmp_path, [row()])
    prepare(
        PrepareSettings(
            catalog=tmp_path / "one.csv",
            light_curves=tmp_path / "lcs",
            out=tmp_path / "set",
            bins="201/61",
            mission="tess",
        ),
        overwrite=True,
    )
    assert abs(ViewSet.open(tmp_path / "set").tces["measured_depth_ppm"][0]) < 200


def test_files_that_only_moved_in_time_are_the_same(tmp_path):
    file = write(tmp_path / "lcs/TIC987654321.fits", **sector(tmp_path, 1))
    run(tmp_path, [row()])
    os.utime(file)
    run(tmp_path, [row()])  # says that it exists, instead of refusing


def test_nameless_rows_and_nameless_files_never_meet(tmp_path):
    write(tmp_path / "lcs/nameless.fits", **sector(tmp_path, 1, primary={}))
    write(tmp_path / "lcs/tic987654321.fits", **sector(tmp_path, 1))
    views = run(tmp_path, [row(), row(star=""), row(star="TIC 5")])
    assert list(views.tces["star"]) == ["TIC 987654321"]
    assert list(views.dropped["reason"]) == ["the row names no star", "no light curve of this star"]


def test_a_file_column_needs_a_name_that_is_unique(tmp_path):
    for folder in ("a", "b"):
        write(tmp_path / f"lcs/{folder}/x.fits", **sector(tmp_path, 1))
    rows = ["star,period_days,epoch_bjd,duration_hours,label,file"]
    rows += [f"TIC 987654321,3.1,{BJD},2.4,PC,{name}" for name in ("x.fits", "b/x.fits", "c/x.fits")]
    (tmp_path / "one.csv").write_text("\n".join(rows))
    prepare(
        PrepareSettings(
            catalog=tmp_path / "one.csv", light_curves=tmp_path / "lcs", out=tmp_path / "set", bins="201/61", workers=1
        )
    )
    views = ViewSet.open(tmp_path / "set")
    assert len(views) == 1
    assert list(views.dropped["reason"]) == ["x.fits: 2 files have this name", "c/x.fits: not among the light curves"]


def test_linked_folders_are_followed_also_in_circles(tmp_path):  # cpython#77609
    write(tmp_path / "elsewhere/TIC987654321.fits", **sector(tmp_path, 1))
    (tmp_path / "lcs").mkdir()
    (tmp_path / "lcs/link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "lcs/again").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere/circle").symlink_to(tmp_path / "elsewhere")
    views = run(tmp_path, [row()])
    assert views.tces["cadences"][0] == len(sector(tmp_path, 1)["time"])


def test_flux_without_light_costs_only_its_own_file(tmp_path):  # eleanor#175
    write(tmp_path / "lcs/TIC5.fits", **sector(tmp_path, 1, primary={"TICID": 5}, flux=np.ones(3744)))
    write(tmp_path / "lcs/TIC987654321.fits", **sector(tmp_path, 1))
    write(
        tmp_path / "lcs/TIC6.fits",
        **sector(tmp_path, 1, primary={"TICID": 6}, table={"BJDREFI": 2457000, "BJDREFF": "X"}),
    )
    views = run(tmp_path, [row("TIC 5"), row(), row("TIC 6")])
    assert list(views.tces["star"]) == ["TIC 987654321"]
    assert list(views.dropped["reason"]) == [
        "TIC5.fits: the flux is constant (1)",
        "TIC6.fits: header BJDREFF is 'X', not a number",
    ]


def test_a_signal_deeper_than_the_stars_light_is_dropped(tmp_path):
    from transit_cli.data.views.folding import UnusableError
    from transit_cli.data.views.make import check_depth

    with pytest.raises(UnusableError, match="deeper than the star's light"):
        check_depth({"measured_depth_ppm": 161288227.0})
    check_depth({"measured_depth_ppm": 1e6})


def test_one_of_two_processes_that_make_one_set_wins(tmp_path):
    from transit_cli.data.settings import SimulateSettings
    from transit_cli.data.simulation.simulate import simulate
    from transit_cli.utils.files import locked

    write(tmp_path / "lcs/TIC987654321.fits", **sector(tmp_path, 1))
    with locked(tmp_path / "set"):
        with pytest.raises(TransitError, match="in use by another process") as error:
            run(tmp_path, [row()])
        assert error.value.code == "folder-busy"
        with pytest.raises(TransitError, match="in use by another process"):
            simulate(SimulateSettings(out=tmp_path / "set", tces=10))
    assert len(run(tmp_path, [row()])) == 1


# Plain tables


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|", " "])
def test_text_tables(tmp_path, delimiter):
    lines = ["# TIC_ID: 987654321", delimiter.join(["time_btjd", "flux", "flux_err", "quality"])]
    lines += [delimiter.join(map(str, cells)) for cells in zip(TIME, FLUX, FLUX * 0, 8 * FLAGGED, strict=True)]
    (tmp_path / "a.csv").write_text("\n".join(lines), encoding="utf-8-sig")
    curve = read(tmp_path / "a.csv")
    assert (curve.star, curve.reference_jd, curve.column, curve.flagged) == ("TIC 987654321", 2457000, "FLUX", 116)
    assert depth(tmp_path / "a.csv") == RIGHT


def test_units_in_the_names_of_columns(tmp_path):
    lines = ["BJD - 2457000 [d],flux [ppm],tic_id"]
    lines += [f"{t},{1e6 * (f - 1)},987654321" for t, f in zip(TIME, CLEAN, strict=True)]
    (tmp_path / "a.csv").write_text("\n".join(lines))
    assert depth(tmp_path / "a.csv") == RIGHT
    assert read(tmp_path / "a.csv").star == "TIC 987654321"


@pytest.mark.parametrize("kind", ["quantity", "time", "column"])
def test_ecsv_with_quantities_and_times(tmp_path, kind):
    from astropy import units

    times = {"quantity": TIME * 24 * units.h, "time": Time(TIME + 2457000, format="jd", scale="tdb"), "column": TIME}
    table = QTable(
        {"time": times[kind], "flux": (CLEAN * 100) * units.percent}, meta={"TICID": 987654321, "BJDREFI": 2457000}
    )
    table.write(tmp_path / "a.ecsv", format="ascii.ecsv")
    assert depth(tmp_path / "a.ecsv") == RIGHT


def test_parquet(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    flat = pyarrow.table({"tic_id": [987654321] * len(TIME), "btjd": TIME, "flux": FLUX, "quality": 8 * FLAGGED})
    parquet.write_table(flat, tmp_path / "a.parquet")
    assert depth(tmp_path / "a.parquet") == RIGHT
    assert read(tmp_path / "a.parquet").star == "TIC 987654321"
    nested = pyarrow.table({"lightcurve": [{"time": TIME + 2457000, "flux": CLEAN}], "object_id": ["TIC 987654321"]})
    parquet.write_table(nested, tmp_path / "b.parquet")
    assert depth(tmp_path / "b.parquet") == RIGHT
    parquet.write_table(pyarrow.concat_tables([nested, nested]), tmp_path / "c.parquet")
    with pytest.raises(UnreadableError, match="holds 2 light curves"):
        read(tmp_path / "c.parquet")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "empty|no time"),
        ("1325.1,1.0\n1325.2,1.0\n", "header line"),
        ("time;flux\n1325,1;1,0\n1325,2;1,1\n", "decimal comma"),
        ("time,flux,flux\n1,2,3\n", "two columns are called"),
        ("tic_id,time,flux\n1,1325.1,1\n2,1325.2,1.1\n", "2 stars"),
        ("star,period,epoch\n1,2,3\n", "no time and flux"),
        ("time,flux\n1,2,3\n", "row 2 has 3 cells"),
    ],
)
def test_tables_that_are_refused_name_the_cause(tmp_path, text, reason):
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(UnreadableError, match=reason):
        read(tmp_path / "a.csv")


def test_an_epoch_far_from_the_data_is_dropped_and_the_others_are_made(tmp_path):
    write(tmp_path / "lcs/TIC987654321.fits", **sector(tmp_path, 1))
    with_inf = row().replace("3.1", "inf", 1)
    views = run(tmp_path, [row(), with_inf])
    assert len(views) == 1
    assert list(views.dropped["reason"]) == ["period is not a finite number"]


def test_stitching_leaves_out_what_has_no_reference(tmp_path):
    from transit_cli.data.lightcurves.lightcurve import stitch

    known = read(write(tmp_path / "a.fits", **sector(tmp_path, 1)))
    unknown = replace(read(write(tmp_path / "b.fits", **sector(tmp_path, 2))), reference_jd=None)
    one = stitch([unknown, known])
    assert len(one.time) == len(known.time)
    assert "b.fits: time reference unknown, left out" in one.notes


@pytest.mark.parametrize("fill", [0.0, -9999.0, 1e30, np.nan, np.inf])
def test_fill_values_among_times_are_missing(tmp_path, fill):
    file = write(tmp_path / "a.fits", time=np.where(FLAGGED, fill, TIME + 2457000), table={})
    curve = read(file)
    assert curve.finite == len(TIME) - product_files.FLAGGED
    assert curve.reference_jd == 0
    assert depth(file) == RIGHT


def test_the_table_with_the_corrected_flux_is_read(tmp_path):
    raw = product_files.curve(EPOCH, EPOCH - 2)[2]
    tables = [
        fits.BinTableHDU.from_columns(
            [fits.Column("TIME", "D", array=TIME), fits.Column("FLUX", "D", array=flux)], name=name
        )
        for name, flux in (("APERTURE_RAW", raw), ("CORRECTED", CLEAN))
    ]
    for table in tables:
        table.header["BJDREFI"] = 2457000
    fits.HDUList([fits.PrimaryHDU(), *tables]).writeto(tmp_path / "a.fits")
    assert depth(tmp_path / "a.fits") == RIGHT
    tables[1].name = "OTHER"
    fits.HDUList([fits.PrimaryHDU(), *tables]).writeto(tmp_path / "b.fits")
    assert "OTHER has the same columns" in read(tmp_path / "b.fits").notes[0]


def test_a_row_of_units_below_the_names(tmp_path):
    lines = ["time,flux,err", "BTJD,ppm,ppm", *(f"{t},{1e6 * (f - 1)},9" for t, f in zip(TIME, CLEAN, strict=True))]
    (tmp_path / "a.csv").write_text("\n".join(lines))
    assert depth(tmp_path / "a.csv") == RIGHT


def test_a_name_in_the_header_and_a_number_in_the_file_name_are_one_star(tmp_path):
    write(tmp_path / "lcs/tic987654321.fits", **sector(tmp_path, 1, primary={"OBJECT": "WASP-18", "TELESCOP": "TESS"}))
    assert len(run(tmp_path, [row()])) == 1
