"""A signal as the tests take it, and what a test answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from transit_cli.data.starlight.properties import ExtraColumns, StarProperties
from transit_cli.data.views.folding import Signal, phases

if TYPE_CHECKING:
    from transit_cli.vetting.candidate_tests.transit_fit import TransitFit

Verdict = Literal["pass", "warn", "fail", "not made"]
#: A transit counts as observed if at least this share of its expected signal is covered.
OBSERVED = 0.4


@dataclass(frozen=True)
class Outcome:
    """The answer of a test.

    Attributes:
        name: short stable name, as in "odd_even".
        title: for people.
        verdict: "pass", "warn" (worth a look, no reason to reject), "fail", or "not made".
        value: the number that is compared; NaN if the test was not made.
        unit: of the value and the threshold.
        threshold: the limit of `value`; NaN if there is none.
        above: whether values above the threshold fail, rather than those below.
        reason: what was found, or why the test cannot be made.
        paper: where the test is described.
        details: further numbers, with their units in the names.
    """

    name: str
    title: str
    verdict: Verdict
    value: float
    unit: str
    threshold: float
    above: bool
    reason: str
    paper: str
    details: Mapping[str, float] = field(default_factory=dict)

    @property
    def limit(self) -> str:
        """The threshold in words, as in "< 3 sigma"."""
        if np.isnan(self.threshold):
            return "-"
        return f"{'<' if self.above else '>'} {self.threshold:.3g} {self.unit}".strip()

    def document(self) -> dict[str, Any]:
        """The outcome in JSON types."""
        return {key: dict(value) if key == "details" else value for key, value in vars(self).items()}


@dataclass(frozen=True)
class TestInfo:
    """What all outcomes of a test share: see `Outcome`."""

    name: str
    title: str
    unit: str
    threshold: float
    above: bool
    paper: str
    __test__ = False  # pytest takes classes of this name for tests

    def outcome(self, verdict: Verdict, value: float, reason: str, **details: float) -> Outcome:
        """An outcome of this test."""
        known = {name: float(number) for name, number in details.items()}
        return Outcome(verdict=verdict, value=float(value), reason=reason, details=known, **vars(self))

    def not_made(self, reason: str) -> Outcome:
        """The outcome if the test is impossible."""
        return self.outcome("not made", np.nan, reason)

    def judge(self, value: float, reason: str, otherwise: str, **details: float) -> Outcome:
        """The outcome by the threshold: `reason` if it is exceeded, else `otherwise`."""
        failed = value > self.threshold if self.above else value < self.threshold
        return self.outcome("fail" if failed else "pass", value, reason if failed else otherwise, **details)


@dataclass(frozen=True)
class Candidate:
    """A signal with the light curve it lies in.

    Times are in days. Transits of the star's other signals are left out of all arrays.

    Attributes:
        time: [n] middle of each cell, ascending.
        flux: [n] detrended, about 1.
        raw: [n] relative to the median of each file, not detrended.
        weight: [n] cadences in the cell, relative to a full cell's.
        cell: length of a cell.
        sigma: standard deviation of the flux in a full cell.
        red: what the error of a depth is multiplied with, because noise is correlated over a transit; at least 1.
        signal: the ephemeris, as measured.
        fit: the fitted transit.
        star: properties of the star.
        extra: centroids and apertures.
        segments: [n] number of the sector or quarter of each cell.
        segment_names: by number.
    """

    time: np.ndarray
    flux: np.ndarray
    raw: np.ndarray
    weight: np.ndarray
    cell: float
    sigma: float
    red: float
    signal: Signal
    fit: TransitFit
    star: StarProperties = field(default_factory=StarProperties)
    extra: ExtraColumns = field(default_factory=ExtraColumns)
    segments: np.ndarray = field(default_factory=lambda: np.zeros(0, int))
    segment_names: tuple[str, ...] = ()

    @cached_property
    def phase(self) -> np.ndarray:
        """[n] days from the nearest transit's centre."""
        return phases(self.time, self.signal)[0]

    @cached_property
    def cycle(self) -> np.ndarray:
        """[n] number of the nearest transit."""
        return phases(self.time, self.signal)[1].astype(np.int64)

    def inside(self, width: float = 1.0) -> np.ndarray:
        """[n] bool, cells within `width` durations about a transit's centre."""
        return np.abs(self.phase) <= width * self.signal.duration / 2

    @cached_property
    def shape(self) -> np.ndarray:
        """[n] the fitted transit with a depth of 1."""
        return self.fit.shape(self.phase)

    @cached_property
    def level(self) -> float:
        """The flux out of transit."""
        outside = ~self.inside(1.5)
        return float(np.average(self.flux[outside], weights=self.weight[outside])) if outside.any() else 1.0

    @cached_property
    def transits(self) -> Transits:
        """Depths of the observed transits."""
        return self.events_at(0.0)

    def events_at(self, shift: float) -> Transits:
        """Depths of the fitted transit moved by `shift` periods, one per cycle that was observed there."""
        moved = Signal(self.signal.period, self.signal.epoch + shift * self.signal.period, self.signal.duration)
        phase, cycle = phases(self.time, moved)
        shape = self.fit.shape(phase)
        near = np.flatnonzero(shape > 0)
        cycles, index = np.unique(cycle[near].astype(np.int64), return_inverse=True)
        weighted = self.weight[near] * shape[near]
        power = np.bincount(index, weighted * shape[near])
        dips = np.bincount(index, weighted * (self.level - self.flux[near]))
        full = self.fit.power(self.cell)
        seen = power > OBSERVED * min(full, float(power.max(initial=0)) or 1)
        return Transits(cycles[seen], dips[seen] / power[seen], self.red * self.sigma / np.sqrt(power[seen]))


@dataclass(frozen=True)
class Transits:
    """The observed transits: [t] cycle numbers, depths and their errors as fractions of the flux."""

    cycles: np.ndarray
    depths: np.ndarray
    errors: np.ndarray

    def where(self, chosen: np.ndarray) -> Transits:
        """Some of the transits."""
        return Transits(self.cycles[chosen], self.depths[chosen], self.errors[chosen])

    def mean(self) -> tuple[float, float]:
        """Weighted mean depth and its error.

        The error is that of the single depths or that of their scatter, whichever is larger.
        """
        if not len(self.cycles):
            return np.nan, np.nan
        weights = self.errors**-2.0
        mean = float((weights * self.depths).sum() / weights.sum())
        formal = float(weights.sum() ** -0.5)
        count = len(self.cycles)
        if count < 4:
            return mean, formal
        scatter = float(np.sqrt((weights**2 * (self.depths - mean) ** 2).sum()) / weights.sum())
        return mean, max(formal, scatter * np.sqrt(count / (count - 1)))
