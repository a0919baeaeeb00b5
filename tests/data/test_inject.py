"""Injection into real light curves: the same bytes again, known signals cut out, what was injected is measured."""

import numpy as np
import pytest

from transit_cli.data.injection import inject as injecting
from transit_cli.data.injection.kinds import LABELS, NotInjectedError, Star, inject
from transit_cli.data.settings import InjectSettings
from transit_cli.data.views.folding import Signal, phases
from transit_cli.data.viewset import ViewSet
from transit_cli.results import TransitError

KNOWN = Signal(5.0, 2001.0, 0.3)


@pytest.fixture(scope="module")
def light_curves(tmp_path_factory):
    """Three stars of 27 days at 30 minutes; the first with deep transits of a known planet and with centroids."""
    folder = tmp_path_factory.mktemp("curves")
    for star in (1, 2, 3):
        rng = np.random.default_rng(star)
        time = np.arange(2000, 2027, 30 / 1440)
        flux = 1 + 4e-4 * rng.standard_normal(len(time))
        if star == 1:
            flux -= 0.05 * (np.abs(phases(time, KNOWN)[0]) < KNOWN.duration / 2)
        x, y = 30 + 1e-3 * rng.standard_normal((2, len(time)))
        rows = "\n".join(",".join(f"{v:.7f}" for v in row) for row in zip(time, flux, x, y, strict=True))
        (folder / f"TIC{star}.csv").write_text(f"btjd,flux,MOM_CENTR1,MOM_CENTR2\n{rows}\n", encoding="utf-8")
    known = f"tic_id,period,epoch_btjd,duration_hours\n1,{KNOWN.period},{KNOWN.epoch},{24 * KNOWN.duration}\n"
    (folder / "known.csv").write_text(known, encoding="utf-8")
    return folder


def settings(light_curves, out, **given):
    given = {"tces": 24, "mission": "tess", "catalog": light_curves / "known.csv", "workers": 1} | given
    return InjectSettings(light_curves=light_curves, out=out, **given)


@pytest.fixture(scope="module")
def made(light_curves, tmp_path_factory):
    out = tmp_path_factory.mktemp("injected") / "set"
    result = injecting.inject(settings(light_curves, out, views=("centroid",)))
    return ViewSet.open(out), result


def test_every_kind_has_its_label_and_what_was_injected_is_measured(made):
    views, result = made
    tces = views.tces
    assert views.simulated
    assert result.data["known_signals_cut"] == 1
    assert [LABELS[kind] for kind in tces["kind"].tolist()] == views.labels.tolist()
    assert views.lengths == {"global": 201, "local": 61, "centroid": 61}
    planet = tces["kind"] == "planet"
    strong = planet & (tces["injected_snr"] > 20)
    assert strong.sum() >= 3
    assert np.median(tces["measured_depth_ppm"][strong] / tces["injected_depth_ppm"][strong]) == pytest.approx(
        1, abs=0.2
    )
    assert np.isfinite(tces["injected_radius_ratio"][planet]).all()
    assert np.isnan(tces["injected_radius_ratio"][~planet]).all()
    assert {part for star in set(tces["star"]) for part in set(views.splits[tces["star"] == star])} <= {*views.splits}
    assert all(len(set(views.splits[tces["star"] == star])) == 1 for star in set(tces["star"]))
    own = tces["star"] == "TIC 1"
    assert tces["scatter_ppm"][own & planet].max() < 1500  # the known transits are 50,000 ppm deep


