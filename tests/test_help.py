"""`--help`: every option, in panels by topic, within the terminal's width."""

import pytest

from transit_cli import config
from transit_cli.app import load_command
from transit_cli.discovery import discover
from transit_cli.help import SettingsCommand, panels
from transit_cli.training.settings import TrainOptions


def commands():
    """Every command of transit with its words: ("data", "fold"), <command>."""
    for plugin in discover().used.values():
        if plugin.first_party:
            found = load_command(plugin)
            subcommands = getattr(found, "commands", {"": found})
            yield from (((plugin.name, *filter(None, [name])), command) for name, command in subcommands.items())


def page(command, words, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    return command.make_context(" ".join(("transit", *words)), [], resilient_parsing=True).get_help()


@pytest.mark.parametrize("columns", [60, 80, 200])
@pytest.mark.parametrize(("words", "command"), list(commands()))
def test_every_option_is_listed_within_the_width(words, command, columns, monkeypatch):
    assert isinstance(command, SettingsCommand)
    text = page(command, words, monkeypatch, columns)
    assert max(len(line) for line in text.splitlines() if not line.startswith("    transit ")) <= columns
    assert text.isascii()
    for setting in config.settings_of(command.settings):
        assert setting.label.removeprefix("--") in text
        assert setting.help, setting.name


def test_training_is_explained_on_a_few_screens(monkeypatch):
    (train,) = [command for words, command in commands() if words == ("train",)]
    lines = page(train, ("train",), monkeypatch, 80).splitlines()
    assert len(lines) <= 120
    first_screen = "\n".join(lines[:36])
    for option in ("--out", "--resume", "--target", "--network", "--epochs", "--batch-size", "--seed", "--device"):
        assert f"{option} " in first_screen


def test_an_option_stands_in_one_panel():
    found = dict(panels(TrainOptions))
    assert list(found) == ["Options", "Data", "Network", "Optimisation", "Augmentation", "Run", "Device"]
    names = [setting.name for options in found.values() for setting in options]
    assert len(names) == len(set(names)) == len(config.settings_of(TrainOptions)) - 1  # VIEWSET is an argument
    assert "mixup" in {setting.name for setting in found["Augmentation"]}


def test_each_question_of_the_fallback_test_has_its_own_options(forked_transit):
    options = {name: forked_transit("fallback-test", name, "--help").stdout for name in ("run", "predict", "all-ops")}
    assert "--steps" in options["run"]
    assert "--torch" not in options["run"]
    assert "--torch" in options["predict"]
    assert "--device" not in options["predict"]
    assert "--compare" in options["all-ops"]
    assert "--network" not in options["all-ops"]
    assert "run (default)" in forked_transit("fallback-test", "--help").stdout


def test_the_default_command_takes_options_and_arguments(forked_transit):
    shown = forked_transit("fallback-test", "my_views", "--steps", "3", "--print-config").stdout
    assert shown.splitlines()[1] == "command: fallback-test run"
    assert "viewset: my_views" in shown
    assert "steps: 3" in shown


def test_a_group_alone_prints_its_help(forked_transit):
    done = forked_transit("data")
    assert (done.returncode, done.stderr) == (0, "")
    assert "simulate" in done.stdout


def test_help_as_a_word(capsys):
    from transit_cli import app

    assert app.main(["help", "train"]) == 0
    assert capsys.readouterr().out.startswith("Usage: transit train [OPTIONS] [VIEWSET]")
