"""Values from the command line and from YAML as values of a setting's type, and in words where they are not.

Bool, int, float, str, Path, Literal, a union of these, `| None`, `tuple[X, ...]` and `tuple[X, Y]`: the types that a
settings class may use, see `transit_cli.config`.
"""

from __future__ import annotations

import difflib
import types
import typing
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable


class _NotThisType(Exception):  # noqa: N818 - it never leaves this module
    """The value is not of the type; its words say what would be."""


def describe(kind: Any) -> str:
    """A type in words, for an error message."""
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
        ValueError: it is not one; the text says what would be.
    """
    try:
        return _convert(value, kind)
    except _NotThisType as wrong:
        raise ValueError(str(wrong)) from None


def _convert(value: Any, kind: Any) -> Any:  # noqa: C901, PLR0912 - one branch a type is what it is
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if origin in {typing.Union, types.UnionType}:
        if value is None and types.NoneType in args:
            return None
        for arm in args:
            if arm is not types.NoneType:
                try:
                    return _convert(value, arm)
                except _NotThisType:
                    continue
    elif origin is Literal:
        for choice in args:
            if value == choice and isinstance(value, bool) == isinstance(choice, bool):
                return choice
            if isinstance(value, str) and value == str(choice):
                return choice
    elif origin is tuple:
        if isinstance(value, str):
            value = [part.strip() for part in value.split(",") if part.strip()]
        if isinstance(value, list | tuple) and args[-1] is Ellipsis:
            return tuple(_convert(item, args[0]) for item in value)
        if isinstance(value, list | tuple) and len(value) == len(args):
            return tuple(_convert(item, arm) for item, arm in zip(value, args, strict=True))
    elif kind is bool:
        if isinstance(value, bool):
            return value
    elif kind is int:
        if isinstance(value, int) and not isinstance(value, bool):
            return value
        if isinstance(value, str):
            try:
                return int(value.replace("_", ""))
            except ValueError:
                pass
    elif kind is float:
        if isinstance(value, int | float | str) and not isinstance(value, bool):
            try:  # PyYAML reads 1e-3 as text, since YAML 1.1 wants 1.0e-3
                return float(value)
            except ValueError:
                pass
    elif kind is str:
        if isinstance(value, str | int | float) and not isinstance(value, bool):
            return str(value)
    elif kind is Path:
        if isinstance(value, str | Path) and str(value):
            return Path(value).expanduser()
    else:  # a developer's mistake, found by the first test that enters the command
        raise TypeError(f"settings cannot be of type {kind}")
    raise _NotThisType(describe(kind))


def nearest(word: str, known: Iterable[str]) -> str:
    """The known word most like `word`, or "" if none is."""
    return next(iter(difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)), "")


def describe_value(value: Any) -> str:
    """A value from YAML in words, for an error message."""
    words = {type(None): "nothing", list: "a list", dict: "a table of keys"}
    return words.get(type(value), repr(value))
