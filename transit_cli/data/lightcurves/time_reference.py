"""Days since what: the zero of a time axis, as a Julian Date."""

from __future__ import annotations

import re

#: Julian Dates from which missions count their days.
REFERENCE_JD = {"BKJD": 2454833.0, "BTJD": 2457000.0, "BJD": 0.0, "JD": 0.0, "HJD": 0.0, "MJD": 2400000.5}

#: What a catalog's time column or a unit may be called, and the system that it means.
_WORDS = (("bkjd", "BKJD"), ("time0bk", "BKJD"), ("kjd", "BKJD"), ("btjd", "BTJD"), ("time0bt", "BTJD"))
_OFFSET = re.compile(r"(?:bjd|hjd|jd)\s*-\s*(\d{7}(?:\.\d+)?)", re.IGNORECASE)


def infer_reference_jd(words: str, value: float, mission: str = "") -> tuple[float, str]:
    """The Julian Date of time 0, from what a column is called or else from what it holds.

    Args:
        words: the column's name, unit or system ("koi_time0bk", "BJD - 2457000, days").
        value: a typical value, in days.
        mission: "kepler", "k2" or "tess", where known.

    Returns:
        The Julian Date; and what had to be assumed, "" if the words said it.
    """
    lower = words.lower()
    if found := _OFFSET.search(lower):
        return float(found[1]), ""
    for word, system in _WORDS:
        if word in lower:
            return REFERENCE_JD[system], ""
    if value > 2.4e6:
        return 0.0, ""
    if "mjd" in lower:
        return REFERENCE_JD["MJD"], ""
    if 50_000 < value < 70_000:
        kind, zero = ("reduced", 2400000.0) if "jd" in lower else ("modified", REFERENCE_JD["MJD"])
        return zero, f"{value:.0f} is taken as a {kind} Julian Date"
    system = {"kepler": "BKJD", "k2": "BKJD", "tess": "BTJD"}.get(mission)
    if system is None:
        return 0.0, "nothing says since when its days count; they are compared as they are"
    return REFERENCE_JD[system], f"{system}, since the mission is {mission}"


def name_of(zero: float) -> str:
    """The name of the time system that counts from Julian Date `zero`: "BKJD", "BTJD", "BJD" or "BJD-2450000"."""
    return next((name for name, value in REFERENCE_JD.items() if value == zero), f"BJD-{zero:.12g}")
