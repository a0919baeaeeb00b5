"""The statistics of the engine against sums written out, and its invariants."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.search.curves import WIDTH, curve, planted, times
from transit_cli.search import engine, template
from transit_cli.search.engine import BINS, WIDTHS, WINDOW, Engine, SearchPlan
from transit_cli.search.signals import peaks

CPU = torch.device("cpu")
WHITE = torch.ones(1, len(engine.NOISE_WIDTHS))


def plan_of(periods, count, densities=(0.3, 3.0)):
    return SearchPlan(count, WIDTH, np.sort(np.atleast_1d(np.asarray(periods, float))), densities)


def loaded(machine, curves):
    count = max(one.cells for one in curves)
    grids = [one.on_grid(count) for one in curves]
    return machine.load(np.stack([g[0] for g in grids]), np.stack([g[1] for g in grids])), count


def written_out(values, weights, plan, number):
    """The best S/N at one period, with every sum as the definition has it."""
    period, bins = plan.periods[number], int(plan.bins[number])
    phase = np.arange(plan.count) * plan.width / period % 1
    index = np.minimum((phase * bins).astype(int), bins - 1)
    sums = np.stack([np.bincount(index, x, bins) for x in (values, weights)])
    best, length = -np.inf, period / bins
    for level in range(plan.levels):
        if level:
            sums, length = sums.reshape(2, -1, 2).sum(2), 2 * length
            if BINS * length > 1.05 * plan.longest[number]:
                break
        for width in WIDTHS:
            shape = template.kernel(width, WINDOW)
            for begin in range(sums.shape[1]):
                near = sums[:, np.arange(begin, begin + WINDOW) % sums.shape[1]]
                power = near[1] @ shape**2 + engine.COVER * length / plan.width * (shape**2).sum()
                best = max(best, near[0] @ shape / np.sqrt(power))
    return best


def test_the_periodogram_is_what_the_sums_give_when_written_out():
    time = times()
    one = curve(time, planted(time, [(3.3, 1401.2, 0.12, 1e-3)]))
    machine = Engine(CPU, 1 << 20)
    data, count = loaded(machine, [one])
    plan = plan_of([0.91237, 1.70911, 3.30177, 8.1339], count)  # no simple multiples of a cell
    found = machine.periodogram(data, plan, WHITE)[0].numpy()
    values, weights = one.on_grid(count)
    expected = [written_out(values.astype(float), weights.astype(float), plan, number) for number in range(4)]
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_a_star_s_statistics_do_not_depend_on_the_batch_or_the_chunks():
    time = times()
    curves = [curve(time, planted(time, [(2.1, 1400.7, 0.1, 1e-3)], seed=seed)) for seed in range(5)]
    periods = np.linspace(1.9, 2.3, 23)
    together = Engine(CPU, 32 << 20)
    data, count = loaded(together, curves)
    plan, noise = plan_of(periods, count), WHITE.expand(5, -1)
    all_five = together.periodogram(data, plan, noise)
    for number, one in enumerate(curves):
        alone = Engine(CPU, 200_000)
        single = alone.periodogram(loaded(alone, [one])[0], plan, WHITE)
        torch.testing.assert_close(single[0], all_five[number], rtol=1e-4, atol=1e-4)


def test_peaks_of_many_stars_are_located_where_the_periodogram_has_them():
    time = times()
    planets = [(period, 1400.9, 0.11, 2e-3) for period in (0.9, 2.1, 7.3)]
    curves = [curve(time, planted(time, [planet], seed=seed)) for seed, planet in enumerate(planets)]
    machine = Engine(CPU, 8 << 20)
    data, count = loaded(machine, curves)
    periods = np.concatenate([period * (1 + 1e-3 * np.arange(4)) for period in (0.9, 2.1, 7.3)])
    plan, noise = plan_of(periods, count), 1 + torch.rand(3, 1) * torch.linspace(0, 1, 30)
    spectra = machine.periodogram(data, plan, noise).numpy()
    pairs = [(star, number) for star in range(3) for number in (0, 3, 5, 11)]
    located = peaks.locate(machine, data, plan, noise, pairs)
    np.testing.assert_allclose(located.snr, [spectra[pair] for pair in pairs], rtol=5e-3)


def test_folding_by_adding_rows_where_they_belong_gives_the_same_as_folding_by_bags(monkeypatch):
    time = times()
    curves = [curve(time, planted(time, [], seed=seed)) for seed in range(2)]
    machine = Engine(CPU, 4 << 20)
    data, count = loaded(machine, curves)
    plan = plan_of(np.linspace(1.0, 1.1, 6), count)
    first, last = next(plan.groups(10**9, 10**9))
    bags = machine._fold(data, plan, first, last)
    phase = np.arange(count) * plan.width / plan.periods[first:last, None] % 1
    bins = int(plan.bins[first])
    number = np.minimum((phase * bins).astype(int), bins - 1) + bins * np.arange(last - first)[:, None]
    rows = torch.zeros_like(bags).index_add_(0, torch.from_numpy(number.ravel()), data.repeat(last - first, 1))
    torch.testing.assert_close(bags, rows, rtol=1e-4, atol=1e-4)


@settings(max_examples=10, deadline=None)
@given(
    period=st.floats(0.8, 9.0),
    phase=st.floats(0, 1),
    duration=st.floats(0.08, 0.2),
    strength=st.floats(30, 300),
)
def test_a_transit_without_noise_is_found_where_it_is_with_its_signal_to_noise(period, phase, duration, strength):
    """Of the S/N that the exact template would have, at most 8 % is lost on the grid."""
    time = times(gap=0.0)
    epoch = 1400.0 + phase * period
    from transit_cli.search.signals.measurement import phase_of

    dip = template.shape(phase_of(time, period, epoch) / (duration / 2))
    sigma = np.sqrt((dip**2).sum()) / strength
    one = curve(time, planted(time, []))
    exact = type(one)(time, dip / sigma, np.ones(len(time)), 1.0, WIDTH)
    machine = Engine(CPU, 4 << 20)
    data, count = loaded(machine, [exact])
    plan = plan_of([period], count, (0.05, 10.0))
    located = peaks.locate(machine, data, plan, WHITE, [(0, 0)])
    assert 0.92 * strength < located.snr[0] < 1.02 * strength
    offset = (located.epoch[0] + 1400.0 - epoch + period / 2) % period - period / 2
    assert abs(offset) < 0.2 * duration
    assert 0.6 < located.duration[0] / duration < 1.6


def test_white_noise_counts_as_white_and_red_noise_as_red():
    time = times(gap=0.0)
    rng = np.random.default_rng(1)
    red = np.convolve(rng.standard_normal(len(time) + 30), np.ones(31) / np.sqrt(31), mode="valid")
    machine = Engine(CPU, 1 << 20)
    curves = [curve(time, planted(time, [])), curve(time, 1 + 1e-3 * (rng.standard_normal(len(time)) + red))]
    noise = engine.noise_by_width(loaded(machine, curves)[0])
    at = engine.noise_at(noise, 12.0)
    assert (at[0] < 1.15).all()
    assert (at[1] > 2).all()
    assert (noise >= 1).all()


def test_deep_transits_do_not_count_as_noise():
    time = times(gap=0.0)
    deep = [curve(time, planted(time, [(2.5, 1401.0, 0.12, 0.05)])), curve(time, planted(time, []))]
    machine = Engine(CPU, 1 << 20)
    noise = engine.noise_by_width(loaded(machine, deep)[0])
    short = engine.NOISE_WIDTHS < 36  # a third of a day: longer ones meet a transit in every other place
    assert float((noise[0] / noise[1])[short].max()) < 1.4


def test_every_period_has_bins_that_resolve_its_shortest_transit():
    plan = plan_of(np.geomspace(0.5, 13, 200), 3888, (0.1, 10.0))
    assert (plan.periods / plan.bins <= plan.shortest / BINS * 1.0001).all()
    assert (plan.bins % (engine.BLOCK << (plan.levels - 1)) == 0).all()
    covered = [number for first, last in plan.groups(20_000, 7) for number in range(first, last)]
    assert covered == list(range(200))


def test_a_window_with_few_points_does_not_stand_out():
    time = times(gap=0.0)
    flux = planted(time, [])
    kept = (time < 1405) | (time > 1409)
    kept[np.searchsorted(time, 1407.0)] = True  # one point alone in a gap, low
    flux[np.searchsorted(time, 1407.0)] -= 4e-3
    one = curve(time[kept], flux[kept])
    events = engine.single_events(loaded(Engine(CPU, 1 << 20), [one])[0], 12.0)[0]
    place = int((1407.0 - 1400.0) / WIDTH)
    assert torch.isnan(events[place - 3 : place + 4]).all()
    assert pytest.approx(1, abs=0.25) == float(events[~torch.isnan(events)].std())
