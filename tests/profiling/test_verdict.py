"""Planted faults: each is found, and named with its place."""

import json
import textwrap

import pytest

SMALL = ["--bins", "64/32", "--batch-size", "8", "--steps", "8", "--growth-steps", "60", "--device", "cpu"]

NETWORK = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, views):
        super().__init__()
        self.layer = nn.Linear(sum(views.values()), 64)
        self.head = nn.Linear(64, 1)
        self.kept = []

    def forward(self, inputs):
        hidden = torch.relu(self.layer(torch.cat([inputs["global"], inputs["local"]], 1)))
        logits = self.head(hidden)
        {fault}
        return logits

def build(views, scalars):
    return Net(views)
"""
FAULTS = {
    "none": "pass",
    "item": "self.scale = logits.mean().item()",
    "tiny": "\n        for _ in range(1000): logits = logits * 1.0",
    "leak": "self.kept.append(hidden.repeat(1, 40).pow(2).sum())",
}
LOADER = """
import time
import torch

def batches(views, scalars, batch_size):
    while True:
        time.sleep({seconds})
        yield {{name: torch.zeros(batch_size, length) for name, length in views.items()}}, torch.zeros(batch_size)
"""


@pytest.fixture
def profile(forked_transit, tmp_path):
    """Profile a network with a planted fault, and return the document and the exit code."""

    def run(fault, *arguments):
        (tmp_path / "my_net.py").write_text(NETWORK.format(fault=FAULTS[fault]))
        done = forked_transit(
            "profile",
            "--network",
            "my_net.py:build",
            *SMALL,
            *arguments,
            "--json",
            cwd=tmp_path,
            env={"OMP_NUM_THREADS": "1"},
        )
        assert done.stdout, done.stderr
        return json.loads(done.stdout), done.returncode

    return run


def ids(document):
    return [finding["id"] for finding in document["data"]["findings"]]


def test_a_sound_step_has_no_findings_but_its_bound(profile):
    document, code = profile("none")
    assert code == 0
    assert len(ids(document)) == 1
    assert ids(document)[0] in {"no-single-limit", "bound-by-launches", "bound-by-bandwidth", "bound-by-arithmetic"}
    data = document["data"]
    assert data["host_waits_per_step"] == 0
    assert data["memory_leaks"] is False
    assert data["flops_per_step"] == pytest.approx(6 * 8 * (96 * 64 + 64) - 2 * 8 * 96 * 64, rel=0.01)


def test_a_host_synchronisation_is_named_with_its_line(profile):
    document, _ = profile("item")
    finding = next(item for item in document["data"]["findings"] if item["id"] == "host-synchronisation")
    line = 1 + NETWORK.split("{fault}", maxsplit=1)[0].count("\n")
    assert f"my_net.py:{line}" in finding["found"]
    assert document["data"]["host_wait_sites"] == {f"my_net.py:{line}": 1}


@pytest.mark.torture
def test_a_thousand_tiny_operators_are_launches(profile):
    document, _ = profile("tiny")
    assert ids(document) == ["bound-by-launches"]
    assert document["data"]["operators_per_step"] > 2000
    assert "operators per step" in document["verdict"]


def test_a_leak_of_the_graph_fails_the_check(profile):
    document, code = profile("leak")
    assert code == 1
    assert ids(document)[0] == "memory-grows"
    assert "my_net.py" in document["data"]["findings"][0]["fix"]
    assert document["data"]["memory_growth_bytes_per_step"] > 8 * 64 * 40 * 4


@pytest.mark.torture
def test_a_loader_that_sleeps_starves_the_step_and_trying_shows_the_gain(profile, tmp_path):
    (tmp_path / "my_data.py").write_text(LOADER.format(seconds=0.05))
    document, code = profile("none", "--loader", "my_data.py:batches", "--try")
    assert code == 0
    assert ids(document)[0] == "starved-by-data"
    assert "starved by data" in document["verdict"].lower()
    assert document["data"]["findings"][0]["gain"] > 2


READY = """
import torch

def batches(views, scalars, batch_size):
    made = {name: torch.zeros(batch_size, length) for name, length in views.items()}, torch.zeros(batch_size)
    while True:
        yield made
"""


@pytest.mark.torture
def test_a_loader_that_has_them_ready_does_not(profile, tmp_path):
    (tmp_path / "my_data.py").write_text(READY)
    document, _ = profile("tiny", "--loader", "my_data.py:batches")
    assert "starved-by-data" not in ids(document)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (None, "there is no file"),
        ("def other(): pass", "no attribute 'batches'"),
        ("1 / 0", "division by zero"),
        ("def batches(*_): return [1, 2]", "yields int"),
        ("def batches(*_): return []", "yields 0 batches"),
    ],
)
def test_a_loader_that_cannot_be_used_says_why(forked_transit, tmp_path, text, found):
    if text is not None:
        (tmp_path / "my_data.py").write_text(textwrap.dedent(text))
    done = forked_transit("profile", "--loader", "my_data.py:batches", *SMALL, cwd=tmp_path)
    assert done.returncode == 4
    assert found in done.stderr
    assert "Traceback" not in done.stderr
