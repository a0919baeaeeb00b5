"""`transit predict`: view sets, light curves, catalogs; a signal without a score is a row with its error."""

import csv
import json

import numpy as np
import pytest

from transit_cli.data.viewset import ViewSet, read_table

PERIOD, EPOCH, HOURS = 3.1, 1326.2, 4.0


@pytest.fixture(scope="module")
def run(tmp_path_factory, set_at):
    """A run of two networks that take 201/61 views."""
    from transit_cli.training.settings import TrainSettings
    from transit_cli.training.train import train

    folder = tmp_path_factory.mktemp("predict")
    set_at(folder / "views", size=60, lengths=(201, 61))
    given = {"viewset": folder / "views", "epochs": 1, "members": 2, "device": "cpu"}
    train(TrainSettings(out=folder / "run", **given))
    return folder / "run"


@pytest.fixture(scope="module")
def light_curve(tmp_path_factory):
    """A FITS light curve of TIC 4242 with boxes of 1 % every `PERIOD` days."""
    fits = pytest.importorskip("astropy.io.fits")
    random = np.random.default_rng(3)
    time = np.arange(1325, 1352, 10 / 1440)
    phase = (time - EPOCH + PERIOD / 2) % PERIOD - PERIOD / 2
    flux = 1 - 0.01 * (np.abs(phase) < HOURS / 48) + random.normal(0, 5e-4, len(time))
    columns = [fits.Column("TIME", "D", unit="BJD - 2457000, days", array=time), fits.Column("FLUX", "E", array=flux)]
    table = fits.BinTableHDU.from_columns(columns)
    primary = fits.PrimaryHDU()
    primary.header["TICID"], primary.header["MISSION"] = 4242, "TESS"
    folder = tmp_path_factory.mktemp("light_curves")
    fits.HDUList([primary, table]).writeto(folder / "star.fits")
    return folder / "star.fits"


@pytest.fixture(scope="module")
def places(run, light_curve):
    return {"run": run, "curve": light_curve}


def at(period=PERIOD):
    return ["--period", period, "--epoch", EPOCH, "--duration", HOURS]


def test_a_view_set_is_scored_row_by_row(run, cli, tmp_path):
    views = ViewSet.open(run.parent / "views")
    done = cli("predict", run, views.path, "--json", "--max-plots", "0", "--out", tmp_path / "o")
    assert done.returncode == 0, done.stderr
    data = json.loads(done.stdout)["data"]
    assert (data["scored"], data["errors"]) == (60, 0)
    assert "simulated" in data["trained_on"]
    from transit_cli.device.select import select
    from transit_cli.vetting.ensemble import open_run

    members = open_run(run, select("cpu")).score(views.views, views.tces)
    np.testing.assert_allclose([item["score"] for item in data["signals"]], members.mean(0), atol=1e-6)
    np.testing.assert_allclose([item["spread"] for item in data["signals"]], members.std(0), atol=1e-6)
    assert [item["star"] for item in data["signals"]] == views.tces["star"].tolist()
    table = read_table(tmp_path / "o" / "scores.csv")
    np.testing.assert_allclose(table["score"], members.mean(0), atol=1e-6)
    assert set(table["trained_on"]) == {data["trained_on"]}


def test_a_nan_is_an_error_row_and_never_a_zero(run, cli, tmp_path, set_at):
    set_at(tmp_path / "views", size=12, lengths=(201, 61), nan_row=5)
    done = cli("predict", run, tmp_path / "views", "--json", "--max-plots", "0", "--out", tmp_path / "o")
    assert done.returncode == 0, "what cannot be scored is an answer, not a failure"
    data = json.loads(done.stdout)["data"]
    assert (data["scored"], data["errors"]) == (11, 1)
    bad = data["signals"][5]
    assert bad["score"] is None
    assert "not finite" in bad["error"]
    assert all(item["error"] == "" and 0 < item["score"] < 1 for item in data["signals"] if item["row"] != 5)
    with (tmp_path / "o" / "scores.csv").open() as file:
        assert list(csv.DictReader(file))[5]["score"] == ""


def test_signals_that_could_not_be_folded_are_error_rows_too(run, cli, tmp_path):
    from transit_cli.data import viewset

    views = ViewSet.open(run.parent / "views")
    dropped = {"star": ["TIC 9"], "signal": ["1"], "period_days": [3.0], "reason": ["no cadence in transit"]}
    viewset.write(tmp_path / "views", views.views, views.tces, views.recipe, dropped)
    done = cli("predict", run, tmp_path / "views", "--json", "--max-plots", "0", "--out", tmp_path / "o")
    last = json.loads(done.stdout)["data"]["signals"][-1]
    assert (last["star"], last["score"], last["error"]) == ("TIC 9", None, "no cadence in transit")


