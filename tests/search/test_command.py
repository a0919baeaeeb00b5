"""The command: from files to a catalog that `transit data prepare` reads, resumed where it was stopped."""

import csv
import json

import numpy as np
import pytest

from tests.data import fits_maker
from transit_cli.data.settings import PrepareSettings
from transit_cli.results import TransitError
from transit_cli.search import blocks, search_run
from transit_cli.search.settings import SearchSettings

PLANET = (4.37, 133.2, 0.16, 3e-3)


def stars(folder, count=3, shared=False):
    """Long-cadence quarters of 30 days: a planet on every star but the first; at the same time if `shared`."""
    from tests.search.curves import planted

    time = fits_maker.long_cadence(28.0)
    for number in range(count):
        period, epoch, duration, depth = PLANET
        signal = (period, epoch + (0 if shared else 0.9 * number), duration, depth)
        flux = planted(time, [signal] if number else [], noise=3e-4, seed=number)
        fits_maker.kepler(folder / f"kplr{1000 + number:09}-2009166043257_llc.fits", 1000 + number, time, 5000 * flux)
    return folder


def settings(folder, out, **changes):
    given = {"min_period": 2.0, "max_period": 10.0, "device": "cpu", "workers": 1} | changes
    return SearchSettings(light_curves=folder, out=out, **given)


def rows(out):
    return list(csv.DictReader(line for line in out.read_text().splitlines() if not line.startswith("#")))


def test_a_folder_of_light_curves_becomes_a_catalog_that_prepare_reads(tmp_path):
    folder, out = stars(tmp_path / "curves"), tmp_path / "found.csv"
    result = search_run.search(settings(folder, out))
    assert (result.data["stars"], result.data["stars_with_signals"]) == (3, 2)
    found = rows(out)
    assert [row["star"] for row in found] == ["KIC 1001", "KIC 1002"]
    for number, row in enumerate(found, 1):
        assert float(row["period_days"]) == pytest.approx(PLANET[0], rel=1e-3)
        cycles = (float(row["epoch_days"]) - PLANET[1] - 0.9 * number) / PLANET[0]
        assert cycles == pytest.approx(round(cycles), abs=0.005)
        assert float(row["depth_ppm"]) == pytest.approx(3000, rel=0.1)
        assert row["time_system"] == "BKJD"
        assert row["flags"] == ""
    from transit_cli.data.prepare import prepare

    made = prepare(PrepareSettings(catalog=out, light_curves=folder, out=tmp_path / "views", workers=1))
    assert made.data["tces"] == 2 if "tces" in made.data else "2 TCEs" in made.verdict


def test_a_run_that_was_stopped_resumes_and_gives_the_same_bytes(tmp_path, monkeypatch):
    folder = stars(tmp_path / "curves")
    whole, resumed = tmp_path / "whole.csv", tmp_path / "resumed.csv"
    monkeypatch.setitem(blocks.BLOCK, "cpu", 1)
    search_run.search(settings(folder, whole))
    searched = []
    original = blocks._search_block

    def stops(block, *rest):
        searched.append(block[0].star)
        if len(searched) == 2:
            raise KeyboardInterrupt
        return original(block, *rest)

    monkeypatch.setattr(blocks, "_search_block", stops)
    with pytest.raises(KeyboardInterrupt, match="resumes"):
        search_run.search(settings(folder, resumed))
    assert not resumed.exists()
    search_run.search(settings(folder, resumed))
    assert searched == ["KIC 1000", "KIC 1001", "KIC 1001", "KIC 1002"]  # the first is not searched again
    assert resumed.read_bytes() == whole.read_bytes()
    assert not list(tmp_path.glob(".*.work"))


def test_a_catalog_that_is_complete_is_not_made_again_and_another_one_is_not_overwritten(tmp_path, monkeypatch):
    folder, out = stars(tmp_path / "curves", 1), tmp_path / "found.csv"
    search_run.search(settings(folder, out))
    monkeypatch.setattr(search_run, "search_blocks", lambda *_: pytest.fail("searched again"))
    assert "nothing to do" in search_run.search(settings(folder, out)).verdict
    with pytest.raises(TransitError) as refused:
        search_run.search(settings(folder, out, snr=9.0))
    assert refused.value.code == "output-exists"


