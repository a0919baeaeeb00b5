"""The light-curve products that are read, as data: how each is recognised, and what its columns and flags mean.

The defaults follow the products' own documentation (`source`) and lightkurve's readers. Corrected flux that is not
detrended comes first, because `transit` detrends with the transits masked.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

BKJD, BTJD = 2454833.0, 2457000.0

#: Quality bits that spoil a cadence. Kepler and K2: Kepler Archive Manual, table 2-3 (attitude tweak, safe mode, coarse
#: point, Earth point, desaturation, manual exclude, detector anomaly, no data, thruster firing). TESS: Science Data
#: Products Description, table 32 (the same, Argabrightening, impulsive outlier, bad calibration).
KEPLER_BITS = 1130799
TESS_BITS = 17087
BAD_BITS = {"kepler": KEPLER_BITS, "k2": KEPLER_BITS, "tess": TESS_BITS}
#: All bits that the missions' documents define.
DEFINED_BITS = {"kepler": (1 << 21) - 1, "k2": (1 << 21) - 1, "tess": (1 << 16) - 1}


@dataclass(frozen=True)
class Flags:
    """A quality column.

    Attributes:
        column: its name.
        bits: bits that spoil a cadence; None if every value other than those of `good` does.
        good: values of good cadences; text for text columns.
        of: the last letter of the flux columns that it belongs to, as in IRQ2 of TFA2; "" for all.
    """

    column: str
    bits: int | None = None
    good: tuple[int | str, ...] = (0,)
    of: str = ""


@dataclass(frozen=True)
class Product:
    """A light-curve product.

    Attributes:
        name: as the archive calls it.
        mission: "kepler", "k2", "tess" or "".
        flux: flux columns in order of preference; the first that holds a finite number is read.
        source: where its columns and flags are documented.
        flags: quality columns, all of which are applied.
        time: names of the time column.
        reference_jd: Julian Date of time 0, for files that do not state it.
        units: unit by pattern of the flux column's name, for files that do not state it.
        header: patterns of header values by keyword, of which one has to match; or
        file_name: a pattern of the file's name; or
        columns: columns that only this product has.
        table: EXTNAME of the table to read; "" for the first that has the columns.
        star: keywords with the star, and the catalog of its number ("" for a name).
    """

    name: str
    mission: str
    flux: tuple[str, ...]
    source: str
    flags: tuple[Flags, ...] = ()
    time: tuple[str, ...] = ("TIME",)
    reference_jd: float | None = None
    units: tuple[tuple[str, str], ...] = ()
    header: tuple[tuple[str, str], ...] = ()
    file_name: str = ""
    columns: frozenset[str] = frozenset()
    table: str = ""
    star: tuple[tuple[str, str], ...] = ()

    def recognise(self, header: Mapping[str, Any], file_name: str, columns: Collection[str]) -> str:
        """Why a file is of this product; "" if it is not."""
        for keyword, pattern in self.header:
            value = header.get(keyword)
            if value is not None and re.search(pattern, str(value), re.IGNORECASE):
                return f"header {keyword}"
        if self.file_name and re.search(self.file_name, file_name, re.IGNORECASE):
            return "file name"
        if self.columns and self.columns <= set(columns):
            return f"columns {', '.join(sorted(self.columns))}"
        return ""

    def unit(self, column: str) -> str:
        """The documented unit of a flux column, "" if none."""
        return next((unit for pattern, unit in self.units if re.fullmatch(pattern, column)), "")


_MAST = "https://archive.stsci.edu/hlsp/"

#: In the order in which they are tried: products derived from a mission's files come before the mission's own.
PRODUCTS = (
    Product(
        "QLP",
        "tess",
        # From sector 56 on SYS_RM_FLUX is corrected for systematics, DET_FLUX is detrended as well. Before, SAP_FLUX is
        # raw and KSPSAP_FLUX is detrended without masking transits (lightkurve issue 1083).
        ("SYS_RM_FLUX", "SAP_FLUX", "DET_FLUX", "KSPSAP_FLUX"),
        _MAST + "qlp",
        # Bits 13 and 31 are QLP's own marks of low precision, up to sector 55 and from sector 56 on.
        (Flags("QUALITY", TESS_BITS | 1 << 12 | 1 << 30),),
        reference_jd=BTJD,
        units=((".*", "relative"),),
        header=(("ORIGIN", "QLP"), ("AUTHOR", "QLP")),
        file_name=r"^hlsp_qlp_",
        columns=frozenset({"KSPSAP_FLUX"}),
        star=(("TICID", "TIC"),),
    ),
    Product(
        "TGLC",
        "tess",
        ("CAL_APER_FLUX", "CAL_PSF_FLUX", "APERTURE_FLUX", "PSF_FLUX"),
        "https://github.com/TeHanHunter/TESS_Gaia_Light_Curve",
        (Flags("TESS_FLAGS", TESS_BITS), Flags("TGLC_FLAGS")),
        reference_jd=BTJD,
        units=(("CAL_.*", "relative"), (".*", "e-/s")),
        header=(("ORIGIN", "TGLC"),),
        file_name=r"^hlsp_tglc_",
        columns=frozenset({"TGLC_FLAGS"}),
        star=(("TICID", "TIC"), ("GAIADR3", "Gaia DR3")),
    ),
    Product(
        "GSFC-ELEANOR-LITE",
        "tess",
        ("CORR_FLUX", "PCA_FLUX", "PSF_FLUX", "RAW_FLUX"),
        _MAST + "gsfc-eleanor-lite",
        (Flags("QUALITY"),),
        reference_jd=BTJD,
        units=((".*", "e-/s"),),
        file_name=r"^hlsp_gsfc-eleanor-lite_",
        header=(("LITE", r"^(True|T|1)$"),),
        star=(("TIC_ID", "TIC"), ("TICID", "TIC")),
    ),
    Product(
        "eleanor",
        "tess",
        ("CORR_FLUX", "PCA_FLUX", "PSF_FLUX", "RAW_FLUX"),
        "https://github.com/afeinstein20/eleanor (quality flags: bits of TESS, and bits 17 and 18 of its own)",
        (Flags("QUALITY"),),
        reference_jd=BTJD,
        units=((".*", "e-/s"),),
        file_name=r"^hlsp_eleanor_",
        columns=frozenset({"RAW_FLUX", "CORR_FLUX", "QUALITY"}),
        star=(("TIC_ID", "TIC"), ("TICID", "TIC")),
    ),
    Product(
        "CDIPS",
        "tess",
        # Magnitudes: TFA with external trends removed, PCA, instrumental; IFL are fluxes.
        tuple(f"{kind}{aperture}" for kind in ("TFA", "PCA", "IRM", "IFL") for aperture in (1, 2, 3)),
        _MAST + "cdips",
        tuple(Flags(f"IRQ{aperture}", good=("G", "0"), of=str(aperture)) for aperture in (1, 2, 3)),
        time=("TMID_BJD",),
        reference_jd=0.0,
        units=(("IFL.", "counts"), (".*", "mag")),
        header=(("ORIGIN", "CDIPS"),),
        file_name=r"^hlsp_cdips_",
        columns=frozenset({"TMID_BJD", "IRM1"}),
        star=(("TICID", "TIC"), ("GAIA-ID", "Gaia DR2"), ("GAIAID", "Gaia DR2")),
    ),
    Product(
        "PATHOS",
        "tess",
        ("PSF_FLUX_COR", "AP1_FLUX_COR", "AP2_FLUX_COR", "AP3_FLUX_COR", "AP4_FLUX_COR", "PSF_FLUX_RAW"),
        _MAST + "pathos (Nardiello et al. 2020: cadences with DQUALITY > 0 are excluded)",
        (Flags("DQUALITY"),),
        reference_jd=BTJD,
        file_name=r"^hlsp_pathos_",
        columns=frozenset({"PSF_FLUX_COR"}),
        star=(("TICID", "TIC"), ("TIC_ID", "TIC")),
    ),
    Product(
        "TASOC",
        "tess",
        ("FLUX_CORR", "FLUX_RAW"),
        _MAST + "tasoc",
        (Flags("QUALITY", TESS_BITS), Flags("PIXEL_QUALITY", TESS_BITS)),
        reference_jd=BTJD,
        units=(("FLUX_CORR", "ppm"), ("FLUX_RAW", "e-/s")),
        header=(("ORIGIN", "TASOC"),),
        file_name=r"tasoc",
        columns=frozenset({"FLUX_CORR", "FLUX_RAW"}),
        star=(("TICID", "TIC"),),
    ),
    Product(
        "DIAMANTE",
        "tess",
        ("LC1_AP1", "LC0_AP1", "LC1_AP2", "LC1_AP3", "LC1_AP4"),
        _MAST + "diamante",
        tuple(Flags(f"FLAG_AP{aperture}", of=str(aperture)) for aperture in (1, 2, 3, 4)),
        time=("BTJD",),
        reference_jd=BTJD,
        file_name=r"^hlsp_diamante_",
        columns=frozenset({"BTJD", "LC1_AP1"}),
        star=(("TICID", "TIC"),),
    ),
    Product(
        "EVEREST",
        "k2",
        ("FLUX", "FRAW"),
        _MAST + "everest (bits 23 to 25: flagged in the pixel file, NaN, outlier; bit 27, in transit, is kept)",
        (Flags("QUALITY", KEPLER_BITS | 1 << 22 | 1 << 23 | 1 << 24),),
        reference_jd=BKJD,
        units=((".*", "e-/s"),),
        header=(("ORIGIN", "EVEREST"), ("CREATOR", "EVEREST")),
        file_name=r"^hlsp_everest_",
        columns=frozenset({"FRAW", "CADN"}),
        star=(("KEPLERID", "EPIC"),),
    ),
    Product(
        "K2SFF",
        "k2",
        ("FCOR", "FRAW"),
        _MAST + "k2sff (MOVING: the spacecraft was moving)",
        (Flags("MOVING"),),
        time=("T",),
        reference_jd=BKJD,
        units=((".*", "relative"),),
        file_name=r"^hlsp_k2sff_",
        columns=frozenset({"T", "FCOR"}),
        table="BESTAPER",
        star=(("KEPLERID", "EPIC"),),
    ),
    Product(
        "K2SC",
        "k2",
        ("FLUX",),
        _MAST + "k2sc (FLUX: without the position-dependent trend; MFLAGS: bits 1, 4 and 6)",
        (Flags("QUALITY", KEPLER_BITS), Flags("MFLAGS", 1 << 0 | 1 << 3 | 1 << 5)),
        reference_jd=BKJD,
        units=((".*", "e-/s"),),
        header=(("CREATOR", "K2SC"),),
        file_name=r"^hlsp_k2sc_",
        columns=frozenset({"TRTIME", "FLUX"}),
        star=(("KEPLERID", "EPIC"),),
    ),
    Product(
        "KEPSEISMIC",
        "kepler",
        ("FLUX",),
        _MAST + "kepseismic (flux in ppm about 0)",
        reference_jd=BKJD,
        units=((".*", "ppm"),),
        header=(("ORIGIN", r"CEA & SSI"),),
        file_name=r"^hlsp_kepseismic_",
        star=(("KEPLERID", "KIC"),),
    ),
    Product(
        "CHEOPS",
        "",
        ("FLUX",),
        "CHEOPS Data Products Definition Document (SCI_COR_Lightcurve); EVENT 100 is a cosmic-ray hit off the target",
        (Flags("STATUS"), Flags("EVENT", good=(0, 100))),
        time=("BJD_TIME",),
        reference_jd=0.0,
        units=((".*", "electrons"),),
        header=(("TELESCOP", "CHEOPS"), ("EXT_NAME", "SCI_COR_Lightcurve")),
        file_name=r"^CH_PR\d+_.*Lightcurve",
        columns=frozenset({"BJD_TIME", "FLUX", "STATUS"}),
        star=(("TARGNAME", ""),),
    ),
    Product(
        "lightkurve",
        "",
        ("FLUX", "PDCSAP_FLUX", "SAP_FLUX"),
        "https://lightkurve.github.io/lightkurve (LightCurve.to_fits)",
        header=(("CREATOR", r"^lightkurve"),),
    ),
    Product(
        "TESS-SPOC",
        "tess",
        ("PDCSAP_FLUX", "SAP_FLUX"),
        _MAST + "tess-spoc",
        (Flags("QUALITY", TESS_BITS),),
        reference_jd=BTJD,
        units=((".*", "e-/s"),),
        file_name=r"^hlsp_tess-spoc_",
        star=(("TICID", "TIC"),),
    ),
    Product(
        "SPOC",
        "tess",
        ("PDCSAP_FLUX", "SAP_FLUX"),
        "TESS Science Data Products Description Document (EXP-TESS-ARC-ICD-0014)",
        (Flags("QUALITY", TESS_BITS),),
        reference_jd=BTJD,
        file_name=r"^tess\d{13}-s\d{4}-\d{16}-.*lc\.fits",
        star=(("TICID", "TIC"),),
    ),
    Product(
        "K2",
        "k2",
        ("PDCSAP_FLUX", "SAP_FLUX"),
        "Kepler Archive Manual (KDMC-10008); K2 Handbook (KSCI-19116)",
        (Flags("SAP_QUALITY", KEPLER_BITS),),
        reference_jd=BKJD,
        header=(("MISSION", "^K2$"),),
        file_name=r"^ktwo\d{9}-",
        star=(("KEPLERID", "EPIC"),),
    ),
    Product(
        "Kepler",
        "kepler",
        ("PDCSAP_FLUX", "SAP_FLUX"),
        "Kepler Archive Manual (KDMC-10008)",
        (Flags("SAP_QUALITY", KEPLER_BITS),),
        reference_jd=BKJD,
        file_name=r"^kplr\d{9}-",
        star=(("KEPLERID", "KIC"),),
    ),
)

#: Any other table with a time and a flux column.
OTHER = Product("", "", (), "")


def recognise(header: Mapping[str, Any], file_name: str, columns: Collection[str]) -> tuple[Product, str]:
    """The product of a file and why it was recognised; `OTHER` and "" if it was not.

    Args:
        header: header values by upper-case keyword.
        file_name: without folders.
        columns: upper-case column names of all tables.
    """
    for product in PRODUCTS:
        reason = product.recognise(header, file_name, columns)
        has_flux = any(name in columns for name in product.flux)
        if reason and has_flux and any(name in columns for name in product.time):
            return product, reason
    if "PDCSAP_FLUX" in columns:
        telescope = f"{header.get('TELESCOP', '')} {header.get('MISSION', '')}".upper()
        for name, word in (("K2", "K2"), ("Kepler", "KEPLER"), ("SPOC", "TESS")):
            if word in telescope:
                product = next(item for item in PRODUCTS if item.name == name)
                if product.flags[0].column in columns or not any("QUALITY" in column for column in columns):
                    return product, "column PDCSAP_FLUX"
    return OTHER, ""
