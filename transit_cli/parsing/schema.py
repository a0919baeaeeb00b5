"""JSON that comes from outside, parsed once into dataclasses.

A file that a person may edit, a disk may damage or someone else may have written is never indexed as a bare dict: the
fields of a frozen dataclass define what it must contain, as those of a settings class do for YAML.

    @dataclass(frozen=True)
    class Epoch:
        fit: str
        step: Annotated[int, Range(0)]

    epochs = [parse(line, Epoch, source) for line in lines]

Fields may be bool, int, float (finite), str, Path, Literal, Any, a dataclass, a union of these, `| None`,
`tuple[X, ...]`, `tuple[X, Y]` and `dict[str, X]`, each possibly `Annotated` with a `config.Range`, `NotEmpty` or `Key`.
Unlike on the command line, text is not a number. Keys that are not fields are ignored, so that files of later versions
can be read.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import os
import stat
import types
import typing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

from transit_cli.parsing.convert import describe, describe_value
from transit_cli.results import TransitError
from transit_cli.utils import machine_errors

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

T = TypeVar("T")


@dataclass(frozen=True)
class Key:
    """The key of a field in the file, if it is not the field's name."""

    name: str


@dataclass(frozen=True)
class NotEmpty:
    """Marks a list or object that must have an entry."""


#: The largest file that is read as text by default, in bytes.
MAX_BYTES = 64 << 20


@dataclass(frozen=True)
class Source:
    """Where a value comes from, and what to tell the user if it is wrong.

    Attributes:
        name: the file, or the part of one: "runs/a/environment.json", "runs/a/metrics.jsonl:3".
        wanted: what the file should be.
        fix: a command or edit.
        code: of the error.
    """

    name: str
    wanted: str
    fix: str
    code: str

    def error(self, found: str, wanted: str = "") -> TransitError:
        """The error for something that was found in the file."""
        return TransitError(f"{self.name} {found}", wanted=wanted or self.wanted, fix=self.fix, code=self.code)

    def at(self, line: int) -> Source:
        """A line of the file."""
        return dataclasses.replace(self, name=f"{self.name}:{line}")


class _Invalid(Exception):  # noqa: N818 - it never leaves this module
    """A value is invalid: where in the document, what was found, what was wanted."""

    def __init__(self, found: str, wanted: str, place: str = "") -> None:
        self.found, self.wanted, self.place = found, wanted, place

    def below(self, key: str | int) -> _Invalid:
        part = f"[{key}]" if isinstance(key, int) else f".{key[:80]}"
        return _Invalid(self.found, self.wanted, part + self.place)


def read(file: Path, kind: type[T], source: Source, *, limit: int = MAX_BYTES) -> T:
    """The JSON document in a file, as a value of type `kind`.

    Raises:
        TransitError: it cannot be read, is no JSON, or has other content.
    """
    return parse(load_text(file, source, limit=limit), kind, source)


def parse(text: str | bytes, kind: type[T], source: Source) -> T:
    """JSON text as a value of type `kind`.

    Raises:
        TransitError: it is no JSON, or has other content.
    """
    try:
        value = json.loads(text)
        if "\\ud" in (text if isinstance(text, str) else text.decode()).lower():
            json.dumps(value, ensure_ascii=False).encode()  # half of a surrogate pair, which cannot be printed
    except RecursionError:
        raise source.error("is nested too deeply") from None
    except ValueError as error:
        reason = f": {error.msg} (line {error.lineno})" if isinstance(error, json.JSONDecodeError) else ""
        raise source.error(f"is not valid JSON{reason}") from None
    return build(value, kind, source)


def build(value: Any, kind: type[T], source: Source) -> T:
    """A value of JSON types as one of type `kind`.

    Raises:
        TransitError: it is not one; the error names the place.
    """
    try:
        return _value(value, kind)
    except _Invalid as wrong:
        place = wrong.place.removeprefix(".")
        raise source.error(f"has {place + ': ' if place else ''}{wrong.found}", f"{wrong.wanted}") from None


def load_text(file: Path, source: Source, *, limit: int = MAX_BYTES) -> str:
    """The content of a regular file of at most `limit` bytes, decoded as UTF-8, with or without a byte-order mark.

    Raises:
        TransitError: it cannot be read, is not a regular file (a named pipe would block), is too large, or is not text.
    """
    try:
        handle = os.open(file, os.O_RDONLY | os.O_NONBLOCK)
    except OSError as error:
        machine_errors.raise_if_machine(error)
        raise source.error(f"cannot be read: {error.strerror}") from None
    try:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            raise source.error("is a folder" if stat.S_ISDIR(status.st_mode) else "is not a regular file")
        if status.st_size > limit:
            raise source.error(f"has {status.st_size:,} bytes", f"at most {limit:,} bytes")
        with open(handle, "rb", closefd=False) as stream:
            return stream.read(limit + 1).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        where = f"byte {error.start:,} is 0x{error.object[error.start]:02x}"
        raise source.error(f"is not UTF-8 text: {where}") from None
    except OSError as error:
        machine_errors.raise_if_machine(error)
        raise source.error(f"cannot be read: {error.strerror}") from None
    finally:
        os.close(handle)


