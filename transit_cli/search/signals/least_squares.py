"""Least-squares fits of a transit template to many light curves at once, in float64.

Depth and level are linear, so that only period, epoch and duration are iterated, by the method of Levenberg and
Marquardt. Only points near a transit enter the sums; those of all other points do not change and are given. The device
sums over the points, the host solves the small systems: one transfer each way for each iteration.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from transit_cli.search.signals.shape import averaged, averaged_only

#: Iterations at most; a fit ends earlier when its chi-square changes by less than `TOLERANCE`.
ITERATIONS, TOLERANCE = 12, 1e-3
#: Directions in which better figures are sought, and by how much: before the iterations, and after them.
DIRECTIONS = np.array(sorted(np.ndindex(3, 3, 3), key=lambda row: row != (1, 1, 1))) - 1.0  # where it is, first
BEFORE, AFTER = (1.0,), (0.5, 0.25)
#: Points of all trials that are evaluated together.
TOGETHER = {"cpu": 1 << 16, "cuda": 1 << 23}
#: A depth is fitted where the template's squares, weighted, sum up to this.
LEAST_POWER = 0.5
#: Columns of the sums: template, derivatives by period, epoch and duration, level, deficit.
COLUMNS = 6


@dataclass(frozen=True)
class Problem:
    """Signals to be fitted: where each is sought, and the points near its transits.

    Attributes:
        time: [m, points] days from the epoch.
        cycle: [m, points] number of the nearest transit, 0 being the epoch's.
        deficit: [m, points] in standard deviations of a point of weight 1.
        weight: [m, points] inverse variances; 0 for padding.
        period: [m] days.
        duration: [m] days.
        exposure: [m] days.
        total: [m] the sum of the weights of all points, also those far from transits.
        level: [m] the sum of weight x deficit of all points.
        bounds: [m, 3] by how much period, epoch and the duration's logarithm may change.
    """

    time: np.ndarray
    cycle: np.ndarray
    deficit: np.ndarray
    weight: np.ndarray
    period: np.ndarray
    duration: np.ndarray
    exposure: np.ndarray
    total: np.ndarray
    level: np.ndarray
    bounds: np.ndarray


@dataclass(frozen=True)
class Fitted:
    """The best figures of each signal.

    Attributes:
        period: [m] days.
        epoch: [m] days by which the epoch changes.
        duration: [m] days.
        depth: [m] in standard deviations of a point; NaN where none can be fitted.
        depth_error: [m] for white noise.
        covariance: [m, 3, 3] of period, epoch and duration, for white noise; NaN where the points do not fix them.
        model: [m, points] the template of depth 1.
    """

    period: np.ndarray
    epoch: np.ndarray
    duration: np.ndarray
    depth: np.ndarray
    depth_error: np.ndarray
    covariance: np.ndarray
    model: np.ndarray


class _Sums:
    """The products of all columns, summed over the points of each signal, on a device."""

    def __init__(self, problem: Problem, device: torch.device) -> None:
        self._problem = problem
        self._time, self._cycle, self._deficit, self._weight = (
            torch.from_numpy(np.ascontiguousarray(item, dtype=np.float64)).to(device)
            for item in (problem.time, problem.cycle, problem.deficit, problem.weight)
        )
        self._exposure = torch.from_numpy(problem.exposure[:, None]).to(device)
        self._device = device

    def columns(self, figures: np.ndarray) -> torch.Tensor:
        """[m, COLUMNS, points] from [m, 3] period, change of the epoch, and duration, in days."""
        period, epoch, duration = torch.from_numpy(np.ascontiguousarray(figures.T)).to(self._device)[:, :, None]
        phase = self._time - epoch - self._cycle * period
        lost, by_phase, by_duration = averaged(phase, duration, self._exposure)
        ones = torch.ones_like(lost)
        return torch.stack([lost, -self._cycle * by_phase, -by_phase, by_duration, ones, self._deficit], 1)

    def gains(self, figures: np.ndarray) -> np.ndarray:
        """[trials, m] by how much chi-square falls with the best depth, 0 without a dip, from [trials, m, 3]."""
        together = max(1, TOGETHER[self._device.type] // max(self._time.numel(), 1))
        return np.concatenate(
            [self._gains(figures[first : first + together]) for first in range(0, len(figures), together)]
        )

    def _gains(self, figures: np.ndarray) -> np.ndarray:
        trials = torch.from_numpy(np.ascontiguousarray(figures.transpose(2, 0, 1))).to(self._device)
        period, epoch, duration = trials[..., None]
        lost = averaged_only(self._time - epoch - self._cycle * period, duration, self._exposure)
        weighted = lost * self._weight
        sums = torch.stack([weighted.sum(2), (weighted * self._deficit).sum(2), (weighted * lost).sum(2)])
        inside, numerator, power = sums.cpu().numpy()
        total, level = self._problem.total, self._problem.level
        return _gain(numerator - inside * level / total, power - inside**2 / total)

    def products(self, figures: np.ndarray) -> np.ndarray:
        """[m, COLUMNS, COLUMNS] over all points; those far from transits are in the last two columns only."""
        columns = self.columns(figures)
        found = torch.bmm(columns * self._weight[:, None], columns.transpose(1, 2)).cpu().numpy()
        found[:, 4, 4] = self._problem.total
        found[:, 4, 5] = found[:, 5, 4] = self._problem.level
        return found


def _depths(products: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """[m] the numerator and the denominator of the best depth, and the fall of chi-square, 0 without a dip."""
    inside, total = products[:, 0, 4], products[:, 4, 4]
    numerator = products[:, 0, 5] - inside * products[:, 4, 5] / total
    power = products[:, 0, 0] - inside**2 / total
    return numerator, power, _gain(numerator, power)


def _gain(numerator: np.ndarray, power: np.ndarray) -> np.ndarray:
    good = (power > LEAST_POWER) & (numerator > 0)
    return np.where(good, numerator**2 / np.where(good, power, 1), 0)


def _normal(products: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """[m, 5, 5] normal equations of depth, period, epoch, duration and level at the best depth, and [m, 5] right."""
    numerator, power, _ = _depths(products)
    depth = numerator / np.where(power > 0, power, 1)
    level = (products[:, 4, 5] - depth * products[:, 0, 4]) / products[:, 4, 4]
    scale = np.ones((len(products), 5))
    scale[:, 1:4] = depth[:, None]
    matrix = products[:, :5, :5] * scale[:, :, None] * scale[:, None]
    right = scale * (products[:, :5, 5] - depth[:, None] * products[:, :5, 0] - level[:, None] * products[:, :5, 4])
    return matrix, right


def _steps(products: np.ndarray, damping: np.ndarray) -> np.ndarray:
    """[m, 3] changes of period, epoch and duration."""
    matrix, right = _normal(products)
    diagonal = np.einsum("mii->mi", matrix).copy()
    scale = np.sqrt(np.maximum(diagonal, 1e-300))
    matrix = matrix / scale[:, :, None] / scale[:, None]
    matrix += (damping[:, None] + 1e-10)[:, :, None] * np.eye(5)
    return (np.linalg.solve(matrix, (right / scale)[:, :, None])[:, :, 0] / scale)[:, 1:4]


def _covariance(products: np.ndarray) -> np.ndarray:
    """[m, 3, 3] of period, epoch and duration for white noise of 1."""
    matrix, _ = _normal(products)
    scale = np.sqrt(np.maximum(np.einsum("mii->mi", matrix), 1e-300))
    outer = scale[:, :, None] * scale[:, None]
    inverse = np.linalg.pinv(matrix / outer, rcond=1e-9, hermitian=True) / outer
    fixed = (scale > 1e-140) & (np.einsum("mii->mi", inverse) > 0)
    return np.where(fixed[:, :, None] & fixed[:, None], inverse, np.nan)[:, 1:4, 1:4]


def _polled(
    sums: _Sums, figures: np.ndarray, scale: np.ndarray, limits: tuple[np.ndarray, np.ndarray], steps: Sequence[float]
) -> np.ndarray:
    """The best of points around each, with ever smaller steps: noise gives chi-square more than one minimum.

    Args:
        sums: of the problem.
        figures: [m, 3] period, epoch and duration.
        scale: [m, 3] a step of each.
        limits: [m, 3] lowest and highest.
        steps: by which the scale is multiplied, in this order.
    """
    for step in steps:
        trials = np.clip(figures + step * scale * DIRECTIONS[:, None], *limits)
        best = sums.gains(trials).argmax(0)
        figures = trials[best, np.arange(len(figures))]
    return figures


def _iterate(
    sums: _Sums, figures: np.ndarray, limits: tuple[np.ndarray, np.ndarray], iterations: int
) -> tuple[np.ndarray, np.ndarray]:
    """Levenberg's and Marquardt's method from [m, 3] figures: the best ones, and their products."""
    products = sums.products(figures)
    gain = _depths(products)[2]
    damping = np.full(len(figures), 1e-2)
    active = gain > 0
    for _ in range(iterations):
        if not active.any():
            break
        trial = np.where(active[:, None], np.clip(figures + _steps(products, damping), *limits), figures)
        tried = sums.products(trial)
        new = _depths(tried)[2]
        better = active & (new > gain)
        active &= ~(better & (new - gain < TOLERANCE)) & (damping < 1e4)
        figures = np.where(better[:, None], trial, figures)
        products = np.where(better[:, None, None], tried, products)
        gain = np.where(better, new, gain)
        damping = np.where(better, np.maximum(damping / 6, 1e-7), damping * 6)
    return figures, products


def fit(problem: Problem, device: torch.device, iterations: int = ITERATIONS) -> Fitted:
    """Fit every signal within its bounds; with no iterations, its figures are evaluated where they are."""
    sums = _Sums(problem, device)
    start = np.stack([problem.period, np.zeros(len(problem.period)), problem.duration], 1)
    stretch = np.exp(problem.bounds[:, 2])
    longest = np.maximum(np.minimum(problem.duration * stretch, 0.5 * problem.period), problem.duration)
    low = np.stack([start[:, 0] - problem.bounds[:, 0], -problem.bounds[:, 1], problem.duration / stretch], 1)
    high = np.stack([start[:, 0] + problem.bounds[:, 0], problem.bounds[:, 1], longest], 1)
    figures, limits = start, (low, high)
    scale = np.stack([0.3 * problem.bounds[:, 0], 0.15 * problem.duration, 0.15 * problem.duration], 1)
    if iterations:
        figures = _polled(sums, figures, scale, limits, BEFORE)
    figures, products = _iterate(sums, figures, limits, iterations)
    if iterations:
        figures = _polled(sums, figures, scale, limits, AFTER)
        figures, products = _iterate(sums, figures, limits, iterations)
    numerator, power, _ = _depths(products)
    known = power > 0
    safe = np.where(known, power, 1)
    return Fitted(
        period=figures[:, 0],
        epoch=figures[:, 1],
        duration=figures[:, 2],
        depth=np.where(known, numerator / safe, np.nan),
        depth_error=np.where(known, safe**-0.5, np.nan),
        covariance=_covariance(products),
        model=sums.columns(figures)[:, 0].cpu().numpy(),
    )
