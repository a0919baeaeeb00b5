"""A run's files as a disk, an editor or somebody else may leave them: typed errors, and no log line stops a resume."""

import io
import json
import multiprocessing
import random
import shutil
from contextlib import ExitStack

import pytest
import torch

from transit_cli import config
from transit_cli.results import TransitError
from transit_cli.training.runs import checkpoint, run
from transit_cli.training.runs.environment import Environment
from transit_cli.training.settings import TrainSettings
from transit_cli.training.train import train


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A view set and a run of two epochs, the second of which has not begun."""
    from tests.training.conftest import write_set

    folder = tmp_path_factory.mktemp("damaged")
    views = write_set(folder / "views")
    flags = {"viewset": views.path, "device": "cpu", "batch_size": 16, "epochs": 2, "out": folder / "run"}
    train(config.resolve(TrainSettings, flags))
    return folder / "run"


@pytest.fixture
def damaged(trained, tmp_path):
    return shutil.copytree(trained, tmp_path / "run")


def resume(path):
    return train(config.resolve(TrainSettings, {"resume": path}))


def mutated(content, moments):
    """JSON with a value removed or replaced, or bytes changed or cut."""
    if moments.random() < 0.5:
        data = bytearray(content.encode())
        for _ in range(moments.randint(1, 3)):
            data[moments.randrange(len(data))] = moments.randrange(256)
        return bytes(data[: moments.choice([len(data), moments.randrange(len(data))])])
    document = json.loads(content.splitlines()[0] if content.startswith('{"fit"') else content)
    place = document
    while isinstance(place, dict) and moments.random() < 0.9:
        key = moments.choice(sorted(place)) if place else ""
        if not isinstance(place.get(key), dict) or moments.random() < 0.4:
            place[key] = moments.choice([None, [], {}, "x", -1, 1e308, True, {"a": 1}, "\u0000", float("nan")])
            if moments.random() < 0.5:
                del place[key]
            break
        place = place[key]
    return json.dumps(document).encode()


@pytest.mark.parametrize("name", ["environment.json", "metrics.jsonl", "config.yaml"])
def test_a_damaged_file_is_a_typed_error_or_ignored(damaged, name, capsys):
    file, moments = damaged / name, random.Random(5)
    good = file.read_text()
    outcomes = []
    for _ in range(30):
        if name == "config.yaml":
            place = moments.randrange(len(good))
            text = good[:place] + moments.choice(["[", ": ", "\x00", "!!x ", "\n"]) + good[place:]
            file.write_text(text)
        else:
            file.write_bytes(mutated(good, moments))
        try:
            if name == "environment.json":
                source = run.schema.Source(str(file), "w", "f", "run-damaged")
                run.schema.read(file, Environment, source)
            elif name == "metrics.jsonl":
                with pytest.MonkeyPatch.context() as patch:
                    patch.setattr(run.console, "warn", lambda text: None)
                    run.Run(damaged).truncate_metrics({"member-0": 10**6})
            else:
                run.resumed(config.resolve(TrainSettings, {"resume": damaged}))
            outcomes.append("read")
        except TransitError as error:
            error.found.encode()
            outcomes.append(error.code)
    assert len(set(outcomes)) >= (1 if name == "metrics.jsonl" else 2)


def test_a_damaged_log_is_reported_and_the_run_resumes(damaged):
    with (damaged / "metrics.jsonl").open("ab") as stream:
        stream.write(b'["a list"]\n\xff\xfe\n{"fit": "member-0"')
    with pytest.warns(UserWarning) as caught:  # noqa: PT030 - two are given
        resume(damaged)
    assert any("metrics.jsonl:3 has a list: the line is ignored" in str(item.message) for item in caught)
    assert len(run.Run(damaged).history()) == 2


def test_another_environment_names_its_place(damaged):
    file = damaged / "environment.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"viewset": {"sizes": {"rows": "x"}}}))
    with pytest.raises(TransitError, match=r"viewset\.sizes\.rows: 'x'") as error:
        resume(damaged)
    assert error.value.code == "run-damaged"


def forge(folder, state, raw=None):
    """A checkpoint with the right name for a wrong content, newer than all."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    content = raw if raw is not None else buffer.getvalue()
    file = folder / f"step-000999999-{checkpoint._digest(content)}.pt"
    file.write_bytes(content)
    return file


def test_forged_checkpoints_are_typed_errors(damaged):
    folder = damaged / "checkpoints" / "member-0"
    good = checkpoint.load(checkpoint.files(folder)[-1])
    learner, position = good["learner"], good["position"]
    network = {name: value.reshape(-1) for name, value in learner["network"].items()}
    forged = [
        {},
        {"learner": {}, "position": {}},
        {"learner": learner, "position": position | {"epoch": "1"}},
        {"learner": learner, "position": position | {"epoch": 10**9}},
        {"learner": learner, "position": position | {"best": None}},
        {"learner": learner, "position": [1]},
        {"learner": learner | {"network": network}, "position": position},
        {"learner": learner | {"average": 3}, "position": position},
        {"learner": learner | {"random": {"cpu": torch.zeros(3), "device": None}}, "position": position},
        {"learner": learner | {"micro": "16"}, "position": position},
        {"learner": learner | {"step": learner["step"] | {"optimizer": {"state": {}}}}, "position": position},
        [1],
    ]
    for state, raw in [
        *((state, None) for state in forged),
        (None, b""),
        (None, b"PK\x03\x04junk"),
        (None, b"\x80\x02."),
    ]:
        file = forge(folder, state, raw)
        with pytest.raises(TransitError) as error:
            resume(damaged)
        assert error.value.code == "checkpoint-invalid", (state, error.value.found)
        file.unlink()
    resume(damaged)


NETWORK = """
from torch import nn
def build(views, scalars):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.line = nn.Linear(views["local"], 1)
        def forward(self, inputs):
            return self.line(inputs["local"]).{activation}().squeeze(1)
    return Net()
"""


def test_a_run_resumes_with_its_own_copy_of_a_network_from_any_folder(views, tmp_path, monkeypatch):
    source = tmp_path / "net.py"
    source.write_text(NETWORK.format(activation="relu"))
    monkeypatch.chdir(tmp_path)
    flags = {"viewset": views.path, "device": "cpu", "epochs": 1, "out": tmp_path / "run", "network": "net.py:build"}
    train(config.resolve(TrainSettings, flags))
    source.write_text(NETWORK.format(activation="tanh"))
    with pytest.warns(UserWarning, match=r"net.py has changed since .* was started: the copy in .* is used"):
        resume(tmp_path / "run")
    assert "relu" in (tmp_path / "run" / "net.py").read_text()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    resume(tmp_path / "run")


def own(path, barrier, answers):
    barrier.wait()
    with ExitStack() as stack:
        try:
            if path is None:
                answers.put(str(run._lock_new_name(stack)))
            else:
                stack.enter_context(run.locked(path))
                answers.put("owned")
        except TransitError as error:
            answers.put(error.code)
        barrier.wait()


@pytest.mark.parametrize("named", [True, False])
def test_of_processes_that_start_a_run_at_once_one_owns_each_folder(tmp_path, monkeypatch, named):
    monkeypatch.chdir(tmp_path)
    context = multiprocessing.get_context("fork")
    barrier, answers = context.Barrier(4), context.SimpleQueue()
    path = tmp_path / "new" / "run" if named else None
    processes = [context.Process(target=own, args=(path, barrier, answers)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    found = sorted(answers.get() for _ in processes)
    if named:
        assert found == ["folder-busy"] * 3 + ["owned"]
    else:
        assert len(set(found)) == 4
