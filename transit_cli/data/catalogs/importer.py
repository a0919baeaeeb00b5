"""`transit data import`: folded views that other programs made, as a view set.

Views are stored as they are, since files do not tell how they were made; departures from the recipe (median 0, minimum
-1) are reported. Scalars are converted to canonical names and units, and every assumption is reported.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from transit_cli import console
from transit_cli.data import viewset
from transit_cli.data.catalogs import array_files, features, quantities
from transit_cli.data.catalogs.epochs import epochs
from transit_cli.data.catalogs.quantities import SourceColumn
from transit_cli.data.catalogs.stars import stars
from transit_cli.data.catalogs.vocabulary import STAR_IDS
from transit_cli.data.lightcurves.time_reference import name_of
from transit_cli.data.split import SPLITS, split
from transit_cli.data.views.make import recipe_for
from transit_cli.data.views.measurements.binned import view_scalars
from transit_cli.results import Result, Table, TransitError
from transit_cli.utils.files import locked

if TYPE_CHECKING:
    from transit_cli.data.settings import ImportSettings

Columns = dict[str, np.ndarray]

#: Columns whose units, systems of time or catalogs are decided row by row.
_QUANTITIES = ("star", *STAR_IDS, "period", "epoch", "duration", "depth")


def read(settings: ImportSettings) -> tuple[dict[str, np.ndarray], Columns, features.Recognised]:
    """Read all rows of all files.

    Returns:
        Views [N, L] by name, columns [N] by name, and what was recognised in the first file.

    Raises:
        TransitError: a file cannot be read, a view is missing, or files differ in their views.
    """
    found: list[tuple[array_files.ArraySource, features.Recognised]] = []
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
    return views, {**other, **columns}, first


def _names(found: Sequence[tuple[array_files.ArraySource, features.Recognised]], kind: str) -> list[str]:
    return list(dict.fromkeys(name for _, one in found for name in getattr(one, kind)))


def _joined(
    parts: Sequence[np.ndarray | None], found: Sequence[tuple[array_files.ArraySource, features.Recognised]]
) -> np.ndarray:
    """One column of all files; "" or NaN in the rows of a file that lacks it."""
    text = any(part is not None and part.dtype.kind not in "fiub" for part in parts)
    missing = "" if text else np.nan
    whole = [
        np.full(source.rows, missing) if part is None else part.astype(str) if text else part
        for part, (source, _) in zip(parts, found, strict=True)
    ]
    return np.concatenate(whole)


def _lengths(lengths: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {length}" for name, length in lengths.items())


def tces_of(columns: Columns, first: features.Recognised, settings: ImportSettings) -> tuple[Columns, list[str]]:
    """The columns of a view set, in its names and units, and notes on what was decided.

    A value that cannot be used is NaN: the views are folded already, so that its row is as good as any.
    """
    rows = len(columns["source"])
    columns = dict(columns)
    sources = {name: _source(name, columns.pop(name), first) for name in _QUANTITIES if name in columns}
    tces, missions, notes = _stars(sources, settings.mission or "", rows)
    tces["signal"] = _signals(tces["star"], columns.pop("signal", None))
    tces["mission"] = np.array(missions)
    found, quantity_notes = _quantities(sources, missions, rows)
    tces |= found
    depth, depth_notes = _depths(sources.get("depth"), rows)
    if depth is None:  # kept under its own name
        columns[re.sub(r"\W", "_", first.names["depth"].lower())] = np.array(sources["depth"].cells)
    tces["depth_ppm"] = np.full(rows, np.nan) if depth is None else depth
    tces["snr"] = _numbers(columns.pop("snr", None), rows)
    notes += quantity_notes + depth_notes
    if "label" in columns:
        tces["label"], label_notes = features.labels(columns.pop("label"), settings.labels)
        notes += label_notes
    else:
        tces["label"] = np.full(rows, "UNK")
        notes.append("no labels were recognised: every row is UNK; --map label=NAME names their feature")
    source = columns.pop("source")
    tces["split"] = _published(source) if settings.split == "published" else split(tces["star"].tolist())
    tces["source"] = source
    return {**tces, **{name: _numbers(values, rows) for name, values in columns.items() if name not in tces}}, notes


def _source(name: str, values: np.ndarray, first: features.Recognised) -> SourceColumn:
    float32 = values.dtype.kind == "f" and values.dtype.itemsize < 8
    cells = _numbers(values, len(values)) if float32 else values
    return SourceColumn(first.names.get(name, name), cells.tolist(), first.units.get(name, ""), float32)


def _stars(sources: Mapping[str, SourceColumn], mission: str, rows: int) -> tuple[Columns, list[str], list[str]]:
    """The column of stars, the mission of each row, and notes."""
    columns = {name: column for name, column in sources.items() if name in ("star", *STAR_IDS)}
    if not columns:
        note = "no star was recognised: every row counts as a star of its own; --map star=NAME"
        return {"star": np.array([f"row {row}" for row in range(rows)])}, [mission] * rows, [note]
    found = stars(columns, None, mission, rows)
    names = [name or f"row {row}" for row, name in enumerate(found.names)]
    notes = found.notes
    if found.problems:
        row, why = next(iter(found.problems.items()))
        notes.append(f"{len(found.problems):,} rows have no star and count as stars of their own (row {row}: {why})")
    return {"star": np.array(names)}, found.missions, notes


def _signals(stars_of_rows: np.ndarray, given: np.ndarray | None) -> np.ndarray:
    """The given signal, or the number of the row among those of its star."""
    if given is not None:
        if given.dtype.kind == "f" and np.array_equal(given, np.round(given)):
            given = given.astype(np.int64)
        return given.astype(str)
    seen: dict[str, int] = {}
    numbers = []
    for star in stars_of_rows.tolist():
        seen[star] = seen.get(star, 0) + 1
        numbers.append(str(seen[star]))
    return np.array(numbers)


def _numbers(given: np.ndarray | None, rows: int) -> np.ndarray:
    """float64; a float32 with the digits that it stood for: 1.378893, not 1.3788930177688599."""
    if given is None:
        return np.full(rows, np.nan)
    if given.dtype.kind in "fiub":
        return given.astype(str).astype(np.float64) if given.dtype == np.float32 else given.astype(np.float64)
    return quantities.numbers(SourceColumn("", given.tolist()))[0].values


def _quantities(sources: Mapping[str, SourceColumn], missions: Sequence[str], rows: int) -> tuple[Columns, list[str]]:
    """Periods, epochs and durations in canonical units, and notes."""
    absent = np.full(rows, np.nan)
    period = quantities.periods(sources["period"]) if "period" in sources else quantities.Quantity(absent)
    known = [mission or "" for mission in missions]
    systems = {"kepler": "BKJD", "k2": "BKJD", "tess": "BTJD"}
    found: Columns = {"period_days": period.values}
    parts: list[quantities.Quantity] = [period]
    if "epoch" in sources:
        epoch = epochs(sources["epoch"], known)
        found["epoch_days"] = epoch.values
        names = [name_of(jd) if np.isfinite(jd) else "" for jd in epoch.references.tolist()]
        parts.append(epoch)
    else:
        found["epoch_days"] = absent.copy()
        names = [""] * rows
    found["time_system"] = np.array(
        [name or systems.get(mission, "") for name, mission in zip(names, known, strict=True)]
    )
    found["duration_hours"] = absent.copy()
    notes: list[str] = []
    if "duration" in sources:
        try:
            duration = quantities.durations(sources["duration"], period.values)
        except TransitError as error:  # the views are folded already, and need no duration
            notes.append(f"durations are left empty: {error.found}; --map duration_hours=NAME or duration_days=NAME")
        else:
            found["duration_hours"] = np.round(duration.values * 24, 6)
            parts.append(duration)
    notes = [note for part in parts for note in part.notes] + notes
    problems = [problem for part in parts for problem in part.problems.values()]
    if problems:
        notes.append(f"{len(problems):,} values cannot be used and are left empty: {problems[0]}")
    return found, notes


def _depths(column: SourceColumn | None, rows: int) -> tuple[np.ndarray | None, list[str]]:
    """Parts per million, and notes; None for a column that holds no depths."""
    if column is None:
        return np.full(rows, np.nan), []
    values = quantities.numbers(column)[0].values
    if np.isfinite(values).any() and np.nanmedian(values) <= 0:
        # Yu et al. 2019 wrote standardised depths, of which only noise is left in float32
        return None, [f"{column.name} is mostly negative, so it is no depth: kept under its own name"]
    depth = quantities.depths(column)
    return depth.values, depth.notes


def _published(source: np.ndarray) -> np.ndarray:
    """The part that each file's name contains: train, val or test."""
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
    """Rows that no network can use, with the reason."""
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
        TransitError: the files cannot be read or understood, or `settings.out` exists or is being made.
    """
    with locked(settings.out):
        viewset.refuse_existing(settings.out)
        return _import_views(settings)


def _import_views(settings: ImportSettings) -> Result:
    views, columns, first = read(settings)
    names = first.names
    tces, notes = tces_of(columns, first, settings)
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
    notes += _departures(views, kept)
    recipe = {"imported": True, "names": names, "split": settings.split, "files": len(np.unique(tces["source"]))}
    views = {name: view[kept] for name, view in views.items()}
    tces = {name: values[kept] for name, values in tces.items()}
    measured, measured_notes = _measured(views, tces)
    notes += measured_notes
    made = viewset.write(settings.out, views, {**measured, **tces}, recipe, dropped)
    for text in notes:
        console.note(text)
    return _result(settings, made, names, notes, len(reasons))


def _measured(views: Mapping[str, np.ndarray], tces: Columns) -> tuple[Columns, list[str]]:
    """Columns measured on the views, for what the files do not state; and notes."""
    bins = f"{views['global'].shape[1]}/{views['local'].shape[1]}"
    try:
        recipe = recipe_for(bins)
    except ValueError:
        return {}, [f"nothing is measured on views of {bins} bins"]
    duration = tces["duration_hours"] / 24
    columns = view_scalars(views, tces["period_days"], duration, span=recipe.local_span, width=recipe.local_width)
    present = {name: values for name, values in columns.items() if np.isfinite(values).any()}
    note = f"measured on the views, with local views of +-{recipe.local_span:g} durations: {', '.join(present)}"
    return present, [note]


def _departures(views: Mapping[str, np.ndarray], kept: np.ndarray) -> list[str]:
    notes = []
    for name in ("global", "local"):
        view = views[name][kept]
        off = (np.abs(np.median(view, axis=1)) > 1e-3) | (np.abs(view.min(axis=1) + 1) > 1e-3)
        if off.any():
            notes.append(f"{off.sum():,} {name} views do not have median 0 and minimum -1; they are kept as they are")
    return notes


def _result(
    settings: ImportSettings, made: viewset.ViewSet, names: Mapping[str, str], notes: list[str], dropped: int
) -> Result:
    tces = made.tces
    present = [label for label in viewset.LABELS if (tces["label"] == label).any()]
    counts = {part: {label: int(((tces["split"] == part) & (tces["label"] == label)).sum()) for label in present}
              for part in SPLITS}  # fmt: skip
    stars = {part: set(tces["star"][tces["split"] == part].tolist()) for part in SPLITS}
    shared = len((stars["train"] & stars["val"]) | (stars["train"] & stars["test"]) | (stars["val"] & stars["test"]))
    repeated = int(tces["duplicate"].sum())
    warnings = []
    if shared:
        warnings.append(f"{shared:,} stars are in more than one part of the published split; --split star avoids it")
    table = Table(
        ("split", *present, "stars"),
        [(part, *(f"{counts[part][label]:,}" for label in present), f"{len(stars[part]):,}") for part in SPLITS],
        title=f"{settings.out}: views of {_lengths(made.lengths)} bins",
        note=f"{dropped:,} rows dropped, {repeated:,} repeat an earlier row of their star (column `duplicate`)",
    )
    recognised = Table(("canonical", "in the files"), list(names.items()))
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
        "notes": notes,
    }
    return Result(data, [recognised, table], f"{len(made):,} TCEs in {settings.out}", warnings)
