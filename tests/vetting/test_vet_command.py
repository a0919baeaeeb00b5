"""`transit vet`: from signals and light curves to a page, a table and a verdict with its reasons for every signal."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tests import browser
from transit_cli.data.catalogs import catalog as catalogs
from transit_cli.data.simulation.systems import Orbit, eclipse
from transit_cli.results import Result, TransitError
from transit_cli.vetting.candidates import vet_run
from transit_cli.vetting.settings import VetSettings

CADENCE, PERIOD, EPOCH, HOURS = 10 / 1440, 3.3, 1401.0, 2.9
TIME = np.concatenate([np.arange(1400, 1413, CADENCE), np.arange(1414.2, 1427, CADENCE)])


def dip(k, period=PERIOD, epoch=EPOCH):
    return eclipse(TIME, Orbit(period, epoch, 9.0, 0.03), k, (0.45, 0.2), CADENCE)


#: Light curves by the number of the star.
STARS = {
    1: dip(0.08),
    2: dip(0.2, 2 * PERIOD) + dip(0.15, 2 * PERIOD, EPOCH + PERIOD),
    3: dip(0.1) + 0.3 * dip(0.1, PERIOD, EPOCH + PERIOD / 2),
    4: 0 * TIME,
}
#: Rows of the catalog: star, name, period, epoch, duration in hours.
SIGNALS = (
    ("TIC 1", "planet", PERIOD, EPOCH, HOURS),
    ("TIC 2", "half <b>", PERIOD, EPOCH, HOURS),
    ("TIC 3", "eclipse", PERIOD, EPOCH, HOURS),
    ("TIC 4", "nothing", PERIOD, EPOCH, HOURS),
    ("TIC 1", "in hours", 24 * PERIOD, EPOCH, HOURS),
    ("TIC 1", "late", PERIOD, EPOCH + 0.075, HOURS),
    ("TIC 1", "other system", PERIOD, EPOCH + 1.7, HOURS),
    ("TIC 5", "broken", PERIOD, EPOCH, HOURS),
    ("TIC 6", "absent", PERIOD, EPOCH, HOURS),
    ("TIC 3", "long before", PERIOD, EPOCH - 300 * PERIOD, HOURS),
)


def write_light_curve(folder, number, lost):
    flux = 1 + lost + 4e-4 * np.random.default_rng(number).standard_normal(len(TIME))
    rows = "".join(f"{t:.5f},{f:.6f}\n" for t, f in zip(TIME, flux, strict=True))
    (folder / f"tic{number}.csv").write_text("time_btjd,flux\n" + rows)


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    folder = tmp_path_factory.mktemp("vet")
    (folder / "light").mkdir()
    for number, lost in STARS.items():
        write_light_curve(folder / "light", number, lost)
    (folder / "light" / "tic5.csv").write_text("time_btjd,flux\n1400.0,\n1400.1,nan\n")
    with (folder / "signals.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(("star", "signal", "period_days", "epoch_days", "duration_hours", "time_system"))
        writer.writerows((*row, "BTJD") for row in SIGNALS)
    return folder


def settings(places, out, **changes):
    given = {"catalog": places / "signals.csv", "light_curves": places / "light", "device": "cpu", "workers": 1}
    return VetSettings(**given | {"out": out} | changes)


@pytest.fixture(scope="module")
def vetted(places):
    """The output folder, the result, and the rows by signal."""
    out = places / "vetted"
    result = vet_run.vet(settings(places, out))
    rows = {row["signal"]: row for row in map(json.loads, (out / "signals.jsonl").read_text().splitlines())}
    return out, result, rows


def test_planets_pass_and_binaries_fail_the_test_that_is_for_them(vetted):
    _, result, rows = vetted
    assert rows["planet"]["disposition"] == "PC"
    failed = {name: [test["name"] for test in row["tests"] if test["verdict"] == "fail"] for name, row in rows.items()}
    assert "odd_even" in failed["half <b>"]
    assert "secondary" in failed["eclipse"]
    assert result.data["dispositions"] == {"PC": 1, "FP": 3, "FA": 0, "none": 6}
    assert rows["long before"]["disposition"] == "FP"
    for name in ("planet", "eclipse"):
        (value, spread), *_ = rows[name]["probabilities"].values()
        assert 0 <= value <= 1
        assert spread >= 0


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("nothing", "no dip at this ephemeris"),
        ("in hours", "as hours the period would be 3.3 d"),
        ("late", "more than half a duration"),
        ("other system", "the strongest dip at this period"),
        ("broken", "no cadence"),
        ("absent", "no light curve of this star"),
    ],
)
def test_an_ephemeris_that_does_not_fit_has_no_verdict_and_its_reason(vetted, name, words):
    _, _, rows = vetted
    assert rows[name]["disposition"] == ""
    assert words in "; ".join(rows[name]["reasons"]).replace("no finite", "no cadence")


def test_an_epoch_far_from_the_data_is_a_warning(vetted):
    assert "300 periods) before the data" in " ".join(vetted[2]["long before"]["warnings"])
    assert not vetted[2]["planet"]["warnings"]


def test_candidates_csv_has_the_columns_of_the_toi_table_and_is_a_catalog(vetted):
    out, _, rows = vetted
    with (out / "candidates.csv").open(newline="") as stream:
        lines = {row["toi"]: row for row in csv.DictReader(stream)}
    planet = lines["planet"]
    for name, value in (("pl_orbper", PERIOD), ("pl_trandurh", 2.9), ("pl_trandep", 7300)):
        assert float(planet[name]) == pytest.approx(value, rel=0.15)
        assert float(planet[f"{name}err1"]) == -float(planet[f"{name}err2"]) > 0
    cycles = (float(planet["pl_tranmid"]) - 2457000 - EPOCH) / PERIOD
    assert cycles == pytest.approx(round(cycles), abs=0.002)
    assert (planet["disposition"], planet["tid"], planet["odd_even_verdict"]) == ("PC", "1", "pass")
    assert len(lines) == len(rows)
    again = catalogs.read(out / "candidates.csv").tces
    assert again[0].star == "TIC 1"
    assert again[0].period == pytest.approx(PERIOD, rel=1e-4)
    assert again[0].label == "PC"


def test_a_stopped_run_resumes_with_the_stars_that_are_left(places, tmp_path, vetted, monkeypatch):
    original, seen = vet_run.vet_star, []

    def stops(task):
        seen.append(task.star)
        if len(seen) == 3:
            raise KeyboardInterrupt
        return original(task)

    monkeypatch.setattr(vet_run, "vet_star", stops)
    with pytest.raises(KeyboardInterrupt, match="resumes"):
        vet_run.vet(settings(places, tmp_path / "out"))
    assert not (tmp_path / "out" / "vetting.html").exists()
    vet_run.vet(settings(places, tmp_path / "out"))
    assert sorted(seen) == sorted([*{row[0] for row in SIGNALS if row[0] != "TIC 6"}, seen[2]])
    ours, theirs = ((folder / "candidates.csv").read_bytes() for folder in (tmp_path / "out", vetted[0]))
    assert ours == theirs
    assert not list(tmp_path.glob(".out.work"))


def test_output_that_is_complete_is_kept_and_other_output_is_not_replaced(places, vetted, monkeypatch):
    monkeypatch.setattr(vet_run, "vet_star", lambda _: pytest.fail("vetted again"))
    assert "nothing to do" in vet_run.vet(settings(places, vetted[0])).verdict
    with pytest.raises(TransitError) as refused:
        vet_run.vet(settings(places, vetted[0], max_sheets=1))
    assert refused.value.code == "output-exists"


def test_a_test_that_fails_inside_costs_one_signal(places, tmp_path, monkeypatch):
    from transit_cli.vetting.candidates import vet_star

    def fails(candidate):
        if candidate.fit.depth > 0.02:
            raise ZeroDivisionError("planted")
        return [], None

    monkeypatch.setattr(vet_star, "run_tests", fails)
    result = vet_run.vet(settings(places, tmp_path / "out", max_sheets=0))
    reasons = {row["signal"]: row["reasons"] for row in result.data["signals"]}
    assert "planted" in reasons["half <b>"]
    assert "planted" not in reasons["planet"]


def test_without_a_catalog_the_light_curves_are_searched_first(places, tmp_path, monkeypatch):
    from transit_cli.search.settings import SearchSettings

    folder = tmp_path / "light"
    folder.mkdir()
    write_light_curve(folder, 1, STARS[1])
    found = tmp_path / "out" / "found.csv"
    found.parent.mkdir()
    from transit_cli.search.search_run import search

    options = {"min_period": 3.0, "max_period": 4.0}  # a short search; the command's own is of all periods
    assert (
        search(SearchSettings(light_curves=folder, out=found, device="cpu", workers=1, **options)).data["signals"] == 1
    )
    result = vet_run.vet(settings(places, tmp_path / "vetted", catalog=found, light_curves=folder))
    assert result.data["dispositions"]["PC"] == 1
    monkeypatch.setattr("transit_cli.search.search_run.search", lambda _: Result({"signals": 0}))
    nothing = vet_run.vet(VetSettings(catalog=folder, light_curves=tmp_path / "empty", device="cpu"))
    assert (nothing.data["signals"], "found nothing" in nothing.verdict) == ([], True)
    with pytest.raises(TransitError, match="there is no OUT"):
        vet_run.vet(VetSettings(catalog=found, light_curves=folder))


def test_a_pdf_page_per_signal(places, tmp_path):
    out = tmp_path / "out"
    short = tmp_path / "one.csv"
    short.write_text("".join((places / "signals.csv").read_text().splitlines(keepends=True)[:2]))
    vet_run.vet(settings(places, out, catalog=short, pdf=True))
    (file,) = (out / "pdf").iterdir()
    assert file.read_bytes().startswith(b"%PDF")


def test_the_page_is_one_file_and_escapes_what_catalogs_say(vetted):
    text = (vetted[0] / "vetting.html").read_text()
    assert "half &lt;b&gt;" in text
    assert "half <b>" not in text
    assert "http" not in text.replace("http-equiv", "")
    assert text.count('role="img"') == text.count("<svg") == text.count("</title></svg>") + text.count("<title>") - 1


@pytest.mark.skipif(not browser.BROWSER, reason="no Chromium here")
def test_a_real_browser_sorts_filters_prints_and_fits_it_to_every_screen(vetted):
    file = Path(vetted[0] / "vetting.html")
    shown = "[...document.querySelectorAll('#signals tbody tr')].filter(row => !row.hidden).map(row => row.cells[1].innerText)"
    with browser.page() as page:
        for width, dark in ((390, True), (820, False), (1400, False)):
            page.open(file, width, dark=dark)
            page.js("document.querySelectorAll('details').forEach(item => { item.open = true; draw(item); })")
            assert page.js("document.querySelectorAll('details svg[role=img] title').length") >= 40
            assert page.js("document.documentElement.scrollWidth") <= width
        assert len(page.js(shown)) == len(SIGNALS)
        click = "[...document.querySelectorAll('th button')].find(b => b.innerText == '{}').click()"
        page.js(click.format("depth (ppm)"))
        depths = page.js(
            "[...document.querySelectorAll('#signals tbody tr')].map(row => row.cells[5].dataset.v ?? null)"
        )
        known = [float(value) for value in depths if value is not None]
        assert known == sorted(known)
        assert depths[len(known) :] == [None] * (len(depths) - len(known))
        page.js(click.format("depth (ppm)"))
        assert page.js("document.querySelector('th[aria-sort]').ariaSort") == "descending"
        page.js("document.getElementById('verdict').value = 'FP'; filter()")
        assert set(page.js(shown)) == {"TIC 2 half <b>", "TIC 3 eclipse", "TIC 3 long before"}
        page.js("document.getElementById('text').value = 'tic 2'; filter()")
        assert page.js(shown) == ["TIC 2 half <b>"]
        assert page.js("document.getElementById('count').innerText") == "1 of 10 signals"
        page.js("document.getElementById('filters').reset(); new Promise(done => setTimeout(done, 20))")
        assert len(page.js(shown)) == len(SIGNALS)
        page.js("document.querySelectorAll('details').forEach(item => item.open = false)")
        page.js("document.querySelector('#signals a[href=\"#s0\"]').click(); new Promise(done => setTimeout(done, 50))")
        assert page.js("[...document.querySelectorAll('details[open]')].map(item => item.id)") == ["s0"]
        assert page.pdf().count(b"/Type /Page\n") == 1
        assert page.errors == []


@pytest.mark.torture
@pytest.mark.skipif(not browser.BROWSER or not browser.AXE.exists(), reason="no Chromium or no axe-core")
def test_axe_finds_nothing_serious_in_the_sheets(vetted):
    prepare = "document.querySelectorAll('details').forEach(item => { item.open = true; draw(item); })"
    assert browser.violations(vetted[0] / "vetting.html", prepare) == []


@pytest.mark.torture
@pytest.mark.skipif(not browser.BROWSER, reason="no Chromium here")
def test_two_hundred_sheets_stay_responsive(vetted, tmp_path):
    """The page of 200 signals opens, sorts and filters within a second each, loaded machine or not."""
    from transit_cli.vetting.sheets import page as pages

    rows = [json.loads(line) for line in (vetted[0] / "signals.jsonl").read_text().splitlines()]
    text = (vetted[0] / "vetting.html").read_text()
    begin = text.index('class="later">') + len('class="later">')
    picture = text[begin : text.index("</script>", begin)]
    many = [(rows[number % 3], picture, "") for number in range(200)]
    about = pages.About("catalog", "light", "network", "nothing")
    (tmp_path / "many.html").write_text("".join(pages.page(lambda: many, about)))
    with browser.page() as page:
        page.open(tmp_path / "many.html")
        for code in ("document.querySelectorAll('th button')[3].click()", "filter()"):
            seconds = []
            for _ in range(5):  # the machine may be busy with something else
                begin = time.perf_counter()
                page.js(f"{code}; new Promise(done => requestAnimationFrame(() => setTimeout(done)))")
                seconds.append(time.perf_counter() - begin)
            assert min(seconds) < 1.0


@pytest.mark.torture
def test_a_killed_run_resumes_and_gives_the_same_bytes(places, vetted, tmp_path):
    out = tmp_path / "out"
    code = "from transit_plugins.vet import app; app()"
    arguments = [str(path) for path in (places / "signals.csv", places / "light", out)]
    command = [sys.executable, "-c", code, *arguments, "--workers", "1", "--device", "cpu", "--quiet"]
    process = subprocess.Popen(command, start_new_session=True)
    work = tmp_path / ".out.work"
    while not list(work.glob("*.json")) and process.poll() is None:
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert 1 <= len(list(work.glob("*.json"))) < len(STARS) + 1
    subprocess.run(command, check=True, timeout=300)
    assert (out / "candidates.csv").read_bytes() == (vetted[0] / "candidates.csv").read_bytes()
    assert not work.exists()
