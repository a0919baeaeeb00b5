"""Folding, binning and normalising: from a detrended light curve and a signal to views.

The recipe is AstroNet's (Shallue & Vanderburg 2018; google-research/exoplanet-ml, `light_curve/` and
`astronet/data/preprocess.py`): each bin holds the median of its points, bins may overlap, an empty bin takes the
median of all flux, and a view has median 0 and minimum -1. Times and durations are in days throughout.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np


class UnusableError(ValueError):
    """A signal that cannot become a view; its text is the reason, as it stands in the table of dropped TCEs."""


@dataclass(frozen=True)
class Signal:
    """A periodic signal: period, epoch (centre of a transit) and duration, all in days."""

    period: float
    epoch: float
    duration: float

    def check(self) -> None:
        """Raise `UnusableError` where the figures cannot be those of a transit."""
        for name in ("period", "epoch", "duration"):
            value = getattr(self, name)
            if not np.isfinite(value):
                raise UnusableError(f"{name} is not a finite number")
            if value <= 0 and name != "epoch":
                raise UnusableError(f"{name} is not positive")
        if self.duration >= self.period:
            raise UnusableError("duration is longer than period")


@dataclass(frozen=True)
class Recipe:
    """How views are made: their lengths, and how wide their bins are.

    Attributes:
        global_bins: bins of the global view, over one period.
        local_bins: bins of the local view, and of the secondary, odd and even views.
        global_width: width of a global bin, in units of period / global_bins.
        local_width: width of a local bin, in durations.
        local_span: reach of the local view either side of the centre, in durations.
        secondary: add the view "secondary", around the deepest dip outside the transit.
        odd_even: add the views "odd" and "even", of every other transit.
    """

    global_bins: int = 2001
    local_bins: int = 201
    global_width: float = 1.0
    local_width: float = 0.16
    local_span: float = 4.0
    secondary: bool = False
    odd_even: bool = False

    @property
    def lengths(self) -> dict[str, int]:
        """The views that this recipe makes, and the length of each."""
        names = ["local"] + ["secondary"] * self.secondary + ["odd", "even"] * self.odd_even
        return {"global": self.global_bins} | dict.fromkeys(names, self.local_bins)

    def document(self) -> dict[str, Any]:
        """The recipe in JSON types."""
        return asdict(self)


#: Shallue & Vanderburg (2018).
KEPLER = Recipe()
#: Yu et al. (2019).
TESS = Recipe(global_bins=201, local_bins=61, global_width=1.2, local_span=2.0)


def recipe_for(lengths: str, *, secondary: bool = False, odd_even: bool = False) -> Recipe:
    """The recipe for "G/L" bins: those of the TESS paper for 201/61, else AstroNet's widths.

    A local bin is never narrower than the step between two of them, so that no point falls between bins.

    Raises:
        ValueError: `lengths` is not of the form "2001/201", with at least 10 bins each.
    """
    found = re.fullmatch(r"(\d+)/(\d+)", lengths.strip())
    if found is None or min(int(found[1]), int(found[2])) < 10:
        raise ValueError("two numbers of bins as in 2001/201, each at least 10")
    bins = {"global_bins": int(found[1]), "local_bins": int(found[2])}
    base = TESS if bins == {"global_bins": 201, "local_bins": 61} else KEPLER
    width = max(base.local_width, 2 * base.local_span / bins["local_bins"])
    return Recipe(
        **bins,
        global_width=base.global_width,
        local_width=width,
        local_span=base.local_span,
        secondary=secondary,
        odd_even=odd_even,
    )


@dataclass(frozen=True)
class Folded:
    """A light curve folded at a signal and sorted by phase.

    Attributes:
        phase: [n] days from the nearest transit's centre, ascending, in [-period/2, period/2).
        flux: [n] the flux of each point.
        cycle: [n] the number of the transit that each point is nearest to; the epoch's is 0.
        signal: the signal.
    """

    phase: np.ndarray
    flux: np.ndarray
    cycle: np.ndarray
    signal: Signal

    def where(self, chosen: np.ndarray | slice) -> Folded:
        """Some of the points, still sorted."""
        return Folded(self.phase[chosen], self.flux[chosen], self.cycle[chosen], self.signal)


def phases(time: np.ndarray, signal: Signal) -> tuple[np.ndarray, np.ndarray]:
    """Days from the nearest transit's centre, in [-period/2, period/2), and that transit's number."""
    since = time - signal.epoch
    cycle = np.floor(since / signal.period + 0.5)
    phase = since - cycle * signal.period
    half = signal.period / 2
    np.clip(phase, -half, np.nextafter(half, 0), out=phase)  # rounding may leave it by the last digit
    return phase, cycle


def fold(time: np.ndarray, flux: np.ndarray, signal: Signal) -> Folded:
    """Fold a light curve at a signal.

    Args:
        time: [n] days, in the same system as the signal's epoch.
        flux: [n] finite fluxes.
        signal: where to fold.
    """
    phase, cycle = phases(time, signal)
    order = np.argsort(phase, kind="stable")  # timsort: a folded light curve is a few ascending runs
    return Folded(phase[order], flux[order], cycle[order], signal)


def bin_medians(
    x: np.ndarray, y: np.ndarray, *, bins: int, width: float, low: float, high: float
) -> tuple[np.ndarray, np.ndarray]:
    """The median of `y` in evenly spaced bins of `x`, which may overlap.

    Bin i holds low + i*s <= x < low + i*s + width with s = (high - low - width) / (bins - 1).

    Args:
        x: [n] ascending.
        y: [n] finite.
        bins: how many, at least 2.
        width: of each bin, in the unit of `x`.
        low: where the first bin begins.
        high: where the last bin ends.

    Returns:
        [bins] medians, NaN for an empty bin; and [bins] numbers of points.
    """
    step = (high - low - width) / (bins - 1)
    begins = low + step * np.arange(bins)
    ends = begins + width
    if abs(step - width) <= 1e-9 * width:  # bins that touch share their edge to the last digit
        ends[:-1] = begins[1:]
    ends[-1] = high
    first = np.searchsorted(x, begins)
    counts = np.searchsorted(x, ends) - first
    return _medians_of_runs(y, first, counts), counts


def _medians_of_runs(y: np.ndarray, first: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """The median of each run y[first : first + count], NaN where the count is 0.

    Runs of like length are sorted together as the rows of one array, padded by at most a factor of two.
    """
    medians = np.full(len(first), np.nan)
    doublings = np.frexp(counts)[1]
    for doubling in np.unique(doublings[counts > 0]):
        rows = np.flatnonzero(doublings == doubling)
        count = counts[rows]
        column = np.arange(count.max())
        block = np.take(y, first[rows, None] + column, mode="clip")
        block[column >= count[:, None]] = np.inf
        block.sort(axis=1)
        row = np.arange(len(rows))
        medians[rows] = 0.5 * (block[row, (count - 1) // 2] + block[row, count // 2])
    return medians


def filled(medians: np.ndarray, flux: np.ndarray) -> np.ndarray:
    """`medians` with the median of all `flux` in its empty bins."""
    empty = np.isnan(medians)
    if empty.any():
        medians = np.where(empty, np.median(flux), medians)
    return medians


def global_bins(folded: Folded, recipe: Recipe) -> np.ndarray:
    """The global view before normalising: [global_bins] over the whole period."""
    half = folded.signal.period / 2
    width = recipe.global_width * folded.signal.period / recipe.global_bins
    medians, _ = bin_medians(folded.phase, folded.flux, bins=recipe.global_bins, width=width, low=-half, high=half)
    return filled(medians, folded.flux)


def local_bins(folded: Folded, recipe: Recipe) -> np.ndarray:
    """The local view before normalising: [local_bins] over `local_span` durations either side of the centre."""
    signal = folded.signal
    half = min(signal.period / 2, recipe.local_span * signal.duration)
    width = recipe.local_width * signal.duration
    medians, _ = bin_medians(folded.phase, folded.flux, bins=recipe.local_bins, width=width, low=-half, high=half)
    return filled(medians, folded.flux)


def scale_of(view: np.ndarray) -> float:
    """How far the minimum of a view lies below its median.

    Raises:
        UnusableError: nothing lies below the median.
    """
    depth = float(np.median(view) - view.min())
    if not depth > 0:
        raise UnusableError("flat view")
    return depth


def normalise(view: np.ndarray, scale: float | None = None) -> np.ndarray:
    """A view with median 0, in units of `scale`; without one, of its own depth, so that its minimum is -1.

    Raises:
        UnusableError: the view is flat, so that it has no depth to be measured in.
    """
    return (view - np.median(view)) / (scale_of(view) if scale is None else scale)


def secondary_phase(folded: Folded) -> tuple[float, float, int]:
    """Where the most significant dip outside the transit lies.

    Boxes of one duration, every quarter of one, from one and a half durations after a transit to as long before the
    next. The winner has the largest median depth times the square root of its number of points; the dip's centre is
    the middle of the boxes around it that see at least half as much.

    Returns:
        Its phase in days, half a period where nothing is covered; its depth below the median flux; its points.
    """
    signal = folded.signal
    low, high = signal.duration, signal.period - signal.duration
    boxes = int((high - low - signal.duration) / (0.25 * signal.duration)) + 1
    if boxes < 2:
        return signal.period / 2, 0.0, 0
    turn = np.searchsorted(folded.phase, 0.0)
    phase = np.concatenate([folded.phase[turn:], folded.phase[:turn] + signal.period])
    flux = np.concatenate([folded.flux[turn:], folded.flux[:turn]])
    medians, counts = bin_medians(phase, flux, bins=boxes, width=signal.duration, low=low, high=high)
    depths = np.where(counts > 0, np.median(flux) - medians, 0.0)
    scores = depths * np.sqrt(counts)
    best = int(np.argmax(scores))
    if scores[best] <= 0:
        return signal.period / 2, 0.0, 0
    near = np.arange(max(best - 4, 0), min(best + 5, boxes))
    centre = near[scores[near] >= 0.5 * scores[best]].mean()
    step = (high - low - signal.duration) / (boxes - 1)
    return low + step * centre + signal.duration / 2, float(depths[best]), int(counts[best])


#: Parts of the half duration that ingress takes, from a box nearly to a V; the first stands unless another fits better.
_INGRESSES = (0.2, 0.05, 0.5, 0.75, 1.0)


def measure(folded: Folded, cadence: float) -> dict[str, float]:
    """What the folded light curve itself says of the signal.

    The depth is that of the trapezoid of the signal's duration, blurred by the cadence, which fits best; a shape other
    than a planet's has to be better by 3 sigma. The S/N is the mean depth over its standard error.

    Args:
        folded: the light curve.
        cadence: the time between two points, in days.

    Returns:
        measured_depth_ppm, measured_snr, transits (with at least one point), points_in_transit.
    """
    duration = folded.signal.duration
    reach = np.searchsorted(folded.phase, [-4 * duration, 4 * duration])
    near = folded.where(slice(*reach))
    distance = np.abs(near.phase)
    inside = distance < duration / 2
    found = {
        "measured_depth_ppm": np.nan,
        "measured_snr": np.nan,
        "transits": float(len(np.unique(near.cycle[inside]))),
        "points_in_transit": float(inside.sum()),
    }
    around = near.flux[distance > 0.75 * duration]
    around = around if len(around) >= 3 else folded.flux
    level = np.median(around)
    scatter = 1.4826 * np.median(np.abs(around - level))
    if not inside.any() or not level > 0:
        return found
    dip = level - near.flux
    blur = cadence * (np.arange(5) - 2) / 5
    fits = []
    for ingress in _INGRESSES:
        distances = np.abs(near.phase[:, None] + blur)
        shape = np.clip((duration / 2 - distances) / (ingress * duration / 2), 0, 1).mean(axis=1)
        depth = float(shape @ dip / (shape @ shape)) if shape.any() else np.nan
        fits.append((float(((dip - depth * shape) ** 2).sum()), depth))
    best = min(fits) if min(fits)[0] < fits[0][0] - 9 * scatter**2 else fits[0]
    found["measured_depth_ppm"] = 1e6 * best[1] / float(level)
    if scatter > 0:
        found["measured_snr"] = float(dip[inside].mean() / scatter * np.sqrt(inside.sum()))
    return found


def make_views(
    time: np.ndarray, flux: np.ndarray, signal: Signal, recipe: Recipe = KEPLER
) -> tuple[dict[str, np.ndarray], dict[str, float]]:
    """All views of one signal, and what they say of it.

    Global and local views have median 0 and minimum -1. The secondary, odd and even views have median 0 and are in
    units of the local view's depth, so that their own depths can be compared with it.

    Args:
        time: [n] days.
        flux: [n] detrended, finite.
        signal: where to fold.
        recipe: lengths and widths.

    Returns:
        The views by name, float32; and scalars for the TCE's row (see `measure`; with the views they belong to also
        secondary_phase_days, secondary_depth_ppm, odd_transits, even_transits). Where every observed transit is odd,
        or every one even, the missing view repeats the local view: nothing is known of a difference.

    Raises:
        UnusableError: the signal cannot become views; the text says why.
    """
    signal.check()
    if len(time) == 0:
        raise UnusableError("light curve is empty")
    folded = fold(time, flux, signal)
    scalars = measure(folded, float(np.median(np.diff(time))) if len(time) > 1 else 0.0)
    if scalars["points_in_transit"] == 0:
        raise UnusableError("no cadence in transit")
    local = local_bins(folded, recipe)
    scale = scale_of(local)
    views = {"global": normalise(global_bins(folded, recipe)), "local": normalise(local)}
    if recipe.secondary:
        phase, depth, _ = secondary_phase(folded)
        there = fold(time, flux, Signal(signal.period, signal.epoch + phase, signal.duration))
        views["secondary"] = normalise(local_bins(there, recipe), scale)
        scalars |= {"secondary_phase_days": phase, "secondary_depth_ppm": 1e6 * depth / float(np.median(flux))}
    if recipe.odd_even:
        parity = folded.cycle % 2
        inside = np.abs(folded.phase) < signal.duration / 2
        for name, value in (("odd", 1), ("even", 0)):
            transits = len(np.unique(folded.cycle[inside & (parity == value)]))
            one = local_bins(folded.where(parity == value), recipe) if transits else local
            views[name] = normalise(one, scale)
            scalars[f"{name}_transits"] = float(transits)
    return {name: view.astype(np.float32) for name, view in views.items()}, scalars
