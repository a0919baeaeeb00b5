"""`--init`: what a new network takes from saved ones, what is new, and that a run that is stopped goes on with it."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from transit_cli import config
from transit_cli.data.viewset import read_table
from transit_cli.device.select import select
from transit_cli.model import registry, saved
from transit_cli.model.binary_output import fit_output, logistic_regression
from transit_cli.model.card import ScalarCard
from transit_cli.model.initialise import Initial, Inputs, initialise
from transit_cli.results import TransitError
from transit_cli.training.plan import plan
from transit_cli.training.settings import TrainSettings
from transit_cli.training.train import train

VIEWS = {"global": 40, "local": 20}


def initial(views=VIEWS, scalars=0, classes=(), target=("PC",), network="two-branch"):
    torch.manual_seed(1)
    states = [registry.build(network, views, scalars, len(classes) or 1).state_dict() for _ in range(2)]
    columns = tuple(ScalarCard(f"c{number}", False, 0.0, 1.0) for number in range(scalars))
    card = saved.Card(network, views, tuple(target), tuple(classes), scalars=columns, members=2)
    return Initial("saved", None, card, states)


def outputs(network, views, scalars=0, seed=0):
    generator = torch.Generator().manual_seed(seed)
    inputs = {name: torch.randn(6, length, generator=generator) for name, length in views.items()}
    if scalars:
        inputs["scalars"] = torch.zeros(6, scalars)
    with torch.no_grad():
        return network.eval()(inputs)


def test_the_same_inputs_and_target_give_the_saved_network():
    for network in ("two-branch", "astronet"):
        views = {"global": 125, "local": 19}
        before = initial(views, network=network)
        new = registry.build(network, views)
        taken = initialise(new, Inputs(list(views), [], ["PC"]), before, member=3)
        assert set(taken.values()) <= {"global", "local", "taken"}
        reference = registry.build(network, views)
        reference.load_state_dict(before.states[1])  # member 3 begins from the second of two
        assert torch.equal(outputs(new, views), outputs(reference, views))


def test_new_views_begin_with_the_nearest_branch_and_new_inputs_change_nothing_at_first():
    before = initial(scalars=1)
    views = {"local": 20, "secondary": 20, "global": 40}
    new = registry.build("two-branch", views, 2)
    taken = initialise(new, Inputs(list(views), ["other", "c0"], ["PC", "EB"]), before, 0)
    assert taken == {"local": "local", "secondary": "local", "global": "global", "hidden": "taken", "output": "new"}
    state = before.states[0]
    assert torch.equal(new.branches[1].layers[0].weight, state["branches.1.layers.0.weight"])
    hidden = new.head[1].weight
    assert torch.equal(hidden[:, :64], state["head.1.weight"][:, 64:128]), "the local view comes first here"
    assert not hidden[:, 64:128].any()
    assert not hidden[:, 192].any()
    assert torch.equal(hidden[:, 193], state["head.1.weight"][:, 128]), "a scalar is known by its column"


def test_a_binary_output_is_formed_from_classes():
    before = initial(classes=("PC", "EB", "J"))
    new = registry.build("two-branch", VIEWS)
    taken = initialise(new, Inputs(list(VIEWS), [], ["PC", "EB"]), before, 0)
    assert taken["output"] == "formed from classes"
    reference = registry.build("two-branch", VIEWS, 0, 3)
    reference.load_state_dict(before.states[0])
    logits = outputs(reference, VIEWS)
    torch.testing.assert_close(outputs(new, VIEWS), logits[:, :2].mean(1) - logits[:, 2])
    views = {name: torch.randn(600, length) for name, length in VIEWS.items()}
    fit_output(new, before, 0, ["PC", "EB"], views)
    with torch.no_grad():
        wanted = reference(views).softmax(1)[:, :2].sum(1)
        found = new(views).sigmoid()
    torch.testing.assert_close(found, wanted, atol=0.01, rtol=0)
    assert not new.training, "as it was"
    new = registry.build("two-branch", VIEWS, 0, 2)
    assert initialise(new, Inputs(list(VIEWS), [], ["PC"], ["PC", "J"]), before, 0)["output"] == "new"


def test_a_run_begins_from_another_and_says_what_it_took(settings, tmp_path):
    train(settings(epochs=1, scalars=()))
    done = train(settings(init=str(tmp_path / "run"), out=tmp_path / "next", target=("PC", "EB"), views=("local",)))
    assert done.data["taken"] == {"local": "local", "hidden": "taken", "output": "new"}
    environment = json.loads((tmp_path / "next" / "environment.json").read_text())
    assert environment["init"]["taken"] == done.data["taken"]
    card = saved.read(tmp_path / "next" / saved.FILE)[0]
    assert card.initialised.endswith("local, hidden; new: output")
    with pytest.raises(TransitError, match="does not exist"):
        train(settings(init=str(tmp_path / "absent"), out=tmp_path / "a"))
    with pytest.raises(TransitError, match="no pretrained network for views of 40/20"):
        train(settings(init="pretrained", out=tmp_path / "a"))
    with pytest.raises(TransitError, match="nothing fits"):
        train(settings(init=str(tmp_path / "run"), out=tmp_path / "a", network="astronet", views=("local",)))


def test_stars_that_the_saved_networks_know_are_warned_of(settings, tmp_path):
    train(settings(epochs=1))
    with pytest.warns(UserWarning, match="the validation metrics are too good"):
        train(settings(epochs=1, folds=2, init=str(tmp_path / "run"), out=tmp_path / "folds"))


def test_a_resumed_run_keeps_what_it_began_from(settings, tmp_path):
    train(settings(epochs=1, seed=5))
    options = {"init": str(tmp_path / "run"), "members": 2, "epochs": 1, "out": tmp_path / "whole"}
    train(settings(**options))
    (tmp_path / "run" / saved.FILE).rename(tmp_path / "gone.safetensors")
    with pytest.raises(TransitError, match="has not finished"):
        train(settings(**options | {"out": tmp_path / "fails"}))
    other = tmp_path / "whole" / "checkpoints" / "member-1"
    for file in other.iterdir():
        file.unlink()
    before = saved.read(tmp_path / "whole" / saved.FILE)[1]
    train(config.resolve(TrainSettings, {"resume": tmp_path / "whole"}))
    after = saved.read(tmp_path / "whole" / saved.FILE)[1]
    assert all(torch.equal(a[name], b[name]) for a, b in zip(before, after, strict=True) for name in a)


@pytest.mark.parametrize("folds", [0, 3])
def test_classes_train_with_probabilities_of_each(settings, folds):
    done = train(settings(target=("classes",), epochs=3, members=2, folds=folds, class_weighting="balanced"))
    assert done.data["classes"] == ["PC", "EB", "J"]
    card = saved.read(done.data["out"] / saved.FILE)[0]
    assert (list(card.classes), list(card.target)) == (["PC", "EB", "J"], ["PC"])
    table = read_table(done.data["out"] / "scores.csv")
    total = sum(np.asarray(table[f"probability_{name}"], float) for name in card.classes)
    np.testing.assert_allclose(total, 1, atol=1e-6)
    np.testing.assert_allclose(np.asarray(table["score"], float), np.asarray(table["probability_PC"], float))
    assert done.data["average_precision"] > 0.5


def test_logistic_regression_finds_the_weights_of_its_own_probabilities():
    generator = np.random.default_rng(0)
    features, weights = generator.normal(size=(500, 6)), np.array([2.0, -1.0, 0.0, 5.0, 0.3, -3.0, 0.7])
    probability = 1 / (1 + np.exp(-(features @ weights[:-1] + weights[-1])))
    np.testing.assert_allclose(logistic_regression(features, probability, 1e-6), weights, atol=1e-3)
    constant = np.hstack([features, np.zeros((500, 1))])
    assert np.isfinite(logistic_regression(constant, (probability > 0.5).astype(float), 0.1)).all(), "separable"


def test_a_binary_run_begins_with_the_scores_of_the_saved_classes(settings, tmp_path):
    train(settings(target=("classes",), epochs=3))
    options = {"init": str(tmp_path / "run"), "target": ("PC", "EB"), "epochs": 1, "learning_rate": 1e-9}
    done = train(settings(**options, freeze=True, out=tmp_path / "next"))
    assert done.data["taken"]["output"] == "formed from classes"
    before, after = (read_table(tmp_path / name / "scores.csv") for name in ("run", "next"))
    total = sum(np.asarray(before[f"probability_{name}"], float) for name in ("PC", "EB"))
    assert spearmanr(total, np.asarray(after["score"], float)).statistic > 0.97


def test_signals_without_a_label_take_part_in_forming_an_output(settings, make_set, tmp_path):
    train(settings(target=("classes",), epochs=1))

    def hide(_views, tces):
        tces["label"] = np.where(np.arange(len(tces["label"])) % 12 < 4, "UNK", tces["label"])

    options = {"init": str(tmp_path / "run"), "target": ("PC", "EB"), "viewset": make_set("few", change=hide).path}
    planned = plan(settings(**options), select("cpu"))
    assert planned.unlabelled is not None
    assert set(planned.viewset.labels[planned.unlabelled.rows]) == {"UNK"}
    assert set(planned.viewset.splits[planned.unlabelled.rows]) == {"train"}
    samples = planned.samples.subset(planned.tasks[0].train)
    with_all = planned.build_network(0, samples).head[-1].weight
    labelled_alone = replace(planned, unlabelled=None).build_network(0, samples).head[-1].weight
    assert not torch.equal(with_all, labelled_alone)
    assert torch.equal(with_all, planned.build_network(0, samples).head[-1].weight)


def test_frozen_networks_learn_their_output_alone(settings, tmp_path):
    train(settings(epochs=1, scalars=()))
    before = saved.read(tmp_path / "run" / saved.FILE)[1][0]
    given = {"init": str(tmp_path / "run"), "scalars": (), "freeze": True, "epochs": 4}
    done = train(settings(**given, out=tmp_path / "frozen"))
    assert done.data["taken"] == {"global": "global", "local": "local", "hidden": "taken", "output": "taken"}
    after = saved.read(tmp_path / "frozen" / saved.FILE)[1][0]
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"head.4.weight", "head.4.bias"}
    with pytest.raises(TransitError, match="would not train secondary"):
        train(settings(**given | {"views": ("local", "global", "secondary")}, out=tmp_path / "a"))
    with pytest.raises(TransitError, match="freeze"):
        settings(freeze=True)
    few = config.resolve(TrainSettings, {"preset": "few-labels"})
    assert (few.init, few.freeze, few.members) == ("pretrained", True, 5)
