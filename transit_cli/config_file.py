"""YAML files with settings, as `--print-config` writes them: read with the line of each value."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from transit_cli.convert import convert, describe_value, nearest
from transit_cli.results import TransitError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

#: Version of the YAML that `--print-config` writes. A file of a later version is refused.
VERSION = 1
VERSION_KEY, COMMAND_KEY = "transit_config", "command"

#: Keys of before 0.1.0 and what they are called now.
RENAMED = {
    "lightcurve": "light_curve",
    "lightcurves": "light_curves",
    "output": "out",
    "picture": "max_plots",
    "pictures": "max_plots",
    "report": "out",
    "run_dir": "out",
    "view_set": "viewset",
    "views": "bins",
    "way": "execution",
}


def read(file: Path, types: Mapping[str, Any]) -> dict[str, tuple[Any, int]]:
    """Values of a YAML file by field name, with their line numbers.

    Args:
        file: the file.
        types: the type of each setting that it may give, by field name.

    Raises:
        TransitError: the file cannot be read, or has a key or value that is not one of these settings.
    """
    content, lines = _parse(file)
    _check_version(file, content.pop(VERSION_KEY, VERSION))
    command = content.pop(COMMAND_KEY, "")
    names = {key: name if (name := str(key).replace("-", "_")) in types else f"{name}_" for key in content}
    _check_keys(file, names, lines, types, str(command))
    return {
        name: (_convert(file, key, content[key], types[name], lines[str(key)]), lines[str(key)])
        for key, name in names.items()
    }


def _parse(file: Path) -> tuple[dict[Any, Any], dict[str, int]]:
    """The file's keys and values, and the line of each key."""
    import yaml

    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise TransitError(
            f"cannot read the configuration {file}: {reason}",
            wanted="a YAML file, as --print-config writes it",
            fix="give the path of an existing file",
            code="config-unreadable",
        ) from None
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or getattr(error, "reason", None) or "it cannot be parsed"
        raise TransitError(
            f"{file}{line} is not YAML: {problem}",
            wanted="lines of the form `key: value`",
            fix=f"correct {file}{line}",
            code="config-yaml",
        ) from None
    if node is None:
        return {}, {}
    if not isinstance(content, dict):
        raise TransitError(
            f"{file}:1 holds {describe_value(content)}",
            wanted="lines of the form `key: value`",
            fix="write one with --print-config",
            code="config-yaml",
        )
    lines: dict[str, int] = {}
    for key, _ in node.value:
        if key.value in lines:
            raise TransitError(
                f"{file}:{key.start_mark.line + 1} gives {key.value} a second time",
                wanted="each key once",
                fix=f"remove one of the two lines from {file}",
                code="config-duplicate",
            )
        lines[key.value] = key.start_mark.line + 1
    return content, lines


def _check_version(file: Path, version: Any) -> None:
    if version == VERSION:
        return
    newer = isinstance(version, int) and version > VERSION
    raise TransitError(
        f"{file} is a configuration of version {version}",
        wanted=f"version {VERSION}, which this transit reads",
        fix="pip install --upgrade transit-cli" if newer else f"write {VERSION_KEY}: {VERSION}",
        code="config-version",
    )


def _check_keys(
    file: Path, names: Mapping[Any, str], lines: Mapping[str, int], types: Mapping[str, Any], command: str
) -> None:
    """Raise the error for keys that are not settings, naming what they are called now or the nearest one."""
    unknown = [key for key, name in names.items() if name not in types]
    renamed = {str(key): new for key in unknown if (new := RENAMED.get(str(key).replace("-", "_"))) in types}
    if renamed:
        raise TransitError(
            f"{file} has keys of an earlier version of transit: "
            + ", ".join(f"{old} (line {lines[old]}) is now {new}" for old, new in renamed.items()),
            wanted=", ".join(dict.fromkeys(renamed.values())),
            fix=f"rename them in {file}",
            code="config-renamed-key",
        )
    if unknown:
        key, line = unknown[0], lines[str(unknown[0])]
        guess = nearest(names[key].rstrip("_"), types).rstrip("_")
        of = f"; it is a configuration of `transit {command}`" if command else ""
        raise TransitError(
            f"{file}:{line} has an unknown key {key!r}{of}",
            wanted=f"{guess}?" if guess else f"one of {', '.join(name.rstrip('_') for name in types)}",
            fix=f"write {guess} in {file}:{line}" if guess else f"remove line {line} of {file}",
            code="config-unknown-key",
        )


def _convert(file: Path, key: str, value: Any, kind: Any, line: int) -> Any:
    try:
        return convert(value, kind)
    except ValueError as wanted:
        raise TransitError(
            f"{file}:{line} gives {key} {describe_value(value)}",
            wanted=str(wanted),
            fix=f"correct {file}:{line}",
            code="config-type",
        ) from None
