"""From a detrended light curve and a signal to views: fold, bin, normalise.

The recipe is AstroNet's (Shallue & Vanderburg 2018; google-research/exoplanet-ml, `light_curve/` and
`astronet/data/preprocess.py`): each bin holds the median of its points, bins may overlap, an empty bin is
set to the median of all flux, and a view has median 0 and minimum -1. Times and durations are in days.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from transit_cli.data.views.binning import bin_medians, fill_empty, interpolate_empty, median
from transit_cli.data.views.extra_views import length_of, scatter_and_emptiness, single_transits
from transit_cli.data.views.folding import Folded, Signal, UnusableError, fold
from transit_cli.data.views.measure import measure
from transit_cli.data.views.measurements.folded import folded_scalars
from transit_cli.options import MAX_BINS


@dataclass(frozen=True)
class Recipe:
    """How views are made: their lengths and bin widths.

    Attributes:
        global_bins: bins of the global view, over one period.
        local_bins: bins of the local view, and of the secondary, odd and even views.
        global_width: width of a global bin, in units of period / global_bins.
        local_width: width of a local bin, in durations.
        local_span: half-width of the local view, in durations.
        bridge: interpolate empty bins between their neighbours instead of using the median of all flux.
        secondary: add the view "secondary", centred on the most significant dip outside the transit.
        odd_even: add the views "odd" and "even", of alternating transits.
        extra: names of further views, of `extra_views.NAMES`.
    """

    global_bins: int = 2001
    local_bins: int = 201
    global_width: float = 1.0
    local_width: float = 0.16
    local_span: float = 4.0
    bridge: bool = False
    secondary: bool = False
    odd_even: bool = False
    extra: tuple[str, ...] = ()

    @property
    def lengths(self) -> dict[str, int]:
        """The views of this recipe and the length of each."""
        names = ["local"] + ["secondary"] * self.secondary + ["odd", "even"] * self.odd_even
        lengths = {"global": self.global_bins} | dict.fromkeys(names, self.local_bins)
        return lengths | {name: length_of(name, self.global_bins, self.local_bins) for name in self.extra}

    def document(self) -> dict[str, Any]:
        """The recipe as JSON types."""
        document = asdict(self)
        extra = document.pop("extra")
        return document | ({"extra": list(extra)} if extra else {})


#: A transit cannot be deeper than the star's light; the rest is noise.
MAX_DEPTH_PPM = 1.05e6
#: Shallue & Vanderburg (2018).
KEPLER = Recipe()
#: Yu et al. (2019). Their published views are interpolated linearly across gaps.
TESS = Recipe(global_bins=201, local_bins=61, global_width=1.2, local_span=2.0, bridge=True)


def recipe_for(lengths: str, *, secondary: bool = False, odd_even: bool = False, extra: tuple[str, ...] = ()) -> Recipe:
    """The recipe for "G/L" bins: that of Yu et al. (2019) for 201/61, otherwise AstroNet's widths.

    A local bin is never narrower than the distance between bins, so that no point falls between two bins.

    Raises:
        ValueError: `lengths` is not of the form "2001/201", with at least 10 bins each.
    """
    found = re.fullmatch(r"(\d+)/(\d+)", lengths.strip())
    if found is None or min(int(found[1]), int(found[2])) < 10:
        raise ValueError("two numbers of bins as in 2001/201, each at least 10")
    if max(int(found[1][:20]), int(found[2][:20])) > MAX_BINS:
        raise ValueError(f"at most {MAX_BINS:,} bins: light curves have fewer cadences")
    bins = {"global_bins": int(found[1]), "local_bins": int(found[2])}
    base = TESS if bins == {"global_bins": 201, "local_bins": 61} else KEPLER
    width = max(base.local_width, 2 * base.local_span / bins["local_bins"])
    return Recipe(
        **bins,
        global_width=base.global_width,
        local_width=width,
        local_span=base.local_span,
        bridge=base.bridge,
        secondary=secondary,
        odd_even=odd_even,
        extra=extra,
    )


def global_bins(folded: Folded, recipe: Recipe) -> np.ndarray:
    """The global view before normalising: [global_bins] over the whole period."""
    half = folded.signal.period / 2
    width = recipe.global_width * folded.signal.period / recipe.global_bins
    medians, _ = bin_medians(folded.phase, folded.flux, bins=recipe.global_bins, width=width, low=-half, high=half)
    return (interpolate_empty if recipe.bridge else fill_empty)(medians, folded.flux)


def local_bins(folded: Folded, recipe: Recipe) -> np.ndarray:
    """The local view before normalising: [local_bins] within `local_span` durations of the centre."""
    signal = folded.signal
    half = min(signal.period / 2, recipe.local_span * signal.duration)
    width = recipe.local_width * signal.duration
    medians, _ = bin_medians(folded.phase, folded.flux, bins=recipe.local_bins, width=width, low=-half, high=half)
    return (interpolate_empty if recipe.bridge else fill_empty)(medians, folded.flux)


def scale_of(view: np.ndarray) -> float:
    """The depth of a view: its median minus its minimum.

    Raises:
        UnusableError: no bin is below the median.
    """
    return _scale(view, median(view))


def _scale(view: np.ndarray, level: float) -> float:
    depth = float(level - view.min())
    if not depth > 0:
        raise UnusableError("flat view")
    return depth


def normalise(view: np.ndarray, scale: float | None = None) -> np.ndarray:
    """A view with median 0 in units of `scale`, by default its own depth, so that its minimum is -1.

    Raises:
        UnusableError: the view is flat.
    """
    level = median(view)
    return (view - level) / (_scale(view, level) if scale is None else scale)


def unit_depth(views: np.ndarray) -> np.ndarray:
    """Views [N, L] with median 0, each divided by its own depth, so that its minimum is -1; flat ones stay."""
    depth = -views.min(axis=1, keepdims=True)
    return views / np.where(depth > 0, depth, 1).astype(views.dtype)


def check_depth(scalars: Mapping[str, float]) -> None:
    """Raise `UnusableError` for a transit that is deeper than the star's light."""
    depth = scalars["measured_depth_ppm"]
    if depth > MAX_DEPTH_PPM:
        raise UnusableError(f"measured depth {depth:,.0f} ppm: deeper than the star's light")


