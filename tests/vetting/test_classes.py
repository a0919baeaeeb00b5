"""One network that tells classes apart: evaluated, asked for other targets, predicting impostors, exported, calibrated."""

import json

import numpy as np
import pytest
import torch

from transit_cli.data.viewset import ViewSet, read_table
from transit_cli.model import saved
from transit_cli.model.calibration import shift_prior


@pytest.fixture(scope="module")
def run(tmp_path_factory, set_at):
    from transit_cli.training.settings import TrainSettings
    from transit_cli.training.train import train

    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("classes")
    set_at(folder / "views", size=360)
    options = {"viewset": folder / "views", "epochs": 4, "members": 2, "device": "cpu", "batch_size": 16}
    train(TrainSettings(out=folder / "run", target=("classes",), **options))
    return folder / "run"


@pytest.fixture
def ensemble(run):
    from transit_cli.device.select import select
    from transit_cli.vetting.ensemble import open_run

    return open_run(run, select("cpu"))


def test_evaluate_shows_the_confusion_and_each_class(run, cli, tmp_path):
    done = cli("evaluate", run, "--no-report", "--resamples", 20, "--json", "--out", tmp_path / "e")
    assert done.returncode == 0, done.stderr
    data = json.loads(done.stdout)["data"]
    classes = data["classes"]
    views = ViewSet.open(run.parent / "views")
    test = views.labels[views.splits == "test"]
    assert {label: sum(row.values()) for label, row in classes["confusion"].items()} == {
        label: int((test == label).sum()) for label in ("PC", "EB", "J")
    }
    assert classes["PC"]["average_precision"] == data["average_precision"]
    assert classes["J"]["average_precision"] > 0.6
    both = cli(
        "evaluate", run, "--no-report", "--resamples", 20, "--json", "--out", tmp_path / "b", "--target", "PC,EB"
    )
    both = json.loads(both.stdout)["data"]
    assert both["positives"] == int(np.isin(test, ["PC", "EB"]).sum())
    table = read_table(tmp_path / "b" / "scores.csv")
    sums = np.asarray(table["probability_PC"], float) + np.asarray(table["probability_EB"], float)
    np.testing.assert_allclose(np.asarray(table["score"], float), sums, atol=1e-6)
    shown = cli("evaluate", run, "--no-report", "--resamples", 20, "--out", tmp_path / "s").stdout
    assert "predicted PC  predicted EB  predicted J" in shown
    refused = cli("evaluate", run, "--target", "AFP", "--no-report", "--out", tmp_path / "r")
    assert refused.returncode == 2
    assert "one or more of PC, EB, J, not all" in refused.stderr


def test_predict_names_the_impostor_and_takes_a_prior(run, cli, tmp_path, ensemble):
    arguments = ["predict", run, run.parent / "views", "--max-plots", 0, "--json"]
    data = json.loads(cli(*arguments, "--out", tmp_path / "p").stdout)["data"]
    assert data["calibrated"]
    for row in data["signals"]:
        assert row["impostor"] in {"EB", "J"}
        assert row["impostor_probability"] == max(row["probability_EB"], row["probability_J"])
        assert np.isclose(row["score"] + row["probability_EB"] + row["probability_J"], 1)
    rare = json.loads(cli(*arguments, "--prior", 0.01, "--out", tmp_path / "q").stdout)["data"]
    views = ViewSet.open(run.parent / "views")
    members = ensemble.probabilities(views.views, views.tces)
    share = ensemble.calibrations.shares[0]
    expected = shift_prior(members, ensemble.is_target, share, 0.01)[..., 0].mean(0)
    np.testing.assert_allclose([row["score"] for row in rare["signals"]], expected, atol=1e-6)
    assert np.mean([row["score"] for row in rare["signals"]]) < 0.5 * np.mean([row["score"] for row in data["signals"]])


def test_a_star_of_the_calibration_is_judged_without_its_part(run, ensemble):
    views = ViewSet.open(run.parent / "views")
    rows = np.flatnonzero(views.splits == "val")
    table = read_table(run / "scores.csv")
    found = ensemble.score_rows(views, rows).mean(0)
    np.testing.assert_allclose(np.asarray(table["score"], float), found, atol=1e-6)
    new = ensemble.score(
        {name: values[rows] for name, values in views.views.items()}, {n: c[rows] for n, c in views.tces.items()}
    )
    assert not np.allclose(new.mean(0), found, atol=1e-6), "new signals get the calibration on all of them"


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch.jit.load
def test_an_export_carries_classes_and_calibration(run, cli, ensemble):
    done = cli("export", run, "--format", "torchscript", "--json")
    assert done.returncode == 0, done.stderr
    exported = json.loads(done.stdout)["data"]
    assert exported["verified"]
    extra = {"transit.json": ""}
    network = torch.jit.load(exported["file"], _extra_files=extra)
    about = json.loads(extra["transit.json"])
    assert about["outputs"]["score"]["classes"] == ["PC", "EB", "J"]
    assert about["calibration"].startswith("included")
    views = ViewSet.open(run.parent / "views")
    from transit_cli.training.loading.scaling import Scaling, scaled

    scalings = [Scaling(**vars(scaling)) for scaling in ensemble.card.scalars]
    inputs = [torch.from_numpy(np.array(views.views[name])) for name in ensemble.card.views]
    inputs.append(torch.from_numpy(scaled(views.tces, scalings)))
    score, _ = network(*inputs)
    expected = ensemble.probabilities(views.views, views.tces).mean(0)
    np.testing.assert_allclose(score.detach().numpy(), expected, atol=1e-5)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch.jit.load
def test_a_binary_export_is_calibrated_too(set_at, cli, tmp_path):
    from transit_cli.device.select import select
    from transit_cli.training.settings import TrainSettings
    from transit_cli.training.train import train
    from transit_cli.vetting.ensemble import open_run

    set_at(tmp_path / "views", size=240)
    options = {"viewset": tmp_path / "views", "epochs": 2, "device": "cpu", "batch_size": 16, "scalars": ()}
    train(TrainSettings(out=tmp_path / "run", **options))
    assert saved.read(tmp_path / "run" / saved.FILE)[0].calibration["signals"] == 80
    exported = json.loads(cli("export", tmp_path / "run", "--format", "torchscript", "--json").stdout)["data"]
    network = torch.jit.load(exported["file"])
    views = ViewSet.open(tmp_path / "views")
    score, _ = network(*(torch.from_numpy(np.array(views.views[name])) for name in ("global", "local")))
    expected = open_run(tmp_path / "run", select("cpu")).score(views.views, views.tces).mean(0)
    np.testing.assert_allclose(score.detach().numpy(), expected, atol=1e-5)
