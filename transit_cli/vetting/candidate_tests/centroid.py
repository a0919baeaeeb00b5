"""Centroid offset: if the light moves during the transit, the dip comes from another star in the aperture."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from transit_cli.vetting.candidate_tests.candidate import TestInfo

if TYPE_CHECKING:
    from transit_cli.vetting.candidate_tests.candidate import Candidate, Outcome

INFO = TestInfo("centroid", "Centroid offset", "sigma", 3.0, True, "Bryson et al. 2013; Kostov et al. 2019")
#: Offsets of the source below this many pixels are not judged: neighbours shift a flux-weighted centroid as much.
SMALLEST = 1.0
#: The trend of the centroid is taken from cells within this many durations of each transit.
NEAR = 3.0


def centroid(candidate: Candidate) -> Outcome:
    """Compare the flux-weighted centroid in transit with that around each transit."""
    extra = candidate.extra
    if extra.centroids is None:
        return INFO.not_made(extra.centroid_reason)
    shifts, errors = zip(*(shift_of(candidate, values) for values in extra.centroids), strict=True)
    if not np.isfinite([*shifts, *errors]).all():
        return INFO.not_made("too few cadences with a centroid in and around the transits")
    sigma = float(np.sqrt(sum((shift / error) ** 2 for shift, error in zip(shifts, errors, strict=True))))
    length = float(np.hypot(*shifts))
    depth = min(candidate.fit.depth, 0.9)
    # Light that is lost at distance D from the centroid moves it by D * depth / (1 - depth) the other way.
    source = length * (1 - depth) / depth
    arcsec = source * extra.pixel
    details = {
        "shift_millipixels": 1e3 * length,
        "column_shift_millipixels": 1e3 * shifts[0],
        "row_shift_millipixels": 1e3 * shifts[1],
        "column_error_millipixels": 1e3 * errors[0],
        "row_error_millipixels": 1e3 * errors[1],
        "source_offset_pixels": source,
        "source_offset_arcsec": arcsec,
    }
    where = f"{source:.2f} pixels" + (f" ({arcsec:.1f} arcsec)" if np.isfinite(arcsec) else "")
    text = f"{1e3 * length:.2f} millipixels, a source {where} from the centroid"
    if sigma > INFO.threshold and source < SMALLEST:
        return INFO.outcome("pass", sigma, f"a shift of {text}: within the aperture's centre", **details)
    return INFO.judge(sigma, f"the centroid moves by {text}", f"no shift: {text}", **details)


def shift_of(candidate: Candidate, values: np.ndarray) -> tuple[float, float]:
    """Mean shift in transit and its error, in pixels, by the scatter of the single transits where there are enough."""
    duration = candidate.signal.duration
    near = np.isfinite(values) & (np.abs(candidate.phase) < NEAR * duration)
    inside = near & candidate.inside(0.8)
    around = near & ~candidate.inside(1.2)
    cycles = candidate.cycle - candidate.cycle.min()
    count = int(cycles.max()) + 1
    n_in, n_out = (np.bincount(cycles[some], minlength=count) for some in (inside, around))
    usable = np.flatnonzero((n_in >= 1) & (n_out >= 4))
    if not len(usable):
        return np.nan, np.nan
    shifts: list[float] = []
    weights: list[float] = []
    scatter: list[float] = []
    edges = {cycle: np.flatnonzero(near & (cycles == cycle)) for cycle in usable[:400]}
    for places in edges.values():
        x, y = candidate.phase[places] / duration, values[places]
        out, own = around[places], inside[places]
        trend = np.polyfit(x[out], y[out], 1 if np.ptp(x[out]) > NEAR else 0)
        rest = y - np.polyval(trend, x)
        scatter.append(1.4826 * float(np.median(np.abs(rest[out] - np.median(rest[out])))))
        shifts.append(float(rest[own].mean()))
        weights.append(float(1 / (1 / own.sum() + 1 / out.sum())))
    noise = float(np.median(scatter))
    shift = float(np.average(shifts, weights=weights))
    formal = noise / float(np.sqrt(np.sum(weights)))
    if len(shifts) >= 4:
        spread = float(np.sqrt(np.average((np.array(shifts) - shift) ** 2, weights=weights) / (len(shifts) - 1)))
        formal = max(formal, spread)
    return shift, max(formal * np.sqrt(candidate.red), 1e-9)
