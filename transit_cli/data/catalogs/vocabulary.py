"""The vocabulary of tables of signals: the names of columns, views, labels, missions and units.

`data prepare` and `data import` read the same names; an alias is added here and nowhere else. Names are compared
without case, blanks and signs. Sources: the column definitions of the NASA Exoplanet Archive (KOI, TCE, TOI, PS and
K2PANDC tables), ExoFOP's TOI and CTOI downloads, AstroNet (Shallue & Vanderburg 2018), Yu et al. 2019, and ExoMiner.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
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


#: Columns of one value per signal.
COLUMNS = (
    ColumnSpec(
        "star",
        (
            *("star", "kepid", "tid", "tic id", "tic", "epic", "epic id", "kic", "kic id", "target id", "target"),
            *("star id", "hostname"),
        ),
    ),
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
            *("t0", "transit epoch", "time0", "tranmid", "tc"),
        ),
    ),
    ColumnSpec("time_system", ("time system", "epoch system")),
    ColumnSpec(
        "duration",
        (
            *("koi duration", "tce duration", "pl trandurh", "duration", "transit duration", "dur", "t14"),
            "pl trandur",
        ),
    ),
    ColumnSpec("depth", ("koi depth", "tce depth", "pl trandep", "depth", "transit depth")),
    ColumnSpec(
        "snr",
        ("koi model snr", "tce model snr", "measured snr", "snr", "mes", "tce max mult ev", "sde"),
        array_aliases=("sn",),
    ),
    ColumnSpec(
        "label",
        ("label", "av training set", "koi disposition", "tfopwg disp", "disposition", "exofop disposition"),
        array_aliases=("labels", "y", "class", "target label"),
    ),
    ColumnSpec("label_2", ("koi pdisposition", "disposition")),
    ColumnSpec("period_error", ("koi period err1", "tce period err", "pl orbper err1", "period error", "period err")),
    ColumnSpec(
        "epoch_error",
        ("koi time0bk err1", "tce time0bk err", "koi time0 err1", "pl tranmid err1", "epoch error", "epoch err"),
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
#: ambiguous planet candidate (APC of the TESS follow-up group) is neither a candidate nor a false positive.
LABELS = {
    "PC": ("pc", "planet candidate", "planet", "candidate", "confirmed", "cp", "kp", "1"),
    "EB": ("eb", "eclipsing binary"),
    "J": ("j", "junk", "0"),  # 0 of a 0/1 label: not a signal that is searched for, whatever it is
    "O": ("o", "other"),
    "AFP": ("afp", "astrophysical false positive", "false positive", "fp"),
    "NTP": ("ntp", "non-transiting phenomenon", "false alarm", "fa"),
    "UNK": ("unk", "unknown", "unlabelled", "apc", "ambiguous planetary candidate", ""),
}

#: Labels that only files of arrays use: one letter is no word in a table that people keep.
ARRAY_LABELS = {"e": "EB"}

#: Star columns whose name says the mission that numbers its stars so.
MISSION_OF_COLUMN = {
    **dict.fromkeys(("kepid", "kic", "kicid"), "kepler"),
    **dict.fromkeys(("epic", "epicid"), "k2"),
    **dict.fromkeys(("tid", "tic", "ticid"), "tess"),
}

#: Days per unit of time.
TIME_UNITS = {
    **dict.fromkeys(("d", "day", "days"), 1.0),
    **dict.fromkeys(("h", "hr", "hrs", "hour", "hours"), 1 / 24),
    **dict.fromkeys(("min", "mins", "minute", "minutes"), 1 / 1440),
}

#: Parts per million per unit of depth. Magnitudes are small: 1 mmag is 1e6 ln(10) / 2500 ppm.
DEPTH_UNITS = {
    "ppm": 1.0,
    **dict.fromkeys(("%", "percent", "pct"), 1e4),
    "ppt": 1e3,
    "mmag": 921.0340371976183,
}

#: Systems of time that the name of a column may state.
TIME_SYSTEMS = ("bkjd", "btjd", "bjd", "hjd", "mjd", "jd")

_UNITS = {*TIME_UNITS, *DEPTH_UNITS, *TIME_SYSTEMS}
_BRACKETS = re.compile(r"[\[(]\s*([^\])]*?)\s*[\])]")


def plain(name: str) -> str:
    """A name as names are compared: lower case, letters and digits only, without the group of an HDF5 path."""
    return re.sub(r"[^a-z0-9]", "", name.rsplit("/", 1)[-1].lower())


def split_unit(name: str) -> tuple[str, str]:
    """A column's name without the unit that it states, and that unit.

    >>> split_unit("Duration (hours)"), split_unit("epoch_bjd"), split_unit("T0 [BJD - 2457000]")
    (('Duration', 'hours'), ('epoch', 'bjd'), ('T0', 'BJD - 2457000'))
    """
    if (found := _BRACKETS.search(name)) and _is_unit(found[1]):
        return f"{name[: found.start()].rstrip()}{name[found.end() :]}", found[1]
    words = re.split(r"[\s_.\-]+", name.strip())
    if len(words) > 1 and words[-1].lower() in _UNITS:
        return " ".join(words[:-1]), words[-1]
    return name, ""


def _is_unit(text: str) -> bool:
    return bool(set(re.split(r"[^a-z%]+", text.lower())) & _UNITS)


def canonical_columns(names: Iterable[str], specs: Iterable[ColumnSpec], *, arrays: bool = False) -> dict[str, str]:
    """Canonical names and the source columns that hold them: the best alias wins, and a source serves once.

    Args:
        names: of the source's columns.
        specs: what is searched for.
        arrays: whether the source is a file of arrays, where shorter names are recognised as well.
    """
    by_alias: dict[str, str] = {}
    keys = [(plain(name), plain(split_unit(name)[0]), _without_joined_unit(plain(name)), name) for name in names]
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


def _without_joined_unit(name: str) -> str:
    """A plain name without a unit at its end: "period" of "perioddays", "t0" of "t0btjd"."""
    return next((name.removesuffix(unit) for unit in _UNITS if len(unit) > 2 and name.endswith(unit)), name)


def stated_unit(name: str) -> str:
    """The unit that a column's name states, also without a sign before it ("durationhours"), in lower case."""
    unit = split_unit(name)[1].lower()
    return unit or plain(name)[len(_without_joined_unit(plain(name))) :]


_LABELS = {word: label for label, words in LABELS.items() for word in words}


def canonical_label(word: str, *, arrays: bool = False) -> str | None:
    """The canonical label that a word means, None for an unknown word."""
    word = word.strip().lower()
    return _LABELS.get(word) or (ARRAY_LABELS.get(word) if arrays else None)