def test_a_light_curve_gets_a_score_a_picture_and_its_period_checked(run, cli, light_curve, tmp_path):
    done = cli("predict", run, light_curve, *at(), "--json", "--out", tmp_path / "o")
    assert done.returncode == 0, done.stderr
    (signal,) = json.loads(done.stdout)["data"]["signals"]
    assert signal["star"] == "TIC 4242"
    scores = [signal[name] for name in ("score", "score_half_period", "score_double_period")]
    assert all(0 < score < 1 for score in scores)
    assert len(set(scores)) == 3, "each period is folded anew"
    assert (tmp_path / "o" / "signal_0.png").read_bytes()[:4] == b"\x89PNG"
    drawn = (tmp_path / "o" / "signal_0.svg").read_text()
    shown = (
        "whole orbit",
        "hours from the centre",
        "flux (ppm)",
        "deepest other event",
        "odd transits (",
        "even transits (",
    )
    for words in (*shown, "P = ", " ppm, S/N ", "transits: ", f"score {signal['score']:.3f}"):
        assert words in drawn
    assert (tmp_path / "o" / "signal_0.pdf").read_bytes()[:4] == b"%PDF"
    shown = cli("predict", run, light_curve, *at(), "--max-plots", "0", "--out", tmp_path / "p").stdout
    assert f"score {signal['score']:.3f}" in shown
    assert "trained on" in shown


def test_nothing_of_an_earlier_prediction_stays(run, light_curve, tmp_path):
    """A plot that was replaced by none is deleted; a file of the user's own stays."""
    from transit_cli.vetting.predict import predict
    from transit_cli.vetting.settings import PredictSettings

    out = tmp_path / "o"
    options = {
        "run": run,
        "input": light_curve,
        "period": PERIOD,
        "duration": HOURS,
        "out": out,
        "check_periods": False,
    }
    predict(PredictSettings(epoch=EPOCH, **options))
    (out / "signal_7.png").write_text("of the user")
    assert {"signal_0.png", "signal_0.svg"} < {file.name for file in out.iterdir()}
    predict(PredictSettings(epoch=EPOCH + PERIOD, max_plots=0, **options))
    assert sorted(file.name for file in out.iterdir()) == ["scores.csv", "signal_7.png"]
    assert "signal_0" not in (out / "scores.csv").read_text()


def test_scores_of_noise_and_of_single_transits_have_a_doubt():
    from transit_cli.vetting.prediction.score_table import doubts_of

    nan = np.nan
    columns = {"score": np.array([0.9, 0.9, 0.9, nan]), "measured_snr": np.array([9.0, 2.0, 9, 1])}
    assert doubts_of(columns | {"transits": np.array([2.0, 5, 1, 1])}) == [
        *("", "no clear dip: S/N 2.0, less than 3", "only one transit is observed", ""),
    ]
    assert doubts_of({"score": np.array([0.9, nan])}) == ["", ""], "an imported set has no light curves"


def test_the_views_are_those_of_the_signal(light_curve):
    """At the true period the local view is the box; at half of it every other fold is empty."""
    from transit_cli.vetting.scored_signals import from_light_curve
    from transit_cli.vetting.settings import PredictSettings

    settings = PredictSettings(run=light_curve, input=light_curve, period=PERIOD, epoch=EPOCH, duration=HOURS)
    signals = from_light_curve(light_curve, settings, {"global": 201, "local": 61})
    local = signals.views["local"][0]
    assert local[30] < -0.9
    assert abs(np.median(local[:10])) < 0.1
    double = signals.other_periods["double"]
    assert double["secondary"][0].min() < -0.8, "at twice the period the other transits are a secondary as deep"
    assert signals.views["secondary"][0].min() > -0.5


def test_an_epoch_without_transit_is_an_error_row(run, cli, light_curve, tmp_path):
    done = cli(
        "predict", run, light_curve, "--period", 900, "--epoch", 5000, "--duration", 3, "--json", "--out", tmp_path
    )
    assert done.returncode == 0, done.stderr
    (signal,) = json.loads(done.stdout)["data"]["signals"]
    assert signal["score"] is None
    assert "transit" in signal["error"]


