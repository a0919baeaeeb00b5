"""Entry points as plugins: found by their metadata, loaded only when they are needed.

Three groups work the same way: `transit.commands` (a Typer app), `transit.models` (a network's factory) and
`transit.readers` (a reader of light-curve files). Listing imports nothing: names come from the metadata of installed
distributions, and a one-line help from the docstring of the module, read from its source.
"""

from __future__ import annotations

import importlib
import os
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from transit_cli.results import ExitCode, TransitError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint
    from pathlib import Path

COMMANDS, MODELS, READERS = "transit.commands", "transit.models", "transit.readers"
FIRST_PARTY = "transit-cli"


@dataclass(frozen=True)
class Plugin:
    """An entry point as it is registered; nothing of it has been imported."""

    name: str
    value: str
    distribution: str
    version: str

    @property
    def first_party(self) -> bool:
        """Whether it comes with transit itself."""
        return self.distribution == FIRST_PARTY

    def help(self) -> str:
        """The first line of its module's docstring, read from the source without importing anything."""
        return _first_doc_line(self.value.split(":")[0]) or f"(plugin of {self.distribution})"

    def load(self) -> Any:
        """Import it.

        Raises:
            TransitError: the plugin cannot be loaded; the error names it, the cause, and how to remove it.
        """
        module, _, attributes = self.value.partition(":")
        try:
            loaded: Any = importlib.import_module(module)
            for attribute in filter(None, attributes.split(".")):
                loaded = getattr(loaded, attribute)
        except (Exception, SystemExit) as error:  # a plugin may fail in any way, and the others must work
            if os.environ.get("TRANSIT_DEBUG"):
                raise
            said = f"{type(error).__name__}: {error}; TRANSIT_DEBUG=1 shows the traceback"
            raise self.failure(said) from error
        return loaded

    def failure(self, cause: str) -> TransitError:
        """The error for a plugin that cannot be used."""
        fix = (
            f"pip install --force-reinstall {FIRST_PARTY}" if self.first_party else f"pip uninstall {self.distribution}"
        )
        return TransitError(
            f"the plugin {self.name!r} of {self.distribution} {self.version} ({self.value}) cannot be loaded: {cause}",
            wanted="a module that imports and holds what its entry point names",
            fix=fix,
            exit_code=ExitCode.PLUGIN,
            code="plugin-broken",
        )


@dataclass(frozen=True)
class Discovered:
    """The plugins of a group: those in use by name, and those with the name of another."""

    used: dict[str, Plugin]
    shadowed: tuple[Plugin, ...]


def discover(group: str = COMMANDS) -> Discovered:
    """The plugins registered in `group`, sorted by name.

    Of plugins with one name, transit's own takes precedence, then the alphabetically first distribution. With
    TRANSIT_PLUGINS=none only transit's own are found, in case another plugin is in the way.
    """
    from importlib.metadata import entry_points

    plugins = {_plugin(entry) for entry in entry_points(group=group)}
    if os.environ.get("TRANSIT_PLUGINS") == "none":
        plugins = {plugin for plugin in plugins if plugin.first_party}
    used: dict[str, Plugin] = {}
    shadowed = []
    for plugin in sorted(plugins, key=lambda item: (item.name, not item.first_party, item.distribution, item.value)):
        if plugin.name in used:
            shadowed.append(plugin)
        else:
            used[plugin.name] = plugin
    return Discovered(used, tuple(shadowed))


def _plugin(entry: EntryPoint) -> Plugin:
    found = entry.dist
    name = found.name.lower().replace("_", "-") if found else "unknown"
    return Plugin(entry.name, entry.value, name, found.version if found else "")


def _first_doc_line(module: str) -> str:
    import ast

    path = _source_of(module)
    try:
        text = ast.get_docstring(ast.parse(path.read_bytes())) if path else ""
    except (OSError, SyntaxError, ValueError):
        return ""
    return (text or "").strip().split("\n")[0]


def _source_of(module: str) -> Path | None:
    """The source file of a module, found part by part so that its parent packages are not executed either."""
    from pathlib import Path

    locations = None
    spec = None
    parts = module.split(".")
    for depth in range(len(parts)):
        name = ".".join(parts[: depth + 1])
        for finder in sys.meta_path:
            try:
                spec = finder.find_spec(name, locations)
            except (AttributeError, ImportError, ValueError):
                spec = None
            if spec is not None:
                break
        if spec is None:
            return None
        locations = spec.submodule_search_locations
    return Path(spec.origin) if spec and spec.origin and spec.origin.endswith(".py") else None
