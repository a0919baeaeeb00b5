"""`transit data import`: folded views from elsewhere, as a view set.

Views are taken as they are, since nothing says how they were made; what departs from the recipe (median 0, minimum -1)
is said. Scalars are brought to the house's names and units, and every guess is said aloud.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from transit_cli import console
from transit_cli.data import viewset
from transit_cli.data.catalogs import array_files, features
from transit_cli.data.lightcurves.target import mission_of, star_name
from transit_cli.data.split import PARTS, split
from transit_cli.results import Result, Table, TransitError

if TYPE_CHECKING:
    from transit_cli.data.settings import ImportSettings

Columns = dict[str, np.ndarray]

#: Names of a star's number that say which mission it is from.
_MISSION_NAMES = {"ticid": "tess", "tic": "tess", "kepid": "kepler", "kic": "kepler", "kicid": "kepler", "epic": "k2"}


def read(settings: ImportSettings) -> tuple[dict[str, np.ndarray], Columns, dict[str, str]]:
    """All rows of all files.

    Returns:
        Views [N, L] by name, columns [N] by name, and our name -> the files' name of everything recognised.

    Raises:
        TransitError: a file cannot be read, a view is missing, or files differ in their views.
    """
    found: list[tuple[array_files.Source, features.Recognised]] = []
    files = array_files.files_in(settings.files)
    with console.progress("reading", len(files)) as bar:
        for source in array_files.sources(files):
            found.append((source, features.recognise(source.arrays, settings.map, source.name)))
            bar.update(advance=1)
    first = found[0][1]
    for source, one in found[1:]:
        lengths = {name: view.shape[1] for name, view in one.views.items()}
        wanted = {name: view.shape[1] for name, view in first.views.items()}
        if lengths != wanted:
            raise TransitError(
                f"{source.name} has views of {_lengths(lengths)} bins",
                wanted=f"those of {found[0][0].name}: {_lengths(wanted)}",
                fix="import files of different views into different view sets",
                code="views-differ",
            )
    views = {name: np.concatenate([one.views[name] for _, one in found]) for name in first.views}
    columns = {name: _joined([one.columns.get(name) for _, one in found], found) for name in _names(found, "columns")}
    other = {name: _joined([one.other.get(name) for _, one in found], found) for name in _names(found, "other")}
    columns["source"] = np.concatenate([np.full(source.rows, source.name) for source, _ in found])
    return views, {**other, **columns}, first.names


def _names(found: Sequence[tuple[array_files.Source, features.Recognised]], kind: str) -> list[str]:
    return list(dict.fromkeys(name for _, one in found for name in getattr(one, kind)))


def _joined(
    parts: Sequence[np.ndarray | None], found: Sequence[tuple[array_files.Source, features.Recognised]]
) -> np.ndarray:
    """One column of all files; a file that lacks it gives "" or NaN."""
    text = any(part is not None and part.dtype.kind not in "fiub" for part in parts)
    missing = "" if text else np.nan
    whole = [
        np.full(source.rows, missing) if part is None else part.astype(str) if text else part
        for part, (source, _) in zip(parts, found, strict=True)
    ]
    return np.concatenate(whole)


def _lengths(lengths: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {length}" for name, length in lengths.items())


def tces_of(columns: Columns, names: dict[str, str], settings: ImportSettings) -> tuple[Columns, list[str]]:
    """The columns of a view set, in its names and units, and what was guessed or left out."""
    said: list[str] = []
    rows = len(columns["source"])
    columns = dict(columns)
    mission = settings.mission or _MISSION_NAMES.get(re.sub(r"[^a-z]", "", names.get("star", "").lower()), "")
    tces: Columns = {"star": _stars(columns.pop("star", None), mission, rows, said)}
    tces["signal"] = _signals(tces["star"], columns.pop("signal", None))
    missions = np.array([mission or mission_of(star) for star in tces["star"].tolist()])
    tces["mission"] = missions
    tces["period_days"] = _numbers(columns.pop("period_days", None), rows)
    tces["epoch_days"] = _numbers(columns.pop("epoch_days", None), rows)
    systems = {"kepler": "BKJD", "k2": "BKJD", "tess": "BTJD"}
    tces["time_system"] = np.array([systems.get(mission, "") for mission in missions.tolist()])
    tces["duration_hours"] = _durations(columns, names, rows, said)
    tces["depth_ppm"] = _depths(columns, names, rows, said)
    tces["snr"] = _numbers(columns.pop("snr", None), rows)
    if "label" in columns:
        given = columns.pop("label")
        tces["label"] = features.labels(given, settings.labels)
        if given.dtype.kind in "fiub" and not settings.labels:
            said.append("labels 1 are taken as PC and 0 as J; --labels says otherwise")
    else:
        tces["label"] = np.full(rows, "UNK")
        said.append("no labels were recognised: every row is UNK; --map label=NAME says which feature they are")
    source = columns.pop("source")
    tces["split"] = _published(source) if settings.split == "published" else split(tces["star"].tolist())
    tces["source"] = source
    return {**tces, **{name: _numbers(values, rows) for name, values in columns.items() if name not in tces}}, said


def _stars(given: np.ndarray | None, mission: str, rows: int, said: list[str]) -> np.ndarray:
    if given is None:
        said.append("no star was recognised: every row counts as a star of its own; --map star=NAME")
        return np.array([f"row {row}" for row in range(rows)])
    names = {star: star_name(star, mission) for star in set(given.tolist())}
    return np.array([names[star] for star in given.tolist()])


def _signals(stars: np.ndarray, given: np.ndarray | None) -> np.ndarray:
    """The given signal, or the number of the row among those of its star."""
    if given is not None:
        if given.dtype.kind == "f" and np.array_equal(given, np.round(given)):
            given = given.astype(np.int64)
        return given.astype(str)
    seen: dict[str, int] = {}
    numbers = []
    for star in stars.tolist():
        seen[star] = seen.get(star, 0) + 1
        numbers.append(str(seen[star]))
    return np.array(numbers)


def _numbers(given: np.ndarray | None, rows: int) -> np.ndarray:
    if given is None:
        return np.full(rows, np.nan)
    if given.dtype.kind in "fiub":
        return _shortest(given)
    return np.array([_number(text) for text in given.tolist()])


def _shortest(values: np.ndarray) -> np.ndarray:
    """float64 with the digits that a float32 stood for: 1.378893, not 1.3788930177688599."""
    return values.astype(str).astype(np.float64) if values.dtype == np.float32 else values.astype(np.float64)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return np.nan


def _durations(columns: Columns, names: Mapping[str, str], rows: int, said: list[str]) -> np.ndarray:
    """Hours. AstroNet and Yu et al. wrote days into their TFRecords, and hours into the tables beside them."""
    if "duration_hours" in columns:
        columns.pop("duration", None)
        return _numbers(columns.pop("duration_hours"), rows)
    given = _numbers(columns.pop("duration", None), rows)
    if np.isnan(given).all():
        return given
    days = bool(np.nanmedian(given) < 1)  # half of all transits last longer than an hour, and less than a day
    unit = "days" if days else "hours"
    said.append(f"{names['duration']} is taken to be in {unit} (its median is {np.nanmedian(given):.3g})")
    return np.round(given * 24, 6) if days else given


def _depths(columns: Columns, names: dict[str, str], rows: int, said: list[str]) -> np.ndarray:
    given = _numbers(columns.get("depth_ppm"), rows)
    if np.isnan(given).all():
        columns.pop("depth_ppm", None)
        return given
    if np.nanmedian(given) <= 0:  # Yu et al. 2019 wrote standardised depths, of which only noise is left in float32
        name = names.pop("depth_ppm")
        columns[re.sub(r"\W", "_", name.lower())] = columns.pop("depth_ppm")
        said.append(f"{name} is mostly negative, so it is no depth: kept under its own name")
        return np.full(rows, np.nan)
    columns.pop("depth_ppm")
    if np.nanmax(given) <= 1:
        said.append(f"{names['depth_ppm']} is taken to be a fraction (none is above 1)")
        return given * 1e6
    return given


def _published(source: np.ndarray) -> np.ndarray:
    """The part that each file's name begins with or contains: train, val, test."""
    parts = {}
    for name in np.unique(source).tolist():
        word = re.search(r"(?:^|[^a-z])(train|val|test)", name.lower())
        if word is None:
            raise TransitError(
                f"{name} does not say which part of the published split it is",
                wanted="files with train, val or test in their names",
                fix="--split star",
                code="split-not-published",
            )
        parts[name] = word[1]
    return np.array([parts[name] for name in source.tolist()])


