"""Settings: options, YAML and API from one dataclass."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transit_cli import config
from transit_cli.config import Flag, Positional, Range, Settings
from transit_cli.profiling.settings import ProfileSettings
from transit_cli.results import ExitCode, TransitError
from transit_cli.training.settings import TrainSettings
from transit_cli.vetting.settings import EvaluateSettings


@dataclass(frozen=True, kw_only=True)
class Example(Settings):
    """Settings with a field of every kind."""

    folder: Annotated[Path | None, Positional("FOLDER")] = None
    """Where to look."""

    epochs: Annotated[int, Range(1), Flag("-e")] = 50
    """Passes over the training set."""

    learning_rate: Annotated[float, Range(0, 1, open="left")] = 1e-3
    """Step length."""

    batch_size: int | Literal["auto"] = 64
    """Samples in a batch."""

    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Number format."""

    target: tuple[str, ...] = ("PC",)
    """Labels that count as positive."""

    shuffle: bool = True
    """Whether to shuffle."""

    warmup: Annotated[int, Range(0)] | None = None
    """Steps, or none."""

    try_: bool = False
    """A word of Python."""

    between: tuple[Path, int] | None = None
    """A file and a line."""


examples = st.builds(
    Example,
    folder=st.none() | st.text("abc/ #:'\"é", min_size=1).map(Path),
    epochs=st.integers(1, 10**9),
    learning_rate=st.floats(1e-12, 1),
    batch_size=st.integers(-(10**6), 10**6) | st.just("auto"),
    precision=st.sampled_from(["auto", "fp32", "bf16"]),
    target=st.lists(st.text(min_size=0, max_size=8)).map(tuple),
    shuffle=st.booleans(),
    try_=st.booleans(),
    between=st.none() | st.tuples(st.text("abc", min_size=1).map(Path), st.integers()),
)


@given(examples)
def test_what_is_written_can_be_read_back(tmp_path_factory, example):
    file = tmp_path_factory.mktemp("yaml") / "run.yaml"
    file.write_text(config.to_yaml(example, "example"), encoding="utf-8")
    assert config.resolve(Example, {}, file) == example


def test_flags_win_over_yaml_and_yaml_over_defaults(tmp_path):
    file = tmp_path / "run.yaml"
    file.write_text("# a comment\nepochs: 7\nlearning-rate: 1e-2\n")
    resolved = config.resolve(Example, {"epochs": 9}, file)
    assert (resolved.epochs, resolved.learning_rate, resolved.batch_size) == (9, 0.01, 64)
    assert resolved.sources["epochs"] == "--epochs"
    assert resolved.sources["learning_rate"] == f"{file}:3"
    assert resolved.sources["batch_size"] == "default"
    assert f"learning_rate: 0.01  # {file}:3" in config.to_yaml(resolved)


@pytest.mark.parametrize(
    ("line", "found", "wanted"),
    [
        ("epochs: many", "gives epochs 'many'", "a whole number"),
        ("epochs: 1.5", "gives epochs 1.5", "a whole number"),
        ("epochs: true", "gives epochs True", "a whole number"),
        ("epochs:", "gives epochs nothing", "a whole number"),
        ("epochs: 0", "--epochs is 0", "x >= 1"),
        ("learning_rate: 0", "--learning-rate is 0.0", "0 < x <= 1"),
        ("learning_rate: .nan", "--learning-rate is nan", "0 < x <= 1"),
        ("batch_size: large", "gives batch_size 'large'", "a whole number or auto"),
        ("precision: fp8", "gives precision 'fp8'", "auto or fp32 or bf16"),
        ("shuffle: maybe", "gives shuffle 'maybe'", "true or false"),
        ("warmup: -1", "--warmup is -1", "x >= 0"),
        ("between: [a, b]", "gives between a list", "a path and a whole number"),
        ("between: [a]", "gives between a list", "a path and a whole number"),
        ("target: {a: 1}", "gives target a table", "a list of text"),
        ("epoch: 3", "unknown key 'epoch'", "epochs?"),
        ("epochs: 1\nepochs: 2", "a second time", "each key once"),
    ],
)
def test_a_wrong_value_says_found_wanted_and_where(tmp_path, line, found, wanted):
    file = tmp_path / "run.yaml"
    file.write_text(line)
    with pytest.raises(TransitError) as caught:
        config.resolve(Example, {}, file)
    error = caught.value
    assert found in error.found
    assert wanted in error.wanted
    assert "run.yaml" in error.found + error.fix
    assert error.exit_code == ExitCode.BAD_INPUT


def test_a_wrong_flag_is_a_usage_error():
    with pytest.raises(TransitError, match="--epochs is 0") as caught:
        config.resolve(Example, {"epochs": 0})
    assert caught.value.exit_code == ExitCode.USAGE


def test_python_gets_the_same_checks():
    with pytest.raises(TransitError, match="--learning-rate is 2"):
        Example(learning_rate=2)
    assert Example().replace(epochs=2).epochs == 2


def test_a_required_value_is_asked_for():
    @dataclass(frozen=True, kw_only=True)
    class Needy(Settings):
        run: Annotated[Path, Positional("RUN")]

    Needy.__module__ = __name__
    with pytest.raises(TransitError, match="RUN is missing"):
        config.resolve(Needy, {})
    assert config.resolve(Needy, {"run": "a"}).run == Path("a")


def test_help_is_the_text_below_the_field():
    texts = {setting.name: setting.help for setting in config.settings_of(Example)}
    assert texts["epochs"] == "Passes over the training set."
    assert all(texts.values())


def test_every_setting_of_every_command_has_help_and_needs_no_torch():
    import subprocess
    import sys

    script = """
import importlib, pkgutil, sys, transit_cli
from transit_cli.config import Settings, settings_of
for module in pkgutil.walk_packages(transit_cli.__path__, "transit_cli."):
    if module.name.rsplit(".", 1)[-1] == "settings":
        for item in vars(importlib.import_module(module.name)).values():
            if isinstance(item, type) and issubclass(item, Settings):
                for setting in settings_of(item):
                    assert setting.help, f"{module.name}.{item.__name__}.{setting.name} has no help"
assert "torch" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def test_keys_of_before_their_renaming_are_refused_with_their_new_names(tmp_path):
    file = tmp_path / "config.yaml"
    file.write_text("command: train\nrun_dir: runs/a\nway: captured\nepochs: 3\n")
    with pytest.raises(TransitError) as caught:
        config.resolve(TrainSettings, {}, file)
    assert "run_dir (line 2) is now out, way (line 3) is now execution" in caught.value.found
    assert caught.value.code == "config-renamed-key"
    file.write_text("command: profile\nviews: 201/61\n")
    with pytest.raises(TransitError, match="is now bins"):
        config.resolve(ProfileSettings, {}, file)


def test_the_configuration_of_another_command_is_named(tmp_path):
    file = tmp_path / "config.yaml"
    file.write_text("command: train\nmembers: 3\n")
    with pytest.raises(TransitError, match="it is a configuration of `transit train`"):
        config.resolve(EvaluateSettings, {}, file)
