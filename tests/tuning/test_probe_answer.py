"""What `probe-batch` says of its answer: never more than its table shows, and what a batch means for training."""

import pytest

from transit_cli.device import host
from transit_cli.tuning.batch_probe import _verdict
from transit_cli.tuning.batch_search import Answer, Trial, Verdict
from transit_cli.tuning.settings import ProbeSettings


def trial(size, speed, *, long=False):
    return Trial(size, Verdict.FITS, long=long, samples_per_second=speed, peak_bytes=10**6, limit_bytes=10**9, steps=9)


def said(trials, best, rows=0):
    answer = Answer(largest=best, best=best, verified=True, stopped_by="trials", trials=tuple(trials))
    return _verdict(ProbeSettings(only_best=True), answer, "transit train", 3.0, rows)


def test_the_best_is_called_so_only_where_the_table_agrees():
    first, longer, other = trial(8, 276.0), trial(8, 125.0, long=True), trial(32, 240.0)
    assert "8, by its first run, 276 samples/s; the longer one reached 125, as" in said([first, longer, other], longer)
    assert "8, the smallest within 5 %" in said([first, other], first)
    assert "8, the fastest that passed the longer run; 500 " in said([longer, trial(32, 500.0)], longer)


@pytest.mark.parametrize(
    ("rows", "size", "words"),
    [(486, 486, "has 1 optimizer step with it: networks learn little in so few, --batch-size 60"), (486, 32, "15 opt")],
)
def test_the_steps_of_an_epoch_are_said(rows, size, words):
    best = trial(size, 100.0)
    assert words in said([best], best, rows)
    assert ("learn little" in said([best], best, rows)) == (size == 486)
    assert "epoch" not in said([best], best), "without a view set nothing is known of epochs"


def test_a_busy_machine_is_a_warning():
    assert host.busy_warnings(5.0) == []
    assert "other programs used 90 %" in host.busy_warnings(90.0)[0]
