"""The figures of the bench hold together, are remembered, and can be set beside an earlier run's."""

import functools
import json

import pytest
import torch

from tests.training.conftest import GLOBAL, LOCAL, write_set
from transit_cli.bench import bench_result, benchmark, frameworks, previous, throughput
from transit_cli.bench.settings import BenchSettings
from transit_cli.device.select import select
from transit_cli.profiling import roofline
from transit_cli.results import TransitError, plain
from transit_cli.training.runs import bench_record
from transit_cli.utils import cache

MEASURE_PEAKS = roofline.measure_peaks


@functools.cache
def measured_once(kind, dtype):
    """The limits of this machine, of which no test here needs the second measurement."""
    return MEASURE_PEAKS(select(kind), dtype)


@pytest.fixture(autouse=True)
def alone(tmp_path, monkeypatch):
    torch.set_num_threads(1)
    monkeypatch.setattr(cache, "cache_folder", lambda: tmp_path / "cache")
    monkeypatch.setattr(benchmark, "MAX_TIME_RATIO", float("inf"))  # a busy machine must not leave anything out
    monkeypatch.setattr(throughput, "BLOCK", 0.02)
    monkeypatch.setattr(benchmark.psutil, "cpu_percent", lambda interval: 0.0)
    monkeypatch.setattr(benchmark.roofline, "measure_peaks", lambda device, dtype: measured_once(device.kind, dtype))


def small(**changes):
    given = {"network": ("two-branch",), "bins": "64/32", "batch_size": (4, 2), "seconds": 1.0, "device": "cpu"}
    return BenchSettings(**(given | changes))


def test_the_figures_follow_from_what_was_measured():
    found = benchmark.bench(small())
    assert [(item.kind, item.batch_size) for item in found.figures] == [
        ("train", 2),
        ("train", 4),
        ("infer", 2),
        ("infer", 4),
    ]
    for item in found.figures:
        assert len(item.seconds) >= throughput.MIN_BLOCKS
        assert item.samples_per_second == pytest.approx(
            item.batch_size / sorted(item.seconds)[len(item.seconds) // 2], rel=0.5
        )
        assert item.bytes_share(found.peaks) == pytest.approx(item.bytes / found.peaks.copy / item.median)
        assert item.flops_share(found.peaks) == pytest.approx(item.flops / found.peaks.matmul / item.median)
        assert item.spread >= 0
    train, infer = found.figures[1], found.figures[3]
    assert 2 < train.flops / infer.flops < 3.01  # backward is twice forward, but for the first layers' inputs
    assert found.figures[3].flops == 2 * found.figures[2].flops
    work = bench_record.RecordKey("two-branch", {"global": 64, "local": 32}, 4, "fp32")
    assert bench_record.benched(work, select("cpu")) == train.samples_per_second


def test_the_guide_s_figures_are_marked_as_claims():
    result = bench_result.result(benchmark.bench(small(batch_size=(2,))))
    table = next(block for block in result.blocks if "claim" in str(block))
    assert all("(claim)" in column for column in table.columns[2:])
    assert "not verified" in table.note
    assert result.data["guide_claims"]["M4 16 GB"]["train"] == 2850
    json.dumps(plain(result.data))


def test_a_busy_machine_is_said(monkeypatch):
    monkeypatch.setattr(benchmark.psutil, "cpu_percent", lambda interval: 80.0)
    with pytest.warns(UserWarning, match="80 % of the processors"):
        assert benchmark.bench(small(batch_size=(2,))).busy_percent == 80.0


def test_a_batch_that_takes_too_long_is_left_out_with_what_it_needs(monkeypatch):
    def measure(settings, network, kind, size, seconds, **_):
        return throughput.Throughput(network, kind, size, "", "fp32", (0.1 * size,) * 5, 0.0, 1, 1, None)

    monkeypatch.setattr(throughput, "measure", measure)
    monkeypatch.setattr(benchmark, "MAX_TIME_RATIO", 3.0)
    settings = small(batch_size=(1, 64), seconds=20.0)
    found = benchmark.bench(settings)
    assert [(item.kind, item.batch_size) for item in found.skipped] == [("train", 64), ("infer", 64)]
    note = bench_result.figure_table(found).note
    assert "left out: two-branch, train, batch 64" in note
    enough = benchmark.bench(settings.replace(seconds=max(item.needed for item in found.skipped) + 1))
    assert enough.skipped == []


def test_an_earlier_run_is_set_beside_it(tmp_path):
    first = benchmark.bench(small(batch_size=(2,)))
    data = plain(bench_result.document(first))
    for row in data["figures"]:
        if row["pass"] == "train":
            row["samples_seconds"] = [10 + 0.01 * number for number in range(12)]  # far slower than anything here
    data["torch"] = "1.0"
    file = tmp_path / "before.json"
    file.write_text(json.dumps({"command": "bench", "data": data}))
    result = bench_result.result(benchmark.bench(small(batch_size=(2,), compare=file)))
    change = next(row for row in result.data["changes"] if row["pass"] == "train")
    assert change["significant"]
    assert change["seconds_ratio"] < 0.5
    assert "torch 1.0 -> " in result.blocks[-1].note


@pytest.mark.parametrize("text", ["", "{}", '{"command": "profile", "data": {"figures": []}}'])
def test_what_is_no_bench_is_refused_before_anything_runs(tmp_path, text):
    file = tmp_path / "a.json"
    file.write_text(text)
    with pytest.raises(TransitError, match=r"a\.json"):
        benchmark.bench(small(compare=file))
    with pytest.raises(TransitError, match="cannot be read"):
        previous.read(tmp_path / "absent.json")


def test_frameworks_take_turns_and_missing_ones_are_reported(monkeypatch):
    monkeypatch.setattr(frameworks, "PACKAGES", ("no_such_package",))
    config = frameworks.BenchmarkConfig("two-branch", {"global": 64, "local": 32}, 4)
    done = []
    comparison = frameworks.compare_frameworks(
        config, 2, 3, names=("no_such_package", "plain", "transit"), after=done.append
    )
    assert done == [1, 2]
    assert (comparison.absent, comparison.baseline) == (("no_such_package",), "plain")
    by_name = {item.name: item for item in comparison.results}
    assert by_name["plain"].ratios == (1.0, 1.0)
    assert by_name["transit"].execution
    assert all(item.samples_per_second > 0 and len(item.ratios) == 2 for item in comparison.results)
    assert "pip install no_such_package" in bench_result.framework_table("two-branch", comparison, 4).note


def test_a_framework_that_fails_is_reported_with_the_reason():
    with pytest.raises(TransitError, match=r"training with plain failed: .*no-such-network"):
        frameworks.compare_frameworks(
            frameworks.BenchmarkConfig("no-such-network", {"global": 64}, 4), 1, 1, names=("plain",)
        )


def test_a_view_set_gives_its_lengths_alone(tmp_path):
    write_set(tmp_path / "views", size=24)  # fewer rows than a batch has
    found = benchmark.bench(small(viewset=tmp_path / "views", batch_size=(32,)))
    assert found.views == {"global": GLOBAL, "local": LOCAL}
    assert found.figures[0].flops == benchmark.bench(small(bins=f"{GLOBAL}/{LOCAL}", batch_size=(32,))).figures[0].flops


def test_nothing_to_measure_is_refused():
    for changes in ({"bins": "64"}, {"network": ()}, {"batch_size": ()}):
        with pytest.raises(TransitError):
            small(**changes)
