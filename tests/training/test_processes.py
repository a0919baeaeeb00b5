"""Members and folds in processes of their own: the bits that they have alone, and errors that reach the user."""

import numpy as np
import pytest
import torch

from transit_cli import config
from transit_cli.model import saved
from transit_cli.results import TransitError
from transit_cli.training.settings import TrainSettings
from transit_cli.training.train import train


def test_two_processes_train_the_bits_of_one_and_a_failure_is_said(settings, tmp_path, views):
    alone = train(settings(members=3, epochs=2))
    both = train(settings(members=3, epochs=2, processes=2, out=tmp_path / "both"))
    assert [fit["fit"] for fit in both.data["fits"]] == ["member-0", "member-1", "member-2"]
    states = [saved.read(folder / saved.FILE)[1] for folder in (alone.data["out"], tmp_path / "both")]
    assert all(torch.equal(a[name], b[name]) for a, b in zip(*states, strict=True) for name in a)
    assert both.data["average_precision"] == alone.data["average_precision"]
    lines = (tmp_path / "both" / "metrics.jsonl").read_text().splitlines()
    assert len(lines) == 6
    assert all(fit["samples_per_second"] > 0 for fit in both.data["fits"])

    local = np.load(views.path / "local.npy")
    local[:] = 1e30  # finite, and the loss is not
    np.save(views.path / "local.npy", local)
    with pytest.raises(TransitError):
        train(settings(members=2, epochs=1, processes=2, out=tmp_path / "fails"))


@pytest.mark.torture
def test_a_run_of_several_processes_goes_on_after_an_interrupt(settings, tmp_path, transit):
    import os
    import signal
    import subprocess
    import sys
    import time

    whole = train(settings(members=2, epochs=40, processes=2))
    run = tmp_path / "stopped"
    viewset = settings().viewset
    command = [
        sys.executable,
        "-m",
        "transit_cli",
        "train",
        viewset,
        "--members",
        "2",
        "--epochs",
        "40",
        "--device",
        "cpu",
    ]
    command += ["--batch-size", "16", "--processes", "2", "--out", run]
    started = subprocess.Popen(
        list(map(str, command)), stderr=subprocess.PIPE, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    deadline = time.monotonic() + 120
    while not list(run.glob("checkpoints/member-1/step-*")) and time.monotonic() < deadline:
        time.sleep(0.05)
    started.send_signal(signal.SIGINT)
    started.communicate(timeout=60)
    assert started.returncode == 130
    train(config.resolve(TrainSettings, {"resume": run}))
    states = [saved.read(folder / saved.FILE)[1] for folder in (whole.data["out"], run)]
    assert all(torch.equal(a[name], b[name]) for a, b in zip(*states, strict=True) for name in a)
