"""Light curves from files: what is in them is found, what is wrong with them is said."""

import gzip

import fits_maker as make
import numpy as np
import pytest

from transit_cli.data.lightcurves.lightcurve import UnreadableError, stitch
from transit_cli.data.lightcurves.readers import read, readers, star_of_file, suffixes
from transit_cli.data.lightcurves.target import star_of_name
from transit_cli.data.lightcurves.time_reference import name_of
from transit_cli.data.views.folding import Signal

TIME = make.long_cadence(10)
FLUX = make.flux_with(TIME, [Signal(3.0, 133.0, 0.2)], [0.01])


@pytest.mark.parametrize(
    ("quarter", "finite"), [("2009350155506", 4134), ("2010009091648", 1008), ("2010174085026", 4486)]
)
def test_published_finite_points_of_kepler_90(shared_data, quarter, finite):
    curve = read(shared_data / "lightcurves" / f"kplr011442793-{quarter}_llc.fits")
    assert curve.finite == finite
    assert (curve.star, curve.mission, curve.reference_jd, curve.column) == (
        "KIC 11442793",
        "kepler",
        2454833,
        "PDCSAP_FLUX",
    )


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("exohunt_kic10419211.fits", ("KIC 10419211", make.BKJD, "Q1", "FLUX")),
        ("exohunt_kic6721123.fits", ("KIC 6721123", make.BKJD, "Q3", "FLUX")),
        ("kplr010666592-2009131110544_slc.fits", ("KIC 10666592", make.BKJD, "Q0", "PDCSAP_FLUX")),
        ("tess2018206045859-s0001-0000000270501383-0120-s_lc.fits", ("TIC 270501383", make.BTJD, "S1", "PDCSAP_FLUX")),
        ("tic100100827_s02_wasp18b_exovetter.fits", ("TIC 100100827", make.BTJD, "S2", "FLUX")),
    ],
)
def test_real_files_are_recognised(shared_data, name, expected):
    curve = read(shared_data / "lightcurves" / name)
    assert (curve.star, curve.reference_jd, curve.segment, curve.column) == expected
    assert curve.notes == ()
    assert np.median(curve.flux) == pytest.approx(1)
    assert (np.diff(curve.time) > 0).all()
    assert star_of_file(shared_data / "lightcurves" / name) == expected[0]


def test_a_k2_file(tmp_path):
    primary = make.K2 | {"KEPLERID": 201367065, "OBJECT": "EPIC 201367065"}
    file = make.write(tmp_path / "a.fits", TIME, FLUX, primary=primary, table={"BJDREFI": make.BKJD})
    curve = read(file)
    assert (curve.star, curve.mission, curve.segment) == ("EPIC 201367065", "k2", "C5")


def test_a_qlp_file(tmp_path):
    time = TIME + 1500
    quality = np.zeros(len(time), int)
    quality[5], quality[6], quality[7] = 4096, 1 << 30, 1 << 11  # QLP's two marks of low precision; stray light
    file = make.write(
        tmp_path / "hlsp_qlp_tess_ffi_s0012-0000000123456789_tess_v01_llc.fits",
        time,
        FLUX / 5000,
        primary=make.TESS | {"TICID": 123456789, "ORIGIN": "MIT/QLP"},
        table={"BJDREFI": make.BTJD, "BJDREFF": 0.0},
        quality=None,
        column="SAP_FLUX",
        unit=None,
        more=[("KSPSAP_FLUX", "E", FLUX / 5000), ("QUALITY", "J", quality)],
    )
    curve = read(file)
    assert (curve.star, curve.column, curve.finite - len(curve.time)) == ("TIC 123456789", "SAP_FLUX", 2)
    assert read(file, "kspsap_flux").column == "KSPSAP_FLUX"
    assert star_of_name(file) == "TIC 123456789"


@pytest.mark.parametrize(
    ("bit", "mission", "kept"),
    [(1, make.KEPLER, False), (128, make.KEPLER, True), (128, make.TESS, False), (8192, make.KEPLER, True)],
)
def test_quality_bits_of_the_mission_decide(tmp_path, bit, mission, kept):
    quality = np.where(np.arange(len(TIME)) == 9, bit, 0)
    curve = read(make.write(tmp_path / "a.fits", TIME, FLUX, primary=mission, quality=quality, column="FLUX"))
    assert len(curve.time) == len(TIME) - (not kept)


def test_any_flag_spoils_a_cadence_of_an_unknown_survey(tmp_path):
    quality = np.where(np.arange(len(TIME)) < 3, 1 << np.arange(len(TIME)), 0)
    curve = read(make.write(tmp_path / "a.fits", TIME, FLUX, quality=quality, column="FLUX"))
    assert len(curve.time) == len(TIME) - 3


def test_zeros_among_fluxes_are_cadences_without_data(tmp_path):
    flux = FLUX.copy()
    flux[10:20] = 0
    flux[20:25] = np.nan
    curve = read(make.kepler(tmp_path / "a.fits", 1, TIME, flux))
    assert curve.finite == len(TIME) - 5
    assert len(curve.time) == len(TIME) - 15


