"""One name per star, whatever a file or a catalog calls it."""

from __future__ import annotations

import re

#: The input catalog in which each mission numbers its stars, and its number of digits in file names.
CATALOGS = {"kepler": "KIC", "k2": "EPIC", "tess": "TIC"}

_MISSIONS = {catalog: mission for mission, catalog in CATALOGS.items()}
_NAME = re.compile(r"^\s*(KIC|KEPLERID|EPIC|TIC|K2|KEPLER|TESS)?[\s_-]*0*(\d+)(?:\.0+)?\s*$", re.IGNORECASE)


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
