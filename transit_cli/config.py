"""Settings: one frozen dataclass per command, which defines its options, its YAML and its Python API.

A command's settings are a subclass of `Settings`, in the package that uses them:

    @dataclass(frozen=True, kw_only=True)
    class TrainSettings(Settings):
        epochs: Annotated[int, Range(1)] = 50
        "Passes over the training set."

The docstring below a field is its help. Its type defines its values: bool, int, float, str, Path, Literal, a union of
these, `| None`, `tuple[X, ...]` (a comma-separated list on the command line) or `tuple[X, Y]` (two words there).

Values are resolved in one order: defaults < a preset's (`presets`) < YAML (`--config`) < flags; `Settings.sources` says
where each came from. A module of settings never imports torch, because `transit COMMAND --help` imports it.
"""

from __future__ import annotations

import ast
import dataclasses
import functools
import inspect
import itertools
import operator
import sys
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self, TypeVar

from transit_cli.parsing import config_file
from transit_cli.parsing.convert import convert, describe
from transit_cli.results import ExitCode, TransitError

__all__ = ["Flag", "Panel", "Positional", "Range", "Settings"]

_S = TypeVar("_S", bound="Settings")


@dataclass(frozen=True)
class Range:
    """The range of a number: `minimum <= value <= maximum`, or `<` at the ends named in `open`."""

    minimum: float | None = None
    maximum: float | None = None
    open: Literal["", "left", "right", "both"] = ""

    def __contains__(self, value: float) -> bool:
        low = self.minimum is None or value > self.minimum or (value == self.minimum and not self._left)
        high = self.maximum is None or value < self.maximum or (value == self.maximum and not self._right)
        return low and high

    @property
    def _left(self) -> bool:
        return self.open in {"left", "both"}

    @property
    def _right(self) -> bool:
        return self.open in {"right", "both"}

    def __str__(self) -> str:
        left, right = "<" if self._left else "<=", "<" if self._right else "<="
        if self.maximum is None:
            return f"x {left.replace('<', '>')} {self.minimum:g}"
        return f"{f'{self.minimum:g} {left} ' if self.minimum is not None else ''}x {right} {self.maximum:g}"


@dataclass(frozen=True)
class Positional:
    """Marks a field as a positional argument, shown as `metavar`."""

    metavar: str = ""


@dataclass(frozen=True)
class Flag:
    """Adds a short name (`-n`) to an option, or a `metavar` for its value."""

    short: str = ""
    metavar: str = ""


@dataclass(frozen=True)
class Panel:
    """Lists an option in this panel of `--help`, in place of its class's."""

    name: str


@dataclass(frozen=True)
class Setting:
    """One field of a settings class, as the command line and YAML see it."""

    name: str
    type: Any
    default: Any
    help: str
    range: Range | None = None
    positional: Positional | None = None
    flag: Flag | None = None
    panel: str = ""

    @property
    def required(self) -> bool:
        """Whether it has no default."""
        return self.default is dataclasses.MISSING

    @property
    def key(self) -> str:
        """Its name in YAML: that of the field, without the final `_` of a Python keyword (`try_`)."""
        return self.name.rstrip("_")

    @property
    def option(self) -> str:
        """Its name on the command line, if it is an option."""
        return "--" + self.key.replace("_", "-")

    @property
    def label(self) -> str:
        """Its name in messages: `--epochs`, or `RUN` for a positional argument."""
        return self.positional.metavar or self.name.upper() if self.positional else self.option


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Base of every command's settings. Values are validated on construction, so a `Settings` is always valid."""

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    """Values for other fields by the value of a field named `preset`; values in YAML or flags take precedence."""

    panel: ClassVar[str] = ""
    """The panel of `--help` that lists the fields which this class declares; those without one come first."""

    first: ClassVar[tuple[str, ...]] = ()
    """Fields that `--help` lists before all panels: what a beginner needs."""

    hidden: ClassVar[tuple[str, ...]] = ()
    """Inherited fields that are not options of this command, because they do not affect it."""

    sources: Mapping[str, str] = field(default_factory=dict, repr=False, compare=False)
    """The source of each value ("default", "run.yaml:3", "--epochs"); empty when made in Python."""

    def __post_init__(self) -> None:
        for setting in settings_of(type(self)):
            value = getattr(self, setting.name)
            items = value if isinstance(value, tuple) else (value,)
            for item in items:
                number = isinstance(item, int | float) and not isinstance(item, bool)
                if setting.range is not None and number and item not in setting.range:
                    self.refuse(setting.name, f"a value with {setting.range}")

    def refuse(self, name: str, wanted: str, fix: str = "") -> typing.NoReturn:
        """Raise the error for an invalid value, naming its source.

        Args:
            name: the field.
            wanted: what is valid.
            fix: what to type; by default to correct the value where it was given.
        """
        setting = next(item for item in settings_of(type(self)) if item.name == name)
        source = self.sources.get(name, "")
        in_file = ":" in source  # "run.yaml:3"; a flag has none
        shown = ",".join(map(str, v)) if isinstance(v := getattr(self, name), tuple) else v
        raise TransitError(
            f"{setting.label} is {shown}" + (f" ({source})" if in_file else ""),
            wanted=wanted,
            fix=fix or (f"correct {source}" if in_file else f"give another {setting.label}"),
            exit_code=ExitCode.BAD_INPUT if in_file else ExitCode.USAGE,
            code="setting-out-of-range",
        )

    def replace(self, **changes: Any) -> Self:
        """A copy with some values changed, validated again."""
        return dataclasses.replace(self, **changes)


