"""Mutations of catalogs whose true values are known: what a reader accepts of them must be the truth.

A mutation changes how a table is written (its dialect, names, units, systems of time) or damages it. The truth of a row
is found by its signal, which no mutation touches.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import random
    from pathlib import Path

HOURS_OF_YEAR, BKJD, BTJD = 13.0, 2454833.0, 2457000.0


@dataclass
class Fuzzed:
    """A table to write.

    Attributes:
        header: names of columns.
        rows: cells.
        mission: for the reader.
        comments: lines above the header.
        delimiter: between cells.
        encoding: of the file.
        done: the mutations, for messages.
    """

    header: list[str]
    rows: list[list[str]]
    mission: str = ""
    comments: list[str] = field(default_factory=list)
    delimiter: str = ","
    encoding: str = "utf-8"
    done: list[str] = field(default_factory=list)

    def index(self, *names: str) -> int | None:
        """The index of the first of these columns that is there."""
        return next((self.header.index(name) for name in names if name in self.header), None)

    def content(self, rng: random.Random) -> bytes:
        """The bytes of the file; some mutations cut or spoil them."""
        quote = (lambda cell: f'"{cell}"') if rng.random() < 0.2 and self.delimiter != " " else (lambda cell: cell)
        lines = [*self.comments, *(self.delimiter.join(map(quote, row)) for row in [self.header, *self.rows])]
        content = (rng.choice(["\n", "\r\n"]).join(lines) + "\n").encode(self.encoding, "replace")
        if "bytes" in self.done:
            spoiled = bytearray(content)
            for _ in range(rng.randint(1, 4)):
                spoiled[rng.randrange(len(spoiled))] = rng.choice(b'\x00\xff,;\n"#')
            content = bytes(spoiled)
        return content[: rng.randrange(len(content))] if "cut" in self.done else content


def truth(rng: random.Random, count: int) -> tuple[list[dict[str, float]], str]:
    """Signals as missions have them: period and duration in days, epoch as a Julian Date; and the mission."""
    mission = rng.choice(["kepler", "tess"])
    signals = []
    for _ in range(count):
        period = round(10 ** rng.uniform(-0.2, 2.2), 6)
        expected = HOURS_OF_YEAR * (period / 365.25) ** (1 / 3)
        hours = round(min(expected * 10 ** rng.uniform(-0.35, 0.4), 0.5 * period * 24), 4)
        first, last = (BKJD + 120, BKJD + 1590) if mission == "kepler" else (BTJD + 1325, BTJD + 3900)
        jd = round(rng.uniform(first, min(first + period, last)), 5)
        signals.append(
            {
                "star": rng.randrange(10**6, 10**8),
                "period": period,
                "jd": jd,
                "hours": hours,
                "depth": rng.randint(40, 90000),
            }
        )
    return signals, mission


def table(signals: list[dict[str, float]], mission: str, rng: random.Random) -> Fuzzed:
    """The signals in one of the layouts that archives use, with or without their comments."""
    kepler = mission == "kepler"
    layout = rng.choice(["archive", "exofop", "own"])
    zero = BKJD if kepler else BTJD
    header = {
        "archive": ["kepid", "kepoi_name", "koi_period", "koi_time0bk", "koi_duration", "koi_depth", "koi_disposition"]
        if kepler
        else ["tid", "toi", "pl_orbper", "pl_tranmid", "pl_trandurh", "pl_trandep", "tfopwg_disp"],
        "exofop": [
            "TIC ID" if not kepler else "KIC",
            "TOI",
            "Period (days)",
            "Epoch (BJD)",
            "Duration (hours)",
            "Depth (ppm)",
            "TFOPWG Disposition",
        ],
        "own": [
            "kic" if kepler else "tic_id",
            "signal",
            "period_days",
            "epoch_bkjd" if kepler else "epoch_btjd",
            "duration_hours",
            "depth_ppm",
            "label",
        ],
    }[layout]
    full = layout == "exofop" or (layout == "archive" and not kepler)
    rows = []
    for number, signal in enumerate(signals):
        epoch = signal["jd"] - (0 if full else zero)
        cells = [signal["star"], f"{number}.01", signal["period"], round(epoch, 5), signal["hours"], signal["depth"]]
        rows.append([*map(str, cells), rng.choice(["CANDIDATE", "FALSE POSITIVE", "PC", "FP"])])
    found = Fuzzed(list(header), rows)
    if layout == "archive" and rng.random() < 0.5:
        units = dict(zip(header[2:6], ["days", "BKJD" if kepler else "BJD", "hrs", "ppm"], strict=True))
        found.comments = [f"# COLUMN {name}: Some Words [{unit}]" for name, unit in units.items()]
    if rng.random() < 0.3:
        found.mission = mission
    return found


#: Columns of the archive's tables, in the order of `table`: star, signal, period, epoch, duration, depth, label.
ARCHIVE = (
    ("kepid", "kepoi_name", "koi_period", "koi_time0bk", "koi_duration", "koi_depth", "koi_disposition"),
    ("kepid", "tce_plnt_num", "tce_period", "tce_time0bk", "tce_duration", "tce_depth", "av_training_set"),
    ("tid", "toi", "pl_orbper", "pl_tranmid", "pl_trandurh", "pl_trandep", "tfopwg_disp"),
)


def archive_rows(file: Path) -> tuple[list[str], list[str], list[list[str]]]:
    """A table of the NASA Exoplanet Archive: the comments on its columns, their names, and the complete rows."""
    lines = file.read_text().splitlines()
    header, *rows = csv.reader(line for line in lines if not line.startswith("#"))
    names = next(list(names) for names in ARCHIVE if set(names) <= set(header))
    places = [header.index(name) for name in names]
    kept = [[row[place] for place in places] for row in rows]
    comments = [line for line in lines if any(line.startswith(f"# COLUMN {name}:") for name in names)]
    return comments, names, [row for row in kept if all(row[2:5])]


def archive_table(
    source: tuple[list[str], list[str], list[list[str]]], rng: random.Random
) -> tuple[list[dict[str, float]], Fuzzed]:
    """Some signals of an archive's table and their table, with or without its comments."""
    comments, names, rows = source
    chosen = [list(row) for row in rng.sample(rows, rng.randint(6, 30))]
    zero = 0.0 if names[3] == "pl_tranmid" else BKJD
    signals = [{"period": float(row[2]), "jd": float(row[3]) + zero, "hours": float(row[4])} for row in chosen]
    for number, row in enumerate(chosen):
        row[1] = f"{number}.01"
    return signals, Fuzzed(list(names), chosen, comments=list(comments) if rng.random() < 0.5 else [])


