"""`make bench`: one table and one document for all benchmarks."""

import json
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def report(monkeypatch):
    monkeypatch.syspath_prepend(FOLDER)
    yield __import__("report")
    for name in ("report", "figure"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_every_benchmark_that_it_runs_writes_figures(report, device):
    for commands in report.commands(device, 8).values():
        for script, *_ in commands:
            assert '"--json"' in (FOLDER / script).read_text()


def test_a_table_says_what_is_wanted_and_missed(report):
    figures = [
        report.Figure("train two-branch 64", 1105.4, "samples/s", "lightning", 2.24, (1.9, 3.47), 2.9, shares={"bytes": 0.18}),
        report.Figure("start of predict", 3.5, "s", "import torch", 1.6, wanted=2.0, at_most=True),
        report.Figure("loop", 0.6, "ms", wanted=0.5, at_most=True),
    ]  # fmt: skip
    lines = report.table(figures).splitlines()
    assert " ".join(lines[0].split()) == "train two-branch 64 1,105 samples/s 2.24 x >= 2.9 MISSED bytes 18%"
    assert ["MISSED" in line for line in lines] == [True, False, True]


def test_a_document_keeps_what_was_found_beside_a_failure(report, tmp_path, monkeypatch, capsys):
    def run(command):
        return ([], "no such package") if command[0] == "doctor.py" else ([report.Figure("x", 1.0, "s")], "")

    monkeypatch.setattr(report, "run", run)
    monkeypatch.setattr(sys, "argv", ["report", "--only", "doctor,loop", "--json", str(tmp_path / "a" / "b.json")])
    assert report.main() == 0
    document = json.loads((tmp_path / "a" / "b.json").read_text())
    assert [(figure["benchmark"], figure["name"]) for figure in document["figures"]] == [("loop", "x")]
    assert list(document["failed"].values()) == ["no such package"]
    assert "FAILED doctor.py" in capsys.readouterr().out


def test_a_figure_survives_its_file(report, tmp_path):
    from figure import load, save

    figure = report.Figure("x", 1.5, "s", "y", 2.0, (1.0, 3.0), 2.5, shares={"bytes": 0.5})
    save(tmp_path / "f.json", [figure])
    (again,) = load(tmp_path / "f.json")
    assert (again.ratio, again.reached, tuple(again.range), again.shares) == (2.0, False, (1.0, 3.0), {"bytes": 0.5})
