"""The fit of many signals at once: its template, its minimum beside scipy's, and that no signal depends on another."""

import numpy as np
import pytest
import torch

from tests.search.curves import WIDTH, curve, planted, times
from transit_cli.search import template
from transit_cli.search.signals import shape
from transit_cli.search.signals.measurement import Candidate, NoiseTable, measure_all, phase_of

CPU = torch.device("cpu")
WHITE = NoiseTable(np.array([0.01, 1.0]), np.ones(2))


def candidates(count=6):
    rng = np.random.default_rng(3)
    time = times()
    found = []
    for seed in range(count):
        period = float(np.exp(rng.uniform(np.log(0.9), np.log(9))))
        true = (period, 1400 + rng.random() * period, 0.07 * period ** (1 / 3), 1.5e-3)
        off = (1 + rng.uniform(-1, 1) * true[2] / 27 / 8, rng.uniform(-0.1, 0.1) * true[2], rng.uniform(0.9, 1.1))
        middle = true[1] + np.rint((1413 - true[1]) / period) * period
        figures = (period * off[0], middle + off[1], true[2] * off[2])
        found.append(Candidate(curve(time, planted(time, [true], seed=seed)), *figures, WHITE, 0.6 * true[2] / period))
    return found


def test_the_template_is_averaged_over_the_exposure_and_its_derivatives_are_those():
    phase = torch.linspace(-0.1, 0.1, 81, dtype=torch.float64)[None]
    duration, exposure = torch.tensor([[0.11]], dtype=torch.float64), torch.tensor([[0.02]], dtype=torch.float64)
    lost, by_phase, by_duration = shape.averaged(phase, duration, exposure)
    instants = np.linspace(-0.01, 0.01, 4001)[:, None]
    exact = template.shape((phase.numpy() + instants) / 0.055).mean(0)
    np.testing.assert_allclose(lost[0], exact, atol=1e-4)
    np.testing.assert_allclose(shape.averaged_only(phase, duration, exposure)[0], exact, atol=5e-4)
    step = 1e-6
    up, down = (shape.averaged(phase + sign * step, duration, exposure)[0] for sign in (1, -1))
    torch.testing.assert_close(by_phase, (up - down) / (2 * step), rtol=1e-4, atol=1e-3)
    up, down = (shape.averaged(phase, duration + sign * step, exposure)[0] for sign in (1, -1))
    torch.testing.assert_close(by_duration, (up - down) / (2 * step), rtol=1e-4, atol=1e-3)


def test_the_best_s_n_is_that_of_scipy_s_simplex():
    from scipy.optimize import minimize

    def snr(candidate, figures):
        one, (period, epoch, duration) = candidate.curve, figures
        instants = (np.arange(9) - 4) / 9 * WIDTH
        model = template.shape((phase_of(one.time, period, epoch)[:, None] + instants) / (duration / 2)).mean(1)
        model -= np.average(model, weights=one.weight)
        return float((one.weight * model * one.deficit).sum() / np.sqrt((one.weight * model**2).sum()))

    some = candidates()
    for candidate, found in zip(some, measure_all(some, CPU), strict=True):
        begin = np.array([candidate.period, candidate.epoch, candidate.duration])
        scale = np.array([candidate.slack * candidate.period**2 / 27, candidate.duration, candidate.duration])
        corners = np.vstack([np.zeros(3), np.diag([0.25, 0.1, 0.15])])
        done = minimize(
            lambda place, c=candidate, b=begin, s=scale: -snr(c, b + place * s),
            np.zeros(3),
            method="Nelder-Mead",
            options={"initial_simplex": corners, "maxfev": 120},
        )
        assert found.snr > 0.98 * -done.fun
        assert found.snr == pytest.approx(snr(candidate, (found.period, found.epoch, found.duration)), rel=2e-3)


def test_a_signal_is_measured_the_same_whatever_is_measured_with_it():
    some = candidates(4)
    together = measure_all(some, CPU)
    for candidate, found in zip(some, together, strict=True):
        alone = measure_all([candidate], CPU)[0]
        for name in ("period", "epoch", "duration", "depth", "snr", "period_error", "epoch_error"):
            assert getattr(found, name) == pytest.approx(getattr(alone, name), rel=1e-8)
        np.testing.assert_array_equal(found.cycles, alone.cycles)