def test_the_same_seed_gives_the_same_set_after_an_interruption(made, light_curves, tmp_path, monkeypatch):
    views, _ = made
    out = tmp_path / "set"
    calls = []

    def interrupted(function, tasks, *_):
        for task in tasks:
            calls.append(task)
            if len(calls) == 2:
                raise KeyboardInterrupt
            yield task, function(task)

    with monkeypatch.context() as patch:
        patch.setattr(injecting, "each", interrupted)
        with pytest.raises(KeyboardInterrupt, match="resume"):
            injecting.inject(settings(light_curves, out, views=("centroid",)))
    assert not out.exists()
    injecting.inject(settings(light_curves, out, views=("centroid",)))
    for file in sorted(views.path.iterdir()):
        assert (out / file.name).read_bytes() == file.read_bytes(), file.name
    assert not list(tmp_path.glob(".set.work"))


def test_another_seed_gives_another_set_and_kinds_are_chosen(light_curves, tmp_path):
    only = injecting.inject(settings(light_curves, tmp_path / "a", kinds=("inverted", "scrambled"), tces=6, seed=5))
    assert set(ViewSet.open(tmp_path / "a").labels) == {"J"}
    assert only.data["kinds"]["planet"] == 0


def test_a_background_binary_moves_the_centroid_in_proportion_to_the_light_that_is_lost():
    rng = np.random.default_rng(0)
    time = np.arange(0, 27, 0.02)
    flux = 1 + 1e-4 * rng.standard_normal(len(time))
    star = Star(time, flux, 0.02, 1e-4, time, flux)
    done = 0
    for seed in range(10):
        try:
            found = inject(np.random.default_rng(seed), "background-binary", star)
        except NotInjectedError:
            continue
        lost = np.linalg.norm(found.shift, axis=1)
        change = np.abs(found.flux / flux - 1)
        np.testing.assert_allclose(lost, change * found.columns["injected_source_pixels"], atol=1e-12)
        done += 1
    assert done


def test_failures_say_what_is_wrong(light_curves, tmp_path):
    with pytest.raises(TransitError, match="kinds") as unknown:
        injecting.inject(settings(light_curves, tmp_path / "x", kinds=("planets",)))
    assert "background-binary" in str(unknown.value.wanted)
    (tmp_path / "empty").mkdir()
    with pytest.raises(TransitError) as none:
        injecting.inject(InjectSettings(light_curves=tmp_path / "empty", out=tmp_path / "x"))
    assert none.value.code in {"no-light-curves", "light-curves-missing"} or "light curve" in str(none.value)
    short = tmp_path / "short"
    short.mkdir()
    (short / "TIC9.csv").write_text(
        "btjd,flux\n" + "\n".join(f"{2000 + i / 48},{1 + 1e-4 * (i % 7)}" for i in range(50))
    )
    with pytest.raises(TransitError, match="too few"):
        injecting.inject(InjectSettings(light_curves=short, out=tmp_path / "x", tces=3))
    (tmp_path / "x").mkdir()
    with pytest.raises(TransitError, match="exists"):
        injecting.inject(settings(light_curves, tmp_path / "x"))


def test_shards_hold_the_rows_of_one_folder_whoever_makes_them(made, light_curves, tmp_path):
    single = made[0]
    options = {"views": ("centroid",)}
    together = injecting.inject(settings(light_curves, tmp_path / "all", shards=2, **options))
    for number in (2, 1, 2):
        one = injecting.inject(settings(light_curves, tmp_path / "each", shard=f"{number}/2", **options))
    assert one.data["missing_shards"] == 0
    assert together.data["known_signals_cut"] == 1
    for name in ("all", "each"):
        other = ViewSet.open(tmp_path / name)
        assert [len(shard) for shard in other.shards] == [8, 16]
        for column in single.tces:
            np.testing.assert_array_equal(single.tces[column], other.tces[column])
        for view, values in single.views.items():
            np.testing.assert_array_equal(values, other.views[view][:])
    files = [sorted((tmp_path / name).rglob("shard-*/*")) for name in ("all", "each")]
    assert [file.read_bytes() for file in files[0]] == [file.read_bytes() for file in files[1]]
    with pytest.raises(TransitError, match="another options"):
        injecting.inject(settings(light_curves, tmp_path / "each", shard="1/2", seed=1, **options))
