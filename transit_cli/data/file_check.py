"""`transit data check`: what is read from light-curve files, every decision and every doubt."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from transit_cli import console
from transit_cli.data import bulk
from transit_cli.data.lightcurves import readers
from transit_cli.data.lightcurves.file_index import walk
from transit_cli.data.lightcurves.lightcurve import LightCurve, UnreadableError
from transit_cli.data.lightcurves.text_tables import NoLightCurveError
from transit_cli.data.lightcurves.time_reference import name_of
from transit_cli.results import ExitCode, Result, Table, TransitError

if TYPE_CHECKING:
    from transit_cli.data.settings import CheckSettings

#: Files whose decisions are shown in a table of their own; more are shown one per line.
DETAILED = 4


def check(settings: CheckSettings) -> Result:
    """Read files and report what was decided about each; nothing is written except the figure.

    Raises:
        TransitError: there is no such file, or the figure cannot be drawn.
    """
    if settings.plot:
        from transit_cli.data.views.plots import check_plot

        check_plot(settings.plot)
    files = _files(settings.files)
    rows: list[dict[str, Any]] = []
    curves: list[LightCurve] = []
    with console.progress("light curves", len(files)) as bar:
        for file in files:
            try:
                curve = readers.read(file, settings.flux_column)
            except NoLightCurveError as reason:
                if file not in settings.files:  # a catalog in a folder of light curves
                    bar.update(advance=1)
                    continue
                rows.append({"file": str(file), "readable": False, "reason": str(reason)})
            except UnreadableError as reason:
                rows.append({"file": str(file), "readable": False, "reason": str(reason)})
            else:
                rows.append(_row(file, curve))
                if len(curves) < settings.max_plots:
                    curves.append(curve)
            bar.update(advance=1)
    if settings.plot and curves:
        from transit_cli.data.views.plots import draw_curves

        draw_curves(curves, settings.plot)
    return _result(rows, settings.plot if curves else None)


def _files(given: tuple[Path, ...]) -> list[Path]:
    """Files, and the light curves under folders."""
    found: dict[Path, None] = {}
    for path in given:
        if not bulk.file_of(path).exists():
            raise TransitError(
                f"{path} does not exist",
                wanted="light-curve files, or folders of them",
                fix="give the path of an existing file",
                code="light-curve-missing",
            )
        for file in walk(path) if path.is_dir() else [path]:
            found |= dict.fromkeys(bulk.names(file) if bulk.holds_rows(file) else [file])
    return list(found)


def _row(file: Path, curve: LightCurve) -> dict[str, Any]:
    """What was read, as JSON types."""
    return {
        "file": str(file),
        "readable": True,
        "product": curve.product,
        "star": curve.star,
        "mission": curve.mission,
        "segment": curve.segment,
        "time_system": name_of(curve.reference_jd),
        "reference_jd": curve.reference_jd,
        "first_time": float(curve.time[0]) if len(curve.time) else None,
        "last_time": float(curve.time[-1]) if len(curve.time) else None,
        "cadence_days": float(np.median(np.diff(curve.time))) if len(curve.time) > 1 else None,
        "flux_column": curve.column,
        "cadences": curve.cadences,
        "finite": curve.finite,
        "flagged": curve.flagged,
        "used": len(curve.time),
        "decisions": [decision._asdict() for decision in curve.decisions],
        "doubts": list(curve.notes),
    }


def _result(rows: list[dict[str, Any]], plot: Path | None) -> Result:
    readable = [row for row in rows if row["readable"]]
    failed = [row for row in rows if not row["readable"]]
    doubtful = [row for row in readable if row["doubts"]]
    blocks = [_details(row) for row in readable] if len(readable) <= DETAILED else [_overview(readable)]
    if failed:
        cells = [(row["file"], row["reason"]) for row in failed]
        blocks.append(Table(("file", "reason"), cells, title="Not readable"))
    verdict = f"{len(readable):,} of {len(rows):,} files are light curves"
    verdict += f", {len(doubtful):,} with doubts" if doubtful else ""
    verdict += f"; drawn in {plot}" if plot else ""
    warnings = [f"{Path(row['file']).name}: {doubt}" for row in doubtful for doubt in row["doubts"]]
    code = ExitCode.NEGATIVE if failed or not rows else ExitCode.DONE
    return Result({"files": rows, "plot": str(plot) if plot else None}, blocks, verdict, warnings, code)


def _details(row: dict[str, Any]) -> Table:
    cells = [(decision["topic"], decision["value"], decision["reason"]) for decision in row["decisions"]]
    if row["first_time"] is not None:
        span = f"{row['first_time']:.4f} to {row['last_time']:.4f} {row['time_system']}"
        cadence = f", one every {1440 * row['cadence_days']:.3g} min" if row["cadence_days"] else ""
        cells.append(("span", span + cadence, ""))
    used = f"{row['used']:,} of {row['cadences']:,}"
    cells.append(("cadences", used, f"{row['finite']:,} finite, {row['flagged']:,} removed by flags"))
    cells += [("doubt", doubt, "") for doubt in row["doubts"]]
    return Table(("", "found", "from"), cells, title=row["file"])


def _overview(rows: list[dict[str, Any]]) -> Table:
    cells = [
        (
            Path(row["file"]).name,
            row["product"] or "-",
            row["star"] or "?",
            row["time_system"],
            row["flux_column"],
            f"{row['used']:,}",
            f"{row['flagged']:,}",
            len(row["doubts"]),
        )
        for row in rows
    ]
    return Table(("file", "product", "star", "time", "flux", "used", "flagged", "doubts"), cells)
