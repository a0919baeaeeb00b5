"""Write docs/commands.md from the commands themselves: python docs/commands.py > docs/commands.md."""

from __future__ import annotations

import re
from typing import Any

from transit_cli.app import load_command
from transit_cli.discovery import discover

COMMON = {"config", "print_config", "json", "quiet", "help"}


def main() -> None:
    """Print a section per command: what it is for, its options, their defaults."""
    print("# Commands\n")
    print("Made from the options by `make docs`; `make check` compares. Every command also takes `--config`,")
    print("`--print-config`, `--json`, `--quiet` and `--help`.")
    for plugin in discover().used.values():
        if plugin.first_party:
            section(load_command(plugin), f"transit {plugin.name}")


def section(command: Any, path: str) -> None:
    """Print a command, or a group and its commands."""
    print(f"\n## {path}\n\n{paragraphs(command.help or '')}")
    if hasattr(command, "commands"):
        for name in sorted(command.commands):
            section(command.commands[name], f"{path} {name}")
        return
    rows = [row(parameter) for parameter in command.params if parameter.name not in COMMON and not parameter.hidden]
    if rows:
        print("\n| option | default | meaning |\n|---|---|---|\n" + "\n".join(rows))


def row(parameter: Any) -> str:
    """A parameter as a line of the table."""
    argument = parameter.param_type_name == "argument"
    names = (
        parameter.metavar or parameter.name.upper()
        if argument
        else ", ".join([*parameter.opts, *parameter.secondary_opts])
    )
    choices = getattr(parameter.type, "choices", ())
    kind = f" {escaped('|'.join(map(str, choices)))}" if choices else ""
    default = "" if parameter.default in {None, ""} else str(parameter.default)
    text = re.sub(r"\s+", " ", parameter.help or "").replace("\\[", "[")
    return f"| `{names}`{kind} | {escaped(default)} | {escaped(text)} |"


def escaped(text: str) -> str:
    """Text that can stand in a cell."""
    return text.replace("|", "\\|")


def paragraphs(text: str) -> str:
    """Help text without the line breaks inside its paragraphs."""
    return "\n\n".join(" ".join(part.split()) for part in text.replace("\f", "").split("\n\n"))


if __name__ == "__main__":
    main()
