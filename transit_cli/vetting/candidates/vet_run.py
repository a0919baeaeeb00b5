"""`transit vet`: from signals and light curves to a page of sheets, a table of candidates and all numbers.

Each star is one task; its result is a file in a work folder beside the output, written atomically, so that a run that
was stopped resumes with the stars that are left. The output is put together from these files, of which one is in
memory at a time.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from transit_cli import __version__, console
from transit_cli.data.catalogs import catalog
from transit_cli.data.lightcurves.file_index import FileIndex
from transit_cli.data.settings import PrepareSettings
from transit_cli.data.star_tasks import star_tasks
from transit_cli.data.starlight.properties import StarProperties
from transit_cli.data.storage import work_folder
from transit_cli.data.views.make import recipe_for
from transit_cli.device.select import select
from transit_cli.parallel import each
from transit_cli.results import ExitCode, Result, Table, TransitError, plain
from transit_cli.utils.files import atomic_output, atomic_write, locked
from transit_cli.vetting.candidates import candidate_table, network, star_table
from transit_cli.vetting.candidates.disposition import DISPOSITIONS
from transit_cli.vetting.candidates.vet_star import VetTask, vet_star
from transit_cli.vetting.sheets import page, pdf_page

if TYPE_CHECKING:
    from pathlib import Path

    from transit_cli.vetting.ensemble import Ensemble
    from transit_cli.vetting.settings import VetSettings

#: Files of the output folder.
PAGE, CANDIDATES, SIGNALS, FOUND, NOTE = "vetting.html", "candidates.csv", "signals.jsonl", "found.csv", ".vetting"
#: Rows of the table on the screen.
SHOWN = 20


def vet(settings: VetSettings) -> Result:
    """Vet all signals of a catalog, or those that a search finds.

    Raises:
        TransitError: the input cannot be read, or OUT holds something else.
    """
    settings, searched = _arguments(settings)
    assert settings.out is not None
    with locked(settings.out):
        if searched and not _search(settings):
            ensemble = network.open_network(settings.run, select(settings.device), trust=settings.trust)
            _assemble(settings.out, [], [], ensemble, settings)
            return _result(settings.out, ensemble, ("the search found nothing",))
        return _vet(settings, settings.out)


def _arguments(settings: VetSettings) -> tuple[VetSettings, bool]:
    """The settings with all three paths, and whether the catalog is still to be made by a search."""
    if settings.out is not None:
        return settings, False
    out = settings.light_curves
    if settings.catalog.is_file():
        raise TransitError(
            f"there is no OUT: {settings.catalog} is a file, not a folder of light curves",
            wanted="transit vet CATALOG LIGHT_CURVES OUT, or transit vet LIGHT_CURVES OUT",
            fix=f"transit vet {settings.catalog} {settings.light_curves} vetted",
            exit_code=ExitCode.USAGE,
            code="setting-missing",
        )
    return replace(settings, catalog=out / FOUND, light_curves=settings.catalog, out=out), True


def _search(settings: VetSettings) -> int:
    """Search the light curves, unless the catalog in OUT is of them; the number of signals."""
    from transit_cli.search.search_run import search
    from transit_cli.search.settings import SearchSettings

    found = search(
        SearchSettings(
            light_curves=settings.light_curves,
            out=settings.catalog,
            flux_column=settings.flux_column,
            device=settings.device,
            workers=settings.workers,
            overwrite=True,
        )
    )
    return int(found.data["signals"])


def _vet(settings: VetSettings, out: Path) -> Result:
    signals = catalog.read(settings.catalog, settings.mission or "", settings.map)
    for note in signals.notes:
        console.note(note)
    ensemble = network.open_network(settings.run, select(settings.device), trust=settings.trust)
    tasks, dropped, index = _tasks(settings, signals.tces, ensemble)
    digest = _digest(settings, tasks, index, ensemble)
    if _complete(settings, out, digest):
        return _result(out, ensemble, ("complete already: nothing to do",))
    work = out.parent / f".{out.name}.work"
    work_folder.open_work(work, digest, "input")
    files = _vet_stars(tasks, settings, work)
    _score(files, ensemble)
    _assemble(out, files, dropped, ensemble, settings)
    atomic_write(out / NOTE, digest)
    shutil.rmtree(work)
    return _result(out, ensemble)


def _tasks(
    settings: VetSettings, tces: Sequence[catalog.Tce], ensemble: Ensemble
) -> tuple[list[VetTask], list[dict[str, Any]], FileIndex]:
    """One task per star with light curves, rows for signals without, and the files."""
    index = FileIndex.of(settings.light_curves, skip=[settings.catalog])
    lengths = ensemble.card.views
    recipe = recipe_for(f"{lengths['global']}/{lengths['local']}", secondary=True, odd_even=True)
    prepare = PrepareSettings(
        catalog=settings.catalog,
        light_curves=settings.light_curves,
        out=settings.light_curves,
        flux_column=settings.flux_column,
    )
    tasks, dropped = star_tasks(tces, index, recipe, prepare)
    stars = star_table.read(settings.catalog)
    stars += [StarProperties()] * (len(tces) - len(stars))
    made: list[VetTask] = []
    drawn = 0
    for task in tasks:
        pictures = drawn < settings.max_sheets
        drawn += len(task.tces)
        properties = tuple(stars[number] for number, _ in task.tces)
        made.append(VetTask(task, properties, pictures, settings.pdf and pictures))
    return made, [row for row in dropped if row.get("star") or row.get("signal")], index


def _digest(settings: VetSettings, tasks: Sequence[VetTask], index: FileIndex, ensemble: Ensemble) -> str:
    """Of all that the output depends on."""
    content = index.checksums(list(dict.fromkeys(path for task in tasks for path in task.views.files)))
    parts = (__version__, settings.flux_column, settings.max_sheets, settings.pdf, ensemble.name, ensemble.card)
    digest = hashlib.sha256(repr(parts).encode())
    for task in tasks:
        files = [(index.name(path), content[path]) for path in task.views.files]
        named = {row: [index.name(path) for path in paths] for row, paths in task.views.named.items()}
        digest.update(repr((task.star, task.views.tces, task.stars, files, named)).encode())
    return digest.hexdigest()


def _complete(settings: VetSettings, out: Path, digest: str) -> bool:
    """Whether OUT holds this very output; an error if it holds another one that must not be replaced."""
    note = out / NOTE
    if note.is_file() and note.read_text(encoding="utf-8") == digest:
        return all((out / name).is_file() for name in (PAGE, CANDIDATES, SIGNALS))
    if not settings.overwrite and any((out / name).exists() for name in (PAGE, CANDIDATES, SIGNALS)):
        raise TransitError(
            f"{out} holds the output of other light curves, signals or options",
            wanted="a new folder",
            fix="give another OUT, or --overwrite",
            exit_code=ExitCode.USAGE,
            code="output-exists",
        )
    return False


def _vet_stars(tasks: Sequence[VetTask], settings: VetSettings, work: Path) -> list[Path]:
    """Vet every star that has no file yet; returns all stars' files in order."""
    files = {task.star: work / f"{hashlib.sha256(task.star.encode()).hexdigest()[:24]}.json" for task in tasks}
    todo = [task for task in tasks if not files[task.star].exists()]
    if len(todo) < len(tasks):
        console.note(f"{len(tasks) - len(todo):,} of {len(tasks):,} stars were vetted before")
    try:
        with console.progress("stars", len(tasks)) as bar:
            bar.update(len(tasks) - len(todo))
            for task, done in each(vet_star, todo, settings.workers):
                atomic_write(files[task.star], json.dumps(done))
                bar.update(advance=1, status=task.star)
    except KeyboardInterrupt as interrupt:
        interrupt.args = (f"run the same command again: it resumes from {work}",)
        raise
    return list(files.values())


