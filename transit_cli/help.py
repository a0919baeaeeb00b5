"""What `--help` prints: options in panels by topic, in two columns that fit the terminal, in plain text."""

from __future__ import annotations

import inspect
import os
import shutil
import sys
import textwrap
import types
import typing
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from typer.core import TyperCommand, TyperGroup

from transit_cli import config

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

#: Panels in the order in which they are listed; those of a plugin's own follow.
PANELS = ("Options", "Data", "Network", "Optimisation", "Augmentation", "Run", "Device")
#: A command with no more options than this lists them without panels.
ONE_PANEL = 12
#: Columns of the longest name beside which its text begins, and of the widest help.
NAME_COLUMNS, MAX_COLUMNS = 24, 100
#: On a narrower terminal each text stands below its name.
TWO_COLUMNS = 72
#: Larger upper limits are not shown: they are sanity checks.
MAX_SHOWN = 1000
#: Options of every command: names, type and text.
COMMON: dict[str, tuple[tuple[str, ...], Any, str]] = {
    "config": (("--config",), Path | None, "YAML with values of options; flags take precedence."),
    "print_config": (("--print-config",), bool, "Print the resolved options as YAML, and exit."),
    "json": (("--json",), bool, "Print one JSON document and nothing else on stdout."),
    "quiet": (("--quiet", "-q"), bool, "Print only the verdict, warnings and errors."),
}

_Row = tuple[str, str]


class SettingsCommand(TyperCommand):
    """A command whose options are the fields of a settings class."""

    settings: ClassVar[type[config.Settings]]

    def get_help(self, ctx: Any) -> str:
        """The text of `--help`."""
        settings = config.settings_of(self.settings)
        usage = [ctx.command_path, "[OPTIONS]"]
        usage += [argument_usage(setting) for setting in settings if setting.positional]
        usage += [f"{item.option} {metavar(item)}" for item in settings if item.required and not item.positional]
        arguments = [(setting.label, setting.help) for setting in settings if setting.positional]
        sections = [("Arguments", arguments)]
        sections += [(name, list(map(option_row, options))) for name, options in panels(self.settings)]
        common = [
            (f"{', '.join(reversed(names))}{' PATH' if kind is not bool else ''}", text)
            for names, kind, text in COMMON.values()
        ]
        sections.append(("Common options", [*common, ("-h, --help", "Print this help, and exit.")]))
        return page(usage, self.help or "", sections)


class CommandGroup(TyperGroup):
    """A group of commands, one of which may be run without being named."""

    default: ClassVar[str] = ""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Insert the name of the default command if none is given; print the help if there is no default."""
        if not args and self.no_args_is_help and not ctx.resilient_parsing:
            print(self.get_help(ctx))  # noqa: T201
            ctx.exit()
        named = args and (args[0] in self.commands or args[0] in ctx.help_option_names)
        if self.default and not named and not ctx.resilient_parsing:
            args = [self.default, *args]
        return super().parse_args(ctx, args)

    def get_help(self, ctx: Any) -> str:
        """The text of `--help`."""
        sections: dict[str, list[_Row]] = {"Commands": []}
        for name in self.list_commands(ctx):
            command = self.commands[name]
            panel = getattr(command, "rich_help_panel", None) or "Commands"
            text = (command.short_help or command.help or "").strip().split("\n\n")[0].replace("\\[", "[")
            sections.setdefault(panel, []).append((name + (" (default)" if name == self.default else ""), text))
        sections["Options"] = [
            record for parameter in self.get_params(ctx) if (record := parameter.get_help_record(ctx))
        ]
        command = "[COMMAND]" if self.default else "COMMAND"
        return page([ctx.command_path, command, "[ARGUMENTS]"], self.help or "", list(sections.items()))


def group(default: str = "") -> type[CommandGroup]:
    """The class of a group of commands, for `typer.Typer(cls=...)`.

    Args:
        default: the command that runs if none is named.
    """
    return type("Group", (CommandGroup,), {"default": default})


def panels(cls: type[config.Settings]) -> list[tuple[str, list[config.Setting]]]:
    """The options of a settings class by panel, in the order of `--help`; those in `cls.first` come first."""
    options = {setting.name: setting for setting in config.settings_of(cls) if not setting.positional}
    first = [options[name] for name in cls.first if name in options]
    rest = [option for option in options.values() if option.name not in cls.first]
    names = dict.fromkeys([*PANELS, *(option.panel for option in rest if option.panel)])
    found = {name: [option for option in rest if (option.panel or PANELS[0]) == name] for name in names}
    found[PANELS[0]] = first + found[PANELS[0]]
    if len(options) <= ONE_PANEL:
        found = {PANELS[0]: [option for of_panel in found.values() for option in of_panel]}
    return [(name, of_panel) for name, of_panel in found.items() if of_panel]


def argument_usage(setting: config.Setting) -> str:
    """How a positional argument stands in the usage line: `RUN`, `[VIEWSET]`, `FILES...`."""
    name = setting.label + ("..." if typing.get_origin(setting.type) is tuple else "")
    return name if setting.required else f"[{name}]"


def option_row(setting: config.Setting) -> _Row:
    """An option's names and value, and its text with default and range."""
    short = f"{setting.flag.short}, " if setting.flag and setting.flag.short else ""
    if setting.type is bool:
        term = f"{short}--[no-]{setting.option[2:]}" if setting.default else f"{short}{setting.option}"
        return term, setting.help + (" [default:\xa0on]" if setting.default else "")
    text, value = setting.help, metavar(setting)
    options = choices(setting.type)
    if options and len(f"{short}{setting.option} {value}") > NAME_COLUMNS:
        value = "NAME"
        if not all(choice in text for choice in options):
            text += f" One of: {', '.join(options)}."
    notes = ["required"] if setting.required else []
    notes += [f"default: {default}"] if (default := default_text(setting)) else []
    limit = setting.range.maximum if setting.range else None
    if limit is not None and limit < MAX_SHOWN:  # "x >= 1" would state the obvious at each count
        notes.append(str(setting.range))
    note = f"[{', '.join(notes)}]".replace(" ", "\xa0")  # on one line
    return f"{short}{setting.option} {value}", f"{text} {note}" if notes else text


