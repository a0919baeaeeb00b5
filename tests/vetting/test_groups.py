"""Parts of a set: at the quartiles of the positives, nothing lost, and a column that says nothing gives none."""

import itertools

import numpy as np

from transit_cli.vetting import groups


def divided(columns, truth=None):
    random = np.random.default_rng(0)
    count = len(next(iter(columns.values())))
    truth = np.arange(count) % 4 == 0 if truth is None else truth
    scores = np.clip(0.5 * truth + random.random(count) * 0.5, 0, 1)
    return groups.by_column(columns, truth, scores, np.arange(count), 0.5)


def test_quartiles_of_the_positives_divide_the_whole_set():
    snr = np.random.default_rng(1).lognormal(2, 1, 400)
    found = divided({"snr": snr})
    assert [group.column for group in found] == ["snr"] * 4
    assert sum(group.signals for group in found) == 400
    assert [group.positives for group in found] == [25, 25, 25, 25]
    assert all(before.high < after.low for before, after in itertools.pairwise(found))
    assert all(0 < group.metrics["average_precision"].value < 1 + 1e-9 for group in found)


def test_unknown_values_stand_in_no_group():
    snr = np.where(np.arange(400) % 3 == 0, np.nan, np.arange(400.0))
    assert sum(group.signals for group in divided({"snr": snr})) == 266


def test_a_column_that_says_nothing_gives_no_groups():
    empty, same = np.full(40, np.nan), np.full(40, 3.0)
    assert divided({"depth_ppm": empty, "snr": same}) == []
    assert divided({"snr": np.arange(40.0)}, truth=np.zeros(40, bool)) == []
