"""One PDF page per signal, from the plots and numbers of its star's file."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from transit_cli.plotting import figures
from transit_cli.plotting.panel import Panel, Series
from transit_cli.vetting.candidates.disposition import DISPOSITIONS
from transit_cli.vetting.sheets.sheet import NUMBERS, value_with_error

if TYPE_CHECKING:
    from pathlib import Path

#: Numbers below the title of a page.
FACTS = {"period_days", "duration_hours", "depth_ppm", "snr", "transits"}


@dataclass(frozen=True)
class PdfTask:
    """A star's file and the folder of the PDF files."""

    file: Path
    folder: Path


def document(panel: Panel) -> dict[str, Any]:
    """A panel in JSON types."""
    values = vars(panel) | {"marks": list(panel.marks), "lines": list(panel.lines)}
    values["series"] = [
        {key: value.tolist() if isinstance(value, np.ndarray) else value for key, value in vars(item).items()}
        for item in panel.series
    ]
    return values


def _panel(values: dict[str, Any]) -> Panel:
    series = [
        Series(
            x=np.array(one.pop("x"), float),
            y=np.array(one.pop("y"), float),
            errors=None if (errors := one.pop("errors")) is None else np.array(errors, float),
            **one,
        )
        for one in values.pop("series")
    ]
    return Panel(series=series, **values)


def write(task: PdfTask) -> int:
    """Write the pages of a star's signals; the number of pages."""
    star = json.loads(task.file.read_text(encoding="utf-8"))
    count = 0
    for row, panels in zip(star["signals"], star["panels"], strict=True):
        if not panels:
            continue
        title = f"{row['star']} {row['signal']}: {DISPOSITIONS[row['disposition']]}"
        facts = [
            f"{name} {value_with_error(row['measured'].get(key), row['measured'].get(error))} {unit}".strip()
            for name, key, error, unit in NUMBERS
            if key in FACTS and row["measured"].get(key) is not None
        ]
        scores = [
            f"network: {name} {value:.3f} ± {spread:.3f}" for name, (value, spread) in row["probabilities"].items()
        ]
        tests = [(test["title"], test["verdict"], test["reason"][:110]) for test in row["tests"]]
        drawn = figures.panel_page(
            [_panel(panel) for panel in panels], title, [", ".join(facts), *scores, *row["reasons"]], tests
        )
        name = re.sub(r"[^A-Za-z0-9.+-]+", "_", f"{row['star']}_{row['signal']}")
        figures.save(drawn, task.folder / f"{name}_{row['catalog_row']}.pdf")
        count += 1
    return count