def default_text(setting: config.Setting) -> str:
    """A default as it would be typed; "" where there is none."""
    value = setting.default
    if setting.required or value is None:
        return ""
    if isinstance(value, tuple):
        return ("," if typing.get_args(setting.type)[-1] is Ellipsis else " ").join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def choices(kind: Any) -> tuple[str, ...]:
    """The values of a Literal, which may be optional."""
    arms = [arm for arm in typing.get_args(kind) if arm is not types.NoneType]
    if typing.get_origin(kind) is Literal:
        return tuple(map(str, arms))
    return choices(arms[0]) if len(arms) == 1 and typing.get_origin(kind) in {typing.Union, types.UnionType} else ()


def metavar(setting: config.Setting) -> str:
    """What stands for an option's value: INT, PATH, adamw|adam, NAME,..."""
    return setting.flag.metavar if setting.flag and setting.flag.metavar else _metavar(setting.type)


def _metavar(kind: Any) -> str:
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if origin in {typing.Union, types.UnionType}:
        return "|".join(_metavar(arm) for arm in args if arm is not types.NoneType)
    if origin is tuple:
        return f"{_metavar(args[0])},..." if args[-1] is Ellipsis else " ".join(map(_metavar, args))
    if origin is Literal:
        return "|".join(choices(kind))
    return {int: "INT", float: "FLOAT", Path: "PATH"}.get(kind, "TEXT")


def page(usage: Sequence[str], text: str, sections: Iterable[tuple[str, Sequence[_Row]]]) -> str:
    """A page of help.

    Args:
        usage: the words of the usage line.
        text: what the command does; paragraphs are separated by empty lines; one of `transit` commands is not wrapped.
        sections: titles with their rows, of which empty ones are left out.
    """
    width = min(shutil.get_terminal_size().columns, MAX_COLUMNS)
    lines = _wrapped(" ".join(usage), width, _bold("Usage:") + " ", len("Usage: "))
    for paragraph in inspect.cleandoc(text).split("\n\n"):
        if paragraph.lstrip().startswith("transit "):  # an example
            lines += ["", *("    " + line.strip() for line in paragraph.splitlines())]
        else:
            lines += ["", *_wrapped(" ".join(paragraph.split()), width)]
    terms = [len(term) for _, rows in sections for term, _ in rows if len(term) <= NAME_COLUMNS]
    column = max(terms, default=0) if width >= TWO_COLUMNS else 2
    for title, rows in sections:
        lines += ["", _bold(f"{title}:")] if rows else []
        for term, meaning in rows:
            start = f"  {term:<{column}}  "
            if len(term) > column:
                lines, start = [*lines, start.rstrip()], " " * (column + 4)
            lines += _wrapped(meaning.replace("\n", " "), width, start, column + 4)
    return "\n".join(lines)


def _wrapped(text: str, width: int, start: str = "", indent: int = 0) -> list[str]:
    """Text in lines of `width`, the first after `start` and the others `indent` columns in."""
    room = max(width - indent, 20)
    text = " ".join(word if len(word) <= room else word.replace("\xa0", " ") for word in text.split(" "))
    lines = textwrap.wrap(text, room, break_on_hyphens=False) or [""]
    lines = [line.replace("\xa0", " ") for line in lines]
    return [(start + lines[0]).rstrip(), *(" " * indent + line for line in lines[1:])]


def _bold(text: str) -> str:
    plain = not sys.stdout.isatty() or "NO_COLOR" in os.environ or os.environ.get("TERM") == "dumb"
    return text if plain else f"\x1b[1m{text}\x1b[0m"
