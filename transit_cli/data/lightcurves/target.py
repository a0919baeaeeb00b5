"""One name per star, whatever a file or a catalog calls it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

#: The input catalog in which each mission numbers its stars, and its number of digits in file names.
CATALOGS = {"kepler": "KIC", "k2": "EPIC", "tess": "TIC"}

_MISSIONS = {catalog: mission for mission, catalog in CATALOGS.items()}
_NAME = re.compile(r"^\s*(KIC|KEPLERID|EPIC|TIC|K2|KEPLER|TESS)?[\s_-]*0*(\d+)(?:\.0+)?\s*$", re.IGNORECASE)

#: What the names of archive files say: mission and star.
_FILE_NAMES = (
    (re.compile(r"^kplr(\d{9})[-_]", re.IGNORECASE), "kepler"),
    (re.compile(r"^ktwo(\d{9})[-_]", re.IGNORECASE), "k2"),
    (re.compile(r"^tess\d{13}-s\d{4}-(\d{16})-", re.IGNORECASE), "tess"),
    (re.compile(r"^hlsp_(?:qlp|tess-spoc|tglc|cdips|eleanor|pathos)_tess_.*?(\d{10,16})", re.IGNORECASE), "tess"),
    (re.compile(r"^hlsp_(?:k2sff|everest|k2sc|k2varcat)_k2_.*?(\d{9})", re.IGNORECASE), "k2"),
)
_LOOSE_NAMES = re.compile(r"(kic|epic|tic)[\s_-]*0*(\d+)", re.IGNORECASE)


def star_name(star: str | float, mission: str = "") -> str:
    """The name under which a star stands in a view set: "KIC 11442793", "EPIC 201367065", "TIC 270501383".

    Args:
        star: a number, or a name that ends in one ("KIC 011442793", "TIC100100827").
        mission: "kepler", "k2" or "tess", for a bare number. Without it a bare number stays bare.

    Returns:
        The name; a text that is not a catalog number comes back as it is, without outer blanks.
    """
    found = _NAME.match(f"{star:.0f}" if isinstance(star, float) else str(star))
    if found is None:
        return str(star).strip()
    said = (found[1] or "").upper()
    catalog = {"KEPLERID": "KIC", "K2": "EPIC", "KEPLER": "KIC", "TESS": "TIC"}.get(said, said)
    catalog = catalog or CATALOGS.get(mission.lower(), "")
    return f"{catalog} {found[2]}".strip()


def mission_of(star: str) -> str:
    """The mission whose input catalog a star's name is from ("kepler", "k2", "tess"), or ""."""
    return _MISSIONS.get(star.partition(" ")[0], "")


def star_of_name(file: Path) -> str:
    """The star that the name of an archive file gives, without opening it; "" for any other name."""
    for pattern, mission in _FILE_NAMES:
        if found := pattern.match(file.name):
            return star_name(found[1], mission)
    return ""


def star_in_name(file: Path) -> str:
    """The star that any file's name gives ("exohunt_kic10811496.fits"), "" if none."""
    found = _LOOSE_NAMES.search(file.name)
    return star_of_name(file) or (f"{found[1].upper()} {found[2]}" if found else "")
