"""Small sets are said to be small before training; seeds show how much luck there is; what ran is recorded."""

import json

import numpy as np
import pytest

from transit_cli import console
from transit_cli.results import TransitError
from transit_cli.runs.listing import show_run
from transit_cli.training.runs.finish import over_seeds
from transit_cli.training.train import train


@pytest.fixture
def said(monkeypatch):
    """Notes and warnings."""
    lines = []
    for name in ("note", "warn"):
        monkeypatch.setattr(console, name, lines.append)
    return lines


def without_validation(views, tces):
    tces["split"] = np.where(tces["split"] == "val", "train", tces["split"])
    tces["label"] = np.where((tces["split"] == "test") & (tces["label"] == "PC"), "EB", tces["label"])


def test_no_validation_rows_are_said_before_training_and_never_a_number(make_set, settings, said, tmp_path):
    views = make_set("few", size=48, change=without_validation).path
    result = train(settings(viewset=views, target="PC", epochs=1))
    assert f"{views} has 0 validation rows, 0 positive: too few to measure the network; " in "".join(said)
    assert f"transit train {views} --target PC --folds 5 holds every star out once" in "".join(said)
    assert "make 2 optimizer steps per epoch, 2 in all" in "".join(said)
    assert "average precision is not measured" in result.verdict
    assert "nan" not in result.verdict + str(result.blocks[0].rows)

    from transit_cli.device.select import select
    from transit_cli.vetting.ensemble import open_run
    from transit_cli.vetting.evaluation import evaluate_split
    from transit_cli.vetting.settings import EvaluateSettings

    ensemble = open_run(tmp_path / "run", select("cpu"))
    with pytest.raises(TransitError, match="holds no PC") as error:
        evaluate_split(ensemble, ensemble.training_set, EvaluateSettings(run=tmp_path / "run"))
    assert f"transit train {views} --folds 5, or --split all" in error.value.fix


def test_the_spread_over_seeds_and_what_ran_are_recorded(settings, tmp_path):
    result = train(settings(members=3, epochs=1))
    each = [row["validation_average_precision"] for row in result.data["fits"]]
    assert result.data["seed_average_precision_mean"] == pytest.approx(np.mean(each))
    assert result.data["seed_average_precision_std"] == pytest.approx(np.std(each, ddof=1))
    assert "one network (3 seeds): average precision" in result.verdict
    shown = show_run(tmp_path / "run")
    assert shown.data["seeds"] == 3
    assert f"standard deviation {np.std(each, ddof=1):.4f}" in str(shown.blocks[0].rows)
    recorded = json.loads((tmp_path / "run" / "environment.json").read_text())
    assert recorded["precisions"] == ["fp32"]
    assert f"execution {recorded['executions'][0]}, precision fp32, on cpu" in str(shown.blocks[0].rows)

    from transit_cli.device.select import select
    from transit_cli.vetting.ensemble import open_run

    ran = open_run(tmp_path / "run", select("cpu")).trained_with
    assert ran == f"torch {recorded['torch']}, execution {recorded['executions'][0]}, precision fp32, on cpu"


def test_one_member_has_no_spread():
    assert over_seeds(np.array([0.0, 1.0]), np.zeros((1, 2))) == {}