PERIODS = ("koi_period", "tce_period", "pl_orbper", "Period (days)", "period_days")
EPOCHS = ("koi_time0bk", "tce_time0bk", "pl_tranmid", "Epoch (BJD)", "epoch_bkjd", "epoch_btjd")
DURATIONS = ("koi_duration", "tce_duration", "pl_trandurh", "Duration (hours)", "duration_hours")


def mutate(found: Fuzzed, rng: random.Random) -> None:
    """One mutation, in place; a quantity is converted at most once, since the second would not know its unit."""
    name, mutation = rng.choice(list(MUTATIONS.items()))
    quantities = [word for word in ("epoch", "duration", "period") if word in name]
    if name in found.done or any(word in done for word in quantities for done in found.done):
        return
    mutation(found, rng)
    found.done.append(name)


def _convert(found: Fuzzed, names, new_name: str | None, convert, rows=None) -> None:
    index = found.index(*names)
    if index is None:
        return
    for row in found.rows if rows is None else rows:
        try:
            value = float(row[index])
            row[index] = repr(round(convert(value), 8)) if value not in {0.0, -9999.0} else row[index]  # missing values
        except ValueError:
            continue
    if new_name:
        found.comments = [line for line in found.comments if found.header[index] not in line]
        found.header[index] = new_name


def _some(found: Fuzzed, rng: random.Random) -> list[list[str]]:
    return rng.sample(found.rows, rng.randint(1, len(found.rows)))


def _to_jd(found: Fuzzed, rng: random.Random, rows=None, *, rename: bool = False) -> None:
    index = found.index(*EPOCHS)
    if index is None:
        return
    zero = {"koi_time0bk": BKJD, "tce_time0bk": BKJD, "epoch_bkjd": BKJD, "epoch_btjd": BTJD}.get(
        found.header[index], 0.0
    )
    _convert(found, EPOCHS, None, lambda value: value + zero, rows)
    if rename:
        system, offset = rng.choice(
            [
                ("t0_bjd", 0.0),
                ("T0 (BJD-2450000)", 2450000.0),
                ("epoch_mjd", 2400000.5),
                ("epoch_rjd", 2400000.0),
                ("epoch", 0.0),
                ("Epoch [HJD]", 0.0),
            ]
        )
        found.comments = [line for line in found.comments if found.header[index] not in line]
        found.header[index] = system
        _convert(found, (system,), None, lambda value: value - offset)