def duplicates(tces: Columns, views: Mapping[str, np.ndarray]) -> np.ndarray:
    """[N] whether a row repeats an earlier one: the same star with the same global view, to the last bit."""
    seen: set[tuple[str, bytes]] = set()
    found = np.zeros(len(tces["star"]), bool)
    for row, star in enumerate(tces["star"].tolist()):
        key = (star, views["global"][row].tobytes())
        found[row] = key in seen
        seen.add(key)
    return found


def unusable(views: Mapping[str, np.ndarray]) -> dict[int, str]:
    """Rows that no network can use, and why."""
    reasons: dict[int, str] = {}
    for name in ("global", "local"):
        view = views[name]
        for row in np.flatnonzero(~np.isfinite(view).all(axis=1)).tolist():
            reasons.setdefault(row, f"{name} view has values that are not finite")
        for row in np.flatnonzero(view.max(axis=1) == view.min(axis=1)).tolist():
            reasons.setdefault(row, f"flat {name} view")
    return dict(sorted(reasons.items()))


def import_views(settings: ImportSettings) -> Result:
    """Import files of folded views as a view set.

    Raises:
        TransitError: the files cannot be read or understood, or something stands at `settings.out`.
    """
    viewset.refuse_existing(settings.out)
    views, columns, names = read(settings)
    tces, said = tces_of(columns, names, settings)
    tces["duplicate"] = duplicates(tces, views).astype(np.int64)
    reasons = unusable(views)
    dropped = {name: values[list(reasons)] for name, values in tces.items()} | {"reason": list(reasons.values())}
    kept = np.setdiff1d(np.arange(len(tces["star"])), list(reasons))
    if not len(kept):
        raise TransitError(
            f"none of {len(tces['star']):,} rows can be used: {next(iter(reasons.values()))}",
            wanted="views with a dip",
            fix="give another file, or other features with --map",
            code="nothing-usable",
        )
    said += _departures(views, kept)
    recipe = {"imported": True, "names": names, "split": settings.split, "files": len(np.unique(tces["source"]))}
    views = {name: view[kept] for name, view in views.items()}
    made = viewset.write(settings.out, views, {name: v[kept] for name, v in tces.items()}, recipe, dropped)
    for text in said:
        console.note(text)
    return _result(settings, made, names, said, len(reasons))


