"""`transit plugins new`: a project of a plugin, with a test, ready to install and to change."""

from __future__ import annotations

import keyword
import shlex
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING

from transit_cli import discovery
from transit_cli.plugin_project import templates
from transit_cli.results import ExitCode, Result, Table, TransitError
from transit_cli.utils.files import atomic_output

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Per kind: entry-point group, attribute of the module, source, test, and how it is used.
_KINDS: Mapping[str, tuple[str, str, str, str, str]] = {
    "command": (discovery.COMMANDS, "app", templates.COMMAND, templates.COMMAND_TEST, "transit $name 84"),
    "network": (
        discovery.MODELS,
        "build",
        templates.NETWORK,
        templates.NETWORK_TEST,
        "transit train VIEWSET --network $name",
    ),
    "reader": (discovery.READERS, "read", templates.READER, templates.READER_TEST, "transit data check FILE.$name"),
}


def new_plugin(kind: str, name: str, out: Path | None) -> Result:
    """Write the project of a plugin.

    Args:
        kind: "command", "network" or "reader".
        name: of the command or network, or the extension of the reader's files.
        out: folder of the project; by default transit-NAME in the current folder.

    Raises:
        TransitError: the name is taken or cannot be one, or the folder exists.
    """
    module = f"transit_{name.replace('-', '_')}"
    if not module.isidentifier() or keyword.iskeyword(module) or name != name.lower():
        raise TransitError(
            f"{name!r} cannot be the name of a plugin",
            wanted="lower-case letters, digits and hyphens",
            fix=f"transit plugins new {kind} my-{kind}",
            exit_code=ExitCode.USAGE,
            code="name-invalid",
        )
    group, attribute, source, test, use = _KINDS[kind]
    if found := discovery.discover(group).used.get(name):
        raise TransitError(
            f"{found.distribution} has a {kind} named {name!r} already",
            wanted="another name",
            fix=f"transit plugins new {kind} my-{name}",
            exit_code=ExitCode.USAGE,
            code="name-taken",
        )
    folder = out or Path(f"transit-{name}")
    if folder.exists():
        raise TransitError(
            f"{folder} exists",
            wanted="a new folder, so that nothing is overwritten",
            fix="give another --out",
            exit_code=ExitCode.USAGE,
            code="folder-exists",
        )
    words = {"name": name, "kind": kind, "module": module, "group": group, "attribute": attribute}
    words["use"] = Template(use).substitute(words)
    files = {
        "pyproject.toml": templates.PYPROJECT,
        f"{module}.py": source,
        f"test_{module}.py": test,
        "README.md": templates.README,
    }
    with atomic_output(folder) as temporary:
        temporary.mkdir()
        for file, text in files.items():
            (temporary / file).write_text(Template(text).substitute(words), encoding="utf-8")
    where = shlex.quote(str(folder))
    rows = [
        (file, about)
        for file, about in zip(files, ("the entry point", f"the {kind}", "its test", "how to use it"), strict=True)
    ]
    verdict = f"{folder}: a {kind} with a test\nnext: pip install -e {where} && pytest {where}"
    return Result(
        {"out": folder, "files": [folder / file for file in files]}, [Table(("file", "what it is"), rows)], verdict
    )
