"""One name per star, whatever a file or a catalog calls it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

#: The input catalog in which each mission numbers its stars.
CATALOGS = {"kepler": "KIC", "k2": "EPIC", "tess": "TIC"}
#: Numbers from here on are EPIC, not KIC, numbers (KIC ends at 13,161,029, EPIC begins at 200,000,001 in K2 files).
FIRST_EPIC = 200_000_000
#: Numbers with more digits are Gaia source ids: TIC numbers have at most 11.
MAX_TIC_DIGITS = 11

_MISSIONS = {catalog: mission for mission, catalog in CATALOGS.items()}
#: A catalog number. "Kepler-90" and "K2-18" are names of planetary systems, not numbers: there the number is short.
_NAME = re.compile(
    r"^\s*(?:(KIC|KEPLERID|EPIC|TIC)[\s_:-]*0*(\d+)|(KEPLER|K2|TESS)[\s_-]*0*(\d{6,})|0*(\d+))(?:\.0+)?\s*$",
    re.IGNORECASE,
)
_GAIA = re.compile(r"^\s*gaia[\s_-]*(?:dr|edr)?[\s_-]*(\d)?[\s_-]+(\d{10,20})\s*$", re.IGNORECASE)
_ALIASES = {"KEPLERID": "KIC", "K2": "EPIC", "KEPLER": "KIC", "TESS": "TIC"}

#: Names of archive files: pattern of the star's number, and the catalog that it belongs to.
_FILE_NAMES = tuple(
    (re.compile(pattern, re.IGNORECASE), catalog)
    for pattern, catalog in (
        (r"^kplr0*(\d+)[-_]", "KIC"),
        (r"^ktwo0*(\d+)[-_]", "EPIC"),
        (r"^tess\d{13}-s\d{4}-0*(\d+)-", "TIC"),
        (r"^tess0*(\d+)-s\d+-", "TIC"),  # TASOC
        (r"^hlsp_qlp_tess_.*?-0*(\d+)_", "TIC"),
        (r"^hlsp_tess-spoc_tess_.*?_0*(\d+)-s\d", "TIC"),
        (r"^hlsp_gsfc-eleanor-lite_tess_.*?-0*(\d+)_", "TIC"),
        (r"^hlsp_(?:eleanor|pathos|tasoc|diamante)_tess_.*?tic-?0*(\d+)[-_]", "TIC"),
        (r"^hlsp_tglc_.*?gaiaid-(\d+)", "Gaia DR3"),
        (r"^hlsp_cdips_.*?gaiatwo0*(\d+)", "Gaia DR2"),
        (r"^hlsp_(?:k2sff|everest|k2sc|k2varcat)_k2_.*?_?(\d{9})", "EPIC"),
        (r"^hlsp_kepseismic_.*?kplr0*(\d+)", "KIC"),
    )
)
_LOOSE_NAMES = re.compile(r"(?<![a-z])(kic|epic|tic)[\s_-]*0*(\d+)", re.IGNORECASE)


def star_name(star: str | float, mission: str = "") -> str:
    """The name of a star in a view set: "KIC 11442793", "EPIC 201367065", "TIC 270501383", "Gaia DR3 ...", "K2-18".

    Args:
        star: a number, or a name ("KIC 011442793", "TIC100100827", "Kepler-90").
        mission: "kepler", "k2" or "tess", for a bare number. Without it a bare number stays bare.

    Returns:
        The name; a text that is not a catalog number is returned without outer blanks.
    """
    text = f"{star:.0f}" if isinstance(star, float) else str(star)
    if gaia := _GAIA.match(text):
        return f"Gaia DR{gaia[1]} {gaia[2]}" if gaia[1] else f"Gaia {gaia[2]}"
    found = _NAME.match(text)
    if found is None:
        return text.strip()
    prefix = (found[1] or found[3] or "").upper()
    number = found[2] or found[4] or found[5]
    catalog = _ALIASES.get(prefix, prefix) or CATALOGS.get(mission.lower(), "")
    if not prefix and len(number) > MAX_TIC_DIGITS:
        catalog = "Gaia"
    if catalog == "KIC" and int(number) > FIRST_EPIC:
        catalog = "EPIC"
    return f"{catalog} {number}".strip()


def mission_of(star: str) -> str:
    """The mission whose input catalog a star's name is from ("kepler", "k2", "tess"), or ""."""
    return _MISSIONS.get(star.partition(" ")[0], "")


def star_of_name(file: Path) -> str:
    """The star in the name of an archive file, "" for any other name."""
    for pattern, catalog in _FILE_NAMES:
        if found := pattern.match(file.name):
            return f"{catalog} {found[1]}"
    return ""


def star_in_name(file: Path) -> str:
    """The star in the name of any file ("exohunt_kic10811496.fits"), "" if none."""
    found = _LOOSE_NAMES.search(file.name)
    return star_of_name(file) or (f"{found[1].upper()} {found[2]}" if found else "")
