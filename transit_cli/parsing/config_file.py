"""YAML files with settings, as `--print-config` writes them: read with the line of each value.

Where YAML 1.1, which PyYAML reads, and what people mean differ (010 is 8, 1:04 is 64, off is false), the value is
refused rather than guessed. Anchors and tags are refused, because settings need none.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from transit_cli.parsing.convert import convert, describe_value, nearest
from transit_cli.parsing.schema import Source, load_text
from transit_cli.results import TransitError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

#: Version of the YAML that `--print-config` writes. A file of a later version is refused.
VERSION = 1
VERSION_KEY, COMMAND_KEY = "transit_config", "command"

#: The largest file in bytes, and the deepest nesting of lists.
MAX_BYTES, MAX_DEPTH = 1 << 20, 8
#: Plain numbers that YAML 1.1 reads in base 8 or 60.
_OCTAL, _SEXAGESIMAL = re.compile(r"[-+]?0[0-9_]+"), re.compile(r"[-+]?[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?")
_SWITCHES = {"yes": True, "on": True, "no": False, "off": False}

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
    nodes, lines = _parse(file)
    if VERSION_KEY in nodes:
        _check_version(file, _value(file, nodes.pop(VERSION_KEY)))
    command = _value(file, nodes.pop(COMMAND_KEY)) if COMMAND_KEY in nodes else ""
    names = {key: name if (name := key.replace("-", "_")) in types else f"{name}_" for key in nodes}
    _check_keys(file, names, lines, types, str(command))
    found = {}
    for key, name in names.items():
        value = _value(file, nodes[key], switch=types[name] is bool)
        found[name] = _convert(file, key, value, types[name], lines[key]), lines[key]
    return found


def _parse(file: Path) -> tuple[dict[str, Any], dict[str, int]]:
    """The node of each key's value, and the line of each key."""
    import yaml

    wanted = "a YAML file, as --print-config writes it"
    source = Source(f"the configuration {file}", wanted, "give the path of an existing file", "config-unreadable")
    text = load_text(file, source, limit=MAX_BYTES)
    try:
        _check_events(file, yaml.parse(text, Loader=yaml.SafeLoader))
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or getattr(error, "reason", None) or "it cannot be parsed"
        raise _not_settings(file, mark.line + 1 if mark else 0, f"is not YAML: {problem}") from None
    if node is None:
        return {}, {}
    if not isinstance(node, yaml.MappingNode):
        raise _not_settings(file, 1, f"holds {describe_value(_value(file, node))}")
    nodes: dict[str, Any] = {}
    lines: dict[str, int] = {}
    seen: dict[str, str] = {}
    for key, value in node.value:
        line = key.start_mark.line + 1
        if not isinstance(key, yaml.ScalarNode):
            raise _not_settings(file, line, "has a key that is not a word")
        name = key.value.replace("-", "_")
        if name in seen:
            again = f" as {seen[name]}" if seen[name] != key.value else ""
            raise TransitError(
                f"{file}:{line} gives {key.value} a second time (line {lines[seen[name]]}{again})",
                wanted="each key once",
                fix=f"remove one of the two lines from {file}",
                code="config-duplicate",
            )
        seen[name], lines[key.value], nodes[key.value] = key.value, line, value
    return nodes, lines


def _not_settings(file: Path, line: int, problem: str) -> TransitError:
    place = f"{file}:{line}" if line else str(file)
    return TransitError(
        f"{place} {problem}", wanted="lines of the form `key: value`", fix=f"correct {place}", code="config-yaml"
    )


def _check_events(file: Path, events: Iterator[Any]) -> None:
    """Refuse anchors, tags and deep nesting while parsing, before they cost time or memory."""
    import yaml

    depth = 0
    for event in events:
        line = event.start_mark.line + 1
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) or getattr(event, "tag", None):
            raise _not_settings(file, line, "has an anchor, an alias or a tag")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:
            raise _not_settings(file, line, f"is nested more than {MAX_DEPTH} deep")


def _value(file: Path, node: Any, *, switch: bool = False) -> Any:
    """The value of a node; with `switch`, yes, no, on and off are true and false."""
    import yaml

    if isinstance(node, yaml.SequenceNode):
        return [_value(file, item) for item in node.value]
    if isinstance(node, yaml.MappingNode):
        return {key.value: None for key, _ in node.value}
    kind, text = node.tag.rpartition(":")[2], node.value
    if node.style is not None:  # quoted
        return text
    if kind == "null":
        return None
    if kind == "bool":
        if text.lower() in _SWITCHES and not switch:
            raise _ambiguous(file, node, str(_SWITCHES[text.lower()]).lower())
        return _SWITCHES.get(text.lower(), text.lower() == "true")
    if kind in {"int", "float"}:
        return _number(file, node)
    return text


def _number(file: Path, node: Any) -> int | float | str:
    """A plain number; as its text if that says more than the number (1.10, 1_000), so that it can be a name as well."""
    text = node.value
    for pattern, base in ((_OCTAL, 8), (_SEXAGESIMAL, 60)):
        if pattern.fullmatch(text):
            raise _ambiguous(file, node, f"a number in base {base}")
    for kind in (int, float):
        try:
            number = kind(text)
        except ValueError:
            continue
        return number if str(number) == text else text
    return text


def _ambiguous(file: Path, node: Any, meaning: str) -> TransitError:
    place = f"{file}:{node.start_mark.line + 1}"
    return TransitError(
        f"{place} gives {node.value}, which YAML reads as {meaning}",
        wanted=f'a value that can be read in one way: "{node.value}" in quotes is text',
        fix=f"correct {place}",
        code="config-ambiguous",
    )


def _check_version(file: Path, version: Any) -> None:
    if version == VERSION and type(version) is int:
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
    renamed = {key: new for key in unknown if (new := RENAMED.get(key.replace("-", "_"))) in types}
    if renamed:
        raise TransitError(
            f"{file} has keys of an earlier version of transit: "
            + ", ".join(f"{old} (line {lines[old]}) is now {new}" for old, new in renamed.items()),
            wanted=", ".join(dict.fromkeys(renamed.values())),
            fix=f"rename them in {file}",
            code="config-renamed-key",
        )
    if unknown:
        key, line = unknown[0], lines[unknown[0]]
        guess = nearest(names[key].rstrip("_"), types).rstrip("_")
        of = f"; it is a configuration of `transit {command}`" if command else ""
        raise TransitError(
            f"{file}:{line} has an unknown key {key!r}{of}",
            wanted=f"{guess}?" if guess else f"one of {', '.join(name.rstrip('_') for name in types)}",
            fix=f"write {guess} in {file}:{line}"
            if guess
            else f"transit {command} --config {file}, or give a file that --print-config of this command writes"
            if command
            else f"remove line {line} of {file}",
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
