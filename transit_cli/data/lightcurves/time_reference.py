"""The reference of a time axis: the Julian Date of its time 0."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

#: Julian Dates of time 0 of each time system.
REFERENCE_JD = {"BKJD": 2454833.0, "BTJD": 2457000.0, "BJD": 0.0, "JD": 0.0, "HJD": 0.0, "MJD": 2400000.5}

#: Days per unit of time.
_DAYS = {"s": 1 / 86400, "sec": 1 / 86400, "second": 1 / 86400, "min": 1 / 1440, "minute": 1 / 1440, "h": 1 / 24}
_DAYS |= {"hr": 1 / 24, "hour": 1 / 24, "d": 1.0, "day": 1.0}
#: Times farther than this from the median are fill values, and so are times <= 0 if the median is above the other.
MAX_SPAN_DAYS = 100 * 365.25
MAX_PHASE_DAYS = 50.0
#: A file with more fill values among its finite times is refused.
MAX_WRONG_TIMES = 0.2
#: Time stamps that a file rounds to more than this, in seconds, are a doubt.
COARSE_SECONDS = 60.0
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
_OFFSET = re.compile(r"(?:bjd|hjd|jd)(?:[_ ]?\(?(?:tdb|utc|tt|tai)\)?)?\s*[-\u2212]\s*(\d{7}(?:\.\d+)?)", re.IGNORECASE)
#: Any Julian Date of the last century in a unit ("days since 2457000"), and "MJD - 50000".
_ANY_JD = re.compile(r"(?<!\d)(24\d{5}(?:\.\d+)?)(?!\d)")
_MJD_OFFSET = re.compile(r"mjd(?:[_ ]?\w+)?\s*[-\u2212]\s*(\d{5}(?:\.\d+)?)", re.IGNORECASE)


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
        plain = text.replace(",", "")
        if offset := _OFFSET.search(plain) or _ANY_JD.search(plain):
            found.append((float(offset[1]), where))
        elif offset := _MJD_OFFSET.search(plain):
            found.append((REFERENCE_JD["MJD"] + float(offset[1]), where))
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


def possible_times(time: np.ndarray, name: str, notes: list[str]) -> np.ndarray:
    """Times with NaN for fill values: those far from all others, and zeros and negative ones among positive times."""
    finite = np.isfinite(time)
    if not finite.any():
        raise ValueError(f"the time column {name} holds no finite number")
    middle = float(np.median(time[finite]))
    with np.errstate(over="ignore", invalid="ignore"):
        wrong = finite & ~(np.abs(time - middle) < MAX_SPAN_DAYS)
        wrong |= finite & (time <= 0) & (middle > MAX_PHASE_DAYS)
    count = int(wrong.sum())
    if count > MAX_WRONG_TIMES * finite.sum():
        raise ValueError(f"{count:,} of {int(finite.sum()):,} times in {name} are not near the others")
    if count:
        notes.append(f"time: {count:,} fill values such as {time[wrong][0]:g} are missing values")
        return np.where(wrong, np.nan, time)
    return time


def days_per(unit: str) -> float:
    """Days per unit of time; 1 if the text names none ("BJD - 2457000, days")."""
    found = (word.rstrip("s") or word for word in re.findall(r"[a-z]+", unit.lower()))
    return next((_DAYS[word] for word in found if word in _DAYS), 1 / 86400 if unit.strip().lower() == "s" else 1.0)


def check_precision(stored: np.ndarray, time: np.ndarray, notes: list[str]) -> None:
    """Refuse times that are rounded more coarsely than their cadence, as float32 Julian Dates are.

    Raises:
        ValueError: the times do not resolve the cadence.
    """
    single = stored.astype(np.float32)
    if stored.ndim != 1 or not (single == stored)[np.isfinite(stored)].all() or np.abs(time).max() < 64:
        return
    step = float(np.spacing(np.float32(np.abs(time).max())))
    ordered = np.sort(time)
    cadence = float(np.median(np.diff(np.unique(ordered)))) if len(ordered) > 1 else 0.0
    whole = bool((time == np.floor(time)).all())
    repeated = 1 - len(np.unique(ordered)) / len(ordered)
    if repeated > 0.2 or (2 * step > cadence > 0 and not whole):
        raise ValueError(f"the times are float32, in steps of {step:.3g} d, which do not resolve the cadences")
    if step * 86400 > COARSE_SECONDS and not whole:
        notes.append(f"time: float32, rounded to {step * 1440:.1f} min")
