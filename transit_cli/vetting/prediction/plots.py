"""The plots of scored signals."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from transit_cli.data.storage.columns import Columns
from transit_cli.vetting.prediction.score_table import SCORES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from transit_cli.vetting.scored_signals import Signals


def remove_former(folder: Path) -> None:
    """Remove the scores and plots of an earlier prediction, so that none is taken for one of this."""
    file = folder / SCORES
    try:
        with file.open(newline="", encoding="utf-8", errors="replace") as lines:
            plots = {Path(row.get("plot") or "").name for row in csv.DictReader(lines)}
    except FileNotFoundError:
        return
    except (OSError, csv.Error):
        plots = set()
    file.unlink()
    for name in plots - {""}:
        for suffix in (".png", ".svg", ".pdf"):
            (folder / name).with_suffix(suffix).unlink(missing_ok=True)


def plot(folder: Path, signals: Signals, row: Mapping[str, Any], place: int, number: int | None = None) -> str:
    """Draw a signal; its name in `folder`, so that the files of a folder do not depend on where it lies.

    Args:
        folder: where to draw.
        signals: the signals.
        row: of the table of scores.
        place: of the signal among `signals`.
        number: of the plot; `place` if not given.
    """
    from transit_cli.plotting import figures
    from transit_cli.vetting.sheets.views import light_panels, view_panels

    number = place if number is None else number
    title = f"{row.get('star', '')} {row.get('signal', '')}".strip() or f"row {number}"
    title += f": score {row['score']:.3f} \u00b1 {row['spread']:.3f} (trained on {row['trained_on']})"
    tces = signals.tces if isinstance(signals.tces, Columns) else Columns.of(signals.tces)
    facts = {name: column[0] for name, column in tces.take(slice(place, place + 1)).items()}
    if signals.light:
        panels = light_panels(*signals.light, float(facts.get("secondary_phase_days", np.nan)))
    else:
        counts = {
            name: int(facts[key])
            for name in ("odd", "even")
            if np.isfinite(facts.get(key := f"{name}_transits", np.nan))
        }
        views = {name: values[place] for name, values in signals.views.items()}
        drawn = view_panels(views, signals.span, float(facts.get("duration_hours", np.nan)), counts)
        panels = [replace(panel, wide=index == 0) for index, panel in enumerate(drawn)]
    figure = figures.panels_figure(panels, f"{title}\n{_facts(facts)}")
    name = f"signal_{number}"
    figures.save_formats(figure, folder, name)
    return f"{name}.png"


def _facts(row: Mapping[str, Any]) -> str:
    """Period, depth, S/N and number of transits, as far as they are known; those of the catalog if not measured."""
    quantities = (
        (("period_days",), "P = {:.6g} d"),
        (("duration_hours",), "duration {:.3g} h"),
        (("measured_depth_ppm", "depth_ppm"), "depth {:,.0f} ppm"),
        (("measured_snr", "snr"), "S/N {:.1f}"),
        (("transits",), "transits: {:.0f}"),
    )
    found: list[str] = []
    for names, text in quantities:
        values = [float(row[name]) for name in names if name in row]
        known = [value for value in values if np.isfinite(value)]
        found += [text.format(value) for value in known[:1]]
    return ", ".join(found)