def make_views(
    time: np.ndarray, flux: np.ndarray, signal: Signal, recipe: Recipe = KEPLER
) -> tuple[dict[str, np.ndarray], dict[str, float]]:
    """All views of one signal, and scalars measured on them.

    Global and local views have median 0 and minimum -1. The secondary, odd and even views have median 0 and are in
    units of the local view's depth, so that depths can be compared.

    Args:
        time: [n] days.
        flux: [n] detrended, finite.
        signal: period, epoch and duration.
        recipe: lengths and widths.

    Returns:
        The views by name, float32; and scalars for the TCE's row (see `measure` and `folded_scalars`). If all observed
        transits are odd, or all are even, the missing view is a copy of the local view.

    Raises:
        UnusableError: the signal cannot become views; the message is the reason.
    """
    signal.check()
    if len(time) == 0:
        raise UnusableError("light curve is empty")
    folded = fold(time, flux, signal)
    scalars = measure(folded, median(np.diff(time)) if len(time) > 1 else 0.0)
    if scalars["points_in_transit"] == 0:
        raise UnusableError("no cadence in transit")
    local = local_bins(folded, recipe)
    scale = scale_of(local)
    views = {"global": normalise(global_bins(folded, recipe)), "local": normalise(local)}
    scalars |= folded_scalars(folded, views["global"])
    if recipe.secondary:
        there = fold(time, flux, Signal(signal.period, signal.epoch + scalars["secondary_phase_days"], signal.duration))
        views["secondary"] = normalise(local_bins(there, recipe), scale)
    if recipe.odd_even:
        parity = folded.cycle % 2
        for name, value in (("odd", 1), ("even", 0)):
            one = local_bins(folded.where(parity == value), recipe) if scalars[f"{name}_transits"] else local
            views[name] = normalise(one, scale)
    views |= _extra_views(folded, recipe, local, scale)
    return {name: view.astype(np.float32) for name, view in views.items()}, scalars


def _extra_views(folded: Folded, recipe: Recipe, local: np.ndarray, scale: float) -> dict[str, np.ndarray]:
    """The views of `recipe.extra` that are made of the flux.

    Args:
        folded: the light curve.
        recipe: lengths and widths.
        local: [local_bins] before normalising.
        scale: its depth.
    """
    signal, views = folded.signal, {}
    half, width = min(signal.period / 2, recipe.local_span * signal.duration), recipe.local_width * signal.duration
    if not {"local_scatter", "local_empty"}.isdisjoint(recipe.extra):
        both = scatter_and_emptiness(folded, local, half=half, width=width, scale=scale)
        views |= dict(zip(("local_scatter", "local_empty"), both, strict=True))
    if not {"global_scatter", "global_empty"}.isdisjoint(recipe.extra):
        bin_width = recipe.global_width * signal.period / recipe.global_bins
        whole = global_bins(folded, recipe)
        both = scatter_and_emptiness(folded, whole, half=signal.period / 2, width=bin_width, scale=scale)
        views |= dict(zip(("global_scatter", "global_empty"), both, strict=True))
    if "half_period" in recipe.extra:
        opposite = Signal(signal.period, signal.period / 2, signal.duration)
        views["half_period"] = normalise(local_bins(fold(folded.phase, folded.flux, opposite), recipe), scale)
    if "transits" in recipe.extra:
        views["transits"] = single_transits(
            folded, bins=recipe.local_bins, half=half, width=width, level=median(local), scale=scale
        )
    return {name: view for name, view in views.items() if name in recipe.extra}
