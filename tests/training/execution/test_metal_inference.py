"""Scoring by Metal kernels on the simulated device: equal to eager, chosen by timing in place, given up without loss."""

import re

import pytest

from tests.training.conftest import write_set

pytestmark = pytest.mark.usefixtures("metal_shim")


def score(cases):
    """For each [fault, execution, samples to score first]: launches of kernels, and the logits' distance from eager's.

    What each says is on stderr behind a line with its number.
    """
    import sys

    import simulated_mps
    import torch

    from transit_cli import console
    from transit_cli.device import environment

    environment.prepare()
    from transit_cli.device.mps import MpsDevice
    from transit_cli.model.two_branch import TwoBranch
    from transit_cli.training import inference
    from transit_cli.training.execution import metal_inference

    inference.DEVICE_PIECE, metal_inference.ROUNDS = 8, 1
    found = []
    for number, (fault, execution, worth) in enumerate(cases):
        print(f"case {number}", file=sys.stderr, flush=True)
        torch.manual_seed(number)
        size = 40 + number  # a shape of its own: what was found of another is remembered
        networks = [TwoBranch({"global": size, "local": 21}).to("mps") for _ in range(2)]
        inputs = {"global": torch.randn(20, size), "local": torch.randn(20, 21)}  # pieces of 8, 8 and 4
        expected = inference.logits(networks, inputs, MpsDevice(), execution="eager")
        simulated_mps.reset_counters()
        metal_inference.WORTH_CHOOSING = worth
        metal_inference._libraries.clear()
        if fault["operator"].startswith("metal.con") or fault["operator"] == "nothing":
            simulated_mps.add_fault("slow", "max_pool2d_with_indices", 0.3)
        simulated_mps.add_fault(**fault)
        with console.session():
            logits = inference.logits(networks, inputs, MpsDevice(), execution=execution)
        launched = simulated_mps.counters()["launched"]
        simulated_mps.clear_faults()
        found.append(
            {
                "far": (logits - expected).abs().max().item() / expected.abs().max().item(),
                "launched": sum(launched.values()),
                "training": any(network.training is False for network in networks),
            }
        )
    return found


HARMLESS = {"kind": "slow", "operator": "nothing", "value": 0.0}
#: Fault, execution that was asked for, samples that are scored before choosing, what is said, whether kernels score.
CASES = [
    (HARMLESS, "auto", 0, "fastest execution of scoring: metal (a batch of 8: eager", True),
    (
        {"kind": "slow", "operator": "metal.convolve", "value": 1.5},
        "auto",
        0,
        "fastest execution of scoring: eager",
        False,
    ),
    ({"kind": "wrong", "operator": "metal.convolve", "value": 0.3}, "auto", 0, "logits differ from eager's", False),
    ({"kind": "error", "operator": "metal.convolve", "call": 20}, "metal", 0, "going on without them", True),
    ({"kind": "error", "operator": "metal.convolve", "call": 8}, "auto", 0, "not used for scoring: planted", True),
    (HARMLESS, "metal", 512, "", True),
    (HARMLESS, "eager", 0, "", False),
    (HARMLESS, "auto", 512, "", False),
    ({"kind": "refuse", "operator": "metal.head", "value": 64}, "auto", 0, "head needs 128 threads a group", False),
    ({"kind": "error", "operator": "metal.compile_shader"}, "auto", 0, "does not compile (SyntaxError", False),
    ({"kind": "missing", "operator": "metal.compile_shader"}, "auto", 0, "has no torch.mps.compile_shader", False),
]


@pytest.mark.torture
def test_logits_are_eagers_whatever_happens_and_one_line_says_why_kernels_are_not_used(mps):
    done = mps.run(score, [list(case[:3]) for case in CASES], timeout=300)
    assert done.returncode == 0, done.stderr
    told = re.split(r"case \d+", done.stderr)[1:]
    for (fault, execution, _, line, scores), found, text in zip(CASES, done.value, told, strict=True):
        said = " ".join(text.split())
        assert found["far"] <= 1e-5, fault
        assert line in said, (fault, text)
        assert len(text.strip().splitlines()) <= (2 if line else 0), text
        assert (found["launched"] > 0) >= scores, fault
        if execution == "eager" or not line:
            assert bool(found["launched"]) == scores, fault


def evaluate_and_predict(folder):
    """Scores of a run's signals by both commands, eager and then with kernels, and how many kernels were launched."""
    import csv
    from pathlib import Path

    import simulated_mps

    from transit_cli.device import environment

    environment.prepare()
    from transit_cli.training import train
    from transit_cli.training.execution import metal_inference
    from transit_cli.training.settings import TrainSettings
    from transit_cli.vetting import evaluate, predict
    from transit_cli.vetting.settings import EvaluateSettings, PredictSettings

    here, views, run = Path(folder), Path(folder, "views"), Path(folder, "run")
    options = {"epochs": 1, "batch_size": 16, "precision": "fp32", "device": "mps", "execution": "eager"}
    train.train(TrainSettings(viewset=views, out=run, **options))
    metal_inference.ROUNDS = 1
    found = {}
    for name, worth in (("eager", 1_000_000), ("metal", 0)):
        metal_inference.WORTH_CHOOSING = worth
        simulated_mps.reset_counters()
        if name == "metal":
            simulated_mps.add_fault("slow", "max_pool2d_with_indices", 2.0)
        files = [here / f"{name}-evaluate", here / f"{name}-predict"]
        evaluate.evaluate(
            EvaluateSettings(run=run, split="all", resamples=20, report=False, out=files[0], device="mps")
        )
        predict.predict(PredictSettings(run=run, input=views, max_plots=0, out=files[1], device="mps"))
        rows = [list(csv.DictReader((file / "scores.csv").open())) for file in files]
        found[name] = [
            [float(row["score"]) for row in sorted(each, key=lambda row: (row["star"], row["signal"]))] for each in rows
        ]
        found[name].append(sum(simulated_mps.counters()["launched"].values()))
    return found


@pytest.mark.torture
def test_evaluate_and_predict_score_with_kernels_as_without(mps, tmp_path):
    write_set(tmp_path / "views", size=48)
    done = mps.run(evaluate_and_predict, str(tmp_path), timeout=300)
    assert done.returncode == 0, done.stderr
    *eager, without = done.value["eager"]
    *metal, launched = done.value["metal"]
    assert without == 0
    assert launched >= 20
    assert [len(scores) for scores in metal] == [48, 48]
    for one, other in zip(metal, eager, strict=True):
        assert max(abs(a - b) for a, b in zip(one, other, strict=True)) <= 1e-5
