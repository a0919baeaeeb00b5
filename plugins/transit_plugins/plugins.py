"""List the installed plugins, and why one does not load.

Every plugin is imported to find out. Exits with 1 if one is broken.
"""

from __future__ import annotations

from dataclasses import dataclass

import typer

from transit_cli import discovery
from transit_cli.app import load_command
from transit_cli.command import command
from transit_cli.config import Settings
from transit_cli.results import ExitCode, Result, Table, TransitError

app = typer.Typer()


@dataclass(frozen=True, kw_only=True)
class PluginsSettings(Settings):
    """`transit plugins` has no options of its own."""


@command(app, PluginsSettings)
def plugins(settings: PluginsSettings) -> Result:  # noqa: ARG001
    rows = [row for group in (discovery.COMMANDS, discovery.MODELS, discovery.READERS) for row in _rows(group)]
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


def _rows(group: str) -> list[dict[str, str]]:
    found = discovery.discover(group)
    rows = []
    for plugin in found.used.values():
        row = _row(group, plugin)
        try:
            load_command(plugin) if group == discovery.COMMANDS else plugin.load()
        except TransitError as error:
            row |= {"status": "broken", "cause": error.found.split("cannot be loaded: ", 1)[-1], "fix": error.fix}
        rows.append(row)
    for plugin in found.shadowed:
        winner = found.used[plugin.name]
        fix = f"pip uninstall {plugin.distribution}"
        cause = f"{winner.distribution} has this name"
        rows.append(_row(group, plugin) | {"status": "shadowed", "cause": cause, "fix": fix})
    return rows


def _row(group: str, plugin: discovery.Plugin) -> dict[str, str]:
    return {
        "group": group,
        "name": plugin.name,
        "distribution": plugin.distribution,
        "version": plugin.version,
        "entry_point": plugin.value,
        "status": "loaded",
        "cause": "",
        "fix": "",
    }
