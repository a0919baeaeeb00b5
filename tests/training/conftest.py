"""A small labelled view set that a network learns in a second."""

import numpy as np
import pytest
import torch

from transit_cli import config
from transit_cli.data import viewset
from transit_cli.training.settings import TrainSettings

SIZE, GLOBAL, LOCAL = 240, 40, 20


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def write_set(path, *, size=SIZE, seed=0, change=None):
    """Boxes (PC), V shapes (EB) and noise (J); two signals a star; a sixth of the stars each in val and test.

    `change(views, tces)` may spoil it before it is written.
    """
    random = np.random.default_rng(seed)
    label = random.choice(["PC", "EB", "J"], size, p=[0.3, 0.3, 0.4])
    x = np.linspace(-1, 1, LOCAL)
    shapes = {"PC": -1.0 * (np.abs(x) < 0.4), "EB": -np.clip(1 - 2 * np.abs(x), 0, 1), "J": np.zeros(LOCAL)}
    views = {
        "global": random.normal(0, 0.3, (size, GLOBAL)),
        "local": np.stack([shapes[name] for name in label]) + random.normal(0, 0.3, (size, LOCAL)),
        "secondary": random.normal(0, 0.3, (size, LOCAL)),
    }
    views["global"][:, GLOBAL // 2] -= label != "J"
    star = np.arange(size) // 2
    tces = {
        "star": np.array([f"TIC {number}" for number in star]),
        "signal": np.array([str(1 + number % 2) for number in range(size)]),
        "period_days": random.uniform(1, 20, size),
        "depth_ppm": np.where(label == "EB", 2e4, 500) * random.uniform(0.5, 2, size),
        "label": label,
        "split": np.array(["train", "train", "train", "train", "val", "test"])[star % 6],
    }
    if change:
        change(views, tces)
    return viewset.write(path, views, tces, {"kind": "test", "simulated": True})


@pytest.fixture
def make_set(tmp_path):
    """`make_set(name, size=..., change=...)`: a small set in a folder of its own."""
    return lambda name, **options: write_set(tmp_path / name, **options)


@pytest.fixture
def views(make_set):
    return make_set("views")


@pytest.fixture
def settings(tmp_path, views):
    """`settings(epochs=3)`: settings for the small set, as if given by flags."""

    def make(**flags):
        given = {"viewset": views.path, "out": tmp_path / "run", "epochs": 2, "batch_size": 16, "device": "cpu"}
        return config.resolve(TrainSettings, given | flags)

    return make
