"""Completeness: counts in cells, Wilson's intervals, and what is refused."""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transit_cli.results import TransitError
from transit_cli.vetting.completeness.cells import EDGES, cells_of, interval, label_of
from transit_cli.vetting.completeness.report import Completeness, require_injected


@pytest.mark.parametrize(
    ("passed", "signals", "expected"),
    [(0, 10, (0.0, 0.2775)), (5, 10, (0.2366, 0.7634)), (10, 10, (0.7225, 1.0)), (0, 0, (0.0, 1.0))],
)  # Brown, Cai & DasGupta (2001), and scipy.stats.binomtest(...).proportion_ci(method="wilson")
def test_intervals_are_wilsons(passed, signals, expected):
    assert interval(passed, signals) == pytest.approx(expected, abs=1e-3)


@settings(max_examples=40)
@given(st.lists(st.tuples(st.floats(0.1, 1e3), st.floats(1, 200), st.booleans()), max_size=60))
def test_every_signal_is_in_one_cell(signals):
    period, snr, passed = (np.array([one[part] for one in signals]) for part in range(3))
    columns = {"period_days": period, "injected_snr": snr}
    cells = cells_of(columns, passed.astype(bool), ("period_days", "injected_snr"))
    assert sum(cell.signals for cell in cells) == len(signals)
    assert sum(cell.passed for cell in cells) == int(passed.sum()) if len(signals) else not cells
    for cell in cells:
        assert cell.share_low <= cell.share <= cell.share_high


def evaluation_of(count=200):
    rng = np.random.default_rng(1)
    kind = np.array(["planet", "planet", "inverted", "binary"] * (count // 4))
    snr = np.where(kind == "planet", rng.uniform(4, 60, count), np.nan)
    scores = np.where(kind == "planet", snr / 60, 0.1)
    tces = {
        "kind": kind,
        "injected_snr": snr,
        "measured_snr": np.where(kind == "planet", snr, 6.0),
        "period_days": rng.uniform(0.5, 40, count),
        "injected_radius_ratio": np.where(kind == "planet", 0.04, np.nan),
    }
    found = SimpleNamespace(rows=np.arange(count), scores=scores, threshold=0.25)
    return found, SimpleNamespace(tces=tces, path="set")


def test_completeness_counts_planets_and_false_alarms_and_draws_them(tmp_path):
    evaluation, views = evaluation_of()
    found = Completeness(evaluation, views)
    by_snr = found.planets[("injected_snr",)]
    assert label_of(by_snr[0], "injected_snr") == "below 7"
    assert by_snr[0].share == 0
    assert by_snr[-1].share == 1
    assert sum(cell.signals for cell in by_snr) == 100
    assert [cell.passed for cell in found.alarms[("measured_snr",)]] == [0]
    assert found.kinds["binary"] == (50, 0)
    files = found.write(tmp_path, with_plots=True)
    assert (tmp_path / "completeness.png").stat().st_size > 10_000
    lines = (tmp_path / "completeness.csv").read_text().splitlines()
    assert len(lines) == 1 + sum(len(cells) for cells in (*found.planets.values(), *found.alarms.values()))
    assert set(files) == {"completeness", "completeness_plot"}
    assert len(found.tables()) == 3
    assert {cell["low"]["injected_snr"] for cell in found.document()["planets"] if len(cell["low"]) == 1} <= {
        *EDGES["injected_snr"]
    }


def test_a_set_without_injections_is_refused():
    with pytest.raises(TransitError, match="no injected"):
        require_injected(SimpleNamespace(tces={"star": np.array(["a"])}, path="views"))
