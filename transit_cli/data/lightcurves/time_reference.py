"""The reference of a time axis: the Julian Date of its time 0."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

#: Julian Dates of time 0 of each time system.
REFERENCE_JD = {"BKJD": 2454833.0, "BTJD": 2457000.0, "BJD": 0.0, "JD": 0.0, "HJD": 0.0, "MJD": 2400000.5}

#: Numbers above this are full Julian Dates (1858).
FULL_JD = 2.4e6
#: Julian Dates that a light curve can have (1960 to 2104).
ERA = (2437000.0, 2489900.0)
#: The time system of each mission's light curves, and the Julian Dates between which it observed, with a margin.
MISSION_REFERENCE_JD = {"kepler": 2454833.0, "k2": 2454833.0, "tess": 2457000.0}
MISSION_SPAN = {"kepler": (2454900.0, 2456500.0), "k2": (2456600.0, 2458500.0), "tess": (2458300.0, 2464000.0)}

#: Words of time systems in units and column names.
_SYSTEMS = {"BKJD": "BKJD", "KJD": "BKJD", "BTJD": "BTJD", "TBJD": "BTJD", "TJD": "BTJD", "MJD": "MJD", "BMJD": "MJD"}
_SYSTEMS |= {"BJD": "BJD", "HJD": "HJD", "JD": "JD"}
_SYSTEM = re.compile(rf"(?<![A-Za-z])({'|'.join(sorted(_SYSTEMS, key=len, reverse=True))})(?![A-Za-z])", re.IGNORECASE)
#: Parts of the names of catalog columns, and the system that they mean.
_WORDS = (("bkjd", "BKJD"), ("time0bk", "BKJD"), ("kjd", "BKJD"), ("btjd", "BTJD"), ("time0bt", "BTJD"))
_OFFSET = re.compile(r"(?:bjd|hjd|jd)(?:[_ ]?\(?(?:tdb|utc|tt|tai)\)?)?\s*[-\u2212]\s*(\d{7}(?:\.\d+)?)", re.IGNORECASE)


def infer_reference_jd(words: str, value: float, mission: str = "") -> tuple[float, str]:
    """The Julian Date of time 0 of a catalog column, from its name and unit or else from its values.

    Args:
        words: the column's name, unit or system ("koi_time0bk", "BJD - 2457000, days").
        value: a typical value, in days.
        mission: "kepler", "k2" or "tess", where known.

    Returns:
        The Julian Date; and what had to be assumed, "" if the words state it.
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
        return 0.0, "no time reference is stated; the days are compared as they are"
    return REFERENCE_JD[system], f"{system}, since the mission is {mission}"


def name_of(zero: float | None) -> str:
    """The name of the time system of a reference: "BKJD", "BTJD", "BJD", "BJD-2450000"; "?" if it is unknown."""
    if zero is None:
        return "?"
    return next((name for name, value in REFERENCE_JD.items() if value == zero), f"BJD-{zero:.12g}")


@dataclass(frozen=True)
class TimeReference:
    """From when the times of a file count.

    Attributes:
        reference_jd: the Julian Date of time 0; None if unknown.
        reason: where that is stated, or why it is assumed.
        note: a doubt, "" if none.
    """

    reference_jd: float | None
    reason: str
    note: str = ""