def _load(file: Path) -> dict[str, Any]:
    return json.loads(file.read_text(encoding="utf-8"))


def _score(files: Sequence[Path], ensemble: Ensemble) -> None:
    """Add the network's probabilities to the stars' files."""
    with console.progress("scoring", len(files)) as bar:
        for some in _portions(files):
            stars = {file: star for file in some if "scored" not in (star := _load(file))}
            bar.update(advance=len(some))
            rows = [(star, row) for star in stars.values() for row in star["signals"]]
            keys = [str(row["catalog_row"]) for _, row in rows]
            views = [star["views"].get(key, {}) for (star, _), key in zip(rows, keys, strict=True)]
            columns = [star["columns"].get(key, {}) for (star, _), key in zip(rows, keys, strict=True)]
            found = network.probabilities(ensemble, views, columns)
            for (star, row), key, scores in zip(rows, keys, found, strict=True):
                row["probabilities"] = scores
                reasons = star["view_reasons"]
                row["no_probability"] = "" if scores else reasons.get(key, reasons.get("", "no views"))
            for file, star in stars.items():
                atomic_write(file, json.dumps(star | {"scored": True, "views": {}, "columns": {}}))


def _portions(files: Sequence[Path], size: int = 32) -> Iterator[Sequence[Path]]:
    for first in range(0, len(files), size):
        yield files[first : first + size]


