"""Pages in a real browser: tables sort, forms filter, every screen is wide enough, and axe-core finds nothing serious."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests import browser
from transit_cli.operators.op_database import matrix
from transit_cli.operators.op_database.row import OperatorRow
from transit_cli.plotting import html
from transit_cli.results import Table

needs_browser = pytest.mark.skipif(not browser.BROWSER, reason="no Chromium here")
needs_axe = pytest.mark.skipif(not browser.BROWSER or not browser.AXE.exists(), reason="no Chromium or no axe-core")
KEY = {"torch": "2.13", "system": "Darwin 15", "device": "mps", "chip": "Apple M4"}
ROWS = {
    "abs": OperatorRow("ok", "ok", 10),
    "cumsum": OperatorRow("wrong", "ok", 10, 0.2, "output 0 differs <b>much</b>"),
    "median": OperatorRow("missing", message="not implemented", known=True),
    "rand": OperatorRow("not judged"),
    "svd": OperatorRow("ok", "ok", 4, 1e-6, fell_back=True),
    "topk": OperatorRow("ok", "wrong", 4, 0.5, "gradient differs"),
}
SHOWN = (
    "[...document.querySelectorAll('table')].at(-1).tBodies[0].querySelectorAll('tr:not([hidden]) td:nth-child({})')"
)


def column(number):
    return f"[...{SHOWN.format(number)}].map(cell => cell.innerText)"


def test_the_matrix_has_failures_first_and_a_summary(tmp_path):
    matrix._write(tmp_path, KEY, ROWS)
    page = (tmp_path / "matrix.html").read_text()
    assert [page.index(f"<td>{name}</td>") for name in ("cumsum", "topk", "median", "svd", "rand", "abs")] == sorted(
        page.index(f"<td>{name}</td>") for name in ROWS
    )
    assert "differs &lt;b&gt;much" in page
    assert "new failures</span><b>2</b>" in page


@needs_browser
def test_tables_sort_and_filter(tmp_path):
    times = [("a", "2 min", "1,200"), ("b", "59 s", "7"), ("c", "-", "30"), ("d", "1 h", "-"), ("e", "900 ms", "4.5")]
    table = Table(("name", "time", "count"), times)
    (tmp_path / "table.html").write_text(html.page("t", [], [html.Section("", tables=[table])]))
    matrix._write(tmp_path, KEY, ROWS)
    with browser.page() as page:
        page.open(tmp_path / "table.html", 390)
        click = "[...document.querySelectorAll('th button')].find(b => b.innerText == '{}').click()"
        for name, orders in (("time", ("ebadc", "dabec")), ("count", ("ebcad", "acbed"))):
            for order in orders:  # unknown values last, both ways
                page.js(click.format(name))
                assert "".join(page.js(column(1))) == order
        page.open(tmp_path / "matrix.html", 1280)
        choose = "{{ const one = document.querySelector('{}'); one.value = '{}'; one.form.oninput(); }}"
        page.js(choose.format("select", "wrong"))
        assert page.js(column(1)) == ["cumsum", "topk"]
        page.js(choose.format("input", "gradient"))
        assert page.js(column(1)) == ["topk"]
        assert page.js("document.querySelector('[role=status]').innerText") == "1 of 6 rows"
        assert page.errors == []


@needs_axe
@pytest.mark.torture
def test_axe_finds_a_planted_fault(tmp_path):
    (tmp_path / "bad.html").write_text(html.page("t", [], []).replace("</main>", "<img src=data:,></main>"))
    assert {one["id"] for one in browser.violations(tmp_path / "bad.html")} == {"image-alt"}


@needs_axe
@pytest.mark.torture
def test_axe_finds_nothing_serious_on_the_pages(tmp_path):
    def transit(*words):
        done = subprocess.run([sys.executable, "-m", "transit_cli", *map(str, words)], cwd=tmp_path, timeout=300)
        assert done.returncode in {0, 1}  # 1: a verdict, such as memory that grew

    transit("data", "simulate", "sim", "--tces", "400", "--bins", "201/61")
    transit("train", "sim", "--epochs", "2", "--out", "runs/a", "--device", "cpu")
    transit("evaluate", "runs/a", "--resamples", "50", "--device", "cpu")
    transit("profile", "--report", "--batch-size", "4", "--out", "profile", "--device", "cpu")
    matrix._write(tmp_path, KEY, ROWS)
    pages = [
        "runs/a/report.html",
        *Path(tmp_path).glob("runs/a/evaluate*/report.html"),
        "profile/report.html",
        "matrix.html",
    ]
    assert len(pages) == 4
    for file in pages:
        assert browser.violations(tmp_path / file) == [], file
