"""List the installed plugins, and why one does not load; start a new one.

transit plugins new reader lc
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import typer

from transit_cli import discovery
from transit_cli.app import load_command
from transit_cli.command import command
from transit_cli.config import Positional, Settings
from transit_cli.help import group
from transit_cli.options import OUT
from transit_cli.results import ExitCode, Result, Table, TransitError

app = typer.Typer(cls=group(default="list"), help=__doc__)


@dataclass(frozen=True, kw_only=True)
class ListSettings(Settings):
    """`transit plugins list` has no options of its own."""


@dataclass(frozen=True, kw_only=True)
class NewSettings(Settings):
    """Options of `transit plugins new`."""

    kind: Annotated[Literal["command", "network", "reader"], Positional("KIND")]
    "What to add: command, network or reader."

    name: Annotated[str, Positional("NAME")]
    "Name of the command or network, or the extension of the reader's files."

    out: Annotated[Path | None, OUT] = None
    "Folder of the project; by default transit-NAME in the current folder."


@command(app, NewSettings, name="new", prepare=False)
def new(settings: NewSettings) -> Result:
    """Write the project of a command, a network or a reader, with a test that passes."""
    from transit_cli.plugin_project.project import new_plugin

    return new_plugin(settings.kind, settings.name, settings.out)


@command(app, ListSettings, name="list")
def list_(settings: ListSettings) -> Result:  # noqa: ARG001
    """List the installed plugins, and why one does not load.

    Every plugin is imported to find out. Exits with 1 if one is broken.
    """
    rows = [row for kind in (discovery.COMMANDS, discovery.MODELS, discovery.READERS) for row in _rows(kind)]
    broken = [row for row in rows if row["status"] == "broken"]
    table = Table(
        ("group", "name", "distribution", "version", "status", "cause"),
        [[row[key] for key in ("group", "name", "distribution", "version", "status", "cause")] for row in rows],
    )
    verdict = f"{len(rows) - len(broken)} plugins load"
    if broken:
        verdict += f"; {len(broken)} broken: {', '.join(row['name'] for row in broken)}"
    exit_code = ExitCode.NEGATIVE if broken else ExitCode.DONE
    return Result({"plugins": rows}, [table], verdict, exit_code=exit_code)


def _rows(kind: str) -> list[dict[str, str]]:
    found = discovery.discover(kind)
    rows = []
    for plugin in found.used.values():
        row = _row(kind, plugin)
        try:
            load_command(plugin) if kind == discovery.COMMANDS else plugin.load()
        except TransitError as error:
            row |= {"status": "broken", "cause": error.found.split("cannot be loaded: ", 1)[-1], "fix": error.fix}
        rows.append(row)
    for plugin in found.shadowed:
        winner = found.used[plugin.name]
        fix = f"pip uninstall {plugin.distribution}"
        cause = f"{winner.distribution} has this name"
        rows.append(_row(kind, plugin) | {"status": "shadowed", "cause": cause, "fix": fix})
    return rows


def _row(kind: str, plugin: discovery.Plugin) -> dict[str, str]:
    return {
        "group": kind,
        "name": plugin.name,
        "distribution": plugin.distribution,
        "version": plugin.version,
        "entry_point": plugin.value,
        "status": "loaded",
        "cause": "",
        "fix": "",
    }