def time_reference(
    header: Mapping[str, Any],
    words: Mapping[str, str],
    span: tuple[float, float],
    *,
    mission: str = "",
    product: tuple[str, float | None] = ("", None),
) -> TimeReference:
    """Decide the Julian Date of time 0: as the file states it, else by product, mission or values.

    Args:
        header: header values by keyword, those of the table first.
        words: texts that may state a reference, by where they stand ("unit of TIME": "BJD - 2457000, days").
        span: the first and the last time, in days.
        mission: "kepler", "k2" or "tess", if known.
        product: name and documented reference.

    Raises:
        ValueError: the statements contradict each other or the values.
    """
    statements = [*_stated_in_header(header), *_stated_in_words(words)]
    if span[0] > FULL_JD:
        shifted = [f"{where} ({name_of(jd)})" for jd, where in statements if jd]
        note = f"the values are full Julian Dates, so that {' and '.join(shifted)} cannot apply" if shifted else ""
        return TimeReference(0.0, "values are full Julian Dates", note)
    possible = [(jd, where) for jd, where in statements if _in_era(jd, span)]
    references = {round(jd, 3) for jd, _ in possible}
    if len(references) > 1:
        possible = [(jd, where) for jd, where in possible if _observed_by(mission, jd, span)] if mission else possible
        references = {round(jd, 3) for jd, _ in possible}
    if len(references) > 1:
        found = " and ".join(f"{name_of(jd)} by {where}" for jd, where in possible)
        raise ValueError(f"two time references contradict each other: {found}")
    if possible:
        jd, where = possible[0]
        note = ""
        if mission and not _observed_by(mission, jd, span):
            note = f"{name_of(jd)} {span[0]:.0f} to {span[1]:.0f} is outside of the {mission} mission"
        return TimeReference(jd, where, note)
    impossible = next(((jd, where) for jd, where in statements if jd), None)
    if impossible:
        jd, where = impossible
        raise ValueError(f"{where} gives times of {jd + span[0]:.1f} to {jd + span[1]:.1f} as Julian Dates")
    return _assumed(span, mission, product)


def _assumed(span: tuple[float, float], mission: str, product: tuple[str, float | None]) -> TimeReference:
    name, documented = product
    if documented is not None and _in_era(documented, span) and _observed_by(mission, documented, span):
        return TimeReference(documented, f"documentation of {name}")
    if 50_000 < span[0] < 70_000:
        jd = REFERENCE_JD["MJD"]
        return TimeReference(jd, "values", f"{span[0]:.0f} is taken as a modified Julian Date")
    jd = MISSION_REFERENCE_JD.get(mission)
    if jd is not None and _observed_by(mission, jd, span):
        return TimeReference(jd, f"mission {mission}", f"{name_of(jd)}, since the mission is {mission}")
    return TimeReference(
        None, "not stated", f"time reference unknown: no header keyword, unit or name states it ({span[0]:.2f} ...)"
    )


def _stated_in_header(header: Mapping[str, Any]) -> list[tuple[float, str]]:
    """References by BJDREF, JDREF and MJDREF, whole or as integer and fraction (FITS Standard 4.0, section 9.2.2)."""
    found: list[tuple[float, str]] = []
    for keyword, zero in (("BJDREF", 0.0), ("JDREF", 0.0), ("MJDREF", REFERENCE_JD["MJD"])):
        for parts in ((f"{keyword}I", f"{keyword}F"), (keyword,)):
            if parts[0] in header:
                days = sum(_header_number(header, part) for part in parts if part in header)
                offset = sum(_header_number(header, key) for key in ("TIMEZERO", "TIMEOFFS") if key in header)
                found.append((zero + days + offset, f"header {parts[0]}"))
                break
    if not found and "TIMEZERO" in header:
        found.append((_header_number(header, "TIMEZERO"), "header TIMEZERO"))
    return found


def _header_number(header: Mapping[str, Any], keyword: str) -> float:
    try:
        number = float(header[keyword])
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"header {keyword} is {header[keyword]!r}, not a number")
    return number


def _stated_in_words(words: Mapping[str, str]) -> list[tuple[float, str]]:
    found = []
    for where, text in words.items():
        if offset := _OFFSET.search(text.replace(",", "")):
            found.append((float(offset[1]), where))
        elif system := _SYSTEM.search(text):
            found.append((REFERENCE_JD[_SYSTEMS[system[1].upper()]], where))
    return found


def _in_era(reference_jd: float, span: tuple[float, float]) -> bool:
    return ERA[0] < reference_jd + span[0] and reference_jd + span[1] < ERA[1]


def _observed_by(mission: str, reference_jd: float, span: tuple[float, float]) -> bool:
    begin, end = MISSION_SPAN.get(mission, ERA)
    return begin < reference_jd + span[1] and reference_jd + span[0] < end


def systems_within(value: float, first: float, last: float) -> list[str]:
    """The time systems in which a value lies between two Julian Dates."""
    return [name for name, jd in REFERENCE_JD.items() if name not in {"JD", "HJD"} and first <= jd + value <= last]
