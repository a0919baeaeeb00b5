"""Light-curve files in the layout of each product, with one known signal, made by astropy.

The corrected flux has transits of 5000 ppm; raw columns have 20000 ppm, so that a wrong column is noticed. Flagged
cadences are 3 % low, so that a flag that is not applied is noticed.
"""

from dataclasses import dataclass

import numpy as np
from astropy.io import fits

PERIOD, DURATION, DEPTH, RAW_DEPTH = 3.1, 0.1, 0.005, 0.02
FLAGGED = 116


@dataclass(frozen=True)
class Layout:
    """A product's file: its name, headers, and columns as (name, format, what, unit).

    `what` is "time", "flux", "raw", "flag:VALUE" (of flagged cadences), "mag", "ppm", "raw-mag" or a number.
    """

    name: str
    file: str
    star: str
    column: str
    epoch: float
    columns: tuple
    primary: dict
    table: dict
    reference_jd: float = 2457000.0
    extname: str = "LIGHTCURVE"
    offset: float = 0.0  # of the times in the file
    level: float = 10000.0
    extra: tuple = ()  # further tables as (extname, columns)


def observed(start, days=27.0, cadence=10 / 1440):
    time = np.arange(start, start + days, cadence)
    return time[(time - start < 13) | (time - start > 14)]


def curve(epoch, start):
    """Times, relative fluxes with and without the larger depth, and which cadences are flagged."""
    time = observed(start)
    phase = (time - epoch + PERIOD / 2) % PERIOD - PERIOD / 2
    inside = np.abs(phase) < DURATION / 2
    rng = np.random.default_rng(7)
    noise = rng.normal(0, 2e-4, len(time))
    flagged = np.zeros(len(time), bool)
    flagged[rng.choice(np.flatnonzero(np.abs(phase) > 0.3), FLAGGED, replace=False)] = True
    flux = 1 + noise - DEPTH * inside - 0.03 * flagged
    return time, flux, 1 + noise - RAW_DEPTH * inside - 0.03 * flagged, flagged


def write(folder, layout):
    """Write the file of a layout; its path."""
    start = layout.epoch - 2.0
    time, flux, raw, flagged = curve(layout.epoch, start)

    def values(what):
        if isinstance(what, int | float):
            return np.full(len(time), what)
        kind, _, value = what.partition(":")
        if kind == "flag":
            marks = value.split("|") if "|" in value else [value]
            if marks[0].lstrip("-").isdigit():
                return np.where(flagged, np.resize([int(mark) for mark in marks], len(time)), 0)
            return np.where(flagged, value, "G")
        return {
            "time": time + layout.offset,
            "flux": layout.level * flux,
            "relative": flux,
            "raw-relative": raw,
            "raw": layout.level * raw,
            "ppm": 1e6 * (flux - 1),
            "mag": 12 - 2.5 * np.log10(flux),
            "raw-mag": 12 - 2.5 * np.log10(raw),
            "image": np.zeros((len(time), 3, 3)),
        }[kind]

    def table(name, columns):
        made = [fits.Column(n, form, array=values(what), unit=unit) for n, form, what, unit in columns]
        return fits.BinTableHDU.from_columns(made, name=name)

    head, body = fits.PrimaryHDU(), table(layout.extname, layout.columns)
    head.header.update(layout.primary)
    body.header.update(layout.table)
    others = [table(name, columns) for name, columns in layout.extra]
    file = folder / layout.file
    fits.HDUList([head, *others, body]).writeto(file)
    return file


_BTJD = {"BJDREFI": 2457000, "BJDREFF": 0.0, "TIMEUNIT": "d"}
_BKJD = {"BJDREFI": 2454833, "BJDREFF": 0.0, "TIMEUNIT": "d"}
_K2 = {"TELESCOP": "Kepler", "MISSION": "K2", "KEPLERID": 201367065, "OBJECT": "EPIC 201367065", "CAMPAIGN": 1}
_TIME = ("TIME", "D", "time", "BJD - 2457000, days")
_KTIME = ("TIME", "D", "time", "BJD - 2454833")

