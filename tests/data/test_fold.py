"""`transit data fold` and the pages of `--plot`: drawn whole, and what cannot be drawn says why."""

import json

import fits_maker as make
import numpy as np
import pytest

from transit_cli.data import viewset
from transit_cli.data.inspection import info
from transit_cli.data.settings import FoldSettings
from transit_cli.data.views.folding import Signal
from transit_cli.data.views.inspect_signal import inspect_signal
from transit_cli.results import TransitError

SIGNAL = Signal(4.0, 133.3, 0.2)


@pytest.fixture
def curve(tmp_path):
    time = make.long_cadence(60)
    return make.kepler(tmp_path / "kplr000000007-1_llc.fits", 7, time, make.flux_with(time, [SIGNAL], [0.005]))


def settings(curve, **changes):
    return FoldSettings(light_curve=curve, **({"period": 4.0, "epoch": 133.3, "duration": 4.8} | changes))


def test_one_signal_is_measured(curve):
    data = inspect_signal(settings(curve)).data
    assert data["measured_depth_ppm"] == pytest.approx(5000, rel=0.03)
    assert data["odd_depth"] == pytest.approx(1, abs=0.1)
    assert (data["star"], data["time_system"], data["plot"]) == ("KIC 7", "BKJD", None)


def test_a_full_julian_date_is_the_same_epoch(curve):
    here, there = inspect_signal(settings(curve)).data, inspect_signal(settings(curve, epoch=133.3 + 2454833)).data
    assert there["measured_depth_ppm"] == pytest.approx(here["measured_depth_ppm"], rel=1e-6)


@pytest.mark.parametrize(("name", "begins"), [("a.png", b"\x89PNG"), ("b/c.pdf", b"%PDF"), ("d.svg", b"<?xml")])
def test_a_page_is_drawn(curve, tmp_path, name, begins):
    inspect_signal(settings(curve, plot=tmp_path / name))
    assert (tmp_path / name).read_bytes().startswith(begins)
    assert [file.name for file in (tmp_path / name).parent.iterdir() if file.name.startswith(".")] == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epoch": 300.0, "period": 500.0}, "no cadence in transit"),
        ({"duration": 200.0}, "duration is longer than period"),
        ({"plot": "a.gif"}, "a.gif"),
        ({"bins": "7"}, "--bins is 7"),
        ({"flux_column": "NONE"}, "no column NONE"),
    ],
)
def test_what_cannot_be_looked_at_says_why(curve, tmp_path, changes, message):
    if "plot" in changes:
        changes = {"plot": tmp_path / changes["plot"]}
    with pytest.raises(TransitError, match=message) as error:
        inspect_signal(settings(curve, **changes))
    assert error.value.fix


def test_a_page_of_a_view_set_is_drawn(tmp_path):
    rng = np.random.default_rng(0)
    views = {"global": rng.normal(size=(30, 50)), "local": rng.normal(size=(30, 20))}
    tces = {
        "star": [f"TIC {n}" for n in range(30)],
        "label": ["PC", "EB", "J"] * 10,
        "split": ["train"] * 30,
        "period_days": np.full(30, 3.0),
        "epoch_days": np.full(30, 1.0),
        "score": np.linspace(0, 1, 30),
    }
    made = viewset.write(tmp_path / "set", views, tces, {"simulated": True})
    result = info(made, plot=tmp_path / "page.svg")
    drawn = (tmp_path / "page.svg").read_text()
    assert result.data["plot"].endswith("page.svg")
    assert drawn.startswith("<?xml")


def test_the_command(curve, forked_transit):
    found = forked_transit("data", "fold", curve, "--period", "4", "--epoch", "133.3", "--duration", "4.8", "--json")
    assert json.loads(found.stdout)["data"]["transits"] > 10
    assert forked_transit("data", "fold", curve, "--period", "0", "--epoch", "1", "--duration", "1").returncode == 2