def test_the_next_column_stands_in_for_one_without_numbers(tmp_path):
    empty = np.full(len(TIME), np.nan)
    file = make.kepler(tmp_path / "a.fits", 1, TIME, empty, more=[("SAP_FLUX", "E", FLUX)])
    assert read(file).column == "SAP_FLUX"


def test_a_flux_column_of_any_other_name_is_found_but_no_error_column(tmp_path):
    file = make.write(tmp_path / "a.fits", TIME, FLUX, column="CORR_FLUX_APER2", more=[("A_FLUX_ERR", "E", FLUX)])
    assert read(file).column == "CORR_FLUX_APER2"


@pytest.mark.parametrize(
    ("primary", "time", "unit", "zero"),
    [
        ({}, TIME, "bkjd", 2454833),
        ({}, TIME + 1200, "BJD - 2457000, days", 2457000),
        (make.KEPLER, TIME, "d", 2454833),
        (make.TESS, TIME + 1200, None, 2457000),
        (make.TESS, TIME, None, None),  # 2015: before TESS
        ({}, TIME + 2454833, "d", 0),
        ({}, TIME + 56000, "d", 2400000.5),
        ({}, TIME, None, None),
    ],
)
def test_the_zero_of_time_without_a_header(tmp_path, primary, time, unit, zero):
    curve = read(make.write(tmp_path / "a.fits", time, FLUX, primary=primary, time_unit=unit))
    assert curve.reference_jd == zero
    np.testing.assert_allclose(curve.time, time)


def test_the_header_decides_over_the_mission_and_counts_its_fraction(tmp_path):
    cards = {"BJDREFI": 2455000, "BJDREFF": 0.25}
    assert read(make.write(tmp_path / "a.fits", TIME, FLUX, primary=make.TESS, table=cards)).reference_jd == 2455000.25


def test_seconds_become_days(tmp_path):
    curve = read(make.write(tmp_path / "a.fits", TIME * 86400, FLUX, primary=make.TESS, time_unit="s"))
    np.testing.assert_allclose(curve.time, TIME)


@pytest.mark.parametrize(
    ("flux", "unit"),
    [
        (FLUX, "e-/s"),
        (FLUX / 5000, None),
        (FLUX / 5000 - 1, None),
        ((FLUX / 5000 - 1) * 1e6, "ppm"),
        (12 - 2.5 * np.log10(FLUX), "mag"),
    ],
)
def test_any_unit_gives_the_same_relative_flux(tmp_path, flux, unit):
    curve = read(make.write(tmp_path / "a.fits", TIME, flux, unit=unit, primary=make.TESS))
    np.testing.assert_allclose(curve.flux, FLUX / np.median(FLUX), atol=2e-4)


def test_unsorted_and_repeated_times_are_put_right(tmp_path):
    order = np.random.default_rng(0).permutation(len(TIME))
    order = np.concatenate([order, order[:7]])
    curve = read(make.kepler(tmp_path / "a.fits", 1, TIME[order], FLUX[order]))
    np.testing.assert_array_equal(curve.time, TIME)


def test_a_compressed_file_is_read(tmp_path):
    plain = make.kepler(tmp_path / "a.fits", 5, TIME, FLUX)
    packed = tmp_path / "a.fits.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    np.testing.assert_array_equal(read(packed).flux, read(plain).flux)


