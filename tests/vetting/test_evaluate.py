"""`evaluate` on sets with known results: metrics, splits, threshold, stars seen in training, output files."""

import csv
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from transit_cli.plotting import figures
from transit_cli.results import TransitError, plain
from transit_cli.vetting import evaluation as evaluating
from transit_cli.vetting.report import outcome
from transit_cli.vetting.settings import EvaluateSettings
from transit_cli.vetting.sheets.views import view_panels


def evaluate_split(ensemble, views, **changes):
    return evaluating.evaluate_split(ensemble, views, EvaluateSettings(run=Path("dips"), resamples=60, **changes))


def test_the_metrics_are_those_of_the_mean_of_the_members(views, dip_ensemble):
    found = evaluate_split(dip_ensemble(), views)
    assert found.split == "test"
    assert (views.splits[found.rows] == "test").all()
    middle = views.views["local"][found.rows]
    logits = [-6 * middle[:, 10 - half : 11 + half].astype(float).mean(1) - 4 for half in (2, 4)]
    scores = np.mean([1 / (1 + np.exp(-logit)) for logit in logits], axis=0)
    np.testing.assert_allclose(found.scores, scores, rtol=1e-5)
    truth = views.labels[found.rows] == "PC"
    document = evaluating.to_document(found, views, dip_ensemble())
    assert document["average_precision"] == pytest.approx(average_precision_score(truth, scores))
    assert document["average_precision_low"] < document["average_precision"] < document["average_precision_high"]
    assert sum(document["confusion"].values()) == document["signals"] == len(found.rows)
    assert document["majority_accuracy"] == pytest.approx(max(truth.mean(), 1 - truth.mean()))
    json.dumps(plain(document), allow_nan=False)


def test_the_threshold_comes_from_the_val_split_and_never_from_the_evaluated_one(make_set, dip_ensemble):
    views = make_set()
    found = evaluate_split(dip_ensemble(), views)
    val = np.flatnonzero(views.splits == "val")
    scores = dip_ensemble().score_rows(views, val).mean(0)
    from transit_cli.vetting.metrics import best_threshold

    assert found.threshold == best_threshold(views.labels[val] == "PC", scores)
    assert "val split" in found.threshold_from
    assert evaluate_split(dip_ensemble(), views, threshold=0.3).threshold == 0.3


def test_without_a_val_split_the_training_sets_own_is_taken(make_set, dip_ensemble):
    own, alone = make_set("own"), make_set("alone", splits=("test",), seed=5)
    assert evaluate_split(dip_ensemble(), alone).threshold == 0.5
    assert "no val split" in evaluate_split(dip_ensemble(), alone).threshold_from
    with pytest.warns(UserWarning, match="trained on"):
        found = evaluate_split(dip_ensemble(training_set=own), alone)
    assert found.threshold == evaluate_split(dip_ensemble(), own).threshold


@pytest.mark.parametrize(("splits", "taken"), [(("train", "val"), "val"), (("train",), "all"), (("test",), "test")])
def test_auto_takes_the_best_split(make_set, dip_ensemble, splits, taken):
    assert evaluate_split(dip_ensemble(), make_set(splits=splits)).split == taken


def test_stars_that_were_trained_on_are_reported(make_set, dip_ensemble):
    """The authors of a set may have split it by signal: the metric of new stars is reported too."""
    own = make_set("own", size=120)  # stars 0..59, every third of them in its training part
    other = make_set("other", splits=("test",), seed=9)  # stars 0..119
    with pytest.warns(UserWarning, match="trained on"):
        found = evaluate_split(dip_ensemble(training_set=own), other)
    new = ~np.isin(other.tces["star"], own.tces["star"][own.splits == "train"])
    expected = average_precision_score(other.labels[new] == "PC", found.scores[new])
    assert found.new_stars.value == pytest.approx(expected)


