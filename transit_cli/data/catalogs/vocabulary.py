"""The vocabulary of tables of signals: the names of columns, views, labels, missions and units.

`data prepare` and `data import` read the same names; an alias is added here and nowhere else. Names are compared
without case, blanks and signs. Sources: the column definitions of the NASA Exoplanet Archive (KOI, TCE, TOI, PS and
K2PANDC tables), ExoFOP's TOI and CTOI downloads, AstroNet (Shallue & Vanderburg 2018), Yu et al. 2019, and ExoMiner.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class ColumnSpec:
    """A column that is recognised.

    Attributes:
        name: the canonical name.
        aliases: other names of it, in order of preference; a name may carry a unit besides ("Period (days)").
        array_aliases: short names that are recognised only in files of arrays.
    """

    name: str
    aliases: tuple[str, ...]
    array_aliases: tuple[str, ...] = ()


#: Columns of one value per star: the star's number in one catalog, by the name of the catalog.
STAR_IDS = {
    "KIC": ("kepid", "kic", "kic id", "kepler id"),
    "TIC": ("tid", "tic id", "tic", "ticid"),
    "EPIC": ("epic", "epic id", "epic number", "epic name", "epic hostname"),
    "Gaia DR3": ("gaia dr3 id", "gaia dr3", "gaia edr3 id", "gaia dr3 source id", "dr3 source id"),
    "Gaia DR2": ("gaia dr2 id", "gaia dr2", "gaia dr2 source id", "dr2 source id"),
    "Gaia": ("gaia id", "gaia", "gaia source id"),
}

#: Columns of one value per signal.
COLUMNS = (
    ColumnSpec("star", ("star", "target", "star name", "star id", "target id", "hostname", "host name", "object")),
    *(ColumnSpec(name, aliases) for name, aliases in STAR_IDS.items()),
    ColumnSpec(
        "signal",
        (
            *("kepoi name", "toi", "signal", "tce plnt num", "planet number", "planet num", "pl name", "planet"),
            *("tce id", "tce", "signal id", "name"),
        ),
    ),
    ColumnSpec("mission", ("mission", "survey")),
    ColumnSpec("period", ("koi period", "tce period", "pl orbper", "period", "orbital period", "per", "p")),
    ColumnSpec(
        "epoch",
        (
            *("koi time0bk", "tce time0bk", "tce time0bt", "koi time0", "tce time0", "pl tranmid", "epoch", "epoc"),
            *("t0", "transit epoch", "time0", "tranmid", "tc", "transit midpoint", "mid time", "transit time", "bjd0"),
            "t 0",
        ),
    ),
    ColumnSpec("time_system", ("time system", "epoch system", "epoch time system")),
    ColumnSpec(
        "duration",
        (
            *("koi duration", "tce duration", "pl trandurh", "duration", "transit duration", "dur", "t14"),
            *("pl trandur", "tdur", "width"),
        ),
    ),
    ColumnSpec("depth", ("koi depth", "tce depth", "pl trandep", "depth", "transit depth", "tran depth")),
    ColumnSpec(
        "snr",
        (
            *("koi model snr", "tce model snr", "measured snr", "snr", "mes", "tce max mult ev", "sde", "planet snr"),
            *("transit model snr", "transit snr", "s/n"),
        ),
        array_aliases=("sn",),
    ),
    ColumnSpec(
        "label",
        (
            *("label", "av training set", "koi disposition", "tfopwg disp", "tfopwg disposition", "tfopwg"),
            *("archive disposition", "disposition", "exofop disposition", "k2 disposition", "k2c disp"),
        ),
        array_aliases=("labels", "y", "class", "target label"),
    ),
    ColumnSpec(
        "label_2", ("koi pdisposition", "disposition", "tess disposition", "user disposition", "exofop disposition")
    ),
    ColumnSpec(
        "period_error",
        (
            *("koi period err1", "tce period err", "pl orbper err1", "period error", "period err", "period err1"),
            *("period unc", "period uncertainty", "period upper unc", "e period", "sigma period", "orbital period err"),
            "e per",
        ),
    ),
    ColumnSpec(
        "epoch_error",
        (
            *("koi time0bk err1", "tce time0bk err", "koi time0 err1", "pl tranmid err1", "epoch error", "epoch err"),
            *("epoch err1", "tce time0 err", "t0 err", "t0 error", "t0 unc", "epoch unc", "epoch uncertainty", "e t0"),
            *("sigma t0", "e epoch", "sigma epoch", "transit epoch err", "epoch upper unc", "t0 err1", "tc err"),
        ),
    ),
    ColumnSpec("file", ("file", "filename", "light curve")),
)

#: Views: arrays of [N, L] values.
VIEWS = (
    ColumnSpec("global", ("global", "global view", "spatial global", "x global", "xg", "g")),
    ColumnSpec("local", ("local", "local view", "spatial local", "x local", "xl", "l")),
    ColumnSpec("secondary", ("secondary", "secondary view", "weak secondary", "x secondary", "xs")),
    ColumnSpec("odd", ("odd", "odd view", "local odd", "local view odd")),
    ColumnSpec("even", ("even", "even view", "local even", "local view even")),
)

#: Canonical labels, and the words that mean them. A confirmed planet is a planet candidate to a classifier; an
#: ambiguous planet candidate (APC of the TESS follow-up group) is neither a candidate nor a false positive. Brown
#: dwarfs, nearby and background binaries transit, but are neither planets nor eclipses of the star itself.
LABELS = {
    "PC": (
        *(
            "pc",
            "planet candidate",
            "planetary candidate",
            "planet",
            "candidate",
            "confirmed",
            "confirmed planet",
            "cp",
        ),
        *("known planet", "kp", "validated planet", "vp", "published confirmed", "published candidate"),
    ),
    "EB": ("eb", "eclipsing binary", "eclipsing binary star", "sb1", "sb2"),
    "J": ("j", "junk", "instrumental", "is"),
    "O": ("o", "other", "v", "variable", "variable star", "stellar variability"),
    "AFP": (
        *("afp", "astrophysical false positive", "false positive", "fp", "refuted", "false positive planet", "bd"),
        *("brown dwarf", "neb", "nearby eclipsing binary", "beb", "background eclipsing binary", "npc"),
    ),
    "NTP": ("ntp", "non transiting phenomenon", "non transit phenomenon", "false alarm", "fa"),
    "UNK": (
        *("unk", "unknown", "unlabelled", "unlabeled", "apc", "ambiguous planetary candidate", "tce only", "u"),
        *("ambiguous planet candidate", "not dispositioned", "undecided", "nan", "none", "null", "n/a", "na", "--", ""),
    ),
}

#: Labels of columns that hold nothing else: 0 is not a signal that is searched for, whatever it is.
BINARY_LABELS = {"1": "PC", "0": "J", "true": "PC", "false": "J", "yes": "PC", "no": "J"}

#: Labels that only files of arrays use: one letter is no word in a table that people keep.
ARRAY_LABELS = {"e": "EB"}

#: The mission whose stars a catalog numbers.
MISSION_OF_CATALOG = {"KIC": "kepler", "EPIC": "k2", "TIC": "tess"}

#: What tables call the missions.
MISSIONS = {"kepler": "kepler", "kepler k2": "k2", "k2": "k2", "tess": "tess"}

#: Days per unit of time.
TIME_UNITS = {
    **dict.fromkeys(("d", "day", "days"), 1.0),
    **dict.fromkeys(("h", "hr", "hrs", "hour", "hours"), 1 / 24),
    **dict.fromkeys(("min", "mins", "minute", "minutes"), 1 / 1440),
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds"), 1 / 86400),
    **dict.fromkeys(("yr", "year", "years"), 365.25),
}

#: Parts per million per unit of depth; 0 for magnitudes, which are not proportional.
DEPTH_UNITS = {
    **dict.fromkeys(("ppm", "1e-06", "1e-6", "10^-6", "10**-6"), 1.0),
    **dict.fromkeys(("%", "percent", "pct", "per cent"), 1e4),
    **dict.fromkeys(("ppt", "0.001", "1e-3", "1e-03", "10^-3", "10**-3"), 1e3),
    **dict.fromkeys(("fraction", "frac", "relative", "normalized flux"), 1e6),
    **dict.fromkeys(("mag", "mags", "mmag", "mmags"), 0.0),
}

#: Systems of time, and the Julian Date of time 0 in each.
TIME_SYSTEMS = {
    **dict.fromkeys(("bkjd", "kbjd", "kjd"), 2454833.0),
    **dict.fromkeys(("btjd", "tbjd", "tjd"), 2457000.0),
    **dict.fromkeys(("bjd", "hjd", "jd"), 0.0),
    **dict.fromkeys(("mjd", "bmjd"), 2400000.5),
    **dict.fromkeys(("rjd", "rbjd"), 2400000.0),
}
#: Units that the NASA Exoplanet Archive documents for its columns, by plain name; programs that copy the names do not
#: always copy the units.
ARCHIVE_UNITS = {
    **dict.fromkeys(("koiperiod", "tceperiod", "plorbper"), "d"),
    **dict.fromkeys(("koiduration", "tceduration", "pltrandurh", "pltrandur"), "h"),
    **dict.fromkeys(("koidepth", "tcedepth"), "ppm"),
    **dict.fromkeys(("koitime0bk", "tcetime0bk"), "bkjd"),
    **dict.fromkeys(("koitime0", "tcetime0", "pltranmid"), "bjd"),
    "tcetime0bt": "btjd",
}
_OFFSET = re.compile(
    r"jd(?:[\s_.]*(?:tdb|utc|tt))?[\s_.)]*(?:-|\u2212|\u2013|minus)?[\s_.]*(2[\s,_]?4\d\d[\s,_]?\d{3}(?:\.\d+)?)"
)
#: Scales of time that may follow a system's name; they differ by 69 s, which is little beside a transit.
_TIME_SCALES = frozenset({"tdb", "utc", "tt", "tcb"})

_SUFFIXES = {*TIME_UNITS, *DEPTH_UNITS, *TIME_SYSTEMS}
_BRACKETS = re.compile(r"[\[(]\s*([^\])]*?)\s*[\])]")


def plain(name: str) -> str:
    """A name as names are compared: lower case, letters and digits only, without the group of an HDF5 path."""
    return re.sub(r"[^a-z0-9]", "", name.rsplit("/", 1)[-1].lower())


def split_unit(name: str) -> tuple[str, str]:
    """A column's name without the unit or system of time that it states, and that unit.

    >>> split_unit("Duration (hours)"), split_unit("epoch_bjd_tdb"), split_unit("T0 [BJD - 2457000]")
    (('Duration', 'hours'), ('epoch', 'bjd'), ('T0', 'BJD - 2457000'))
    """
    brackets = [found for found in _BRACKETS.finditer(name) if found[1]]
    found = next((found for found in brackets if found[0].startswith("[") or is_unit(found[1])), None)
    if found:
        return f"{name[: found.start()].rstrip()}{name[found.end() :]}", found[1]
    words = re.split(r"[\s_.\-]+", name.strip())
    if len(words) > 2 and words[-1].lower() in _TIME_SCALES and words[-2].lower() in TIME_SYSTEMS:
        words.pop()
    unit = ""
    while len(words) > 1 and words[-1].lower() in _SUFFIXES:
        unit = (
            unit
            if unit.lower() in TIME_SYSTEMS
            else words[-1]
            if not unit or words[-1].lower() in TIME_SYSTEMS
            else unit
        )
        words.pop()
    if unit:
        return " ".join(words), unit
    if _OFFSET.search(name.lower()) and (start := re.search(r"[\s_.]*[bhkt]*jd", name.lower())):
        return name[: start.start()], name[start.start() :].strip(" _.")
    return name, ""


def is_unit(text: str) -> bool:
    """Whether a text states a unit of time or depth, or a system of time."""
    text = text.strip().lower()
    return text in TIME_UNITS or text in DEPTH_UNITS or reference_jd(text) is not None


def reference_jd(text: str) -> float | None:
    """The Julian Date of time 0 in the system of time that a text states, None if it states none.

    >>> reference_jd("BJD - 2457000, days"), reference_jd("BTJD"), reference_jd("BJD_TDB"), reference_jd("days")
    (2457000.0, 2457000.0, 0.0, None)
    """
    text = text.lower().replace("barycentric", "b").replace("heliocentric", "h").replace("julian date", "jd")
    if offset := _OFFSET.search(text):
        return float(re.sub(r"[\s,_]", "", offset[1]))
    words = [word for word in re.split(r"[^a-z0-9]+", text) if word and word not in {*_TIME_SCALES, *TIME_UNITS}]
    joined = re.sub(r"(?<=jd)(?:tdb|utc|tt)$", "", "".join(words))
    return TIME_SYSTEMS.get(joined)


def canonical_columns(names: Iterable[str], specs: Iterable[ColumnSpec], *, arrays: bool = False) -> dict[str, str]:
    """Canonical names and the source columns that hold them: the best alias wins, and a source serves once.

    Args:
        names: of the source's columns.
        specs: what is searched for.
        arrays: whether the source is a file of arrays, where shorter names are recognised as well.
    """
    by_alias: dict[str, str] = {}
    keys = [(plain(name), plain(split_unit(name)[0]), _without_joined_unit(plain(name)), name) for name in names]
    keys.sort(key=lambda key: stated_unit(key[3]) != "ppm")  # of several columns of depths, the one in ppm
    for kind in range(3):  # a name as it is wins over one without its unit
        for key in keys:
            by_alias.setdefault(key[kind], key[3])
    found: dict[str, str] = {}
    for spec in specs:
        aliases = map(plain, (*spec.aliases, *(spec.array_aliases if arrays else ())))
        source = next((by_alias[a] for a in aliases if a in by_alias and by_alias[a] not in found.values()), None)
        if source is not None:
            found[spec.name] = source
    return found


def other_columns(names: Iterable[str], spec_name: str, used: str) -> list[str]:
    """Columns that could hold a quantity as well as the one that is used."""
    (spec,) = [spec for spec in COLUMNS if spec.name == spec_name]
    return [name for name in names if name != used and canonical_columns([name], (spec,))]


def _without_joined_unit(name: str) -> str:
    """A plain name without a unit at its end: "period" of "perioddays", "t0" of "t0btjd"."""
    units = sorted((unit for unit in _SUFFIXES if len(unit) > 2), key=len, reverse=True)
    return next((name.removesuffix(unit) for unit in units if name.endswith(unit) and name != unit), name)


def stated_unit(name: str) -> str:
    """The unit that a column's name states, also without a sign before it ("durationhours"), in lower case."""
    unit = split_unit(name)[1].lower()
    return unit or plain(name)[len(_without_joined_unit(plain(name))) :]


