"""The card of saved networks: what they are, take and return. Parsed from JSON with every value checked."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

from transit_cli.model.calibration import Calibrations

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

#: Version 1 had no checksum, version 2 no classes and no calibration.
VERSION = 3
MAX_MEMBERS, MAX_BINS, MAX_KNOTS = 1000, 10_000_000, 10_000


@dataclass(frozen=True)
class Card:
    """Description of saved networks.

    Attributes:
        network: name for `registry.build`; "FILE.py:FUNCTION" for a network of the user's, with a file beside the card.
        views: length in bins of each view, in the order of the inputs.
        target: the labels that count as positive.
        classes: the labels that the network tells apart, in the order of its outputs; empty for a binary network.
        scalars: how each scalar is made from its column: the fields of `training.loading.scaling.Scaling`.
        members: number of networks.
        folds: the fold that was held out from each member; empty without folds.
        trained_on: description of the training set.
        simulated: whether the training set was simulated.
        calibration: how logits become probabilities: `model.calibration.Calibrations` as JSON; empty without.
        initialised: what the weights began from; "" for random ones.
        figures: metrics on the validation rows, by name.
        transit: version of transit that wrote it.
        version: version of the file's layout.
    """

    network: str
    views: Mapping[str, int]
    target: Sequence[str]
    classes: Sequence[str] = ()
    scalars: Sequence[Mapping[str, Any]] = ()
    members: int = 1
    folds: Sequence[int] = ()
    trained_on: str = ""
    simulated: bool = False
    calibration: Mapping[str, Any] = field(default_factory=dict)
    initialised: str = ""
    figures: Mapping[str, Any] = field(default_factory=dict)
    transit: str = ""
    version: int = VERSION

    @property
    def outputs(self) -> int:
        """Logits per sample."""
        return len(self.classes) or 1


def parse(content: str) -> Card:
    """Read a card.

    Raises:
        ValueError: it is not JSON, or a value is missing, of another type or out of range; the message names it.
    """
    try:
        values = json.loads(content)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    json.dumps(values, ensure_ascii=False).encode()  # a lone surrogate cannot be printed: UnicodeEncodeError
    _mapping("it", values)
    for item in fields(Card):
        if item.name in values:
            _CHECKS[item.name](item.name, values[item.name])
        elif item.name in {"network", "views", "target"}:
            raise ValueError(f"{item.name} is missing")
    known = {item.name for item in fields(Card)}
    card = Card(**{name: value for name, value in values.items() if name in known})
    if card.folds and len(card.folds) != card.members:
        raise ValueError(f"folds has {len(card.folds)} entries for {card.members} members")
    if card.classes and not set(card.target) <= set(card.classes):
        raise ValueError("target is not among the classes")
    Calibrations.parse(card.calibration, card.outputs)
    return card


def _require(valid: bool, name: str, wanted: str) -> None:
    if not valid:
        raise ValueError(f"{name} is not {wanted}")


def _text(name: str, value: object) -> None:
    _require(isinstance(value, str), name, "text")


def _flag(name: str, value: object) -> None:
    _require(isinstance(value, bool), name, "true or false")


def _mapping(name: str, value: object) -> None:
    _require(isinstance(value, dict), name, "an object")


def _is_int(value: object, low: int, high: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def _is_finite(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and -math.inf < value < math.inf


def _network(name: str, value: object) -> None:
    _require(isinstance(value, str) and bool(value), name, "the name of a network")


def _views(name: str, value: object) -> None:
    valid = isinstance(value, dict) and all(_is_int(length, 1, MAX_BINS) for length in value.values())
    _require(valid and bool(value), name, f"an object of lengths from 1 to {MAX_BINS}")


def _target(name: str, value: object) -> None:
    valid = isinstance(value, list) and all(isinstance(label, str) for label in value)
    _require(valid and bool(value), name, "a list of labels")


def _classes(name: str, value: object) -> None:
    valid = isinstance(value, list) and all(isinstance(label, str) for label in value) and len(value) != 1
    _require(valid and len(set(value)) == len(value), name, "a list of different labels")  # type: ignore[arg-type]


def _members(name: str, value: object) -> None:
    _require(_is_int(value, 1, MAX_MEMBERS), name, f"a number from 1 to {MAX_MEMBERS}")


def _folds(name: str, value: object) -> None:
    valid = isinstance(value, list) and all(_is_int(fold, 0, MAX_MEMBERS) for fold in value)
    _require(valid, name, f"a list of numbers from 0 to {MAX_MEMBERS}")


def _version(name: str, value: object) -> None:
    _require(_is_int(value, 1, VERSION), name, f"a version from 1 to {VERSION}, which this transit reads")


def _knots(values: object) -> bool:
    return isinstance(values, list | tuple) and len(values) <= MAX_KNOTS and all(map(_is_finite, values))


def _scalars(name: str, value: object) -> None:
    valid = isinstance(value, list) and all(
        isinstance(scalar, dict)
        and scalar.keys() - {"knots"} == {"column", "log", "center", "scale"}
        and isinstance(scalar["column"], str)
        and isinstance(scalar["log"], bool)
        and _is_finite(scalar["center"])
        and _is_finite(scalar["scale"])
        and scalar["scale"] > 0
        and _knots(scalar.get("knots", []))
        for scalar in value
    )
    _require(valid, name, "a list of objects with column, log, center and scale > 0")


_CHECKS = {
    "network": _network,
    "views": _views,
    "target": _target,
    "classes": _classes,
    "scalars": _scalars,
    "members": _members,
    "folds": _folds,
    "trained_on": _text,
    "simulated": _flag,
    "calibration": _mapping,
    "initialised": _text,
    "figures": _mapping,
    "transit": _text,
    "version": _version,
}
