"""`transit export`: each file gives PyTorch's numbers where it can be run, and says what it takes."""

import importlib.util
import json
import shutil
import sys

import numpy as np
import pytest
import torch

from tests.training.conftest import write_set
from transit_cli import config
from transit_cli.data.viewset import ViewSet
from transit_cli.device.select import select
from transit_cli.export import export as exporting
from transit_cli.export.exported import Exported
from transit_cli.export.formats import FORMATS
from transit_cli.export.settings import ExportSettings
from transit_cli.results import ExitCode, TransitError
from transit_cli.training.settings import TrainSettings
from transit_cli.training.train import train
from transit_cli.vetting.ensemble import open_run


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of two members with a scalar."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("export")
    write_set(folder / "views")
    options = {"epochs": 1, "members": 2, "batch_size": 16, "device": "cpu", "out": folder / "run"}
    train(config.resolve(TrainSettings, {"viewset": folder / "views"} | options))
    return folder / "run"


def exported(run, name, **options):
    if missing := [package for package in FORMATS[name].packages if importlib.util.find_spec(package) is None]:
        pytest.skip(f"{', '.join(missing)} not installed")
    return exporting.export(config.resolve(ExportSettings, {"run": run, "format": name} | options))


@pytest.fixture
def signals(run):
    """What `predict` says of a view set's rows, and the same rows as the exported file wants them."""
    ensemble, viewset = open_run(run, select("cpu")), ViewSet.open(run.parent / "views")
    rows = np.flatnonzero(viewset.splits == "train")[:50]  # others are calibrated without their own part
    scores = ensemble.score_rows(viewset, rows).mean(0)
    (scaling,) = ensemble.card.scalars
    period = viewset.tces[scaling.column][rows]
    scaled = (np.log10(period) if scaling.log else period) - scaling.center
    scalars = np.clip(scaled / scaling.scale, -5, 5).astype(np.float32)[:, None]
    return {name: np.array(viewset.views[name][rows]) for name in ensemble.card.views} | {"scalars": scalars}, scores


def check_words(text, run):
    words = json.loads(text)
    assert words["inputs"]["global"]["shape"] == ["batch", 40]
    assert words["inputs"]["local"]["shape"] == ["batch", 20]
    assert words["inputs"]["scalars"]["columns"][0]["column"] == "period_days"
    assert words["outputs"]["logits"]["shape"] == ["batch", 2]
    assert words["card"]["network"] == "two-branch"
    assert words["views_made_with"]["kind"] == "test"
    assert "simulated" in words["trained_on"]
    assert words["calibration"].startswith("included in score")


def test_torchscript(run, signals):
    result = exported(run, "torchscript")
    assert result.data["verified"]
    found = {"transit.json": ""}
    with pytest.warns(DeprecationWarning, match="torch.jit.load"):
        loaded = torch.jit.load(str(run / "model.ts"), _extra_files=found)
    check_words(found["transit.json"], run)
    inputs, expected = signals
    score, logits = loaded(*map(torch.from_numpy, inputs.values()))
    np.testing.assert_allclose(score.detach().numpy(), expected, atol=1e-5)
    assert logits.shape == (50, 2)


def test_onnx(run, signals, tmp_path):
    result = exported(run, "onnx", out=tmp_path / "deep" / "triage.onnx")
    assert result.data["verified"]
    assert result.data["file"] == tmp_path / "deep" / "triage.onnx"
    assert [file.name for file in result.data["file"].parent.iterdir()] == ["triage.onnx"]
    import onnxruntime

    session = onnxruntime.InferenceSession(str(result.data["file"]))
    assert {item.name: item.shape for item in session.get_inputs()} == result.data["inputs"]
    check_words(session.get_modelmeta().custom_metadata_map["transit"], run)
    inputs, expected = signals
    np.testing.assert_allclose(session.run(["score"], inputs)[0], expected, atol=1e-5)


def test_executorch(run):
    result = exported(run, "executorch")
    assert result.data["verified"]
    from executorch.runtime import Runtime

    (words,) = Runtime.get().load_program(str(run / "model.pte")).load_method("transit").execute([])
    check_words(words, run)


