"""Streaming from disk: the same micro-batches, in the same order, as from memory; and what goes wrong in a worker."""

import numpy as np
import pytest
import torch

from tests.training.conftest import write_set
from transit_cli.results import TransitError
from transit_cli.training.loading import samples
from transit_cli.training.loading.samples import Batching, DeviceLoader
from transit_cli.training.loading.stream import OnDiskSamples, StreamingLoader

CPU = torch.device("cpu")
VIEWS = ("global", "local")


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def rows_of(view_set):
    return {name: view_set.stored_rows(name) for name in VIEWS}


def stored_and_read(view_set, scalars):
    among = samples.labelled_rows(view_set, ("train",))
    target = samples.targets(view_set, ("PC",))[among]
    numbers = np.random.default_rng(0).normal(size=(len(among), 2)).astype(np.float32) if scalars else None
    examples = samples.read_samples(view_set, among, VIEWS, numbers, target)
    tensor = None if numbers is None else torch.from_numpy(numbers)
    return OnDiskSamples(view_set.path, rows_of(view_set), tensor, torch.from_numpy(target), among), examples


@pytest.mark.parametrize(("workers", "scalars"), [(0, True), (1, False)])
def test_streaming_gives_what_memory_gives(tmp_path, workers, scalars):
    stored, examples = stored_and_read(write_set(tmp_path / "views"), scalars)
    batching = Batching(len(examples), 16, 3)
    resident, streamed = DeviceLoader(examples, CPU), StreamingLoader(stored, CPU, workers)
    before = torch.get_rng_state()
    for epoch, start in ((0, 0), (1, 2)):
        one, other = (list(f.epoch(batching, 7, epoch, start)) for f in (resident, streamed))
        assert len(one) == len(other) == batching.steps - start
        for mine, theirs in zip(one, other, strict=True):
            assert len(mine) == len(theirs)
            for ours, streams in zip(mine, theirs, strict=True):
                (inputs, targets), (same, labels) = (ours.inputs, ours.targets), (streams.inputs, streams.targets)
                assert inputs.keys() == same.keys()
                assert all(torch.equal(inputs[name], same[name]) for name in inputs)
                assert torch.equal(targets, labels)
    assert torch.equal(before, torch.get_rng_state())  # dropout's random numbers are not the loader's to draw


def test_a_value_that_is_no_number_is_named_from_the_worker(tmp_path):
    def spoil(views, tces):
        views["local"][np.flatnonzero(tces["split"] == "train")[5], 3] = np.nan

    view_set = write_set(tmp_path / "views", change=spoil)
    among = samples.labelled_rows(view_set, ("train",))
    row = among[5]
    stored = OnDiskSamples(view_set.path, rows_of(view_set), None, torch.zeros(len(among)), among)
    with pytest.raises(TransitError, match=rf"local\.npy holds NaN or infinity in row {row}") as caught:
        list(StreamingLoader(stored, CPU, 1).epoch(Batching(len(among), 16, 1), 0, 0))
    assert caught.value.code == "view-not-finite"


@pytest.mark.parametrize(("count", "batch_size", "accumulate"), [(100, 16, 3), (5, 16, 1), (64, 16, 2), (65, 64, 4)])
def test_an_epoch_uses_each_sample_at_most_once_in_whole_micro_batches(count, batch_size, accumulate):
    batching = Batching(count, batch_size, accumulate)
    groups = batching.groups(samples.epoch_order(count, 0, 3))
    places = torch.cat([places for group in groups for places in group])
    assert len(groups) == batching.steps
    assert len(places.unique()) == len(places) == batching.samples
    assert count - batching.samples < batch_size
    assert {len(part) for group in groups for part in group} == {min(batch_size, count)}


def test_an_order_depends_on_seed_and_epoch_alone():
    torch.manual_seed(1)
    first = samples.epoch_order(50, 3, 4)
    torch.manual_seed(2)
    assert torch.equal(first, samples.epoch_order(50, 3, 4))
    assert not torch.equal(first, samples.epoch_order(50, 3, 5))
    assert not torch.equal(first, samples.epoch_order(50, 4, 4))