def _from_jd(found: Fuzzed, rng: random.Random) -> None:  # some rows count from a mission's day in a column of BJD
    index = found.index("pl_tranmid", "Epoch (BJD)")
    if index is not None:
        mission = BKJD if "KIC" in found.header else BTJD
        _convert(found, (found.header[index],), None, lambda value: value - mission, _some(found, rng))


def _one_in_days(found: Fuzzed, rng: random.Random) -> None:
    """One row in another unit than its column.

    Only of transits that are not much longer than those of a star like the Sun: of 15 h at a period of 6 d, 1/24 is a
    duration that archives hold as well, so that nothing in the row tells hours from days.
    """
    period, duration = found.index(*PERIODS), found.index(*DURATIONS)
    if period is None or duration is None:
        return
    usual = []
    for row in found.rows:
        try:
            expected = HOURS_OF_YEAR * (float(row[period]) / 365.25) ** (1 / 3)
            if 0 < float(row[duration]) < 4.5 * expected:
                usual.append(row)
        except (ValueError, TypeError):
            continue
    if usual:
        _convert(found, DURATIONS, None, lambda value: value / 24, [rng.choice(usual)])


def _cell(found: Fuzzed, rng: random.Random, values) -> None:
    row = rng.choice(found.rows)
    row[rng.choice([0, 2, 3, 4, 5])] = rng.choice(values)


def _rename(found: Fuzzed, rng: random.Random) -> None:
    index = rng.randrange(len(found.header))
    found.comments = [line for line in found.comments if found.header[index] not in line]
    found.header[index] = rng.choice(
        [found.header[index].upper(), f" {found.header[index]} ", found.header[index].replace("_", " ")]
    )


MUTATIONS = {
    "bytes": lambda found, rng: None,
    "cut": lambda found, rng: None,
    "semicolon": lambda found, rng: setattr(found, "delimiter", ";"),
    "tab": lambda found, rng: setattr(found, "delimiter", "\t"),
    "bar": lambda found, rng: setattr(found, "delimiter", "|"),
    "utf-16": lambda found, rng: setattr(found, "encoding", "utf-16"),
    "mark": lambda found, rng: setattr(found, "encoding", "utf-8-sig"),
    "no comments": lambda found, rng: found.comments.clear(),
    "decimal commas": lambda found, rng: [
        row.__setitem__(i, row[i].replace(".", ",")) for row in found.rows for i in (2, 3, 4)
    ],
    "missing cell": lambda found, rng: _cell(found, rng, ["", "nan", "--", "null", "N/A", "inf", "0", "-9999"]),
    "words in a cell": lambda found, rng: _cell(
        found, rng, ["see note", "1.2.3", "~3", "1e999", "0x10", "3,1", "\u221e", "5 parsec"]
    ),
    "short row": lambda found, rng: rng.choice(found.rows).pop(),
    "long row": lambda found, rng: rng.choice(found.rows).append("7"),
    "row twice": lambda found, rng: found.rows.append(list(rng.choice(found.rows))),
    "order": lambda found, rng: rng.shuffle(found.rows),
    "header again": lambda found, rng: found.rows.insert(len(found.rows) // 2, list(found.header)),
    "another name": _rename,
    "period column twice": lambda found, rng: (
        found.header.append(found.header[2]),
        [row.append("99.9") for row in found.rows],
    ),
    "duration in days": lambda found, rng: _convert(found, DURATIONS, "duration_days", lambda value: value / 24),
    "duration in minutes": lambda found, rng: _convert(found, DURATIONS, "Duration [min]", lambda value: value * 60),
    "duration in days, unnamed": lambda found, rng: _convert(found, DURATIONS, "duration", lambda value: value / 24),
    "duration in hours, unnamed": lambda found, rng: _convert(found, DURATIONS, "duration", lambda value: value),
    "period in hours": lambda found, rng: _convert(found, PERIODS, "Period [h]", lambda value: value * 24),
    "one duration in days": _one_in_days,
    "epochs as Julian Dates": _to_jd,
    "some epochs as Julian Dates": lambda found, rng: _to_jd(found, rng, _some(found, rng)),
    "some epochs as mission days": _from_jd,
    "epochs in a stated system": lambda found, rng: _to_jd(found, rng, rename=True),
    "star as float": lambda found, rng: [row.__setitem__(0, f"{row[0]}.0") for row in found.rows],
    "star with its catalog": lambda found, rng: [
        row.__setitem__(0, ("TIC " if found.header[0] in {"tid", "TIC ID", "tic_id"} else "KIC ") + row[0])
        for row in found.rows
    ],
}
