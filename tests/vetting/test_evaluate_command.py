"""`transit evaluate` on runs that `transit train` wrote, from the command line to the files."""

import importlib.util
import json

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from transit_cli import config
from transit_cli.data.viewset import ViewSet


@pytest.fixture(scope="module")
def runs(tmp_path_factory, set_at):
    """A set, a run of two members on it, and a run on folds."""
    from transit_cli.training.settings import TrainSettings
    from transit_cli.training.train import train

    folder = tmp_path_factory.mktemp("runs")
    set_at(folder / "views")
    given = {
        "viewset": folder / "views",
        "device": "cpu",
        "epochs": 4,
        "members": 2,
        "scalars": ("snr",),
        "learning_rate": 5e-3,
    }
    train(TrainSettings(out=folder / "plain", **given))
    train(TrainSettings(out=folder / "folds", folds=3, **given))
    return folder


def test_it_answers_in_json_and_writes_the_report(runs, cli):
    done = cli("evaluate", runs / "plain", "--json", "--resamples", 50)
    assert done.returncode == 0, done.stderr
    data = json.loads(done.stdout)["data"]
    assert data["split"] == "test"
    assert data["members"] == 2
    assert data["average_precision_low"] <= data["average_precision"] <= data["average_precision_high"]
    assert 0.5 < data["average_precision"] <= 1, "four epochs are enough to learn this set"
    assert data["simulated"] is True
    assert "simulated" in data["trained_on"]
    report = runs / "plain" / "evaluate-views-test" / "report.html"
    assert report.is_file()
    assert data["files"]["report"] == str(report)


def test_without_json_it_prints_tables_and_without_a_report_draws_none(runs, cli, tmp_path):
    done = cli("evaluate", runs / "plain", runs / "views", "--split", "val", "--no-report", "--out", tmp_path / "o")
    assert done.returncode == 0, done.stderr
    assert "average precision" in done.stdout
    assert "accuracy of the majority class" in done.stdout
    assert max(map(len, done.stdout.splitlines())) < 160
    assert sorted(path.name for path in (tmp_path / "o").iterdir()) == ["metrics.json", "scores.csv"]


def test_folds_score_each_star_by_the_networks_that_have_not_seen_it(runs, cli):
    done = cli("evaluate", runs / "folds", "--json", "--resamples", 50, "--no-report")
    assert done.returncode == 0, done.stderr
    data = json.loads(done.stdout)["data"]
    views = ViewSet.open(runs / "views")
    assert data["split"] == "folds"
    assert data["signals"] == int((views.splits != "test").sum())
    from transit_cli.data.viewset import read_table

    trained = read_table(runs / "folds" / "scores.csv")  # what training itself says of the rows held out
    evaluated = read_table(runs / "folds" / "evaluate-views-folds" / "scores.csv")
    np.testing.assert_array_equal(evaluated["row"], trained["row"])
    np.testing.assert_allclose(evaluated["score"], trained["score"], atol=1e-5)
    members = np.stack([evaluated[f"score_{member}"] for member in range(1, 7)])
    assert (np.isfinite(members).sum(0) == 2).all(), "two members of one fold, and none that has seen the star"
    truth = trained["label"] == "PC"
    assert data["average_precision"] == pytest.approx(average_precision_score(truth, evaluated["score"]))


def test_stars_of_the_test_part_are_scored_by_all_folds(runs, cli, tmp_path):
    from transit_cli.data.viewset import read_table

    done = cli("evaluate", runs / "folds", "--split", "test", "--no-report", "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    evaluated = read_table(tmp_path / "scores.csv")
    assert all(np.isfinite(evaluated[f"score_{member}"]).all() for member in range(1, 7))


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["nowhere"], 4, "is not a run"),
        ([], 2, "neither RUN nor VIEWSET"),
        (["{plain}", "nowhere"], 4, "does not exist"),
        (["{plain}", "--split", "folds"], 4, "not trained on folds"),
        (["{plain}", "--threshold", "1.5"], 2, "0 <= x <= 1"),
    ],
)
def test_what_cannot_be_evaluated_is_refused(runs, cli, arguments, code, words):
    done = cli("evaluate", *(text.format(plain=runs / "plain") for text in arguments))
    assert done.returncode == code
    assert words in done.stderr
    assert "to fix:" in done.stderr


def test_a_run_that_moved_asks_for_its_set(runs, cli, tmp_path):
    import shutil

    shutil.copytree(runs / "plain", tmp_path / "moved")
    config = tmp_path / "moved" / "config.yaml"
    config.write_text(config.read_text().replace(str(runs / "views"), str(tmp_path / "gone")))
    done = cli("evaluate", tmp_path / "moved")
    assert done.returncode == 4
    assert "transit evaluate" in done.stderr
    (tmp_path / "moved" / "model.safetensors").unlink()
    assert "has not finished" in cli("evaluate", tmp_path / "moved").stderr


def test_without_matplotlib_it_says_which_extra_before_it_starts(runs, cli, monkeypatch):
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "matplotlib" else real(name))
    done = cli("evaluate", runs / "plain")
    assert done.returncode == 5
    assert 'pip install "transit-cli[report]"' in done.stderr
    assert "--no-report" in done.stderr


OWN = """
from pathlib import Path
from transit_cli.model.two_branch import TwoBranch
Path(__file__).with_suffix(".executed").touch()
def build(views, scalars):
    return TwoBranch(views, scalars)
"""


def test_the_python_file_of_a_run_is_executed_only_with_trust(runs, cli, tmp_path):
    """In every command that opens a run: it may be somebody else's."""
    from transit_cli.training.settings import TrainSettings
    from transit_cli.training.train import train

    (tmp_path / "own.py").write_text(OWN)
    run, views = tmp_path / "run", runs / "views"
    given = {"viewset": views, "device": "cpu", "epochs": 1, "network": f"{tmp_path / 'own.py'}:build"}
    train(config.resolve(TrainSettings, given | {"out": run}))
    (run / "own.executed").unlink(missing_ok=True)
    for arguments in (
        ["evaluate", run, "--no-report", "--out", tmp_path / "e"],
        ["predict", run, views, "--max-plots", "0", "--out", tmp_path / "p"],
        ["export", run, "--format", "torchscript", "--out", tmp_path / "x.ts"],
    ):
        done = cli(*arguments)
        assert done.returncode == 4
        assert "own.py" in done.stderr
        assert "--trust" in done.stderr
        assert not (run / "own.executed").exists()
        assert not (tmp_path / "x.ts").exists()
        done = cli(*arguments, "--trust")
        assert done.returncode == 0, done.stderr
        (run / "own.executed").unlink()
