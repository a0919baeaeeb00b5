"""Views beyond the folded flux: scatter and emptiness of bins, half a period later, single transits.

Scatter and flux are in units of the local view's depth.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from transit_cli.data.views.binning import bin_medians

if TYPE_CHECKING:
    from transit_cli.data.views.folding import Folded

#: Single transits in the view "transits".
TRANSITS = 8
#: Names of the views, as `--views` takes them.
NAMES = ("local_scatter", "local_empty", "global_scatter", "global_empty", "half_period", "transits", "centroid")


def length_of(name: str, global_bins: int, local_bins: int) -> int:
    """The length of a view: "transits" holds its rows one after the other."""
    return global_bins if name.startswith("global") else TRANSITS * local_bins if name == "transits" else local_bins


def scatter_and_emptiness(
    folded: Folded, view: np.ndarray, *, half: float, width: float, scale: float
) -> tuple[np.ndarray, np.ndarray]:
    """[bins] the robust scatter of the points of each bin about the view, and 1 for a bin without points.

    Args:
        folded: the light curve.
        view: [bins] medians before normalising.
        half: half-width of the view, in days.
        width: of a bin, in days.
        scale: the unit, in units of the flux.
    """
    centres = np.linspace(-half + width / 2, half - width / 2, len(view))
    deviation = np.abs(folded.flux - np.interp(folded.phase, centres, view))
    medians, counts = bin_medians(folded.phase, deviation, bins=len(view), width=width, low=-half, high=half)
    return 1.4826 * np.nan_to_num(medians) / scale, (counts == 0).astype(float)


def single_transits(folded: Folded, *, bins: int, half: float, width: float, level: float, scale: float) -> np.ndarray:
    """[TRANSITS * bins] the `TRANSITS` best covered transits in the order of time, one after the other.

    A bin without points, and a transit that does not exist, is 0, the level outside the transit.

    Args:
        folded: the light curve.
        bins: of one transit.
        half: half-width of the view, in days.
        width: of a bin, in days.
        level: the flux outside the transit.
        scale: the unit, in units of the flux.
    """
    inside = np.abs(folded.phase) < folded.signal.duration / 2
    cycles, points = np.unique(folded.cycle[inside], return_counts=True)
    rows = np.zeros((TRANSITS, bins))
    for row, cycle in enumerate(np.sort(cycles[np.argsort(-points, kind="stable")[:TRANSITS]])):
        one = folded.where(folded.cycle == cycle)
        medians, _ = bin_medians(one.phase, one.flux, bins=bins, width=width, low=-half, high=half)
        rows[row] = np.nan_to_num((medians - level) / scale)
    return rows.ravel()
