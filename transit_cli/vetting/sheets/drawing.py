"""The plots of a sheet as HTML, drawn by the worker that vetted the signal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from transit_cli.plotting import html, svg
from transit_cli.vetting.sheets import pdf_page
from transit_cli.vetting.sheets.panels import panels_of

if TYPE_CHECKING:
    from transit_cli.data.starlight.star_light import StarLight
    from transit_cli.vetting.candidate_tests.candidate import Candidate
    from transit_cli.vetting.candidate_tests.model_shift import ModelShift

#: Points of a thumbnail.
POINTS = 50


def draw(
    light: StarLight, candidate: Candidate, found: ModelShift | None, *, panels: bool
) -> tuple[str, str, list[dict[str, Any]]]:
    """The plots of a signal as HTML, its thumbnail, and the plots as data if `panels`."""
    made = panels_of(light, candidate, found)
    figures = "".join(html.figure(svg.svg(panel), panel.title) for panel in made)
    return figures, _thumbnail(candidate), [pdf_page.document(panel) for panel in made] if panels else []


def _thumbnail(candidate: Candidate) -> str:
    reach = min(2 * candidate.signal.duration, candidate.signal.period / 2)
    number = np.floor((candidate.phase / reach + 1) / 2 * POINTS).astype(np.int64)
    near = (number >= 0) & (number < POINTS)
    total = np.bincount(number[near], candidate.weight[near], POINTS)
    sums = np.bincount(number[near], (candidate.weight * candidate.flux)[near], POINTS)
    return svg.thumbnail(np.where(total > 0, sums / np.maximum(total, 1e-9), np.nan), "folded transit")
