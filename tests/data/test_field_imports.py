"""Arrays of other programs as people have them: stars, units and systems of time are right, or refused.

Sources: desihub/desisim#456 (identifiers without enough digits), tensorflow#42088 (FloatList is float32).
"""

import numpy as np
import pytest

from transit_cli.data.catalogs.importer import import_views
from transit_cli.data.settings import ImportSettings
from transit_cli.data.viewset import ViewSet
from transit_cli.results import TransitError

ROWS = 6
STARS = np.array([270501383, 270501384, 270501390, 25155310, 38846515, 100100827])


@pytest.fixture
def imported(tmp_path):
    def imported(map_=(), **columns):
        rng = np.random.default_rng(0)
        views = {
            f"{name}_view": rng.normal(size=(ROWS, n)).astype(np.float32) for name, n in (("global", 31), ("local", 11))
        }
        defaults = {"tic_id": STARS, "label": np.arange(ROWS) % 2, "period": np.full(ROWS, 3.1)}
        defaults |= {"t0": np.full(ROWS, 1327.3), "duration": np.full(ROWS, 0.1)}
        np.savez(tmp_path / "a.npz", **views, **(defaults | columns))
        result = import_views(ImportSettings(files=(tmp_path / "a.npz",), out=tmp_path / "set", map=map_))
        return ViewSet.open(tmp_path / "set").tces, result

    return imported


def test_star_numbers_in_float32_are_refused(imported):
    with pytest.raises(TransitError, match="rounded to float32"):
        imported(tic_id=STARS.astype(np.float32))


def test_missing_star_numbers_are_stars_of_their_own(imported):
    numbers = STARS.astype(np.float64)
    numbers[:2] = np.nan
    tces, result = imported(tic_id=numbers)
    assert tces["star"].tolist() == ["row 0", "row 1", *(f"TIC {n}" for n in STARS[2:])]
    assert any("2 rows have no star" in note for note in result.data["notes"])


@pytest.mark.parametrize(("epoch", "system"), [(2458327.3, "BJD"), (1327.3, "BTJD")])
def test_each_epoch_has_its_system(imported, epoch, system):
    epochs = np.full(ROWS, 1327.3)
    epochs[2:] = epoch
    tces, _ = imported(t0=epochs)
    assert tces["time_system"].tolist() == ["BTJD"] * 2 + [system] * 4
    np.testing.assert_array_equal(tces["epoch_days"], epochs)


def test_julian_dates_in_float32_are_refused(imported):
    with pytest.raises(TransitError, match="quarter of a day"):
        imported(t0=np.full(ROWS, 2458327.3, np.float32))


def test_a_duration_that_cannot_be_days_is_hours(imported):
    hours = np.array([0.7, 0.8, 0.9, 0.95, 0.7, 0.8])
    tces, result = imported(period=np.full(ROWS, 0.5), duration=hours)
    np.testing.assert_allclose(tces["duration_hours"], hours)
    assert any("hours" in note for note in result.data["notes"])


@pytest.mark.parametrize(("key", "value"), [("duration_hours", 2.4), ("duration_days", 0.1), ("duration_min", 144.0)])
def test_the_unit_that_the_user_states(imported, key, value):
    tces, _ = imported(map_=(f"{key}=width_of_it",), width_of_it=np.full(ROWS, value))
    assert tces["duration_hours"].tolist() == pytest.approx([2.4] * ROWS)


def test_numbers_of_classes_are_no_binary_labels(imported):
    with pytest.raises(TransitError, match="'2'"):
        imported(label=np.arange(ROWS) % 3)
