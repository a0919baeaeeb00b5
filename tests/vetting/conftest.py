"""A small labelled view set that a network can learn in a second, and networks for it."""

from types import SimpleNamespace

import numpy as np
import pytest

SIZE, GLOBAL, LOCAL = 240, 41, 21


def small_set(path, *, seed=0, size=SIZE, splits=("train", "val", "test"), nan_row=None, lengths=(GLOBAL, LOCAL)):
    """Box-shaped dips (PC), V-shaped ones (EB) and noise (J), with a few columns that follow the label."""
    from transit_cli.data import viewset

    global_bins, local_bins = lengths
    random = np.random.default_rng(seed)
    label = random.choice(["PC", "EB", "J"], size, p=[0.3, 0.3, 0.4])
    x = np.linspace(-1, 1, local_bins)
    shape = {
        "PC": np.where(np.abs(x) < 0.4, -1.0, 0.0),
        "EB": -np.clip(1 - 2 * np.abs(x), 0, 1),
        "J": np.zeros(local_bins),
    }
    depth = random.uniform(0.4, 1, (size, 1))
    local = depth * np.stack([shape[name] for name in label]) + random.normal(0, 0.25, (size, local_bins))
    glob = random.normal(0, 0.25, (size, global_bins))
    glob[:, global_bins // 2] -= label != "J"
    if nan_row is not None:
        local[nan_row, 3] = np.nan
    tces = {
        "star": np.array([f"TIC {number // 2}" for number in range(size)]),
        "signal": np.array([str(1 + number % 2) for number in range(size)]),
        "mission": np.full(size, "tess"),
        "period_days": random.uniform(1, 20, size),
        "epoch_days": random.uniform(1325, 1340, size),
        "time_system": np.full(size, "BTJD"),
        "duration_hours": random.uniform(1, 6, size),
        "depth_ppm": random.uniform(100, 9000, size),
        "snr": random.uniform(5, 80, size),
        "label": label,
        "split": np.array([splits[(number // 2) % len(splits)] for number in range(size)]),
        "source": np.full(size, "made here"),
    }
    return viewset.write(path, {"global": glob, "local": local}, tces, {"kind": "test", "simulated": True})


@pytest.fixture(scope="session")
def set_at():
    """`set_at(path, **changes)`: write a small set there."""
    return small_set


@pytest.fixture
def views(tmp_path):
    return small_set(tmp_path / "views")


@pytest.fixture
def make_set(tmp_path):
    """`make_set(name, **changes)`: a small set in a folder of its own."""
    return lambda name="views", **changes: small_set(tmp_path / name, **changes)


@pytest.fixture
def dip_ensemble():
    """Two members that score by the depth at the centre of the local view: good, not perfect, and known exactly."""
    import torch

    from transit_cli.device.select import select
    from transit_cli.model.card import Card
    from transit_cli.vetting.ensemble import Ensemble

    torch.set_num_threads(1)

    class Dip(torch.nn.Module):
        def __init__(self, half_width):
            super().__init__()
            self.half_width = half_width

        def forward(self, inputs):
            middle = LOCAL // 2
            chosen = inputs["local"][:, middle - self.half_width : middle + self.half_width + 1]
            return -6 * chosen.mean(1) - 4

    def make(training_set=None, **changes):
        given = {"network": "dip", "views": {"global": GLOBAL, "local": LOCAL}, "target": ("PC",), "members": 2}
        card = Card(**given | {"trained_on": "nothing: it is a formula"} | changes)
        return Ensemble("dips", (Dip(2), Dip(4)), card, select("cpu"), training_set)

    return make


@pytest.fixture
def cli(capsys):
    """`cli("evaluate", run)`: the command line in this process, since torch takes seconds to import in another."""
    from transit_cli.app import main

    def run(*arguments):
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        shown = capsys.readouterr()
        return SimpleNamespace(returncode=int(code), stdout=shown.out, stderr=shown.err)

    return run