def test_coreml(run):
    result = exported(run, "coreml")
    assert (run / "model.mlpackage").is_dir()
    if sys.platform != "darwin":
        assert not result.data["verified"]
        assert "not verified" in result.warnings[0]
        assert result.data["not_run_because"]
    import coremltools

    check_words(
        coremltools.models.MLModel(str(run / "model.mlpackage"), skip_model_load=True).user_defined_metadata["transit"],
        run,
    )


def test_other_numbers_are_found_and_not_kept(run, monkeypatch, tmp_path):
    forward = Exported.forward

    def wrong_for_other_batches(self, *arrays):
        score, logits = forward(self, *arrays)
        return score, logits + (0.01 if int(arrays[0].shape[0]) == 37 else 0.0)  # a choice that tracing fixes

    monkeypatch.setattr(Exported, "forward", wrong_for_other_batches)
    result = exported(run, "torchscript", out=tmp_path / "model.ts")
    assert result.exit_code == ExitCode.NEGATIVE
    assert 1e-3 < result.data["largest_difference"]["logits"] <= 0.011
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_a_missing_package_is_said_before_anything_starts(name, run, monkeypatch, tmp_path):
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    kind = FORMATS[name]
    if not kind.packages:
        assert exported(run, name, out=tmp_path / f"model{kind.suffix}").data["file"]
        return
    settings = config.resolve(ExportSettings, {"run": tmp_path / "no run", "format": name})
    with pytest.raises(TransitError, match="not installed") as caught:
        exporting.export(settings)
    assert caught.value.code == "package-missing"
    assert caught.value.fix in {f"pip install {kind.packages[0]}", 'pip install "transit-cli[export]"'}


def test_a_network_that_cannot_be_exported_is_refused(run, monkeypatch, tmp_path):
    def choosing(self, *arrays):
        raise NotImplementedError("no such operator")

    monkeypatch.setattr(Exported, "forward", choosing)
    with pytest.raises(TransitError, match="cannot be exported to torchscript: no such operator"):
        exported(run, "torchscript", out=tmp_path / "model.ts")
    assert not list(tmp_path.iterdir())


def test_a_folder_given_as_output_keeps_its_content(run, tmp_path):
    (tmp_path / "thesis.tex").write_text("precious")
    result = exported(run, "torchscript", out=tmp_path)
    assert result.data["file"] == tmp_path / "model.ts"
    assert sorted(file.name for file in tmp_path.iterdir()) == ["model.ts", "thesis.tex"]
    assert exported(run, "torchscript", out=tmp_path).data["file"] == tmp_path / "model.ts"  # its own may be replaced


@pytest.mark.parametrize("name", ["model.safetensors", "notes.ts", "mine.mlpackage", "link.ts"])
def test_nothing_that_is_not_an_export_is_replaced(run, tmp_path, name):
    target = tmp_path / name
    if name == "model.safetensors":
        shutil.copy(run / name, target)
    elif name == "mine.mlpackage":
        (target / "Data").mkdir(parents=True)
        (target / "Data" / "precious.bin").write_bytes(b"1")
    elif name == "link.ts":
        target.symlink_to(tmp_path / "gone")
    else:
        target.write_text("precious")
    before = [(file, file.is_file() and file.read_bytes()) for file in sorted(tmp_path.rglob("*"))]
    with pytest.raises(TransitError) as caught:
        exported(run, "torchscript", out=target)
    assert caught.value.code == "output-exists"
    assert [(file, file.is_file() and file.read_bytes()) for file in sorted(tmp_path.rglob("*"))] == before


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.torture] * (name == "onnx")) for name in sorted(FORMATS)]
)
def test_an_export_is_replaced_by_the_next(run, tmp_path, name):
    file = tmp_path / f"model{FORMATS[name].suffix}"
    for _ in range(2):
        exported(run, name, out=file)
    assert list(tmp_path.iterdir()) == [file]
