"""A view set whose table was edited: matched with its views, or refused; never misaligned.

Sources: orange3#7000, pandas#13497 (a spreadsheet's "CSV UTF-8" begins with a byte order mark; German ones separate by
semicolons), and tables that were sorted by hand.
"""

import csv
import io

import numpy as np
import pytest

from transit_cli.data import viewset
from transit_cli.data.viewset import ViewSet
from transit_cli.results import TransitError

COUNT = 12

edited = pytest.mark.filterwarnings("ignore:.*was edited after it was written")


@pytest.fixture
def made(tmp_path):
    rng = np.random.default_rng(1)
    views = {"global": rng.normal(size=(COUNT, 20)), "local": rng.normal(size=(COUNT, 10))}
    tces = {
        "star": [f"TIC {n // 2}" for n in range(COUNT)],
        "signal": [str(n % 2) for n in range(COUNT)],
        "period_days": np.arange(COUNT) + 0.5,
        "label": ["PC", "EB", "J"] * 4,
        "split": ["train", "val", "test"] * 4,
    }
    return viewset.write(tmp_path / "set", views, tces, {})


def edit(made, change):
    """Rewrite the table: `change` gets its rows as dictionaries and returns them as they shall be."""
    file = made.path / "tces.csv"
    rows = change(list(csv.DictReader(io.StringIO(file.read_text()))))
    with file.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return ViewSet.open(made.path)


def shuffled(rows):
    return [rows[index] for index in np.random.default_rng(2).permutation(len(rows))]


def without_key(rows):
    return [{name: cell for name, cell in row.items() if name != "array_row"} for row in rows]


def test_an_unedited_table_is_read_without_a_word(made, capsys):
    assert made.tces["period_days"].tolist() == (np.arange(COUNT) + 0.5).tolist()
    assert "array_row" not in made.tces
    assert capsys.readouterr().err == ""


def test_rows_in_another_order_stay_beside_their_views(made):
    original = made.tces
    found = edit(made, shuffled)
    with pytest.warns(UserWarning, match="was edited .* rows were moved"):
        _ = found.tces
    for name, column in original.items():
        np.testing.assert_array_equal(found.tces[name], column)


@edited
def test_labels_that_were_corrected_are_used(made):
    found = edit(
        made,
        lambda rows: shuffled(
            [row | {"label": {"EB": "pc ", "J": "false positive"}.get(row["label"], "PC")} for row in rows]
        ),
    )
    assert found.labels.tolist() == ["PC", "PC", "AFP"] * 4


@edited
@pytest.mark.parametrize("encode", [
    lambda text: b"\xef\xbb\xbf" + text.encode(),
    lambda text: text.replace(",", ";").encode(),
    lambda text: text.replace(",", "\t").encode("utf-16"),
    lambda text: text.replace("\n", "\r\n").encode(),
])  # fmt: skip
def test_what_spreadsheets_save_is_read(made, encode):
    original = made.tces
    file = made.path / "tces.csv"
    file.write_bytes(encode(file.read_text()))
    found = ViewSet.open(made.path)
    for name, column in original.items():
        np.testing.assert_array_equal(found.tces[name], column)


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        (lambda rows: shuffled(without_key(rows)), "no column `array_row`"),
        (without_key, "several rows"),  # rows of one star may have changed places
        (lambda rows: [*rows[:-1], rows[0]], "each of the 12 rows once"),
        (lambda rows: [row | {"star": rows[-1 - n]["star"]} for n, row in enumerate(rows)], "stars are not those"),
        (lambda rows: [row | {"label": "blend"} for row in rows], "'blend'"),
        (lambda rows: [row | {"split": "holdout"} for row in rows], "'holdout'"),
        (lambda rows: [row | {"period_days": row["period_days"].replace(".", ",")} for row in rows], "decimal comma"),
        (lambda rows: [{"star": row["star"], "array_row": row["array_row"]} for row in rows], "no column label, split"),
    ],
)
def test_what_cannot_be_matched_is_refused(made, change, cause):
    with pytest.raises(TransitError, match=cause) as error:
        _ = edit(made, change).tces
    assert error.value.code == "viewset-edited"
    assert error.value.fix


@edited
def test_a_table_without_its_key_is_read_if_each_star_is_in_its_place(tmp_path, made):
    tces = made.tces | {"star": np.array([f"TIC {n}" for n in range(COUNT)])}
    own = viewset.write(tmp_path / "own", made.views, tces, {})
    assert edit(own, without_key).labels.tolist() == made.labels.tolist()
    with pytest.raises(TransitError, match="no column `array_row`"):
        _ = edit(own, lambda rows: shuffled(without_key(rows))).tces


def test_a_table_that_is_not_text_is_refused(made):
    (made.path / "tces.csv").write_bytes(b"\x80\x81\x82")
    with pytest.raises(TransitError, match="cannot be read"):
        _ = ViewSet.open(made.path).tces


def test_two_imports_into_one_folder(tmp_path):  # array jobs that start in the same second: Lightning#11418
    from transit_cli.data.catalogs.importer import import_views
    from transit_cli.data.settings import ImportSettings
    from transit_cli.utils.files import locked

    out = tmp_path / "set"
    with locked(out), pytest.raises(TransitError, match="in use by another process"):
        import_views(ImportSettings(files=(tmp_path / "none.npz",), out=out))
    assert not out.exists()
