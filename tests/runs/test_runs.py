"""`transit runs` and `transit watch` on run folders as `transit train` writes them."""

import json
import os
import re
import subprocess
import sys
import time

import numpy as np
import pytest

from transit_cli.data.viewset import write_table
from transit_cli.model import saved
from transit_cli.model.card import Card
from transit_cli.results import ExitCode, TransitError
from transit_cli.runs import comparison, listing, record, report, watching
from transit_cli.runs.settings import BestSettings, CompareSettings, ListSettings, RemoveEmptySettings, WatchSettings
from transit_cli.utils.files import in_use, locked


def write_run(path, *, seed=0, epochs=2, finished=True, target="PC", viewset="views", score=None):
    path.mkdir(parents=True)
    (path / "config.yaml").write_text(f"command: train\nseed: {seed}\nepochs: 2\nout: {path}\ntarget: [{target}]\n")
    environment = {
        "started": f"2026-11-{seed + 10}T12:00:00+00:00",
        "transit": "0.1.0",
        "torch": "2.13.0",
        "device": {"kind": "cpu", "name": "a processor"},
        "viewset": {"path": f"/data/{viewset}", "simulated": True, "sizes": {}, "sha256": {"tces.csv": viewset}},
    }
    (path / "environment.json").write_text(json.dumps(environment))
    lines = [
        {"fit": "fit", "epoch": n, "step": 4 * n, "loss": 1 / n, "samples_per_second": 100.0 * n}
        | {"validation_average_precision": None if n == 1 else 0.5 + seed / 10, "seconds": 2.0 * n}
        for n in range(1, epochs + 1)
    ]
    (path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    if finished:
        import torch

        card = Card("two-branch", {"global": 8}, [target], figures={"validation_average_precision": 0.5 + seed / 10})
        saved.save(path / saved.FILE, [{"weight": torch.zeros(2)}], card)
    if score is not None:
        rows = np.arange(len(score))
        label = np.where(rows % 3 == 0, "PC", "J")
        write_table(path / "scores.csv", {"row": rows, "star": (rows // 2).astype(str), "label": label, "score": score})
    return path


def test_runs_are_listed_with_their_state(tmp_path):
    write_run(tmp_path / "a", seed=1)
    write_run(tmp_path / "b", seed=2, epochs=1, finished=False)
    write_run(tmp_path / "c", seed=3, epochs=0, finished=False)
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "config.yaml").write_text("command: train\nepochs: many\n")
    with locked(tmp_path / "b"):
        result = listing.list_runs(ListSettings(folder=tmp_path))
    assert {run["run"].name: run["state"] for run in result.data["runs"]} == {
        "a": "finished",
        "b": "running",
        "c": "empty",
    }
    assert [run["run"].name for run in result.data["runs"]] == ["c", "b", "a"]  # the newest first
    assert "damaged" in result.warnings[0]
    assert "remove-empty" in result.verdict
    by_ap = listing.list_runs(ListSettings(folder=tmp_path, sort="ap"))
    assert by_ap.data["runs"][0]["average_precision"] == pytest.approx(0.6)
    shown = listing.show_run(tmp_path / "a")
    assert shown.data["options"]["seed"] == 1
    assert "learning_rate" not in shown.data["options"]  # a default


def test_only_empty_runs_without_other_files_are_removed(tmp_path):
    for name in ("empty", "mine"):
        write_run(tmp_path / name, epochs=0, finished=False)
    write_run(tmp_path / "stopped", finished=False)
    (tmp_path / "mine" / "notes.txt").write_text("keep")
    (tmp_path / "empty" / "init.safetensors").write_text("of a start with --init that was killed")
    assert listing.remove_empty(RemoveEmptySettings(folder=tmp_path, dry_run=True)).data["removed"] == [
        tmp_path / "empty"
    ]
    assert (tmp_path / "empty").is_dir()
    result = listing.remove_empty(RemoveEmptySettings(folder=tmp_path))
    assert {path.name for path in tmp_path.iterdir() if path.is_dir()} == {"mine", "stopped"}
    assert "notes.txt" in result.warnings[0]


def test_the_best_run_is_one_of_comparable_runs(tmp_path):
    write_run(tmp_path / "a", seed=1)
    write_run(tmp_path / "b", seed=3)
    best = listing.best_run(BestSettings(folder=tmp_path))
    assert best.data["run"] == tmp_path / "b"
    assert "runs compare" in best.warnings[0]
    write_run(tmp_path / "c", seed=4, viewset="others")
    with pytest.raises(TransitError, match="several view sets: others, views"):
        listing.best_run(BestSettings(folder=tmp_path))
    assert listing.best_run(BestSettings(folder=tmp_path, viewset="views")).data["run"] == tmp_path / "b"


def test_a_difference_is_told_from_chance(tmp_path):
    random = np.random.default_rng(0)
    truth = np.arange(600) % 3 == 0
    noise = random.normal(size=600)
    good, worse = truth * 2.0 + noise, truth * 1.0 + noise
    write_run(tmp_path / "good", score=good)
    write_run(tmp_path / "worse", seed=1, score=worse)
    write_run(tmp_path / "alike", seed=2, score=good + random.normal(size=600) * 0.01)

    def compare(one, other):
        return comparison.compare_runs(CompareSettings(run=tmp_path / one, other=tmp_path / other, resamples=300)).data

    real, chance = compare("good", "worse"), compare("good", "alike")
    assert real["significant"]
    assert real["difference_high"] < 0
    assert not chance["significant"]
    assert chance["difference_low"] < 0 < chance["difference_high"]
    write_run(tmp_path / "elsewhere", seed=4, viewset="others", score=good)
    with pytest.raises(TransitError, match=r"tces\.csv differs"):
        compare("good", "elsewhere")
    write_run(tmp_path / "eb", seed=5, target="EB", score=good)
    with pytest.raises(TransitError, match="trained for PC"):
        compare("good", "eb")


def test_the_report_of_a_run_has_its_curves_options_and_versions(tmp_path):
    run = write_run(tmp_path / "a", seed=3)
    page = report.write_report(run).read_text()
    for words in ("Learning curves", "average precision", "seed", "torch 2.13.0", "Cite transit", "views (simulated)"):
        assert words in page
    assert page.count('role="img"') == page.count("<svg") == 3
    assert "simulated: the figures do not hold" in page
    assert not re.search(r"""(src|href)=["']?http""", page)
    write_run(tmp_path / "empty", epochs=0, finished=False)
    with pytest.raises(TransitError, match="no completed epoch"):
        report.write_report(tmp_path / "empty")


def test_watch_follows_a_run_until_its_process_ends(tmp_path, forked_transit):
    run = write_run(tmp_path / "run", epochs=1, finished=False)
    script = (
        "import sys, time, json; from pathlib import Path; from transit_cli.utils.files import locked\n"
        "with locked(Path(sys.argv[1])):\n"
        "    print('locked', flush=True); time.sleep(1)\n"
        "    line = {'fit': 'fit', 'epoch': 2, 'step': 8, 'loss': 0.25}\n"
        "    with open(sys.argv[1] + '/metrics.jsonl', 'a') as stream: stream.write(json.dumps(line) + '\\n')\n"
        "    time.sleep(1)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script, str(run)], stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        assert in_use(run)
        started = time.monotonic()
        result = watching.watch(WatchSettings(run=run, interval=0.1))
        assert time.monotonic() - started > 1
    assert (result.exit_code, result.data["state"], result.data["epochs"]) == (ExitCode.NEGATIVE, "stopped", 2)
    assert "transit train --resume" in result.verdict
    done = forked_transit("watch", run)
    assert sum("epoch 2/2" in line for line in done.stderr.splitlines()) == 1
    assert not in_use(run)


def test_a_lock_file_of_a_killed_process_is_no_owner(tmp_path):
    run = write_run(tmp_path / "run")
    (tmp_path / ".run.transit-lock").write_text(f"process {2**22 + 1} on {os.uname().nodename}: transit train")
    assert not in_use(run)
    assert record.read(run).state == "finished"


def test_a_line_of_bars_spans_its_values():
    assert watching.sparkline([0, 1]) == "▁█"
    assert watching.sparkline([2, 2, 2]) == "▁▁▁"
    assert len(watching.sparkline(list(range(1000)))) <= 40