_LABELS = {word: label for label, words in LABELS.items() for word in words}


def canonical_label(word: str, *, arrays: bool = False) -> str | None:
    """The canonical label that a word means, None for an unknown word."""
    word = re.sub(r"[\s_\-]+", " ", word.strip().strip("\"'").lower()) if word.strip("- ") else word.strip()
    return _LABELS.get(word) or (ARRAY_LABELS.get(word) if arrays else None)


def label_meanings(
    words: Iterable[str], user_labels: Mapping[str, str] | None = None, *, arrays: bool = False
) -> dict[str, str | None]:
    """The canonical label of each word of a column; None for an unknown word, which is never a negative.

    0 and 1 (true and false, yes and no) are labels only in a column that holds nothing else: among 0, 1 and 2 they are
    numbers of classes.

    Args:
        words: the distinct words of the column.
        user_labels: word in lower case -> canonical label, stated by the user; takes precedence.
        arrays: whether the words are from a file of arrays.
    """
    user_labels = user_labels or {}
    texts = {word: re.sub(r"^([01])\.0+$", r"\1", word.strip().lower()) for word in words}
    left = {text for text in texts.values() if text not in user_labels and canonical_label(text) != "UNK"}
    binary = BINARY_LABELS if left <= set(BINARY_LABELS) else {}
    return {
        word: user_labels.get(text) or binary.get(text) or canonical_label(text, arrays=arrays)
        for word, text in texts.items()
    }