def test_a_catalog_and_a_folder(run, cli, light_curve, tmp_path):
    catalog = tmp_path / "catalog.csv"
    catalog.write_text(
        "star,period_days,epoch_days,time_system,duration_hours\n"
        f"TIC 4242,{PERIOD},{EPOCH},BTJD,{HOURS}\n"
        f"TIC 4242,{2.2 * PERIOD},{EPOCH},BTJD,{HOURS}\n"
        f"TIC 77,{PERIOD},{EPOCH},BTJD,{HOURS}\n"
    )
    out = tmp_path / "o"
    done = cli(
        "predict", run, catalog, "--light-curves", light_curve.parent, "--json", "--max-plots", "0", "--out", out
    )
    assert done.returncode == 0, done.stderr
    data = json.loads(done.stdout)["data"]
    assert (data["scored"], data["errors"]) == (2, 1)
    assert data["signals"][2]["star"] == "TIC 77"
    assert data["signals"][2]["error"]
    assert data["signals"][0]["doubt"] == ""
    assert "no clear dip" in data["signals"][1]["doubt"], "2.2 periods fold single transits on noise"
    shown = cli("predict", run, catalog, "--light-curves", light_curve.parent, "--max-plots", "0", "--out", out)
    assert shown.stderr.count("period from period_days") == 1, "other periods repeat no note"
    assert "2 of 3 signals scored; 1 could not be: no light curve of this star" in shown.stdout
    alone = cli("predict", run, light_curve, *at(), "--json", "--max-plots", "0", "--out", tmp_path / "p")
    (same,) = json.loads(alone.stdout)["data"]["signals"]
    for name in ("score_half_period", "score_double_period"):
        assert 0 < data["signals"][0][name] < 1
        assert 0 < same[name] < 1


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ([], 2, "there is no INPUT"),
        (["{run}", "{curve}"], 2, "--period and --epoch and --duration are missing"),
        (["{run}", "{curve}", "--period", "3", "--epoch", "1326"], 2, "--duration is missing"),
        (["{run}", "{curve}", "--period", "0", "--epoch", "1", "--duration", "2"], 2, "x > 0"),
        (["{run}", "{run}/config.yaml", "--period", "3", "--epoch", "1", "--duration", "2"], 4, "cannot be read"),
        (["{run}", "{run}"], 4, "view set"),
        (["{run}", "list.csv"], 2, "--light-curves"),
        (["nowhere", "{curve}"], 4, "is not a run"),
    ],
)
def test_what_cannot_be_scored_is_said(places, cli, arguments, code, words):
    done = cli("predict", *(text.format(**places) for text in arguments))
    assert done.returncode == code, done.stderr
    assert words in done.stderr
    assert "to fix:" in done.stderr


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"period": 941.4526}, "longer than the data"),
        ({"epoch": 3521.4579}, "with the epoch as BKJD"),
        ({"duration": 0.09}, "no dip at this ephemeris"),
        ({"period": 22.6}, "as hours the period would be 0.94"),
        ({"epoch": 1354.7}, "the strongest dip at this period"),
        ({}, ""),
    ],
)
def test_predict_and_fold_say_that_an_ephemeris_does_not_fit(shared_data, cli, tmp_path, wrong, said):
    file = shared_data / "lightcurves" / "tic100100827_s02_wasp18b_exovetter.fits"
    given = {"period": 0.94145, "epoch": 1354.4579, "duration": 2.1} | wrong
    options = [word for name, value in given.items() for word in (f"--{name}", value)]
    predict = ("predict", file, *options, "--max-plots", 0, "--out", tmp_path / "out", "--no-check-periods")
    for command in (predict, ("data", "fold", file, *options)):
        warnings = json.loads(cli(*command, "--json").stdout)["warnings"]
        assert any(said in text for text in warnings) if said else not warnings


def sharded(run, path, out, **options):
    from transit_cli.vetting.predict import predict
    from transit_cli.vetting.settings import PredictSettings

    return predict(PredictSettings(run=run, input=path, out=out, **{"device": "cpu", "max_plots": 2} | options))