def test_a_signal_that_several_stars_show_at_the_same_time_is_said_to_be_shared(tmp_path):
    folder, out = stars(tmp_path / "curves", shared=True), tmp_path / "found.csv"
    search_run.search(settings(folder, out))
    assert [row["flags"] for row in rows(out)] == ["shared: 1 other star shows it at the same time"] * 2


def test_a_star_that_cannot_be_searched_is_listed_with_its_reason(tmp_path):
    folder, out = stars(tmp_path / "curves", 1), tmp_path / "found.csv"
    time = fits_maker.long_cadence(1.0)
    fits_maker.kepler(folder / "kplr000002000-2009166043257_llc.fits", 2000, time, np.full(len(time), 5000.0))
    result = search_run.search(settings(folder, out))
    assert result.data["unsearched"] == 1
    assert "KIC 2000" in (tmp_path / "found-unsearched.csv").read_text()
    assert result.warnings


def test_the_memory_limit_bounds_the_stars_that_are_searched_together(tmp_path):
    small = blocks.Machine.open(settings(tmp_path, tmp_path / "out.csv"))
    plan = blocks._plan(70_000, 0.02, settings(tmp_path, tmp_path / "out.csv", max_period=3.0))
    held = small.device.memory().driver
    object.__setattr__(small, "limit", held + (64 << 20))
    few = small.fitting(plan, 10_000)
    object.__setattr__(small, "limit", held + (256 << 20))
    assert 1 <= few < small.fitting(plan, 10_000) <= small.stars


def test_the_command_prints_one_json_document(forked_transit, tmp_path):
    folder, out = stars(tmp_path / "curves", 2), tmp_path / "found.csv"
    options = ("--device", "cpu", "--min-period", "3", "--max-period", "6", "--workers", "1", "--json")
    done = forked_transit("search", folder, out, *options)
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["data"]["signals"] == 1
    assert document["data"]["best"][0]["star"] == "KIC 1001"


def test_shards_by_any_process_in_any_order_give_the_catalog_of_one(tmp_path, monkeypatch):
    monkeypatch.setitem(blocks.BLOCK, "cpu", 1)
    folder = stars(tmp_path / "curves", 4, shared=True)
    whole, all_of_them, one_by_one = (tmp_path / f"{name}.csv" for name in ("whole", "all", "one"))
    search_run.search(settings(folder, whole))
    result = search_run.search(settings(folder, all_of_them, shards=2))
    assert all_of_them.read_bytes() == whole.read_bytes()
    assert result.data["signals"] == 3
    assert not list(tmp_path.glob(".*.work"))
    left = [search_run.search(settings(folder, one_by_one, shard=f"{number}/3")) for number in (3, 1, 3, 2)]
    assert [found.data.get("missing_shards") for found in left] == [2, 1, 1, None]
    assert one_by_one.read_bytes() == whole.read_bytes()
    assert "nothing to do" in search_run.search(settings(folder, one_by_one, shard="2/3")).verdict


def test_a_search_in_shards_that_was_begun_otherwise_is_refused(tmp_path):
    folder, out = stars(tmp_path / "curves", 2), tmp_path / "found.csv"
    search_run.search(settings(folder, out, shard="1/2"))
    for changes in ({"shard": "1/3"}, {"shard": "2/2", "snr": 9.0}, {}):
        with pytest.raises(TransitError) as refused:
            search_run.search(settings(folder, out, **changes))
        assert refused.value.code == "output-exists"
    (folder / "kplr000001000-2009166043257_llc.fits").touch()
    with pytest.raises(TransitError, match="another digest"):
        search_run.search(settings(folder, out, shards=2))


def test_a_file_with_one_light_curve_per_row_gives_the_signals_of_files(tmp_path):
    pytest.importorskip("pyarrow")
    from tests.data import bulk_maker

    folder = stars(tmp_path / "curves")
    whole = bulk_maker.write(tmp_path, tmp_path / "survey.parquet")
    by_file, by_row = tmp_path / "files.csv", tmp_path / "rows.csv"
    search_run.search(settings(folder, by_file))
    search_run.search(settings(whole, by_row, shards=2))
    dropped = {"source", "note", "segment"}
    kept = [[{k: v for k, v in row.items() if k not in dropped} for row in rows(out)] for out in (by_file, by_row)]
    assert kept[0] == kept[1]