def test_a_nan_is_left_out_with_a_warning(make_set, dip_ensemble):
    views = make_set(splits=("test",), nan_row=7)
    with pytest.warns(UserWarning, match="1 labelled signals"):
        found = evaluate_split(dip_ensemble(), views)
    assert found.unusable.tolist() == [7]
    assert 7 not in found.rows


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"views": {"global": 41, "local": 22}}, "view-mismatch"),
        ({"views": {"global": 41, "local": 21, "secondary": 21}}, "view-mismatch"),
        ({"target": ("AFP",)}, "one-class"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(views, dip_ensemble, changes, code):
    with pytest.raises(TransitError) as error:
        evaluate_split(dip_ensemble(**changes), views)
    assert error.value.code == code
    assert error.value.fix


def test_errors_are_wrong_and_worst_first(views, dip_ensemble):
    found = evaluate_split(dip_ensemble(), views, split="all", threshold=0.4)
    false_positives, false_negatives = evaluating.describe_errors(found, views)
    assert false_positives
    assert false_negatives
    assert all(item["label"] != "PC" and item["score"] >= 0.4 for item in false_positives)
    assert all(item["label"] == "PC" and item["score"] < 0.4 for item in false_negatives)
    assert [item["score"] for item in false_positives] == sorted(
        (item["score"] for item in false_positives), reverse=True
    )
    assert [item["score"] for item in false_negatives] == sorted(item["score"] for item in false_negatives)


class Page(HTMLParser):
    """What a page refers to, and whether its elements are closed."""

    def __init__(self):
        super().__init__()
        self.links, self.ids, self.open = [], [], []

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.links += [attributes[name] for name in ("src", "href", "xlink:href") if name in attributes]
        self.ids += [attributes["id"]] if "id" in attributes else []
        if tag not in {"meta", "br", "link"}:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if self.open and self.open[-1] == tag:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_report_stands_alone(make_set, dip_ensemble, tmp_path):
    pytest.importorskip("matplotlib")
    views = make_set("a <b> & c")  # a name that would break careless HTML
    ensemble = dip_ensemble()
    found = evaluate_split(ensemble, views, threshold=0.4)
    files = outcome.write(tmp_path / "out", found, views, ensemble, with_plots=True)
    text = (tmp_path / "out" / "report.html").read_text()
    page = Page()
    page.feed(text)
    assert page.open == []
    assert all(link.startswith("#") for link in page.links), "it must open from disk, with nothing beside it"
    assert "simulated" in text
    assert "trained on nothing: it is a formula" in text.replace("Trained", "trained")
    assert "a &lt;b&gt; &amp; c" in text
    assert text.count("<svg") >= 4 + 3 + 2
    assert len(text) < 3_000_000
    with Path(files["scores"]).open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(found.rows)
    np.testing.assert_allclose([float(row["score"]) for row in rows], found.scores)
    assert rows[0]["trained_on"] == ensemble.trained_on
    document = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert document["average_precision"] == pytest.approx(found.metrics["average_precision"].value)
    drawn = {path.name for path in (tmp_path / "out" / "plots").iterdir()}
    for name in ("precision_recall", "roc", "calibration", "histogram", "by_snr"):
        assert {f"{name}.svg", f"{name}.pdf", f"{name}.png"} <= drawn


BROWSER = shutil.which("chromium") or shutil.which("google-chrome")


@pytest.mark.skipif(not BROWSER, reason="no Chromium here")
def test_a_real_browser_fits_it_to_a_phone(make_set, dip_ensemble, tmp_path):
    """Within a frame of 390 pixels, on a page that measures it: nothing is wider than the screen."""
    views, ensemble = make_set(), dip_ensemble()
    outcome.write(tmp_path / "out", evaluate_split(ensemble, views, threshold=0.4), views, ensemble, with_plots=True)
    text = (tmp_path / "out" / "report.html").read_text()
    measure = (
        "<script>addEventListener('load', () => { const wide = document.documentElement.scrollWidth;"
        "document.title = `${wide} of ${innerWidth}, ${document.querySelectorAll('svg').length} plots`; })</script>"
    )
    (tmp_path / "measured.html").write_text(text.replace("</body>", measure + "</body>"))
    frame = '<iframe src="measured.html" width="390" height="800" onload="setTimeout(() => {}, 0)"></iframe>'
    report_size = "<script>addEventListener('load', () => document.title = frames[0].document.title)</script>"
    (tmp_path / "phone.html").write_text(f"<!doctype html><title>no</title>{frame}{report_size}")
    flags = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--allow-file-access-from-files",
        "--virtual-time-budget=5000",
    ]
    done = subprocess.run(
        [BROWSER, *flags, "--dump-dom", (tmp_path / "phone.html").as_uri()], capture_output=True, text=True, timeout=120
    )
    wide, screen, plots = map(int, re.findall(r"<title>(\d+) of (\d+), (\d+) plots</title>", done.stdout)[0])
    assert screen <= 390
    assert wide <= screen
    assert plots == text.count("<svg")


def test_the_name_of_a_star_is_not_read_as_mathematics(make_set, tmp_path):
    panels = view_panels({name: values[0] for name, values in make_set().views.items()}, 2.0, 3.0)
    assert "$x^$" in figures.svg(figures.panels_figure(panels, "KIC $x^$ 1"), "signal")