def _departures(views: Mapping[str, np.ndarray], kept: np.ndarray) -> list[str]:
    said = []
    for name in ("global", "local"):
        view = views[name][kept]
        off = (np.abs(np.median(view, axis=1)) > 1e-3) | (np.abs(view.min(axis=1) + 1) > 1e-3)
        if off.any():
            said.append(f"{off.sum():,} {name} views do not have median 0 and minimum -1; they are kept as they are")
    return said


def _result(
    settings: ImportSettings, made: viewset.ViewSet, names: Mapping[str, str], said: list[str], dropped: int
) -> Result:
    tces = made.tces
    present = [label for label in viewset.LABELS if (tces["label"] == label).any()]
    counts = {part: {label: int(((tces["split"] == part) & (tces["label"] == label)).sum()) for label in present}
              for part in PARTS}  # fmt: skip
    stars = {part: set(tces["star"][tces["split"] == part].tolist()) for part in PARTS}
    shared = len((stars["train"] & stars["val"]) | (stars["train"] & stars["test"]) | (stars["val"] & stars["test"]))
    repeated = int(tces["duplicate"].sum())
    warnings = []
    if shared:
        warnings.append(f"{shared:,} stars stand in more than one part of the published split; --split star avoids it")
    table = Table(
        ("split", *present, "stars"),
        [(part, *(f"{counts[part][label]:,}" for label in present), f"{len(stars[part]):,}") for part in PARTS],
        title=f"{settings.out}: views of {_lengths(made.lengths)} bins",
        note=f"{dropped:,} rows dropped, {repeated:,} repeat an earlier row of their star (column `duplicate`)",
    )
    recognised = Table(("ours", "in the files"), list(names.items()))
    data = {
        "path": settings.out,
        "tces": len(made),
        "views": made.lengths,
        "counts": counts,
        "stars": {part: len(members) for part, members in stars.items()},
        "stars_in_several_parts": shared,
        "duplicates": repeated,
        "dropped": dropped,
        "names": dict(names),
        "notes": said,
    }
    return Result(data, [recognised, table], f"{len(made):,} TCEs in {settings.out}", warnings)
