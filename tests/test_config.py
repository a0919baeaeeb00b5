"""Settings: options, YAML and API from one dataclass."""

import os
import random
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
    between=st.none() | st.tuples(st.text("abc", min_size=1).map(Path), st.integers(-(2**63), 2**63 - 1)),
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
        ("learning_rate: .nan", "gives learning_rate '.nan'", "a number"),
        ("learning_rate: inf", "gives learning_rate 'inf'", "a number"),
        ("learning_rate: 1:04", "which YAML reads as a number in base 60", "in quotes is text"),
        ("epochs: 010", "which YAML reads as a number in base 8", "in quotes is text"),
        ("target: [PC, no]", "gives no, which YAML reads as false", "in quotes is text"),
        ("epochs: 0x10", "gives epochs '0x10'", "a whole number"),
        ("epochs: 99999999999999999999", "gives epochs 99999999999999999999", "a whole number"),
        ("batch-size: 1\nbatch_size: 2", "a second time (line 1 as batch-size)", "each key once"),
        ("target: &a [PC]", "an anchor, an alias or a tag", "key: value"),
        ("target: !!python/tuple [PC]", "an anchor, an alias or a tag", "key: value"),
        ("? [a]\n: 1", "a key that is not a word", "key: value"),
        ("target: " + "[" * 3000, "nested more than 8 deep", "key: value"),
        ("transit_config: true", "configuration of version True", "version 1"),
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


def test_numbers_keep_their_digits_where_text_is_wanted_and_switches_are_booleans(tmp_path):
    file = tmp_path / "run.yaml"
    file.write_text(
        "target: [1.10, 1_000, '010', \"no\", 2026-11-28]\nshuffle: off\nepochs: 1_000\nlearning_rate: 1e-3"
    )
    found = config.resolve(Example, {}, file)
    assert found.target == ("1.10", "1_000", "010", "no", "2026-11-28")
    assert (found.shuffle, found.epochs, found.learning_rate) == (False, 1000, 1e-3)


def test_any_bytes_of_a_configuration_are_settings_or_a_typed_error(tmp_path):
    good = config.to_yaml(Example(folder=Path("a"), target=("PC", "EB")), "example").encode()
    file, moments = tmp_path / "run.yaml", random.Random(3)
    for _ in range(500):
        content = bytearray(good)
        for _ in range(moments.randint(1, 5)):
            place = moments.randrange(len(content))
            content[place : place + moments.randint(0, 2)] = moments.choice(
                [b"[", b"!!", b"&a ", b":", b"\xff", b"{", b"1e999"]
            )
        file.write_bytes(content)
        try:
            assert isinstance(config.resolve(Example, {}, file), Example)
        except TransitError as error:
            error.found.encode()


def test_a_named_pipe_and_a_huge_file_are_no_configuration(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with (tmp_path / "large").open("wb") as stream:
        stream.truncate(2 << 20)
    for name in ("pipe", "large"):
        with pytest.raises(TransitError) as caught:
            config.resolve(Example, {}, tmp_path / name)
        assert caught.value.code == "config-unreadable"
