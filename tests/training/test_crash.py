"""Real crashes: SIGKILL at random moments, a disk without room. What was trained must not suffer."""

import multiprocessing
import os
import random
import re
import resource
import shutil
import signal
import sys
import time

import pytest
import torch
from safetensors.torch import load_file

from transit_cli import config
from transit_cli.model import saved
from transit_cli.training.runs import checkpoint
from transit_cli.training.settings import TrainSettings

#: Processes begin from a server that has imported torch, so that a kill hits the training and not the import.
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["transit_cli.training.train", "sklearn.metrics"])


def train_here(flags, said, largest_file=None):
    from transit_cli.command import execute
    from transit_cli.training.train import train

    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # tests that run under nohup ignore it
    torch.set_num_threads(1)
    os.dup2(os.open(said, os.O_WRONLY | os.O_CREAT | os.O_APPEND), sys.stderr.fileno())
    if largest_file:
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, resource.RLIM_INFINITY))
    work = lambda: train(config.resolve(TrainSettings, flags))  # noqa: E731
    sys.exit(execute("train", work, as_json=False, quiet=True))


@pytest.fixture
def start(tmp_path):
    """`start({"resume": run})`: `transit train` in a process of its own; what it says is in said.txt."""

    def begin(flags, **options):
        process = PROCESSES.Process(target=train_here, args=(flags, tmp_path / "said.txt"), kwargs=options)
        process.start()
        return process

    server = PROCESSES.Process(target=int)  # the first process waits for the server to import torch
    server.start()
    server.join()
    return begin


def finish(process):
    process.join(400)
    assert process.exitcode is not None
    return process.exitcode


def weights(run):
    return load_file(run / saved.FILE)


def assert_same(run, other):
    mine, theirs = weights(run), weights(other)
    assert mine.keys() == theirs.keys()
    for name, value in mine.items():
        assert torch.equal(value, theirs[name]), name


def kill_and_resume(start, views, folder, kills, seed, **options):
    """Train unbroken; train again, killed `kills` times at random moments; both must end the same."""
    flags = {"viewset": views.path, "device": "cpu", "batch_size": 16} | options
    begun = time.monotonic()
    assert finish(start(flags | {"out": folder / "whole"})) == 0
    lasted = time.monotonic() - begun
    moments = random.Random(seed)
    broken, done = folder / "broken", 0

    def go_on():
        begun = (broken / "config.yaml").exists()
        return start({"resume": broken} if begun else flags | {"out": broken, "checkpoint_minutes": 1e-3})

    while done < kills:
        process = go_on()
        process.join(moments.uniform(0, lasted * 1.6 / kills))
        if process.exitcode is not None:  # it came through before it was killed often enough: once more
            assert process.exitcode == 0
            assert_same(folder / "whole", broken)
            shutil.rmtree(broken)
            continue
        process.kill()
        assert finish(process) == -signal.SIGKILL
        done += 1
    assert finish(go_on()) == 0
    assert_same(folder / "whole", broken)
    assert not list(broken.rglob(".transit-part-*"))


@pytest.mark.torture
def test_killed_a_few_times_it_ends_with_the_same_weights(start, views, tmp_path):
    kill_and_resume(start, views, tmp_path, 4, seed=random.randrange(1000), epochs=20, members=2, mixup=0.2, ema=0.9)


@pytest.mark.torture
@pytest.mark.parametrize("options", [{"epochs": 150}, {"epochs": 12, "folds": 3, "members": 2, "accumulate": 3}])
def test_killed_20_times_it_ends_with_the_same_weights(start, views, tmp_path, options):
    kill_and_resume(start, views, tmp_path, 20, seed=random.randrange(1000), shift=0.5, **options)


def test_without_room_on_the_disk_the_last_good_state_stays(start, views, tmp_path):
    flags = {"viewset": views.path, "device": "cpu", "batch_size": 16, "epochs": 8}
    assert finish(start(flags | {"out": tmp_path / "whole"})) == 0
    process = start(flags | {"out": tmp_path / "full", "checkpoint_minutes": 1e-3})
    while not list(tmp_path.glob("full/checkpoints/*/step-*.pt")):
        time.sleep(0.01)
    process.kill()
    finish(process)
    before = sorted(tmp_path.glob("full/checkpoints/*/*.pt"))
    code = finish(start({"resume": tmp_path / "full"}, largest_file=20_000))
    said = (tmp_path / "said.txt").read_text()
    assert code == 5, said
    assert "cannot be written" in said
    assert f"transit train --resume {tmp_path / 'full'}" in said
    assert sorted(tmp_path.glob("full/checkpoints/*/*.pt")) == before
    assert finish(start({"resume": tmp_path / "full"})) == 0
    assert_same(tmp_path / "whole", tmp_path / "full")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 143)])
def test_a_signal_saves_and_says_how_to_go_on(start, views, tmp_path, number, code):
    run = tmp_path / "run"
    process = start({"viewset": views.path, "device": "cpu", "batch_size": 16, "epochs": 100_000, "out": run})
    while not list(run.glob("checkpoints/*/step-*.pt")):
        time.sleep(0.01)
    os.kill(process.pid, number)
    assert finish(process) == code
    said = (tmp_path / "said.txt").read_text()
    assert f"transit train --resume {run}" in said
    assert re.search(r"(interrupted|terminated); saved: member-0 at step \d+", said)
    state = checkpoint.latest(run / "checkpoints" / "member-0")
    assert state["learner"]["step"]["steps"] > 0
    assert state["position"]["step"] > 0 or state["position"]["epoch"] > 0


def test_two_processes_do_not_train_one_run(start, views, tmp_path):
    run = tmp_path / "run"
    first = start({"viewset": views.path, "device": "cpu", "batch_size": 16, "epochs": 100_000, "out": run})
    while not list(run.glob("checkpoints/*/step-*.pt")):
        time.sleep(0.01)
    assert finish(start({"resume": run})) == 4
    assert "another process" in (tmp_path / "said.txt").read_text()
    first.kill()
    finish(first)
