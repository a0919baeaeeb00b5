"""What a run shows: a line per epoch that stays, curves where there is room, where it resumes and what it saved."""

import math

import pytest

from transit_cli.console import Progress
from transit_cli.training.runs.screen import Screen, curves
from transit_cli.training.train import train


class Terminal(Progress):
    """A bar on a terminal of 80 columns and 24 lines that keeps what is printed."""

    room = (80, 24, True)

    def __init__(self):
        super().__init__("train", 10, None, plain=False)
        self.lines = []

    def print(self, text):
        self.lines.append(text)


def test_every_epoch_is_a_line_that_stays_and_curves_follow_the_fit():
    bar = Terminal()
    screen = Screen(bar, epochs=4)
    for epoch, (loss, precision) in enumerate([(0.7, 0.3), (0.5, 0.7), (0.3, 0.9)], 1):
        screen.epoch("member-0", epoch, loss, precision, 100.0)
    assert [line.split("  ")[0] for line in bar.lines] == [f"member-0 epoch {epoch}/4" for epoch in (1, 2, 3)]
    assert bar.below == ["loss \u2588\u2585\u2581  0.7000 -> 0.3000", "AP   \u2581\u2586\u2588  0.3000 -> 0.9000"]
    screen.epoch("member-1", 1, 0.7, math.nan, 100.0)
    assert bar.below == [], "one epoch is no curve"


@pytest.mark.parametrize(
    ("room", "lines"), [((80, 24, True), 1), ((59, 24, True), 0), ((80, 15, True), 0), ((80, 24, False), 0)]
)
def test_curves_need_room_and_leave_out_what_is_not_measured(room, lines):
    assert len(curves([(0.7, math.nan), (0.5, math.nan)], room)) == lines
    assert max(map(len, curves([(1 / (n + 1), 0.5) for n in range(500)], room)), default=0) <= room[0]


def test_a_resumed_run_says_where_it_begins(settings, tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr(Screen, "say", lambda _, text: said.append(text))
    train(settings(epochs=3))
    train(settings(resume=tmp_path / "run", out=tmp_path / "run", epochs=3))
    last = max((tmp_path / "run").glob("checkpoints/*/step-*.pt"))
    total = int(last.name.split("-")[1])
    last.unlink()
    train(settings(resume=tmp_path / "run", out=tmp_path / "run", epochs=3))
    expected = f"member-0: resumes at step {total * 2 // 3} of {total}, epoch 3/3"
    assert said == ["member-0: complete after 3 epochs", expected]
