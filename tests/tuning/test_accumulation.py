"""The proof of accumulation: that it passes where it should, and that it can fail."""

import json
import os

import pytest
import torch
from torch import nn

from transit_cli.device.select import select
from transit_cli.model import registry
from transit_cli.results import TransitError
from transit_cli.tuning.accumulation import micro_batches
from transit_cli.tuning.ddp_check import check_two_processes
from transit_cli.tuning.gradient_check import (
    MICRO_BATCH_COUNTS,
    SAMPLES,
    TOLERANCE_DEVICE,
    TOLERANCE_FLOAT64,
    GradientRecorder,
    batch_dependent_layers,
    check_gradients,
    compare,
    device_tolerance,
    random_batch,
    rounding_error,
    split_batch,
    unweighted_error,
)

SHAPES = {"global": (125,), "local": (31,), "scalars": (2,)}


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def network(name):
    torch.manual_seed(0)
    return registry.build(name, {"global": 125, "local": 31}, 2)


@pytest.mark.parametrize("name", ["two-branch", pytest.param("astronet", marks=pytest.mark.torture)])
def test_micro_batches_give_the_gradients_of_the_full_batch(name):
    device = select("cpu")
    checks = check_gradients(network(name).double(), random_batch(SHAPES, device, torch.float64), device)
    assert {check.count for check in checks} == set(MICRO_BATCH_COUNTS) == {2, 3, 4, 7}
    assert {(check.clip, check.scaler) for check in checks} == {
        (False, False),
        (True, False),
        (False, True),
        (True, True),
    }
    assert max(check.difference.worst for check in checks) < TOLERANCE_FLOAT64
    single = check_gradients(network(name), random_batch(SHAPES, device, torch.float32), device, scalers=(False,))
    assert max(check.difference.worst for check in single if check.what == "gradients") < TOLERANCE_DEVICE[0]


@pytest.mark.parametrize("name", ["two-branch", "astronet"])
def test_rounding_is_told_from_a_wrong_weight(name):
    device, built = select("cpu"), network(name)
    batch = random_batch(SHAPES, device, torch.float32)
    found = rounding_error(built, batch, device, device)
    assert found > 1e-9
    assert unweighted_error(built, batch, device) > 100 * device_tolerance(found)
    assert unweighted_error(built, batch, device) > 10 * device_tolerance(1.0)


def test_no_number_of_parts_divides_the_set_and_the_last_micro_batch_may_be_a_single_random_batch():
    batch = random_batch(SHAPES, select("cpu"), torch.float32)
    sizes = {parts: [len(part) for part in split_batch(batch, parts)] for parts in MICRO_BATCH_COUNTS}
    assert all(len(found) == parts and sum(found) == SAMPLES and found[-1] < found[0] for parts, found in sizes.items())
    assert sizes[7][-1] == 1


def test_the_proof_can_fail():
    device = select("cpu")
    batch = random_batch(SHAPES, device, torch.float64)
    assert unweighted_error(network("two-branch").double(), batch, device) > 1e-3


def test_clipping_acts_in_the_proof():
    device = select("cpu")
    batch, built = random_batch(SHAPES, device, torch.float64), network("two-branch").double()
    free, clipped = (GradientRecorder(built, device, clip=clip).run([batch]) for clip in (0.0, 1e-3))
    norm = torch.stack([values.norm() for values in clipped.values()]).norm()
    assert float(norm) == pytest.approx(1e-3, rel=1e-3)
    assert compare(free, clipped).worst > 0.1


def test_what_is_not_equal_by_nature_is_named_and_measured():
    class Normed(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.Sequential(
                nn.Linear(8, 8),
                nn.BatchNorm1d(8),
                nn.ReLU(),
                nn.Dropout(0.5),
                nn.Linear(8, 8),
                nn.Dropout(0.5),
                nn.Linear(8, 1),
            )

        def forward(self, inputs):
            return self.layers(inputs["x"]).squeeze(1)

    device = select("cpu")
    torch.manual_seed(0)
    built, batch = Normed().double(), random_batch({"x": (8,)}, device, torch.float64)
    assert max(check.difference.worst for check in check_gradients(built, batch, device)) < TOLERANCE_FLOAT64
    found = batch_dependent_layers(built, batch, device)
    assert [name.split(":")[0] for name in found] == ["BatchNorm", "dropout"]
    assert min(found.values()) > 1e-4


def test_two_processes_of_uneven_shares_are_exact_too():
    found = check_two_processes("two-branch", SHAPES, MICRO_BATCH_COUNTS)
    assert set(found) == set(MICRO_BATCH_COUNTS)
    assert max(found.values()) < TOLERANCE_FLOAT64


def test_two_processes_go_through_the_data_parallel_step_of_train(tmp_path, monkeypatch):
    """A fault planted into the all-reduce of `train` is found."""
    (tmp_path / "sitecustomize.py").write_text(
        "from transit_cli.training.execution.data_parallel import DataParallel\n"
        "DataParallel.all_reduce = lambda self, values: None\n"
    )
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    assert check_two_processes("two-branch", SHAPES, (2,))[2] > 0.1


BATCH_NORM = """
from torch import nn

class Net(nn.Module):
    def __init__(self, views, scalars):
        super().__init__()
        self.layers = nn.Sequential(nn.BatchNorm1d(views["global"]), nn.Linear(views["global"], 1))

    def forward(self, inputs):
        return self.layers(inputs["global"]).squeeze(1)
"""


@pytest.mark.torture
def test_two_processes_refuse_what_train_refuses(tmp_path):
    (tmp_path / "net.py").write_text(BATCH_NORM)
    with pytest.raises(TransitError, match="BatchNorm"):
        check_two_processes(f"{tmp_path / 'net.py'}:Net", SHAPES, (2,))


@pytest.mark.parametrize(
    ("effective", "ways"),
    [(256, [(256, 1, 256), (128, 2, 128), (64, 4, 64)]), (6, [(6, 1, 6), (3, 2, 3), (2, 3, 2), (1, 6, 1)])],
)
def test_ways_to_cut_an_effective_batch(effective, ways):
    found = micro_batches(effective)
    assert found[: len(ways)] == ways
    assert all(size * (count - 1) + last == effective and 0 < last <= size for size, count, last in found)


@pytest.mark.torture
def test_the_command_proves_and_plans(forked_transit):
    done = forked_transit("accumulate", "--bins", "31/21", "--device", "cpu", "--effective-batch", "3", "--json")
    assert done.returncode == 0, done.stderr
    data = json.loads(done.stdout)["data"]
    assert data["max_relative_error_float64"] < 1e-10
    assert data["exact"]
    assert data["micro_batch"] * data["accumulate"] >= 3
    assert {plan["verdict"] for plan in data["plans"]} == {"fits"}
    assert all(row["max_relative_error"] < 1e-10 for row in data["parameters"].values())
