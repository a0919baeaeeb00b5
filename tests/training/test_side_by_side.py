"""Members side by side on a device that captures steps: the bits that each has alone, signals and failures.

The device is the CPU, whose one generator all fits would share: what one draws, the others must not notice.
"""

import itertools
import signal

import pytest

from tests.training.execution.capturing import CapturingCpu
from transit_cli import config
from transit_cli.model import saved
from transit_cli.results import TransitError
from transit_cli.training import train as train_module
from transit_cli.training.fit import Fit
from transit_cli.training.processes import side_by_side, turns
from transit_cli.training.processes.side_by_side import fit_count
from transit_cli.training.settings import TrainSettings
from transit_cli.training.train import train

OPTIONS = {"members": 3, "execution": "cuda-graph", "mixup": 0.2}
NETWORK = """
from torch import nn

class Small(nn.Module):
    def __init__(self, length):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(length, 8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 1))

    def forward(self, inputs):
        return self.layers(inputs["local"]).squeeze(1)

def build(views, scalars):
    return Small(views["local"])
"""


@pytest.fixture
def settings(settings, tmp_path):
    """As for the other tests, with a network that takes no time."""
    (tmp_path / "small.py").write_text(NETWORK)
    return lambda **flags: settings(network=f"{tmp_path / 'small.py'}:build", **flags)


@pytest.fixture(autouse=True)
def device(monkeypatch):
    opened = CapturingCpu()
    monkeypatch.setattr(train_module, "select", lambda _: opened)
    monkeypatch.setattr(turns, "STEPS", 1)
    return opened


def states(result):
    return saved.read(result.data["out"] / saved.FILE)[1]


def differences(first, second):
    """The largest of each weight of each member."""
    pairs = zip(states(first), states(second), strict=True)
    return [float((a[name] - b[name]).abs().max()) for a, b in pairs for name in a]


@pytest.fixture
def order(monkeypatch):
    """The fit of each optimizer step, in the order in which they are taken."""
    taken, step = [], turns.SharedTurn.step

    def noted(self):
        taken.append(id(self))
        step(self)

    monkeypatch.setattr(turns.SharedTurn, "step", noted)
    return taken


def test_each_member_has_the_bits_that_it_has_alone(settings, tmp_path, order):
    alone = train(settings(**OPTIONS, processes=1))
    assert not order
    beside = train(settings(**OPTIONS, processes=2, out=tmp_path / "beside"))
    assert set(differences(alone, beside)) == {0.0}
    assert beside.data["average_precision"] == alone.data["average_precision"]
    assert [fit["fit"] for fit in beside.data["fits"]] == ["member-0", "member-1", "member-2"]
    changes = sum(a != b for a, b in itertools.pairwise(order))
    assert changes > len(order) / 3  # two members in turn, then the third alone


@pytest.mark.parametrize("planted", ["signal", "failure"])
def test_a_run_that_stops_has_saved_every_member_and_goes_on(settings, tmp_path, monkeypatch, planted):
    whole = train(settings(**OPTIONS, epochs=3))
    end_epoch = Fit._end_epoch

    def stop(self, loss, speed):
        if self.task.name == "member-1" and self.position.epoch == 1:
            if planted == "failure":
                raise TransitError("planted", wanted="", fix="")
            signal.raise_signal(signal.SIGINT)
        end_epoch(self, loss, speed)

    monkeypatch.setattr(Fit, "_end_epoch", stop)
    run = tmp_path / "stopped"
    with pytest.raises(TransitError if planted == "failure" else KeyboardInterrupt):
        train(settings(**OPTIONS, epochs=3, out=run))
    monkeypatch.setattr(Fit, "_end_epoch", end_epoch)
    assert len(list(run.glob("checkpoints/*/step-*"))) >= 3
    assert max(differences(whole, train(config.resolve(TrainSettings, {"resume": run})))) < 1e-5


def test_as_many_fits_as_the_settings_and_the_memory_allow(settings, device, monkeypatch):
    def count(tasks=9, **options):
        return fit_count(train_module.plan(settings(**options), device), tasks)

    assert (count(), count(2), count(processes=7), count(processes=1)) == (side_by_side.FITS, 2, 7, 1)
    monkeypatch.setattr(side_by_side, "STREAMS", 8)
    assert count(processes=9) == 4  # of two views each
    assert count(loader="stream") == 1
    monkeypatch.setattr(side_by_side, "MEMORY", 1e-12)
    assert count() == 1
    monkeypatch.setattr(device, "can_capture", False)
    assert count() == 1