@functools.cache
def settings_of(cls: type[Settings]) -> tuple[Setting, ...]:
    """The fields of a settings class, in the order in which they are declared (base classes first)."""
    hints = typing.get_type_hints(cls, include_extras=True)
    texts: dict[str, str] = {}
    panels: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        if issubclass(base, Settings):
            texts |= _field_texts(base)
            panels = dict.fromkeys(vars(base).get("__annotations__", {}), vars(base).get("panel", "")) | panels
    found = []
    for item in dataclasses.fields(cls):
        if item.name == "sources" or item.name in cls.hidden:
            continue
        kind, marks = _unwrap(hints[item.name])
        default = item.default
        if item.default_factory is not dataclasses.MISSING:
            default = item.default_factory()
        found.append(
            Setting(
                name=item.name,
                type=kind,
                default=default,
                help=texts.get(item.name, ""),
                range=next((mark for mark in marks if isinstance(mark, Range)), None),
                positional=next((mark for mark in marks if isinstance(mark, Positional)), None),
                flag=next((mark for mark in marks if isinstance(mark, Flag)), None),
                panel=next((mark.name for mark in marks if isinstance(mark, Panel)), panels[item.name]),
            ),
        )
    return tuple(found)


def _unwrap(hint: Any) -> tuple[Any, tuple[Any, ...]]:
    """`Annotated[X, a, b]` as `X, (a, b)`, also as an arm of a union; anything else as itself."""
    if typing.get_origin(hint) is Annotated:
        kind, *marks = typing.get_args(hint)
        return kind, tuple(marks)
    if typing.get_origin(hint) in {typing.Union, types.UnionType}:
        arms = [_unwrap(arm) for arm in typing.get_args(hint)]
        return functools.reduce(operator.or_, [kind for kind, _ in arms]), tuple(m for _, marks in arms for m in marks)
    return hint, ()


def _field_texts(cls: type) -> dict[str, str]:
    """The docstring below each field of a class, read from the source, since Python does not keep it."""
    try:
        tree = ast.parse(inspect.getsource(sys.modules[cls.__module__]))
    except (OSError, KeyError):  # defined in an interactive session: no help text, everything else works
        return {}
    found = (n.body for n in ast.walk(tree) if isinstance(n, ast.ClassDef) and n.name == cls.__name__)
    texts: dict[str, str] = {}
    for node, after in itertools.pairwise(next(found, ())):
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and isinstance(after, ast.Expr):
            value = after.value
            if isinstance(value, ast.Constant) and isinstance(value.value, str):
                texts[node.target.id] = inspect.cleandoc(value.value)
    return texts


def resolve(cls: type[_S], flags: Mapping[str, Any], file: Path | None = None) -> _S:
    """Settings from defaults < the preset's < `file` < `flags`, each value with its source.

    Args:
        cls: the settings class.
        flags: values given on the command line, by field name.
        file: a YAML file, as `--print-config` writes it.

    Raises:
        TransitError: a value or key is invalid; the error names its place.
    """
    known = {setting.name: setting for setting in settings_of(cls)}
    values: dict[str, Any] = {}
    sources = dict.fromkeys(known, "default")
    if file is not None:
        types = {name: setting.type for name, setting in known.items()}
        for name, (value, line) in config_file.read(file, types).items():
            values[name], sources[name] = value, f"{file}:{line}"
    for name, value in flags.items():
        setting = known[name]
        try:
            values[name] = convert(value, setting.type)
        except ValueError as wanted:
            raise TransitError(
                f"{setting.label} is {value!r}",
                wanted=str(wanted),
                fix=f"give another {setting.label}",
                exit_code=ExitCode.USAGE,
                code="setting-type",
            ) from None
        sources[name] = setting.label
    preset = values.get("preset", known["preset"].default if "preset" in known else None)
    for name, value in cls.presets.get(preset, {}).items():
        if name not in values:
            values[name], sources[name] = value, f"preset {preset}"
    for setting in known.values():
        if setting.required and setting.name not in values:
            raise TransitError(
                f"{setting.label} is missing",
                wanted=setting.help.split("\n")[0] or describe(setting.type),
                fix=f"add {setting.label}",
                exit_code=ExitCode.USAGE,
                code="setting-missing",
            )
    return cls(**values, sources=sources)


def to_yaml(settings: Settings, command: str = "") -> str:
    """The settings as YAML that `--config` reads back, each value with its source as a comment."""
    import yaml

    rows = [(config_file.VERSION_KEY, str(config_file.VERSION), "")]
    if command:
        rows.append((config_file.COMMAND_KEY, command, ""))
    for setting in settings_of(type(settings)):
        value = getattr(settings, setting.name)
        value = _yaml_types(value)
        text = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=10**6)
        if yaml.safe_load(text) != value:  # PyYAML folds some Unicode line breaks to spaces unless it escapes them
            text = yaml.safe_dump(value, default_flow_style=True, width=10**6)
        rows.append((setting.key, text.removesuffix("...\n").strip(), settings.sources.get(setting.name, "")))
    width = max(len(f"{name}: {text}") for name, text, _ in rows)
    lines = [
        f"{f'{name}: {text}':<{width}}  # {source}" if source else f"{name}: {text}" for name, text, source in rows
    ]
    return "\n".join(lines) + "\n"


def _yaml_types(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_yaml_types(item) for item in value]
    return str(value) if isinstance(value, Path) else value
