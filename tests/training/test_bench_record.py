"""At its end, a run is held against what `transit bench` measured here, if it has."""

import pytest

from transit_cli.device.select import select
from transit_cli.training.runs import bench_record
from transit_cli.training.train import train
from transit_cli.utils import cache


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "cache_folder", lambda: tmp_path / "cache")


def test_a_run_says_what_share_of_the_bench_it_reached(settings):
    given = settings(scalars=())
    bench_record.keep(
        bench_record.RecordKey("two-branch", {"global": 40, "local": 20}, 16, "fp32"), select("cpu"), 1e6, quiet=True
    )
    result = train(given)
    assert 0 < result.data["bench_share"] < 1
    assert result.data["bench_samples_per_second"] == 1e6
    assert f"{result.data['bench_share']:.0%} of what `transit bench` reached here" in result.verdict
    assert result.verdict.splitlines()[-1].startswith("next: ")


@pytest.mark.parametrize(
    "other",
    [
        bench_record.RecordKey("astronet", {"global": 40, "local": 20}, 16, "fp32"),
        bench_record.RecordKey("two-branch", {"global": 41, "local": 20}, 16, "fp32"),
        bench_record.RecordKey("two-branch", {"global": 40, "local": 20}, 17, "fp32"),
        bench_record.RecordKey("two-branch", {"global": 40, "local": 20}, 16, "bf16"),
    ],
)
def test_figures_of_other_work_say_nothing(other):
    bench_record.keep(other, select("cpu"), 1e6, quiet=True)
    assert (
        bench_record.benched(
            bench_record.RecordKey("two-branch", {"global": 40, "local": 20}, 16, "fp32"), select("cpu")
        )
        is None
    )


def test_a_busy_machine_s_figure_gives_way_to_a_quiet_one_s():
    work, device = bench_record.RecordKey("two-branch", {"global": 40}, 16, "fp32"), select("cpu")
    for speed, quiet, kept in (
        (1.0, False, 1.0),
        (2.0, False, 2.0),
        (9.0, True, 9.0),
        (3.0, False, 9.0),
        (8.0, True, 8.0),
    ):
        bench_record.keep(work, device, speed, quiet=quiet)
        assert bench_record.benched(work, device) == kept


def test_without_a_bench_nothing_is_said(settings):
    result = train(settings(epochs=1))
    assert "speed:" not in result.verdict
    assert "bench_share" not in result.data
