"""The figures of a profile hold together, and what it writes can be opened."""

import gzip
import json
import re
import statistics
import time

import pytest
import torch

from transit_cli.profiling import batches, fallbacks, hotspots, operator_counts, phases, profiler, roofline, step_memory
from transit_cli.profiling.report import compare, html_report, profile_result
from transit_cli.profiling.settings import ProfileSettings
from transit_cli.profiling.step_memory import Growth
from transit_cli.results import Result, TransitError
from transit_cli.training.execution.marks import INFERENCE_PHASES, PHASES
from transit_cli.training.workload import Workload


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    torch.set_num_threads(1)


def small(**changes):
    return ProfileSettings(
        **({"bins": "201/61", "batch_size": 16, "steps": 12, "growth_steps": 0, "device": "cpu"} | changes)
    )


@pytest.mark.parametrize(("accumulate", "inference"), [(1, False), (3, False), (1, True)])
def test_every_phase_occurs_and_they_make_up_the_step(accumulate, inference):
    settings = small(accumulate=accumulate, inference=inference)
    times = phases.measure(batches.build(settings), settings.steps)
    expected = INFERENCE_PHASES if inference else PHASES
    assert tuple(times.phases) == expected
    for name, samples in times.phases.items():
        assert len(samples) == settings.steps
        assert all(samples), name
    sums = [sum(parts) for parts in zip(*times.phases.values(), strict=True)]
    for whole, parts in zip(times.profiled, sums, strict=True):
        assert parts == pytest.approx(whole, rel=0.02, abs=3e-4)


def test_marks_change_no_numbers():
    plain = batches.build(small())
    for _ in range(3):
        plain.run_step()
    marked = batches.build(small())  # seeds anew: dropout draws the same numbers
    for _ in range(3):
        marked.run_step(phases.Marks(marked))
    assert plain.loss.item() == marked.loss.item() != 0
    for left, right in zip(plain.step.parameters, marked.step.parameters, strict=True):
        assert torch.equal(left, right)
    assert "loss" not in vars(marked.step)