def damaged(tmp_path, name):
    file = make.kepler(tmp_path / "a.fits", 5, TIME, FLUX)
    content = file.read_bytes()
    broken = tmp_path / name
    broken.write_bytes(
        {
            "cut.fits": content[: len(content) // 2],
            "header.fits": content[:2880],
            "empty.fits": b"",
            "page.fits": b"<html>503 Service Unavailable</html>" * 99,
            "cut.fits.gz": gzip.compress(content)[:2000],
        }[name],
    )
    return broken


@pytest.mark.parametrize("name", ["cut.fits", "header.fits", "empty.fits", "page.fits", "cut.fits.gz"])
def test_a_damaged_file_says_so(tmp_path, name):
    with pytest.raises(UnreadableError, match=r"breaks off|not a FITS|no table"):
        read(damaged(tmp_path, name))


@pytest.mark.parametrize(
    ("flux", "column", "reason"),
    [
        (np.full(len(TIME), np.nan), "PDCSAP_FLUX", "no finite number"),
        (-FLUX, "PDCSAP_FLUX", "not positive"),
        (FLUX, "COUNTS", "no flux column"),
    ],
)
def test_a_file_without_usable_flux_says_so(tmp_path, flux, column, reason):
    with pytest.raises(UnreadableError, match=reason):
        read(make.write(tmp_path / "a.fits", TIME, flux, column=column))


def test_a_missing_column_or_file_is_named(tmp_path):
    with pytest.raises(UnreadableError, match="no column XYZ"):
        read(make.kepler(tmp_path / "a.fits", 1, TIME, FLUX), "XYZ")
    with pytest.raises(UnreadableError, match="No such file"):
        read(tmp_path / "nothing.fits")


@pytest.mark.parametrize(
    ("name", "star"),
    [
        ("kplr011442793-2009350155506_llc.fits", "KIC 11442793"),
        ("ktwo201367065-c01_llc.fits", "EPIC 201367065"),
        ("tess2018206045859-s0001-0000000270501383-0120-s_lc.fits", "TIC 270501383"),
        ("hlsp_tess-spoc_tess_phot_0000000012345678-s0012_tess_v1_lc.fits", "TIC 12345678"),
        ("hlsp_k2sff_k2_lightcurve_201367065-c01_kepler_v1_llc.fits", "EPIC 201367065"),
        ("some.fits", ""),
    ],
)
def test_archive_names_give_the_star(tmp_path, name, star):
    assert star_of_name(tmp_path / name) == star


def test_quarters_are_stitched_each_to_its_own_level(tmp_path):
    later = TIME + 90
    curves = [
        read(make.kepler(tmp_path / "a.fits", 1, TIME, FLUX)),
        read(make.kepler(tmp_path / "b.fits", 1, later, FLUX * 3)),
    ]
    one = stitch(curves)
    assert len(one.time) == 2 * len(TIME)
    assert np.median(one.flux[one.time > 200]) == pytest.approx(1)
    assert one.source == "a.fits (+1)"


def test_files_of_the_same_days_are_not_mixed(tmp_path):
    short = np.arange(TIME[0], TIME[0] + 3, 0.0007)
    curves = [
        read(make.kepler(tmp_path / "slc.fits", 1, short, make.flux_with(short, [], []))),
        read(make.kepler(tmp_path / "llc.fits", 1, TIME, FLUX)),
    ]
    assert stitch(curves).source == "llc.fits"


def test_missions_of_different_zeros_are_brought_together(tmp_path):
    tess = {"BJDREFI": make.BTJD, "BJDREFF": 0.0}
    curves = [
        read(make.kepler(tmp_path / "a.fits", 1, TIME, FLUX)),
        read(make.write(tmp_path / "b.fits", TIME, FLUX, primary=make.TESS, table=tess)),
    ]
    one = stitch(curves)
    assert one.reference_jd == make.BKJD
    assert one.time[-1] == pytest.approx(TIME[-1] + 2457000 - 2454833)


def test_names_of_time_systems():
    assert [name_of(zero) for zero in (2454833, 2457000, 0, 2450000)] == ["BKJD", "BTJD", "BJD", "BJD-2450000"]


@pytest.fixture
def installed_reader(tmp_path, monkeypatch):
    """A distribution that reads files ending in .dat, found by its metadata as any installed one is."""
    site = tmp_path / "site"
    info = site / "dat_reader-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: dat-reader\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[transit.readers]\ndat = dat_reader:read\n")
    (site / "dat_reader.py").write_text(
        "import numpy as np\nfrom transit_cli.data.lightcurves.lightcurve import LightCurve\n\n"
        "def read(path):\n    time, flux = np.loadtxt(path).T\n"
        "    return LightCurve(time, flux, star='KIC 9', reference_jd=2454833.0, source=path.name)\n"
    )
    monkeypatch.syspath_prepend(str(site))
    readers.cache_clear()
    yield
    readers.cache_clear()


@pytest.mark.usefixtures("installed_reader")
def test_an_installed_reader_reads_its_own_format(tmp_path):
    np.savetxt(tmp_path / "a.dat", np.c_[TIME, FLUX / 5000])
    assert ".dat" in suffixes()
    assert star_of_file(tmp_path / "a.dat") == "KIC 9"
    np.testing.assert_allclose(read(tmp_path / "a.dat").time, TIME)
    (tmp_path / "b.dat").write_text("nonsense")
    with pytest.raises(UnreadableError, match="the reader of dat-reader fails"):
        read(tmp_path / "b.dat")


@pytest.mark.usefixtures("installed_reader")
def test_what_an_installed_reader_returns_is_counted_sorted_and_checked(tmp_path):
    rows = np.c_[TIME, FLUX / 5000][::-1]
    rows[[3, 5]] = [(np.nan, 1.0), (TIME[0], np.nan)]
    np.savetxt(tmp_path / "a.dat", np.r_[rows, rows[:2]])
    curve = read(tmp_path / "a.dat", "SAP_FLUX")
    assert (curve.cadences, curve.finite, len(curve.time)) == (len(TIME) + 2, len(TIME), len(TIME) - 2)
    assert (np.diff(curve.time) > 0).all()
    assert (curve.mission, curve.column, curve.source) == ("kepler", "flux", "a.dat")
    assert curve.notes == ("flux: the reader of dat-reader chooses the flux itself, not SAP_FLUX",)
    assert {decision.topic for decision in curve.decisions} == {"star", "time", "flux"}
    np.savetxt(tmp_path / "a.dat", np.c_[TIME, FLUX])
    with pytest.raises(UnreadableError, match="dat-reader returns fluxes with a median of 5"):
        read(tmp_path / "a.dat")