def _value(value: Any, kind: Any) -> Any:
    if kind is Any:
        return value
    if dataclasses.is_dataclass(kind):
        return _object(value, kind)
    converter = _CONVERTERS.get(typing.get_origin(kind))
    if converter is not None:
        return converter(value, typing.get_args(kind))
    if not _is_leaf(value, kind):
        raise _Invalid(_shown(value), describe(kind))
    return float(value) if kind is float else Path(value) if kind is Path else value


def _choice(value: Any, choices: Sequence[Any]) -> Any:
    if any(value == choice and type(value) is type(choice) for choice in choices):
        return value
    raise _Invalid(_shown(value), " or ".join(map(str, choices)))


def _dict(value: Any, args: Sequence[Any]) -> dict[str, Any]:
    if isinstance(value, dict):
        return {key: _nested(item, args[1], key) for key, item in value.items()}
    raise _Invalid(_shown(value), "an object")


def _is_leaf(value: Any, kind: Any) -> bool:
    if isinstance(value, bool) or kind is bool:
        return isinstance(value, bool) and kind is bool
    if kind is float:
        return isinstance(value, float | int) and abs(value) < 1e300 and math.isfinite(value)
    if kind is Path:
        return isinstance(value, str) and value != "" and "\0" not in value
    return isinstance(value, kind)


def _nested(value: Any, kind: Any, key: str | int) -> Any:
    try:
        return _value(value, kind)
    except _Invalid as wrong:
        raise wrong.below(key) from None


def _annotated(value: Any, args: Sequence[Any]) -> Any:
    kind, *marks = args
    converted = _value(value, kind)
    for mark in marks:
        if isinstance(mark, NotEmpty) and not converted:
            raise _Invalid("nothing", "at least one entry")
        if not isinstance(mark, NotEmpty | Key) and isinstance(value, int | float) and value not in mark:
            raise _Invalid(_shown(value), f"a value with {mark}")
    return converted


def _object(value: Any, kind: Any) -> Any:
    if not isinstance(value, dict):
        raise _Invalid(_shown(value), "an object")
    hints = _hints(kind)
    found = {}
    for field in dataclasses.fields(kind):
        hint = hints[field.name]
        key = next((mark.name for mark in typing.get_args(hint)[1:] if isinstance(mark, Key)), field.name)
        if key in value:
            found[field.name] = _nested(value[key], hint, key)
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise _Invalid(f"no {key!r}", f"the key {key!r}")
    try:
        return kind(**found)
    except ValueError as wrong:  # a check of the class's own, in __post_init__
        raise _Invalid(str(wrong), "consistent values") from None


@functools.cache
def _hints(kind: type) -> dict[str, Any]:
    return typing.get_type_hints(kind, include_extras=True)


def _union(value: Any, arms: Sequence[Any]) -> Any:
    if value is None and types.NoneType in arms:
        return None
    arms = [arm for arm in arms if arm is not types.NoneType]
    failures = []
    for arm in arms:
        try:
            return _value(value, arm)
        except _Invalid as wrong:
            failures.append(wrong)
    raise failures[0] if len(failures) == 1 else _Invalid(_shown(value), " or ".join(map(describe, arms)))


def _list(value: Any, args: Sequence[Any]) -> tuple[Any, ...]:
    if not isinstance(value, list):
        raise _Invalid(_shown(value), "a list")
    if args[-1] is Ellipsis:
        return tuple(_nested(item, args[0], index) for index, item in enumerate(value))
    if len(value) != len(args):
        raise _Invalid(f"a list of {len(value)}", f"a list of {len(args)}")
    return tuple(_nested(item, kind, index) for index, (item, kind) in enumerate(zip(value, args, strict=True)))


def _shown(value: Any) -> str:
    text = describe_value(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


_CONVERTERS: dict[Any, Callable[[Any, Sequence[Any]], Any]] = {
    Annotated: _annotated,
    typing.Union: _union,
    types.UnionType: _union,
    Literal: _choice,
    tuple: _list,
    dict: _dict,
}