def test_inspection_counts_what_torch_counts():
    settings = small()
    found = operator_counts.inspect(batches.build(settings))
    views = {"global": (201, (7, 5, 5)), "local": (61, (5, 3, 3))}
    flops = 0
    for length, kernels in views.values():
        for index, kernel in enumerate(kernels):
            forward = 2 * 16 * 32 * (32 if index else 1) * kernel * (length // 2**index)
            flops += forward * (3 if index else 2)  # the first layer's input needs no gradient
    flops += 3 * 2 * 16 * (128 * 128 + 128)
    assert found.flops == pytest.approx(flops, rel=0.01)
    assert found.waits.total() == 0
    assert found.largest[0].shape[:2] == (16, 32)


def test_peaks_are_those_of_this_machine():
    from transit_cli.device import select

    peaks = roofline.measure_peaks(select.select("cpu"))
    assert 1e8 < peaks.copy < 1e12
    assert 1e9 < peaks.matmul < 1e13
    sleep = roofline.launch_seconds(select.select("cpu"), 100, lambda: time.sleep(0.02), rounds=3)
    assert 1e-7 < sleep[0] / 100 < 1e-2
    assert sleep[1] >= 0.02


@pytest.mark.parametrize(
    ("held", "leaks"),
    [
        ([100 << 20] * 200, False),
        ([(100 << 20) + step * 100_000 for step in range(200)], True),
        ([(100 << 20) + min(step, 60) * 100_000 for step in range(200)], False),  # a cache that fills
        ([(100 << 20) + (step % 7) * 1_000_000 for step in range(200)], False),  # noise
        ([(100 << 20) + step * 100 for step in range(200)], False),  # a list of numbers
    ],
)
def test_a_leak_is_growth_that_does_not_end(held, leaks):
    assert Growth(tuple(held), "exact").leaks is leaks


def test_memory_is_seen_at_the_end_of_each_phase():
    samples = step_memory.timeline(batches.build(small(batch_size=64)), 2)
    assert [sample.phase for sample in samples[:8]] == list(PHASES)
    held = {sample.phase: sample.allocated for sample in samples[8:]}
    assert held["forward"] > held["data"] + 64 * 32 * 201 * 4
    assert held["backward"] < held["forward"]


def test_a_trace_opens_and_names_the_phases(tmp_path):
    file = tmp_path / "trace.json.gz"
    settings = small()
    assert hotspots.trace(batches.build(settings), file) < 5_000_000
    events = json.loads(gzip.decompress(file.read_bytes()))["traceEvents"]
    complete = [event for event in events if event.get("ph") == "X"]
    assert {f"phase: {name}" for name in PHASES} <= {event["name"] for event in complete}
    assert all(event["dur"] >= 0 for event in complete)
    forward = next(event for event in complete if event["name"] == "phase: forward")
    inside = [e for e in complete if forward["ts"] <= e["ts"] <= forward["ts"] + forward["dur"]]
    assert any("conv" in event["name"] for event in inside)
    assert [path.name for path in tmp_path.iterdir()] == ["trace.json.gz"]


def test_two_runs_of_one_program_differ_by_noise_and_a_slower_one_does_not(tmp_path):
    def save(name, scale):
        samples = [scale * (1 + 0.02 * ((index * 7) % 11 - 5) / 5) for index in range(30)]
        data = {"step_samples_seconds": samples, "phase_samples_seconds": {"forward": samples, "clip": [0.001] * 30}}
        file = tmp_path / name
        file.write_text(json.dumps({"command": "profile", "data": data}))
        return file

    files = save("a.json", 0.100), save("b.json", 0.1005), save("c.json", 0.120)
    before, again, slower = map(compare.read, files)
    assert [change.significant for change in compare.compare(before, again)] == [False, False, False]
    changes = compare.compare(before, slower)
    assert [change.name for change in changes if change.significant] == ["step", "forward"]
    assert changes[0].ratio == pytest.approx(1.2)
    both = profile_result.with_comparison(Result({"steps": 30}, verdict="10 samples/s."), changes)
    assert both.verdict.startswith("10 samples/s.")
    assert "1.20 x" in both.verdict
    assert both.data["steps"] == 30
    assert both.data["changes"][0]["significant"]


@pytest.mark.parametrize("text", ["", "{}", '{"command": "doctor", "data": {}}'])
def test_what_is_no_profile_cannot_be_compared(tmp_path, text):
    file = tmp_path / "a.json"
    file.write_text(text)
    with pytest.raises(TransitError, match=r"a\.json"):
        compare.read(file)
    with pytest.raises(TransitError, match="cannot be read"):
        compare.read(tmp_path / "absent.json")


TABLE = """\
noise before
------ CPU Fallback Profiling: Total 30 Runs, 45.00 ms, 1.25 MB Copies ------
 ID  | #Runs | Mean CPU(ms) | Total CPU(ms) | Copy Overhead | Operation Name
------
  1     10        0.500          5.000         250.00 KB      aten::heaviside
  2     20        2.000          40.000         1.00 MB       aten::_linalg_svd.U
"""


def test_torchs_table_of_fallbacks_is_read():
    rows = fallbacks.parse(TABLE, steps=10)
    assert [(row.name, row.calls, row.copied) for row in rows] == [
        ("aten::_linalg_svd.U", 2, "1.00 MB"),
        ("aten::heaviside", 1, "250.00 KB"),
    ]
    assert rows[0].seconds == pytest.approx(0.004)
    assert fallbacks.parse("There are no CPU Fallbacks logged for profiling\n", 10) == ()
    assert fallbacks.parse("", 10) is None


def test_the_report_is_one_file(tmp_path):
    found = profiler.profile(small(growth_steps=20, out=tmp_path))
    result = profile_result.result(found, [])
    file = tmp_path / "report.html"
    html_report.write(found, result.verdict, file)
    page = file.read_text()
    assert page.count("<svg") == page.count("</svg>") == 3
    assert not re.search(r"""(src|href)=["']https?:""", page)
    assert statistics.median(found.evidence.times.plain) > 0
    assert abs(profile_result.phase_sum(found) / statistics.median(found.evidence.times.profiled) - 1) < 0.1


def test_memory_that_runs_out_leaves_what_was_known(tmp_path, monkeypatch):
    settings = small(out=tmp_path)
    text = "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory"

    def fail(*_):
        raise RuntimeError(text)

    monkeypatch.setattr(Workload, "compute", fail)
    with pytest.raises(TransitError, match="memory ran out at a batch of 16") as caught:
        profiler.profile(settings)
    assert "--batch-size 8 --accumulate 2" in caught.value.fix
    assert json.loads((tmp_path / "oom.json").read_text())["batch_size"] == 16


def test_a_view_set_is_fed_as_training_feeds_it(tmp_path):
    from tests.training.conftest import write_set

    write_set(tmp_path / "views")
    found = batches.build(small(viewset=tmp_path / "views", batch_size=8))
    found.run_step()
    assert found.samples == 8
    assert str(tmp_path / "views") in found.source


def test_replicas_are_timed_as_trained_and_seen_blocked(tmp_path):
    found = profiler.profile(small(bins="401/101", batch_size=32, steps=5, execution="replicas", out=tmp_path))
    assert (found.as_trained.name, len(found.as_trained.seconds)) == ("replicas", 5)
    assert found.workload.runner.execution == "onednn"
    data = profile_result.document(found)
    assert data["samples_per_second"] == pytest.approx(32 / statistics.median(found.as_trained.seconds))
    assert all(data["phase_seconds"].values())
