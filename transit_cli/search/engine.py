"""Signal-to-noise of a transit-shaped template over a grid of period, epoch and duration, for many stars at once.

All stars of a batch lie on the same grid of cells, so that a trial period sends the same cells of every star to the
same phase bins. Folding is then one sum of rows, with the stars side by side in a row, and each phase is computed once,
in float64, whatever the device. The folded sums are filtered with all templates as one matrix product: a block of
neighbouring bins times a banded matrix that holds the templates at every place in the block. Widths beyond twice the
shortest are tried on bins merged in pairs, so that the matrix stays small.

For weights w, deficits y and a template t the signal-to-noise of the best depth is sum(w t y) / sqrt(sum(w t^2)) (the
single- and multiple-event statistics of Jenkins 2002, ApJ 575, 493).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch

from transit_cli.search import grid, template

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Phase bins of the shortest template.
BINS = 6
#: Templates between a width and twice that width.
STEPS = 5
#: Phase bins that are filtered together: rows of the banded matrix, for each template.
BLOCK = 8
#: Bins of the window in which a template lies.
WINDOW = 2 * BINS
#: The weight of a window without data, in covered transits: it keeps windows of a few points from standing out.
COVER = 0.05
#: The widest template, in periods.
WIDEST = 0.3


@dataclass(frozen=True)
class SearchPlan:
    """What is tried on light curves of `count` cells of `width` days.

    Attributes:
        count: cells of a light curve.
        width: of a cell, in days.
        periods: [n] trial periods in days, ascending.
        densities: of the stars, lowest and highest, in units of the Sun's.
    """

    count: int
    width: float
    periods: np.ndarray
    densities: tuple[float, float]

    @cached_property
    def shortest(self) -> np.ndarray:
        """[n] the shortest template at each period, in days; never below two cells."""
        return np.maximum(grid.shortest(self.periods, self.densities[1]), 2 * self.width)

    @cached_property
    def longest(self) -> np.ndarray:
        """[n] the longest template at each period, in days."""
        return np.minimum(grid.duration(self.periods, self.densities[0]), WIDEST * self.periods)

    @cached_property
    def levels(self) -> int:
        """How often bins are merged in pairs, and once."""
        return max(1, math.ceil(math.log2(float((self.longest / self.shortest).max())) - 0.1))

    @cached_property
    def bins(self) -> np.ndarray:
        """[n] phase bins at each period."""
        multiple = BLOCK << (self.levels - 1)
        exact = np.maximum(BINS * self.periods / self.shortest, multiple)
        return multiple * np.ceil(exact / multiple).astype(np.int64)

    @property
    def bytes_per_star(self) -> int:
        """Bytes of a star on the device, besides a chunk of periods: its cells, single events of them, its spectrum."""
        return 4 * (16 * self.count + 4 * len(self.periods))

    def groups(self, bins: int, periods: int) -> Iterator[tuple[int, int]]:
        """Neighbouring periods with the same number of bins: first and one past last.

        Args:
            bins: the most phase bins together.
            periods: the most periods together.
        """
        begin = 0
        edges = [*(np.flatnonzero(np.diff(self.bins)) + 1).tolist(), len(self.periods)]
        for edge in edges:
            step = max(1, min(bins // int(self.bins[begin]), periods))
            for first in range(begin, edge, step):
                yield first, min(first + step, edge)
            begin = edge


#: [STEPS] the templates' widths in bins.
WIDTHS = BINS * 2 ** (np.arange(STEPS) / STEPS)


@dataclass(frozen=True)
class _Filter:
    """The templates as banded matrices, on a device.

    Attributes:
        first: [BLOCK + WINDOW - 1, BLOCK x STEPS] what sums w t y.
        second: what sums w t^2.
        squares: [BLOCK x STEPS] the sum of t^2 of each column.
    """

    first: torch.Tensor
    second: torch.Tensor
    squares: torch.Tensor

    @classmethod
    def on(cls, device: torch.device) -> _Filter:
        banded = np.zeros((2, BLOCK + WINDOW - 1, BLOCK, STEPS), np.float32)
        for step, width in enumerate(WIDTHS):
            shape = template.kernel(width, WINDOW)
            for place in range(BLOCK):
                banded[0, place : place + WINDOW, place, step] = shape
                banded[1, place : place + WINDOW, place, step] = shape**2
        flat = torch.from_numpy(banded.reshape(2, BLOCK + WINDOW - 1, -1)).to(device)
        return cls(flat[0].contiguous(), flat[1].contiguous(), flat[1].sum(0))

    def scores(self, sums: torch.Tensor, cover: float | torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        """Signal-to-noise of every template in every place.

        Args:
            sums: [2, rows, bins + WINDOW - 1] w y and w of each bin, the first bins again behind the last.
            cover: what a covered bin of one transit weighs; a number, or [rows].
            noise: [stars, STEPS] what white noise is multiplied with; the rows are those of one star after the other.

        Returns:
            [rows, bins, STEPS]; the template's middle is WINDOW / 2 bins after the bin's beginning.
        """
        _, rows, bins = sums.shape
        blocks = sums.unfold(2, BLOCK + WINDOW - 1, BLOCK).reshape(2, -1, BLOCK + WINDOW - 1)
        least = COVER * cover * self.squares if isinstance(cover, float) else self._least(cover, len(blocks[1]) // rows)
        power = torch.addmm(least, blocks[1], self.second)
        first = self.first * noise.reciprocal().repeat(1, BLOCK)[:, None]
        found = torch.bmm(blocks[0].view(len(noise), -1, BLOCK + WINDOW - 1), first)
        return found.view_as(power).mul_(power.rsqrt_()).view(rows, bins - WINDOW + 1, STEPS)

    def _least(self, cover: torch.Tensor, blocks: int) -> torch.Tensor:
        return COVER * cover.repeat_interleave(blocks)[:, None] * self.squares


class Engine:
    """The search on one device.

    Args:
        device: what torch calls it.
        budget: bytes that the sums and scores of a chunk of periods may take.
    """

    def __init__(self, device: torch.device, budget: int) -> None:
        self._device, self._budget = device, budget
        self._filter = _Filter.on(device)
        #: Where float64 is computed: the device, or the CPU where it has none, as MPS.
        self.exact = torch.device("cpu") if device.type == "mps" else device
        self.exact_filter = self._filter if self.exact == device else _Filter.on(self.exact)
        self._plan: SearchPlan | None = None
        self._bags: dict[tuple[int, int], tuple[torch.Tensor, torch.Tensor]] = {}

    def load(self, deficits: np.ndarray, weights: np.ndarray) -> torch.Tensor:
        """Light curves as the other methods take them, [cells, 2 x stars] on the device, from two of [stars, cells]."""
        rows = np.concatenate([deficits, weights]).astype(np.float32).T
        return torch.from_numpy(np.ascontiguousarray(rows)).to(self._device)

    def periodogram(self, data: torch.Tensor, plan: SearchPlan, noise: torch.Tensor) -> torch.Tensor:
        """The best signal-to-noise at each period, [stars, periods].

        Args:
            data: [cells, 2 x stars] from `load`.
            plan: what is tried.
            noise: [stars, widths] from `noise_by_width`: what white noise is multiplied with, by duration.
        """
        stars = data.shape[1] // 2
        best = torch.empty((stars, len(plan.periods)), device=self._device)
        for first, last in self._groups(plan, stars):
            for level, scores in enumerate(self._scores(data, plan, first, last, noise)):
                top = scores.flatten(2).amax(2)
                best[:, first:last] = top if level == 0 else torch.maximum(best[:, first:last], top)
        return best

    def _groups(self, plan: SearchPlan, stars: int) -> Iterator[tuple[int, int]]:
        """Chunks of periods: a phase bin takes two sums, their blocks and two scores per template; a cell, 32 bytes."""
        each = 4 * (4 + 2 * (BLOCK + WINDOW) // BLOCK + 2 * STEPS)
        return plan.groups(self._budget // (each * stars), max(1, self._budget // (32 * plan.count)))

    def _scores(
        self, data: torch.Tensor, plan: SearchPlan, first: int, last: int, noise: torch.Tensor
    ) -> Iterator[torch.Tensor]:
        """For each level [stars, periods, bins, STEPS] scores over the noise."""
        stars, count, bins = data.shape[1] // 2, last - first, int(plan.bins[first])
        folded = self._fold(data, plan, first, last).view(count, bins, 2, stars).permute(2, 3, 0, 1)
        padded = torch.empty((2, stars, count, bins + WINDOW - 1), device=self._device)
        padded[..., :bins].copy_(folded)
        length = float(plan.periods[(first + last) // 2]) / bins
        longest = float(plan.longest[last - 1])
        for level in range(plan.levels):
            if level:
                length *= 2
                if BINS * length > 1.05 * longest:
                    return
                finer, bins = padded[..., :bins], bins // 2
                padded = torch.empty((2, stars, count, bins + WINDOW - 1), device=self._device)
                padded[..., :bins].copy_(finer[..., ::2] + finer[..., 1::2])
            padded[..., bins:].copy_(padded[..., : WINDOW - 1])
            over = noise_at(noise, WIDTHS[0] * length / plan.width)
            scores = self._filter.scores(padded.flatten(1, 2), length / plan.width, over)
            yield scores.view(stars, count, -1, STEPS)

    def _fold(self, data: torch.Tensor, plan: SearchPlan, first: int, last: int) -> torch.Tensor:
        """[periods x bins, 2 x stars] the sums of the cells that fall into each phase bin."""
        cells, begins = self._bags_of(plan, first, last)
        if self._device.type == "mps":  # MPS got embedding_bag with torch 2.10
            target = torch.zeros((len(begins), data.shape[1]), device=self._device)
            return target.index_add_(0, cells, data.repeat(last - first, 1))
        return torch.nn.functional.embedding_bag(cells, data, begins, mode="sum")

    def _bags_of(self, plan: SearchPlan, first: int, last: int) -> tuple[torch.Tensor, torch.Tensor]:
        """The cells of each phase bin, bin after bin, and where each bin begins; on MPS the bin of each cell.

        They are kept for the next batch on the same grid, as far as they are small.
        """
        if plan is not self._plan:
            self._plan = plan
            self._bags.clear()
        key = (first, last)
        if key not in self._bags:
            made = self._make_bags(plan, first, last)
            if plan.count * len(plan.periods) > 2**25:
                return made
            self._bags[key] = made
        return self._bags[key]

    def _make_bags(self, plan: SearchPlan, first: int, last: int) -> tuple[torch.Tensor, torch.Tensor]:
        bins, count = int(plan.bins[first]), last - first
        host = torch.device("cpu") if self._device.type == "mps" else self._device  # MPS has no float64
        rate = torch.from_numpy(plan.width / plan.periods[first:last]).to(host)
        phase = torch.outer(rate, torch.arange(plan.count, dtype=torch.float64, device=host))
        phase.sub_(phase.floor()).mul_(bins)
        number = phase.to(torch.int32).clamp_(max=bins - 1)
        start = torch.arange(count, dtype=torch.int32, device=host)[:, None] * bins
        if self._device.type == "mps":
            return (number + start).flatten().to(self._device), torch.empty(count * bins, device=self._device)
        if host.type == "cpu":
            small = number.to(torch.int16).numpy() if bins < 2**15 else number.numpy()
            order = torch.from_numpy(np.argsort(small, axis=1, kind="stable").astype(np.int32))
        else:
            order = torch.argsort(number, dim=1, stable=True).to(torch.int32)
        sizes = torch.bincount((number + start).flatten(), minlength=count * bins)
        begins = torch.cat([sizes.new_zeros(1), sizes.cumsum(0)[:-1]])
        return order.flatten(), begins.to(torch.int32)


#: Cells that are convolved together.
PLACES = 32
#: Durations at which the noise of single events is known, in cells: NOISE_WIDTHS[k] = 2^(1 + k / STEPS).
NOISE_WIDTHS = 2 ** (1 + np.arange(6 * STEPS) / STEPS)


def noise_at(noise: torch.Tensor, shortest: float) -> torch.Tensor:
    """[stars, STEPS] the noise at the durations of all templates, from a table by `NOISE_WIDTHS`.

    Args:
        noise: [stars, widths].
        shortest: the shortest of the durations, in cells; the steps between them are those of the table.
    """
    place = min(max((math.log2(shortest) - 1) * STEPS, 0.0), len(NOISE_WIDTHS) - STEPS - 0.001)
    below = int(place)
    return torch.lerp(noise[:, below : below + STEPS], noise[:, below + 1 : below + 1 + STEPS], place - below)


def single_events(data: torch.Tensor, width: float) -> torch.Tensor:
    """The signal-to-noise of one transit of `width` cells in the middle of each cell, [stars, cells]; NaN without data.

    Args:
        data: [cells, 2 x stars] from `Engine.load`.
        width: of the transit, in cells.
    """
    stars = data.shape[1] // 2
    length = 2 * math.ceil(width / 2) + 1
    shape = torch.from_numpy(template.kernel(width, length).astype(np.float32)).to(data.device)
    found, power = _convolved(data[:, :stars].T, shape), _convolved(data[:, stars:].T, shape**2)
    covered = power > 0.5 * (shape**2).sum()
    return torch.where(covered, found * power.clamp_min(1e-9).rsqrt(), torch.nan)


def _convolved(rows: torch.Tensor, shape: torch.Tensor) -> torch.Tensor:
    """[n, cells] rows, each convolved with a symmetric shape of odd length: blocks of cells times a banded matrix.

    A convolution with one channel takes several times as long on a CPU.
    """
    cells, length = rows.shape[1], len(shape)
    blocks = math.ceil(cells / PLACES)
    padded = torch.nn.functional.pad(rows, (length // 2, length // 2 + blocks * PLACES - cells))
    banded = torch.nn.functional.pad(shape, (0, PLACES)).repeat(PLACES)[: PLACES * (length + PLACES - 1)]
    windows = padded.unfold(1, length + PLACES - 1, PLACES)
    return torch.matmul(windows, banded.view(PLACES, -1).T).reshape(len(rows), -1)[:, :cells]


def noise_by_width(data: torch.Tensor) -> torch.Tensor:
    """How much noisier single events are than white noise would make them, [stars, NOISE_WIDTHS], at least 1.

    The standard deviation of `single_events`, without what lies beyond three of them: noise that is correlated over the
    length of a transit counts as what it is (Pont, Zucker & Queloz 2006, MNRAS 373, 231). By how much the standard
    deviation of few events may be too large is taken off.
    """
    table = []
    for width in NOISE_WIDTHS:
        events = single_events(data, float(width))
        limit = torch.full((len(events), 1), torch.inf, device=data.device)
        for _ in range(5):
            kept = events.abs() < limit  # never where NaN
            spread = (torch.where(kept, events, 0).square().sum(1) / kept.sum(1).clamp_min(1)).sqrt()
            limit = (3 / 0.98658 * spread)[:, None]  # of a normal distribution cut at 3 sigma
        table.append(limit[:, 0] / 3)
    noise = torch.stack(table, 1)
    smooth = torch.nn.functional.avg_pool1d(noise[:, None], STEPS, 1, STEPS // 2, count_include_pad=False)[:, 0]
    covered = (data[:, data.shape[1] // 2 :] > 0).sum(0)[:, None].clamp_min(1)
    chance = (0.5 * torch.from_numpy(NOISE_WIDTHS).to(noise) / covered).sqrt()  # its own error, for white noise
    return (smooth - chance).clamp_min(1.0)
