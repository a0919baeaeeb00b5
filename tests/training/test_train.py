"""`train`: what it writes, what it learns from, and that a stop at any place changes nothing."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from transit_cli import config
from transit_cli.data import viewset
from transit_cli.device.select import select
from transit_cli.model import saved
from transit_cli.results import ExitCode, TransitError
from transit_cli.training.fit import Fit
from transit_cli.training.loading.scaling import Scaling, scaled
from transit_cli.training.plan import plan
from transit_cli.training.runs import checkpoint
from transit_cli.training.settings import TrainSettings
from transit_cli.training.train import train
from transit_cli.tuning.batch_probe import training_rows


def weights(run):
    return load_file(run / saved.FILE)


def same(run, other):
    mine, theirs = weights(run), weights(other)
    return mine.keys() == theirs.keys() and all(torch.equal(mine[name], theirs[name]) for name in mine)


def test_a_run_learns_and_is_complete(settings, tmp_path):
    result = train(settings(epochs=12, target="PC,EB", calibrate=False))
    assert result.data["average_precision"] > 0.9
    run = tmp_path / "run"
    assert {file.name for file in run.iterdir()} == {
        "config.yaml",
        "environment.json",
        "metrics.jsonl",
        "checkpoints",
        "scores.csv",
        "model.safetensors",
    }
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == list(range(1, 13))
    assert lines[-1]["loss"] < lines[0]["loss"] / 2
    assert lines[-1]["validation_average_precision"] == result.data["average_precision"]
    assert config.resolve(TrainSettings, {}, run / "config.yaml").epochs == 12
    scores = viewset.read_table(run / "scores.csv")
    assert set(scores["split"]) == {"val"}
    networks, card = saved.load(run / saved.FILE)
    assert card.views == {"global": 40, "local": 20}
    assert list(card.target) == ["PC", "EB"]
    view_set = viewset.ViewSet.open(settings().viewset)
    rows = scores["row"].astype(int)
    inputs = {name: torch.from_numpy(view_set.views[name][rows]) for name in card.views}
    scalings = [Scaling(**vars(scaling)) for scaling in card.scalars]
    assert [scaling.column for scaling in scalings] == ["period_days"]
    inputs["scalars"] = torch.from_numpy(scaled({k: v[rows] for k, v in view_set.tces.items()}, scalings))
    with torch.inference_mode():
        again = torch.sigmoid(networks[0](inputs)).numpy()
    np.testing.assert_allclose(again, scores["score"], atol=1e-6)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"accumulate": 3, "ema": 0.9, "mixup": 0.2, "drop_bins": 0.1, "shift": 0.5},
        {"scalars": "depth_ppm,period_days", "views": "global,local,secondary", "schedule": "cosine"},
        {"loader": "stream", "workers": 0, "class_weighting": "balanced"},
    ],
)
def test_stopped_at_every_kind_of_place_it_ends_with_the_same_weights(settings, tmp_path, monkeypatch, options):
    train(settings(out=tmp_path / "whole", **options))
    monkeypatch.setattr("transit_cli.training.fit.Fit.save", _die_in_turn(Fit.save))
    for _ in range(2):  # at first nothing has been saved, and no run is left
        assert not (tmp_path / "broken").exists()
        with pytest.raises(ZeroDivisionError):
            train(settings(out=tmp_path / "broken", checkpoint_minutes=1e-9, **options))
    for _ in range(50):
        try:
            train(settings(resume=tmp_path / "broken", out=tmp_path / "broken"))
        except ZeroDivisionError:
            continue
        break
    assert same(tmp_path / "whole", tmp_path / "broken")
    records = [
        [json.loads(line) for line in (tmp_path / run / "metrics.jsonl").read_text().splitlines()]
        for run in ("whole", "broken")
    ]
    changing = {"seconds", "samples_per_second", "memory_bytes"}
    first, second = ([{k: v for k, v in line.items() if k not in changing} for line in run] for run in records)
    assert first == second


def test_a_clock_that_is_set_back_repeats_no_epoch(settings, tmp_path):
    """Of two checkpoints after the same step, the complete epoch is taken, whatever their times say."""
    train(settings(out=tmp_path / "whole", epochs=3))
    train(settings(out=tmp_path / "broken", epochs=3))
    folder = tmp_path / "broken" / "checkpoints" / "member-0"
    *_, before, last = checkpoint.files(folder)
    last.unlink()
    state = checkpoint.load(before)
    steps, position = checkpoint.steps_of(before), state["position"]
    state["position"] = position | {"epoch": position["epoch"] - 1, "step": steps // position["epoch"]}
    early = checkpoint.save(folder, steps, state)
    os.utime(before, (1, 1))
    (tmp_path / "broken" / saved.FILE).unlink()
    assert early != before
    train(settings(resume=tmp_path / "broken", out=tmp_path / "broken", epochs=3))
    assert same(tmp_path / "whole", tmp_path / "broken")
    lines = (tmp_path / "broken" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in lines] == [1, 2, 3]


def _die_in_turn(save):
    """Save, and die right after: before the first save, then after every third."""
    calls = iter(range(10**6))

    def dying(self):
        number = next(calls)
        if number:
            save(self)
        if number % 3 == 0:
            raise ZeroDivisionError

    return dying


def test_a_torn_checkpoint_is_passed_over(settings, tmp_path):
    train(settings(out=tmp_path / "whole", epochs=3))
    train(settings(out=tmp_path / "torn", epochs=3))
    folder = tmp_path / "torn" / "checkpoints" / "member-0"
    last = checkpoint.files(folder)[-1]
    last.write_bytes(last.read_bytes()[: last.stat().st_size // 2])
    (tmp_path / "torn" / saved.FILE).unlink()
    with pytest.warns(UserWarning, match="corrupt"):
        train(settings(resume=tmp_path / "torn", out=tmp_path / "torn", epochs=3))
    assert same(tmp_path / "whole", tmp_path / "torn")


def test_a_changed_option_is_refused_with_the_difference(settings, tmp_path):
    train(settings())
    with pytest.raises(TransitError) as caught:
        train(settings(resume=tmp_path / "run", epochs=9))
    assert "epochs 2 -> 9" in caught.value.found
    assert caught.value.exit_code == ExitCode.USAGE


@pytest.mark.filterwarnings("ignore:.*was edited after it was written")
def test_a_changed_view_set_is_refused_with_the_difference(settings, tmp_path):
    train(settings())
    table = tmp_path / "views" / "tces.csv"
    table.write_text(table.read_text().replace(",EB,", ",J,"))
    with pytest.raises(TransitError, match=r"tces\.csv has other content"):
        train(settings(resume=tmp_path / "run"))


def test_nothing_is_learned_from_the_test_split(settings, tmp_path, make_set):
    def spoil(views, tces):
        test = tces["split"] == "test"
        assert test.sum() > 20
        for view in views.values():
            view[test] = np.nan
        tces["label"][test] = "PC"
        tces["depth_ppm"][test] = 1e9

    spoiled = make_set("spoiled", change=spoil)
    for name, folds in (("", 0), ("folds", 3)):
        options = {"scalars": "depth_ppm", "folds": folds, "epochs": 1}
        train(settings(out=tmp_path / f"clean{name}", **options))
        train(settings(out=tmp_path / f"other{name}", viewset=spoiled.path, **options))
        assert same(tmp_path / f"clean{name}", tmp_path / f"other{name}")


def test_folds_hold_each_star_out_once(settings, tmp_path):
    result = train(settings(folds=3, members=2, epochs=1))
    assert len(result.data["fits"]) == 6
    scores = viewset.read_table(tmp_path / "run" / "scores.csv")
    assert set(scores["split"]) == {"train", "val"}
    assert len(np.unique(scores["row"])) == len(scores["row"]) == 200
    for star in np.unique(scores["star"]):
        assert len(np.unique(scores["fold"][scores["star"] == star])) == 1
    assert saved.read(tmp_path / "run" / saved.FILE)[0].folds == (0, 0, 1, 1, 2, 2)


def test_early_stopping_keeps_the_best(settings, tmp_path):
    result = train(settings(epochs=40, patience=2, learning_rate=0.01))
    (fit,) = result.data["fits"]
    assert fit["epochs"] == fit["kept_epoch"] + 2 < 40
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    best = max(line["validation_average_precision"] for line in lines)
    assert result.data["average_precision"] == pytest.approx(best)


@pytest.mark.parametrize("left", ["environment.json", ".transit-part-abc/config.yaml"])
def test_a_run_that_was_killed_before_it_began_is_no_obstacle(settings, tmp_path, left):
    (tmp_path / "run" / left).parent.mkdir(parents=True)
    (tmp_path / "run" / left).write_text("{")
    train(settings(epochs=1))
    assert not list((tmp_path / "run").glob(".*"))


def test_a_folder_with_something_else_in_it_is_left_alone(settings, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.tex").write_text("precious")
    with pytest.raises(TransitError, match="exists already"):
        train(settings())


def test_old_checkpoints_go(settings, tmp_path):
    train(settings(epochs=6, keep_checkpoints=2))
    assert 2 <= len(checkpoint.files(tmp_path / "run" / "checkpoints" / "member-0")) <= 3


def test_a_diverging_run_says_so_and_keeps_its_last_good_state(settings, tmp_path):
    with pytest.raises(TransitError) as caught:
        train(settings(epochs=20, learning_rate=1e30, schedule="constant", clip=0.0, optimizer="adam"))
    assert caught.value.code == "diverged"
    for file in checkpoint.files(tmp_path / "run" / "checkpoints" / "member-0"):
        assert all(value.isfinite().all() for value in checkpoint.load(file)["learner"]["network"].values())


def test_the_default_scalars_are_those_that_the_set_has(tmp_path, make_set):
    own = tmp_path / "own.py"
    own.write_text("from transit_cli.model.two_branch import TwoBranch\n\n\nclass Own(TwoBranch): ...\n")

    def columns(views, **changes):
        given = {"viewset": views.path, "epochs": 1, "device": "cpu"}
        return [scaling.column for scaling in plan(TrainSettings(**given | changes), select("cpu")).scalings]

    def hours(views, tces):
        tces["duration_hours"] = np.linspace(1, 9, len(tces["star"]))

    assert columns(make_set("period_alone")) == ["period_days"]
    both = make_set("both", change=hours)
    assert columns(both) == ["period_days", "duration_hours"]
    assert columns(both, network=f"{own}:Own") == []
    assert columns(both, scalars=()) == []
    assert columns(both, scalars=("depth_ppm",)) == ["depth_ppm"]


def test_tensorboard_shows_what_the_metrics_say(settings, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    train(settings(epochs=3, tensorboard=True))
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard" / "member-0"))
    events.Reload()
    shown = events.Scalars("validation_average_precision")
    assert [event.step for event in shown] == [line["step"] for line in lines]
    assert [event.value for event in shown] == pytest.approx([line["validation_average_precision"] for line in lines])


def test_without_tensorboard_it_says_so_before_it_trains(settings, tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(TransitError) as caught:
        train(settings(tensorboard=True))
    assert caught.value.fix == 'pip install "transit-cli[tensorboard]"'
    assert not (tmp_path / "run").exists()


def test_the_network_that_the_documentation_shows_trains(settings, tmp_path):
    page = (Path(__file__).parents[2] / "docs" / "training.md").read_text()
    (tmp_path / "small.py").write_text(page.split("```python\n")[1].split("```")[0])
    result = train(settings(network=f"{tmp_path / 'small.py'}:build", scalars="depth_ppm", epochs=8))
    assert result.data["average_precision"] > 0.8
    networks, _ = saved.load(tmp_path / "run" / saved.FILE, trust=True)
    assert type(networks[0].network).__name__ == "Small"


def test_a_row_without_a_label_is_not_a_negative(settings, tmp_path, make_set):
    """Training, probing and evaluation count the same rows: those with a label, and UNK is none."""

    def unlabel(views, tces):
        junk = tces["label"] == "J"
        tces["label"] = tces["label"].astype("U3")
        tces["label"][junk] = np.where(np.arange(junk.sum()) % 2, "", "UNK")

    partly = make_set("partly", change=unlabel)
    labelled = np.isin(partly.labels, ["PC", "EB"])
    planned = plan(settings(viewset=partly.path), select("cpu"))
    assert set(planned.samples.rows) == set(np.flatnonzero(labelled & (partly.splits != "test")))
    assert training_rows(partly.path) == (labelled & (partly.splits == "train")).sum()
    assert set(partly.labelled(("test",))) == set(np.flatnonzero(labelled & (partly.splits == "test")))
