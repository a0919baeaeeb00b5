"""Conversion of values from the command line and YAML to the type of a setting.

Bool, int, float, str, Path, Literal, a union of these, `| None`, `tuple[X, ...]` and `tuple[X, Y]`: the types that a
settings class may use, see `transit_cli.config`.
"""

from __future__ import annotations

import contextlib
import difflib
import math
import types
import typing
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


class _NotThisType(Exception):  # noqa: N818 - it never leaves this module
    """The value is not of the type; the message describes the type."""


def describe(kind: Any) -> str:
    """A description of a type, for an error message."""
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if origin is Literal:
        return " or ".join(map(str, args))
    if origin in {typing.Union, types.UnionType}:
        return " or ".join(describe(arm) for arm in args if arm is not types.NoneType)
    if origin is tuple:
        return f"a list of {describe(args[0])}" if args[-1] is Ellipsis else " and ".join(map(describe, args))
    words = {bool: "true or false", int: "a whole number", float: "a number", str: "text", Path: "a path"}
    return words.get(kind, getattr(kind, "__name__", str(kind)))


def convert(value: Any, kind: Any) -> Any:
    """`value`, from the command line or YAML, as a value of type `kind`.

    Raises:
        ValueError: it is not one; the message describes the type.
    """
    try:
        return _convert(value, kind)
    except _NotThisType as wrong:
        raise ValueError(str(wrong)) from None


def _convert(value: Any, kind: Any) -> Any:
    converter = _CONVERTERS.get(typing.get_origin(kind) or kind)
    if converter is None:  # a developer's mistake, found by the first test that enters the command
        raise TypeError(f"settings cannot be of type {kind}")
    return converter(value, kind)


def _union(value: Any, kind: Any) -> Any:
    arms = typing.get_args(kind)
    if value is None and types.NoneType in arms:
        return None
    for arm in arms:
        if arm is not types.NoneType:
            with contextlib.suppress(_NotThisType):
                return _convert(value, arm)
    raise _NotThisType(describe(kind))


def _choice(value: Any, kind: Any) -> Any:
    for choice in typing.get_args(kind):
        if value == choice and isinstance(value, bool) == isinstance(choice, bool):
            return choice
        if isinstance(value, str) and value.lower() == str(choice).lower():
            return choice
    raise _NotThisType(describe(kind))


def _tuple(value: Any, kind: Any) -> Any:
    arms = typing.get_args(kind)
    if isinstance(value, str):
        value = [part.strip() for part in value.split(",") if part.strip()]
    if isinstance(value, list | tuple) and arms[-1] is Ellipsis:
        return tuple(_convert(item, arms[0]) for item in value)
    if isinstance(value, list | tuple) and len(value) == len(arms):
        return tuple(_convert(item, arm) for item, arm in zip(value, arms, strict=True))
    raise _NotThisType(describe(kind))


def _bool(value: Any, kind: Any) -> bool:
    if isinstance(value, bool):
        return value
    raise _NotThisType(describe(kind))


def _int(value: Any, kind: Any) -> int:
    if isinstance(value, str):
        with contextlib.suppress(ValueError):
            value = int(value.replace("_", ""))
    if isinstance(value, int) and not isinstance(value, bool) and -(2**63) <= value < 2**63:
        return value
    raise _NotThisType(describe(kind))


def _float(value: Any, kind: Any) -> float:
    if isinstance(value, int | float | str) and not isinstance(value, bool):
        with contextlib.suppress(ValueError, OverflowError):  # PyYAML reads 1e-3 as text; YAML 1.1 wants 1.0e-3
            if math.isfinite(number := float(value)):
                return number
    raise _NotThisType(describe(kind))


def _str(value: Any, kind: Any) -> str:
    if isinstance(value, str | int | float) and not isinstance(value, bool):
        return str(value)
    raise _NotThisType(describe(kind))


def _path(value: Any, kind: Any) -> Path:
    if isinstance(value, str | Path) and str(value) and "\0" not in str(value):
        return Path(value).expanduser()
    raise _NotThisType(describe(kind))


_CONVERTERS: dict[Any, Callable[[Any, Any], Any]] = {
    typing.Union: _union,
    types.UnionType: _union,
    Literal: _choice,
    tuple: _tuple,
    bool: _bool,
    int: _int,
    float: _float,
    str: _str,
    Path: _path,
}


def nearest(word: str, known: Iterable[str]) -> str:
    """The known word most like `word`, or "" if none is."""
    return next(iter(difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)), "")


def describe_value(value: Any) -> str:
    """A description of a value from YAML, for an error message."""
    words = {type(None): "nothing", list: "a list", dict: "a table of keys"}
    return words.get(type(value), repr(value))
