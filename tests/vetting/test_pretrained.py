"""The networks that come with transit: small, simulated and saying so, and used where no run is given."""

import json

import numpy as np
import pytest

from transit_cli.model import pretrained, saved
from transit_cli.vetting.pretrained import open_named


def test_they_are_small_and_say_what_they_learned_from():
    files = pretrained.files()
    assert {"201-61", "2001-201"} <= set(files)
    assert sum(file.stat().st_size for file in files.values()) < 3_000_000
    for name, file in files.items():
        card = saved.read(file)[0]
        lengths = f"{card.views['global']}-{card.views['local']}"
        assert name == "-".join([lengths, *(view for view in card.views if view not in {"global", "local"})])
        assert card.simulated
        assert "simulated" in card.trained_on
        assert card.members > 1, "a spread needs more than one"
        columns = {scalar.column for scalar in card.scalars}
        assert columns <= {"period_days", "duration_hours"}, "what every set has"


@pytest.mark.parametrize("lengths", [(201, 61), (2001, 201)])
def test_a_view_set_alone_is_scored_and_evaluated_by_them(set_at, cli, tmp_path, lengths):
    set_at(tmp_path / "views", size=60, lengths=lengths)
    scored = cli("predict", tmp_path / "views", "--json", "--max-plots", "0", "--out", tmp_path / "p")
    assert scored.returncode == 0, scored.stderr
    data = json.loads(scored.stdout)["data"]
    assert "simulated" in data["trained_on"]
    assert data["scored"] == 60
    judged = cli("evaluate", tmp_path / "views", "--no-report", "--resamples", 20, "--out", tmp_path / "e", "--json")
    assert judged.returncode == 0, judged.stderr
    found = json.loads(judged.stdout)["data"]
    assert found["run"].startswith("the pretrained network")
    assert "simulated" in found["trained_on"]
    assert np.isfinite(found["average_precision"])
    shown = cli("predict", tmp_path / "views", "--max-plots", "0", "--out", tmp_path / "p2").stdout
    assert "simulated" in shown


def test_other_lengths_are_refused_with_those_there_are(set_at, cli, tmp_path):
    set_at(tmp_path / "views", size=8, lengths=(101, 31))
    done = cli("predict", tmp_path / "views", "--max-plots", "0")
    assert done.returncode == 4
    assert "2001/201 or 201/61" in done.stderr


def test_a_deep_clean_transit_scores_high_and_noise_low():
    """Views made here by hand, not by the simulator that the networks learned from."""
    from transit_cli.device.select import select

    random = np.random.default_rng(0)
    device = select("cpu")
    for name in pretrained.files():
        bins, local_bins = map(int, name.split("-")[:2])
        reach = 2.0 if bins == 201 else 4.0
        phase = np.abs(np.linspace(-reach, reach, local_bins))
        box = -np.clip((0.55 - phase) / 0.1, 0, 1)
        orbit = np.zeros(bins)
        orbit[bins // 2 - bins // 50 : bins // 2 + bins // 50 + 1] = -1
        transit = {"global": orbit + random.normal(0, 0.02, bins), "local": box + random.normal(0, 0.02, local_bins)}
        noise = {"global": random.normal(0, 0.3, bins), "local": random.normal(0, 0.3, local_bins)}
        views = {
            key: np.stack([transit[key] / -transit[key].min(), noise[key] / -noise[key].min()]).astype(np.float32)
            for key in transit
        }
        if name.endswith("secondary"):
            views["secondary"] = random.normal(0, 0.1, (2, local_bins)).astype(np.float32)
        ephemeris = {"period_days": np.full(2, 4.0), "duration_hours": np.full(2, 3.0)}
        ensemble = open_named(name, device)
        planets_and_binaries = [label for label in ensemble.card.classes if label in {"PC", "EB", "AFP"}]
        signal, junk = ensemble.with_target(planets_and_binaries).score(views, ephemeris).mean(0)
        assert signal > 0.7, name
        assert junk < 0.3, name
