"""Peaks of periodograms: which ones are measured, and the epoch and duration at which each has its best S/N."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from transit_cli.search.engine import BINS, NOISE_WIDTHS, STEPS, WIDTHS, WINDOW, Engine, SearchPlan

#: Peaks of a periodogram that are measured, of which the best is taken.
PEAKS = 3
#: Neighbouring trial periods that belong to one peak.
PEAK_WIDTH = 9
#: A peak below this share of the highest is not measured.
LOWEST = 0.85
#: Cells and phase bins that are folded together.
TOGETHER = {"cpu": 1 << 18, "cuda": 1 << 23}


def highest(spectrum: np.ndarray) -> list[int]:
    """Places of the highest peaks of a periodogram, [periods], the highest first."""
    rest = spectrum.copy()
    found: list[int] = []
    for _ in range(PEAKS):
        peak = int(rest.argmax())
        if rest[peak] < LOWEST * spectrum.max():
            break
        found.append(peak)
        rest[max(peak - PEAK_WIDTH, 0) : peak + PEAK_WIDTH + 1] = -np.inf
    return found


@dataclass(frozen=True)
class Located:
    """Where peaks have their best S/N.

    Attributes:
        snr: [m].
        epoch: [m] days from the first cell.
        duration: [m] days.
    """

    snr: np.ndarray
    epoch: np.ndarray
    duration: np.ndarray


def locate(
    machine: Engine, data: torch.Tensor, plan: SearchPlan, noise: torch.Tensor, peaks: Sequence[tuple[int, int]]
) -> Located:
    """The best epoch and duration at peaks of any stars of a batch.

    Args:
        machine: the engine.
        data: [cells, 2 x stars] from `Engine.load`.
        plan: what is tried.
        noise: [stars, widths] from `noise_by_width`.
        peaks: star and trial period of each.
    """
    found = np.full((3, len(peaks)), -np.inf)
    pairs = np.array(peaks, dtype=np.int64).reshape(-1, 2)
    device = machine.exact
    stars = np.unique(pairs[:, 0])
    chosen = torch.from_numpy(stars).to(data.device)
    rows = data.view(len(data), 2, -1)[:, :, chosen].permute(1, 2, 0).to(device).contiguous()
    table = noise[chosen].cpu().numpy()
    order = np.argsort(plan.bins[pairs[:, 1]], kind="stable")
    begin = 0
    while begin < len(order):
        size = plan.count + int(plan.bins[pairs[order[begin], 1]])
        some = order[begin : begin + max(1, TOGETHER[device.type] // size)]
        some = some[plan.bins[pairs[some, 1]] <= 1.5 * plan.bins[pairs[some[0], 1]]]
        place = np.searchsorted(stars, pairs[some, 0])
        found[:, some] = _best(machine, rows[:, torch.from_numpy(place).to(device)], plan, table[place], pairs[some, 1])
        begin += len(some)
    return Located(*found)


def _best(machine: Engine, rows: torch.Tensor, plan: SearchPlan, noise: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """[3, m] S/N, epoch and duration of [2, m, cells] weighted deficits and weights, each at a period of its own."""
    device, count = machine.exact, len(numbers)
    periods, bins = plan.periods[numbers], plan.bins[numbers]
    most = int(bins.max())
    rate = torch.from_numpy(plan.width / periods).to(device)
    phase = torch.outer(rate, torch.arange(plan.count, dtype=torch.float64, device=device))
    each = torch.from_numpy(bins).to(device)[:, None]
    number = torch.minimum(((phase - phase.floor()) * each).to(torch.int64), each - 1)
    sums = torch.zeros((2, count, most), dtype=torch.float64, device=device)
    sums.scatter_add_(2, number.expand(2, -1, -1), rows.double())
    length, left = periods / bins, bins.copy()
    best = np.full((3, count), -np.inf)
    for level in range(plan.levels):
        if level:
            sums, length, left = sums[:, :, ::2] + sums[:, :, 1::2], 2 * length, left // 2
        here = torch.from_numpy(left).to(device)[:, None]
        place = torch.arange(sums.shape[2] + WINDOW - 1, device=device)[None] % here
        padded = sums.gather(2, place.expand(2, -1, -1)).float()
        cover = torch.from_numpy((length / plan.width).astype(np.float32)).to(device)
        over = torch.from_numpy(_noise_at(noise, WIDTHS * length[:, None] / plan.width).astype(np.float32)).to(device)
        scores = machine.exact_filter.scores(padded, cover, over)
        scores.masked_fill_((torch.arange(sums.shape[2], device=device) >= here)[:, :, None], -torch.inf)
        value, at = (item.cpu().numpy() for item in scores.flatten(1).max(1))
        better = (value > best[0]) & ((level == 0) | (BINS * length <= 1.05 * plan.longest[numbers]))
        epoch = (at // STEPS + WINDOW / 2) * length % periods
        best = np.where(better, np.stack([value, epoch, WIDTHS[at % STEPS] * length]), best)
    return best


def _noise_at(noise: np.ndarray, cells: np.ndarray) -> np.ndarray:
    """[m, n] the noise at n durations, in cells, of each row of a table by `NOISE_WIDTHS`."""
    place = np.clip((np.log2(cells) - 1) * STEPS, 0, len(NOISE_WIDTHS) - 1.001)
    below = place.astype(np.int64)
    low, high = (np.take_along_axis(noise, item, 1) for item in (below, below + 1))
    return low + (place - below) * (high - low)
