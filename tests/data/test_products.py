"""Every product is read with its own columns, units, time reference and flags."""

import gzip
import re
import shutil
from pathlib import Path

import numpy as np
import product_files
import pytest
from product_files import DEPTH, DURATION, FLAGGED, LAYOUTS, PERIOD

from transit_cli.data.file_check import check
from transit_cli.data.lightcurves import products
from transit_cli.data.lightcurves.readers import read, star_of_file
from transit_cli.data.settings import CheckSettings

NAMES = [f"{layout.name}-{layout.column}" for layout in LAYOUTS]


def depths(curve, epoch):
    """Depth in transit, and the largest departure elsewhere."""
    phase = (curve.time - epoch + PERIOD / 2) % PERIOD - PERIOD / 2
    level = np.median(curve.flux[np.abs(phase) > DURATION])
    inside = np.abs(phase) < 0.9 * DURATION / 2
    return 1 - np.median(curve.flux[inside]) / level, np.abs(
        curve.flux[np.abs(phase) > 0.6 * DURATION] / level - 1
    ).max()


@pytest.mark.parametrize("layout", LAYOUTS, ids=NAMES)
def test_a_product_is_read(tmp_path, layout):
    file = product_files.write(tmp_path, layout)
    curve = read(file)
    assert (curve.product, curve.star, curve.column) == (layout.name, layout.star, layout.column)
    assert curve.reference_jd == layout.reference_jd
    depth, elsewhere = depths(curve, layout.epoch + layout.offset)
    assert depth == pytest.approx(DEPTH, rel=0.03)
    flagged = 0 if layout.name == "KEPSEISMIC" else FLAGGED  # which has no flags
    assert curve.flagged == flagged
    assert elsewhere < (0.04 if not flagged else 0.002)
    assert curve.notes == () or layout.name == "lightkurve"  # bit 18 is not one of TESS
    assert star_of_file(file) == layout.star
    assert [decision.topic for decision in curve.decisions] == ["product", "star", "time", "flux", "flags", "scale"]


@pytest.mark.parametrize("layout", LAYOUTS, ids=NAMES)
def test_a_product_is_recognised_under_another_name(tmp_path, layout):
    file = product_files.write(tmp_path, layout)
    renamed = tmp_path / "download.fits"
    file.rename(renamed)
    curve = read(renamed)
    depth, _ = depths(curve, layout.epoch + layout.offset)
    assert curve.star == layout.star
    assert (curve.reference_jd, curve.column) == (layout.reference_jd, layout.column)
    assert depth == pytest.approx(DEPTH, rel=0.03)


def test_at_least_fifteen_products_are_covered_by_files():
    covered = {layout.name for layout in LAYOUTS}
    assert covered == {product.name for product in products.PRODUCTS}
    assert len(covered) >= 15


def test_the_aperture_of_a_column_decides_its_flags(tmp_path):
    cdips = next(layout for layout in LAYOUTS if layout.name == "CDIPS")
    file = product_files.write(tmp_path, cdips)
    assert any("IRQ2" in decision.value for decision in read(file, "TFA2").decisions)
    assert not any("IRQ2" in decision.value for decision in read(file, "TFA1").decisions)


def test_check_reports_every_decision_and_exits_with_1_for_a_damaged_file(tmp_path):
    for layout in LAYOUTS[:3]:
        product_files.write(tmp_path, layout)
    (tmp_path / "broken.fits").write_bytes(b"no FITS" * 1000)
    (tmp_path / "catalog.csv").write_text("star,period,epoch,duration\n1,2,3,4\n")
    result = check(CheckSettings(files=(tmp_path,), plot=tmp_path / "page.png"))
    assert result.exit_code == 1
    rows = {row["file"].rpartition("/")[2]: row for row in result.data["files"]}
    assert "catalog.csv" not in rows
    assert rows["broken.fits"]["reason"].startswith("not a FITS file")
    spoc = rows[LAYOUTS[0].file]
    assert (spoc["product"], spoc["star"], spoc["time_system"]) == ("SPOC", "TIC 987654321", "BTJD")
    assert (spoc["flux_column"], spoc["flagged"], spoc["doubts"]) == ("PDCSAP_FLUX", FLAGGED, [])
    assert (tmp_path / "page.png").read_bytes().startswith(b"\x89PNG")


def test_a_compressed_product_is_recognised(tmp_path):
    file = product_files.write(tmp_path, LAYOUTS[0])
    packed = tmp_path / f"{file.name}.gz"
    with gzip.open(packed, "wb") as target, file.open("rb") as source:
        shutil.copyfileobj(source, target)
    assert read(packed).product == "SPOC"


def test_the_command(tmp_path, forked_transit):
    file = product_files.write(tmp_path, LAYOUTS[0])
    found = forked_transit("data", "check", file)
    assert found.returncode == 0
    assert "TIC 987654321" in found.stdout
    assert forked_transit("data", "check", tmp_path / "none.fits").returncode == 4


def test_the_documentation_lists_every_product_with_its_columns_and_flags():
    text = (Path(__file__).parents[2] / "docs/data.md").read_text()
    rows = [line for line in text.splitlines() if line.startswith("| ") and line.count("|") == 5]
    for product in products.PRODUCTS:
        mine = [row for row in rows if re.match(rf"\| {re.escape(product.name)}(,|\s)", row)]
        assert mine, product.name
        assert any(f"`{product.flux[0]}`" in row for row in mine), product.name
        for flags in product.flags:
            assert any(flags.column.rstrip("1234") in row for row in mine), (product.name, flags.column)