LAYOUTS = (
    Layout(
        "SPOC",
        "tess2018206045859-s0001-0000000987654321-0120-s_lc.fits",
        "TIC 987654321",
        "PDCSAP_FLUX",
        1327.3,
        (
            _TIME,
            ("SAP_FLUX", "E", "raw", "e-/s"),
            ("PDCSAP_FLUX", "E", "flux", "e-/s"),
            ("QUALITY", "J", "flag:32|128|16384", None),
        ),
        {"TELESCOP": "TESS", "TICID": 987654321, "OBJECT": "TIC 987654321", "SECTOR": 1, "ORIGIN": "NASA/Ames"},
        _BTJD,
    ),
    Layout(
        "TESS-SPOC",
        "hlsp_tess-spoc_tess_phot_0000000987654321-s0012_tess_v1_lc.fits",
        "TIC 987654321",
        "PDCSAP_FLUX",
        1640.3,
        (
            _TIME,
            ("SAP_FLUX", "E", "raw", "e-/s"),
            ("PDCSAP_FLUX", "E", "flux", "e-/s"),
            ("QUALITY", "J", "flag:8", None),
        ),
        {"TELESCOP": "TESS", "TICID": 987654321, "SECTOR": 12},
        _BTJD,
    ),
    Layout(
        "Kepler",
        "kplr011442793-2009350155506_llc.fits",
        "KIC 11442793",
        "PDCSAP_FLUX",
        270.3,
        (
            _KTIME,
            ("SAP_FLUX", "E", "raw", "e-/s"),
            ("PDCSAP_FLUX", "E", "flux", "e-/s"),
            ("SAP_QUALITY", "J", "flag:1|65536", None),
        ),
        {"TELESCOP": "Kepler", "MISSION": "Kepler", "KEPLERID": 11442793, "OBJECT": "KIC 11442793", "QUARTER": 3},
        _BKJD,
        reference_jd=2454833.0,
    ),
    Layout(
        "K2",
        "ktwo201367065-c01_llc.fits",
        "EPIC 201367065",
        "PDCSAP_FLUX",
        1980.3,
        (
            _KTIME,
            ("SAP_FLUX", "E", "raw", "e-/s"),
            ("PDCSAP_FLUX", "E", "flux", "e-/s"),
            ("SAP_QUALITY", "J", "flag:1048576", None),
        ),
        _K2,
        _BKJD,
        reference_jd=2454833.0,
    ),
    Layout(
        "QLP",
        "hlsp_qlp_tess_ffi_s0012-0000000987654321_tess_v01_llc.fits",
        "TIC 987654321",
        "SAP_FLUX",
        1640.3,
        (
            _TIME,
            ("SAP_FLUX", "E", "relative", None),
            ("KSPSAP_FLUX", "E", "raw-relative", None),
            ("QUALITY", "J", "flag:4096", None),
        ),
        {"TELESCOP": "TESS", "TICID": 987654321, "SECTOR": 12, "ORIGIN": "MIT/QLP"},
        _BTJD,
    ),
    Layout(
        "QLP",
        "hlsp_qlp_tess_ffi_s0056-0000000987654321_tess_v01_llc.fits",
        "TIC 987654321",
        "SYS_RM_FLUX",
        2830.3,
        (
            _TIME,
            ("SAP_FLUX", "E", "raw-relative", None),
            ("SYS_RM_FLUX", "E", "relative", None),
            ("DET_FLUX", "E", "raw-relative", None),
            ("DET_FLUX_ERR", "E", 1e-4, None),
            ("QUALITY", "J", "flag:1073741824", None),
        ),
        {"TELESCOP": "TESS", "TICID": 987654321, "SECTOR": 56, "ORIGIN": "MIT/QLP"},
        _BTJD,
    ),
    Layout(
        "TGLC",
        "hlsp_tglc_tess_ffi_gaiaid-5707485527450614656-s0008-cam2-ccd4_tess_v2_llc.fits",
        "TIC 987654321",
        "CAL_APER_FLUX",
        1520.3,
        (
            ("time", "D", "time", None),
            ("psf_flux", "E", "raw", None),
            ("aperture_flux", "E", "raw", None),
            ("cal_psf_flux", "E", "raw-relative", None),
            ("cal_aper_flux", "E", "relative", None),
            ("TESS_flags", "I", 0, None),
            ("TGLC_flags", "I", "flag:1|2", None),
        ),
        {
            "TELESCOP": "TESS",
            "ORIGIN": "UCSB/TGLC",
            "OBJECT": "Gaia DR3 5707485527450614656",
            "TICID": "987654321",
            "SECTOR": 8,
        },
        {"BJDREFI": 2457000, "BJDREFR": 0.0},
    ),
    Layout(
        "GSFC-ELEANOR-LITE",
        "hlsp_gsfc-eleanor-lite_tess_ffi_s0001-0000000987654321_tess_v1.0_lc.fits",
        "TIC 987654321",
        "CORR_FLUX",
        1327.3,
        (
            ("TIME", "D", "time", None),
            ("RAW_FLUX", "D", "raw", None),
            ("CORR_FLUX", "D", "flux", None),
            ("FLUX_ERR", "D", 1.0, None),
            ("QUALITY", "K", "flag:131072|262144", None),
            ("FLUX_BKG", "D", 3.0, None),
            ("PCA_FLUX", "D", "raw", None),
        ),
        {"TELESCOP": "TESS", "TIC_ID": 987654321, "SECTOR": 1, "LITE": True, "PCORIGIN": "MAST"},
        {},
    ),
    Layout(
        "eleanor",
        "hlsp_eleanor_tess_ffi_tic987654321_s01_tess_v2.0.1_lc.fits",
        "TIC 987654321",
        "CORR_FLUX",
        1327.3,
        (
            ("TIME", "D", "time", None),
            ("QUALITY", "D", "flag:131072", None),
            ("RAW_FLUX", "D", "raw", None),
            ("CORR_FLUX", "D", "flux", None),
            ("PCA_FLUX", "D", "raw", None),
            ("PSF_FLUX", "D", "raw", None),
        ),
        {"TELESCOP": "TESS", "TIC_ID": 987654321, "SECTOR": 1},
        {},
    ),
    Layout(
        "CDIPS",
        "hlsp_cdips_tess_ffi_gaiatwo0003125263468681400320-0006-cam1-ccd2_tess_v01_llc.fits",
        "TIC 987654321",
        "TFA1",
        1470.3,
        (
            ("TMID_BJD", "D", "time", None),
            ("IFL1", "E", "raw", None),
            ("IRM1", "E", "raw-mag", None),
            ("IRE1", "E", 1e-3, None),
            ("IRQ1", "1A", "flag:X", None),
            ("IRQ2", "1A", "flag:X", None),
            ("TFA1", "E", "mag", None),
            ("TFA2", "E", "raw-mag", None),
            ("PCA1", "E", "raw-mag", None),
            ("BGV", "E", 5.0, None),
        ),
        {
            "TELESCOP": "TESS",
            "TICID": "987654321",
            "ORIGIN": "CDIPS",
            "OBJECT": "Gaia DR2 3125263468681400320",
            "SECTOR": 6,
        },
        {},
        reference_jd=0.0,
        offset=2457000.0,
    ),
    Layout(
        "PATHOS",
        "hlsp_pathos_tess_lightcurve_tic-0000000987654321-s0006_tess_v1_llc.fits",
        "TIC 987654321",
        "PSF_FLUX_COR",
        1470.3,
        (
            ("TIME", "D", "time", None),
            ("PSF_FLUX_RAW", "D", "raw", None),
            ("PSF_FLUX_COR", "D", "flux", None),
            ("AP1_FLUX_RAW", "D", "raw", None),
            ("AP1_FLUX_COR", "D", "raw", None),
            ("AP4_FLUX_COR", "D", "raw", None),
            ("SKY_LOCAL", "D", 9.0, None),
            ("DQUALITY", "J", "flag:64|512", None),
        ),
        {"TELESCOP": "TESS", "TICID": 987654321, "SECTOR": 6},
        {},
    ),
    Layout(
        "TASOC",
        "hlsp_tasoc_tess_ffi_tic00987654321-s0001-cam1-ccd2-c1800_tess_v05_cbv-lc.fits",
        "TIC 987654321",
        "FLUX_CORR",
        1327.3,
        (
            _TIME,
            ("FLUX_RAW", "D", "raw", "e-/s"),
            ("FLUX_CORR", "D", "ppm", "ppm"),
            ("QUALITY", "J", "flag:1|2", None),
            ("PIXEL_QUALITY", "J", 0, None),
        ),
        {"TELESCOP": "TESS", "ORIGIN": "TASOC/Aarhus", "TICID": 987654321, "SECTOR": 1},
        _BTJD,
    ),
    Layout(
        "DIAMANTE",
        "hlsp_diamante_tess_lightcurve_tic-0000000987654321_tess_v1_llc.fits",
        "TIC 987654321",
        "LC1_AP1",
        1327.3,
        (
            ("BTJD", "D", "time", None),
            ("LC0_AP1", "D", "raw-relative", None),
            ("LC1_AP1", "D", "relative", None),
            ("FLAG_AP1", "J", "flag:1", None),
            ("LC1_AP2", "D", "raw-relative", None),
            ("FLAG_AP2", "J", 0, None),
        ),
        {"TELESCOP": "TESS", "TICID": 987654321},
        {},
    ),
    Layout(
        "EVEREST",
        "hlsp_everest_k2_llc_201367065-c01_kepler_v2.0_lc.fits",
        "EPIC 201367065",
        "FLUX",
        1980.3,
        (
            ("TIME", "D", "time", "BJD - 2454833"),
            ("CADN", "J", 1, None),
            ("FLUX", "E", "flux", "e-/s"),
            ("FRAW", "E", "raw", "e-/s"),
            ("FRAW_ERR", "E", 1.0, "e-/s"),
            ("QUALITY", "J", "flag:4194304|8388608|16777216", None),
        ),
        _K2,
        {},
        reference_jd=2454833.0,
    ),
    Layout(
        "K2SFF",
        "hlsp_k2sff_k2_lightcurve_201367065-c01_kepler_v1_llc.fits",
        "EPIC 201367065",
        "FCOR",
        1980.3,
        (
            ("T", "D", "time", "BJD - 2454833"),
            ("FRAW", "D", "raw-relative", None),
            ("FCOR", "D", "relative", None),
            ("ARCLENGTH", "D", 0.1, "Unitless"),
            ("MOVING", "J", "flag:1", None),
            ("CADENCENO", "J", 1, None),
        ),
        {"TELESCOP": "Kepler", "MISSION": "K2", "KEPLERID": 201367065},
        {},
        reference_jd=2454833.0,
        extname="BESTAPER",
        extra=(
            (
                "CIRC_APER0",
                (("T", "D", "time", "BJD - 2454833"), ("FCOR", "D", "raw-relative", None), ("MOVING", "J", 0, None)),
            ),
        ),
    ),
    Layout(
        "K2SC",
        "hlsp_k2sc_k2_llc_201367065-c03_kepler_v2_lc.fits",
        "EPIC 201367065",
        "FLUX",
        2150.3,
        (
            ("time", "D", "time", None),
            ("cadence", "J", 1, None),
            ("quality", "J", "flag:65536|256", None),
            ("mflags", "B", "flag:1", None),
            ("flux", "D", "flux", None),
            ("trtime", "D", "raw", None),
            ("trposi", "D", "raw", None),
        ),
        {"KEPLERID": 201367065, "CREATOR": "K2SC"},
        {},
        reference_jd=2454833.0,
    ),
    Layout(
        "KEPSEISMIC",
        "hlsp_kepseismic_kepler_phot_kplr001430163-20d_kepler_v1_cor-filt-inp.fits",
        "KIC 1430163",
        "FLUX",
        270.3,
        (("TIME", "D", "time", None), ("FLUX", "D", "ppm", None)),
        {"TELESCOP": "Kepler", "ORIGIN": "CEA & SSI", "KEPLERID": 1430163},
        {},
        reference_jd=2454833.0,
    ),
    Layout(
        "CHEOPS",
        "CH_PR110047_TG000401_TU2021-07-11T04-05-52_SCI_COR_Lightcurve-DEFAULT_V0300.fits",
        "HD 108236",
        "FLUX",
        2406.3,
        (
            ("UTC_TIME", "26A", "flag:2021", None),
            ("MJD_TIME", "D", 59406.0, "d"),
            ("BJD_TIME", "D", "time", "d"),
            ("FLUX", "D", "flux", "electrons"),
            ("FLUXERR", "D", 1.0, "electrons"),
            ("STATUS", "J", 0, None),
            ("EVENT", "J", "flag:1", None),
            ("BACKGROUND", "D", 2.0, "electrons"),
        ),
        {"TELESCOP": "CHEOPS", "TARGNAME": "HD 108236"},
        {"EXT_NAME": "SCI_COR_Lightcurve", "MJDREFI": 0},
        reference_jd=0.0,
        offset=2457000.0,
    ),
    Layout(
        "lightkurve",
        "saved.fits",
        "TIC 987654321",
        "FLUX",
        1327.3,
        (
            ("TIME", "D", "time", "btjd"),
            ("FLUX", "E", "flux", "electron / s"),
            ("FLUX_ERR", "E", 1.0, "electron / s"),
            ("QUALITY", "K", "flag:32|131072", None),
        ),
        {
            "CREATOR": "lightkurve.LightCurve.to_fits()",
            "MISSION": "TESS",
            "TELESCOP": "TESS",
            "OBJECT": "987654321",
            "TARGETID": 987654321,
        },
        {},
    ),
)