def test_shards_of_a_view_set_give_the_bytes_of_one_process(run, tmp_path, set_at, monkeypatch):
    from transit_cli.results import TransitError
    from transit_cli.training import inference
    from transit_cli.vetting.prediction import shards

    set_at(tmp_path / "views", size=70, lengths=(201, 61), nan_row=5)
    monkeypatch.setattr(inference, "CHUNK", 16)
    monkeypatch.setattr(shards, "CHUNK", 16)
    one = sharded(run, tmp_path / "views", tmp_path / "one")
    together = sharded(run, tmp_path / "views", tmp_path / "all", shards=3)
    lines = [sharded(run, tmp_path / "views", tmp_path / "each", shard=f"{number}/3") for number in (2, 3, 2, 1)]
    assert [line.data["missing_shards"] for line in lines] == [2, 1, 1, 0]
    for name in ("all", "each"):
        assert (tmp_path / name / "scores.csv").read_bytes() == (tmp_path / "one/scores.csv").read_bytes()
        plots = sorted(path.name for path in (tmp_path / name).glob("*.png"))
        assert plots == sorted(path.name for path in (tmp_path / "one").glob("*.png"))
    for key in ("scored", "errors"):
        assert together.data[key] == one.data[key]
    np.testing.assert_equal(together.data["signals"], one.data["signals"])
    assert together.verdict.replace("/all/", "/one/") == one.verdict
    with pytest.raises(TransitError, match="not one of 4 shards"):
        sharded(run, tmp_path / "views", tmp_path / "all", shards=4)
    with pytest.raises(TransitError, match="another input"):
        sharded(run, run.parent / "views", tmp_path / "all", shard="1/3")
    sharded(run, tmp_path / "views", tmp_path / "many", shards=9)  # more shards than chunks
    assert (tmp_path / "many/scores.csv").read_bytes() == (tmp_path / "one/scores.csv").read_bytes()


def test_shards_of_a_set_in_shards_read_only_their_rows(run, tmp_path, monkeypatch):
    from transit_cli.data.settings import SimulateSettings
    from transit_cli.data.simulation import simulate
    from transit_cli.training import inference
    from transit_cli.vetting.prediction import shards

    monkeypatch.setattr(inference, "CHUNK", 4)
    monkeypatch.setattr(shards, "CHUNK", 4)
    views = simulate.make(SimulateSettings(out=tmp_path / "views", tces=14, mission="tess", shards=4, workers=1)).path
    sharded(run, views, tmp_path / "one", max_plots=0)
    opened = []
    original = ViewSet.checked
    monkeypatch.setattr(ViewSet, "checked", lambda self: opened.append(self.path.name) or original(self))
    sharded(run, views, tmp_path / "each", max_plots=0, shard="2/2")
    assert opened == ["shard-00003-of-00004", "shard-00004-of-00004"]  # rows 8 to 14; the sets end at 3, 7, 10 and 14
    sharded(run, views, tmp_path / "each", max_plots=0, shard="1/2")
    assert (tmp_path / "each/scores.csv").read_bytes() == (tmp_path / "one/scores.csv").read_bytes()


def test_a_catalog_in_shards_has_the_rows_of_one_process(run, light_curve, tmp_path):
    lines = ["tic_id,period,epoch_btjd,duration_hours"]
    lines += [f"4242,{period},{EPOCH},{HOURS}" for period in (PERIOD, 5.3, 500)]
    lines += [f"77,{PERIOD},{EPOCH},{HOURS}", f"4243,{PERIOD},{EPOCH},{HOURS}"]
    catalog, curves = tmp_path / "signals.csv", tmp_path / "curves"
    catalog.write_text("\n".join(lines))
    curves.mkdir()
    content = light_curve.read_bytes()
    (curves / "star.fits").write_bytes(content)
    (curves / "other.fits").write_bytes(content.replace(b"4242", b"4243"))
    one = sharded(run, catalog, tmp_path / "one", light_curves=curves, max_plots=0)
    together = sharded(run, catalog, tmp_path / "all", light_curves=curves, max_plots=0, shards=2)
    for number in (2, 1):
        sharded(run, catalog, tmp_path / "each", light_curves=curves, max_plots=0, shard=f"{number}/2")
    assert (tmp_path / "all/scores.csv").read_bytes() == (tmp_path / "each/scores.csv").read_bytes()
    single, parts = (read_table(tmp_path / name / "scores.csv") for name in ("one", "all"))
    assert list(single) == list(parts)
    for name in set(single) - {"plot"}:
        if single[name].dtype.kind == "f":
            np.testing.assert_allclose(parts[name], single[name], atol=1e-6)
        else:
            assert parts[name].tolist() == single[name].tolist()
    assert (together.data["scored"], together.data["errors"]) == (one.data["scored"], one.data["errors"])


def test_one_light_curve_is_not_done_in_shards(run, light_curve, tmp_path):
    from transit_cli.results import TransitError

    with pytest.raises(TransitError, match="neither a view set nor a catalog"):
        sharded(run, light_curve, tmp_path / "o", shards=2, period=PERIOD, epoch=EPOCH, duration=HOURS)