def _absent(dropped: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Rows for signals without a light curve."""
    for row in dropped:
        names = ("period_days", "epoch_days", "time_system", "duration_hours", "depth_ppm")
        yield {
            "star": row.get("star", ""),
            "signal": row.get("signal", ""),
            "mission": row.get("mission", ""),
            "catalog_row": row.get("catalog_row", -1),
            "label": row.get("label", ""),
            "catalog": {name: row.get(name, float("nan")) for name in names},
            "disposition": "",
            "reasons": [row["reason"]],
            "warnings": [],
            "tests": [],
            "measured": {},
            "star_properties": {},
            "probabilities": {},
        }


def _rows(files: Sequence[Path], dropped: Sequence[dict[str, Any]]) -> Iterator[tuple[dict[str, Any], str, str]]:
    """Every signal: its row, plots and thumbnail."""
    for file in files:
        star = _load(file)
        yield from zip(star["signals"], star["pictures"], star["thumbnails"], strict=True)
    for row in _absent(dropped):
        yield row, "", ""


def _assemble(
    out: Path, files: Sequence[Path], dropped: Sequence[dict[str, Any]], ensemble: Ensemble, settings: VetSettings
) -> None:
    """Write all output files, one star in memory at a time."""
    with atomic_output(out / CANDIDATES) as temporary, temporary.open("w", encoding="utf-8", newline="") as stream:
        stream.write(candidate_table.text(candidate_table.columns()))
        stream.writelines(candidate_table.line(row) for row, _, _ in _rows(files, dropped))
    with atomic_output(out / SIGNALS) as temporary, temporary.open("w", encoding="utf-8") as stream:
        stream.writelines(json.dumps(plain(row)) + "\n" for row, _, _ in _rows(files, dropped))
    about = page.About(settings.catalog.name, settings.light_curves.name, ensemble.name, ensemble.trained_on)
    with atomic_output(out / PAGE) as temporary, temporary.open("w", encoding="utf-8") as stream:
        stream.writelines(page.page(lambda: _rows(files, dropped), about))
    if settings.pdf:
        todo = [pdf_page.PdfTask(file, out / "pdf") for file in files]
        with console.progress("PDF", len(todo)) as bar:
            for _ in each(pdf_page.write, todo, settings.workers):
                bar.update(advance=1)


def _result(out: Path, ensemble: Ensemble, notes: Sequence[str] = ()) -> Result:
    """What the output folder holds."""
    counts: Counter[str] = Counter()
    listed: list[dict[str, Any]] = []
    failed: Counter[str] = Counter()
    with (out / SIGNALS).open(encoding="utf-8") as stream:
        for text in stream:
            row = json.loads(text)
            counts[row["disposition"]] += 1
            failed.update(test["title"] for test in row["tests"] if test["verdict"] == "fail")
            listed.append(_short(row))
    cells = [
        (row["star"], row["signal"], row["disposition"] or "-", _number(row["probability"]), row["reasons"][:60])
        for row in listed[:SHOWN]
    ]
    more = f"; {len(listed) - SHOWN:,} more in {CANDIDATES}" if len(listed) > SHOWN else ""
    note = f"probability of {' or '.join(ensemble.target)} by {ensemble.name}, trained on {ensemble.trained_on}{more}"
    tables = [Table(("star", "signal", "verdict", "probability", "because"), cells, note=note)]
    if failed:
        tables.append(Table(("failed test", "signals"), [(name, f"{count:,}") for name, count in failed.most_common()]))
    names = {code or "none": counts[code] for code in DISPOSITIONS}
    verdict = f"{len(listed):,} signals: {counts['PC']:,} planet candidates, {counts['FP']:,} false positives, "
    verdict += f"{counts['FA']:,} false alarms, {counts['']:,} without a verdict; {out / PAGE}"
    data = {
        "page": str(out / PAGE),
        "candidates": str(out / CANDIDATES),
        "signals_file": str(out / SIGNALS),
        "dispositions": names,
        "signals": listed,
        "notes": list(notes),
    }
    return Result(data, tables, verdict + "".join(f"; {text}" for text in notes))


def _short(row: dict[str, Any]) -> dict[str, Any]:
    """What the JSON document has of a signal; signals.jsonl has all."""
    scores = next(iter(row.get("probabilities", {}).values()), [None, None])
    return {
        "star": row["star"],
        "signal": row["signal"],
        "disposition": row["disposition"],
        "probability": scores[0],
        "probability_spread": scores[1],
        "failed": [test["name"] for test in row["tests"] if test["verdict"] == "fail"],
        "reasons": "; ".join(row["reasons"]),
        "warnings": row["warnings"],
    }


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
