"""Write docs/commands.md from the commands themselves: python docs/commands.py > docs/commands.md."""

from __future__ import annotations

import inspect
from typing import Any

from transit_cli import config, help  # noqa: A004
from transit_cli.app import load_command
from transit_cli.discovery import discover

INTRODUCTION = """# Commands

Generated from the options by `make docs`; `make check` compares. Every command also takes these options:
"""

SWITCHES = (
    "Options without a value also exist as `--no-...`: `--no-report`, or `--no-tensorboard` if a YAML file sets it."
)


def main() -> None:
    """Print a section per command: what it does, its arguments and options, their values and defaults."""
    print(INTRODUCTION)
    rows = [(", ".join(names), "", text) for names, _, text in help.COMMON.values()]
    table([*rows, ("--help, -h", "", "Print the help, and exit.")])
    print(f"\n{SWITCHES}")
    for plugin in discover().used.values():
        if plugin.first_party:
            section(load_command(plugin), f"transit {plugin.name}")


def section(command: Any, path: str) -> None:
    """Print a command, or a group and its commands."""
    print(f"\n## {path}\n\n{prose(command.help or '')}")
    if not isinstance(command, help.SettingsCommand):
        for name, subcommand in command.commands.items():
            section(subcommand, f"{path} {name}")
        return
    arguments = [item for item in config.settings_of(command.settings) if item.positional]
    panels = help.panels(command.settings)
    for name, settings in [("Arguments", arguments), *panels]:
        if settings:
            title = "" if name == "Options" and len(panels) == 1 and not arguments else f"{name}:\n\n"
            print(f"\n{title}", end="")
            table([row(setting) for setting in settings])


def row(setting: config.Setting) -> tuple[str, str, str]:
    """A setting as its names with what they take, its default, and its meaning."""
    short = f", {setting.flag.short}" if setting.flag and setting.flag.short else ""
    default = {"True": "on", "False": ""}.get(help.default_text(setting), help.default_text(setting))
    text = " ".join(setting.help.split()) + (f" ({setting.range})" if setting.range else "")
    if setting.positional:
        return setting.label, default, text
    value = "" if setting.type is bool else f" {help.metavar(setting)}"
    return f"{setting.option}{short}{value}", "required" if setting.required else default, text


def table(rows: list[tuple[str, str, str]]) -> None:
    """Print rows of names, defaults and meanings."""
    print("| | default | |\n|---|---|---|")
    for name, default, text in rows:
        cells = f"`{name}`", f"`{default}`" if default not in {"", "required"} else default, text
        print("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")


def prose(text: str) -> str:
    """Help text without the line breaks inside its paragraphs; examples as code."""
    paragraphs = inspect.cleandoc(text).split("\n\n")
    return "\n\n".join(
        "\n".join("    " + line.strip() for line in part.splitlines())
        if part.lstrip().startswith("transit ")
        else " ".join(part.split())
        for part in paragraphs
    )


if __name__ == "__main__":
    main()
