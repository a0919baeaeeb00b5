"""Splits by star: stable, in the right proportions, and one name per star."""

import numpy as np
import pytest

from transit_cli.data.lightcurves.target import mission_of, star_name
from transit_cli.data.split import SPLITS, split, split_of


def test_parts_of_known_stars_never_change():  # a change here would move stars between the parts of existing sets
    stars = ["KIC 11442793", "KIC 10666592", "TIC 100100827", "KIC 757457", "KIC 757464", "KIC 757466"]
    assert [split_of(star) for star in stars] == ["train", "train", "train", "val", "val", "test"]


def test_fractions_of_many_stars():
    parts = split([f"KIC {number}" for number in range(20000)])
    shares = [np.mean(parts == part) for part in SPLITS]
    assert shares == pytest.approx([0.8, 0.1, 0.1], abs=0.01)


def test_a_growing_validation_part_keeps_its_stars():
    stars = [f"TIC {number}" for number in range(500)]
    small, large = split(stars, (0.8, 0.05, 0.15)), split(stars, (0.8, 0.15, 0.05))
    assert set(np.array(stars)[small == "val"]) <= set(np.array(stars)[large == "val"])


@pytest.mark.parametrize(
    ("star", "mission", "name"),
    [
        (11442793, "kepler", "KIC 11442793"),
        ("011442793", "Kepler", "KIC 11442793"),
        ("KIC 011442793", "", "KIC 11442793"),
        ("TIC100100827", "kepler", "TIC 100100827"),
        ("EPIC_201367065", "", "EPIC 201367065"),
        (270501383.0, "TESS", "TIC 270501383"),
        ("270501383.0", "tess", "TIC 270501383"),
        ("my star", "tess", "my star"),
        ("42", "", "42"),
    ],
)
def test_one_name_per_star(star, mission, name):
    assert star_name(star, mission) == name


def test_mission_of_a_name():
    assert [mission_of(name) for name in ("KIC 1", "EPIC 1", "TIC 1", "my star")] == ["kepler", "k2", "tess", ""]
