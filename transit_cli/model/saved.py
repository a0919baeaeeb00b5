"""Finished networks as one file: the weights of all members, and a card that says what they are.

The file is safetensors: it loads without executing anything. Weights are named "MEMBER.PARAMETER" ("0.head.1.weight");
the card stands as JSON in the header under "transit". A person's own network is built from its source, which lies
beside the file.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from transit_cli.files import atomic_write
from transit_cli.model import registry
from transit_cli.results import TransitError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from torch import Tensor, nn

FILE = "model.safetensors"
_KEY = "transit"
VERSION = 1


@dataclass(frozen=True)
class Card:
    """What saved networks are, take and give.

    Attributes:
        network: the name that `registry.build` knows; a file in it is relative to the card's own folder.
        views: the length of each view that they take, in order.
        scalars: how each scalar is made from its column: the fields of `data.feed.Scaling`.
        target: the labels that count as positive.
        members: how many networks there are.
        folds: the fold that each member has not seen; empty where there were none.
        trained_on: what they learned from, in words.
        simulated: whether that was simulated.
        figures: what was measured on the validation rows, by name.
        transit: the version that wrote it.
        version: of this layout.
    """

    network: str
    views: Mapping[str, int]
    target: Sequence[str]
    scalars: Sequence[Mapping[str, Any]] = ()
    members: int = 1
    folds: Sequence[int] = ()
    trained_on: str = ""
    simulated: bool = False
    figures: Mapping[str, Any] = field(default_factory=dict)
    transit: str = ""
    version: int = VERSION


def save(file: Path, states: Sequence[Mapping[str, Tensor]], card: Card) -> None:
    """Write members' weights (`state_dict`s on the CPU) and their card, atomically."""
    from safetensors.torch import save as to_bytes

    weights = {f"{m}.{name}": value.contiguous() for m, state in enumerate(states) for name, value in state.items()}
    content = to_bytes(weights, {_KEY: json.dumps(dataclasses.asdict(card))})
    atomic_write(file, content)


def read_card(file: Path) -> Card:
    """The card of a saved file.

    Raises:
        TransitError: it is not there, or `save` has not written it.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="pt") as opened:
            content = (opened.metadata() or {}).get(_KEY, "")
    except FileNotFoundError:
        raise _unusable(file, "is not there") from None
    except (SafetensorError, OSError) as error:
        raise _unusable(file, f"cannot be read: {error}") from None
    try:
        values = json.loads(content)
        known = {item.name for item in dataclasses.fields(Card)}
        if values.get("version") != VERSION:
            raise _unusable(file, f"has a card of version {values.get('version')}, not {VERSION}")
        return Card(**{name: value for name, value in values.items() if name in known})
    except (ValueError, TypeError, AttributeError):
        raise _unusable(file, "has no card of transit's") from None


def load(file: Path) -> tuple[list[nn.Module], Card]:
    """The networks of a saved file, on the CPU, in evaluation mode, and their card.

    Raises:
        TransitError: it is not there, it is damaged, or its networks cannot be built any more.
    """
    from safetensors.torch import load_file

    card = read_card(file)
    weights = load_file(file)
    name = card.network
    if ":" in name and (own := file.parent / name.rpartition(":")[0]).is_file():
        name = f"{own}:{name.rpartition(':')[2]}"
    networks = []
    for member in range(card.members):
        network = registry.build(name, card.views, len(card.scalars))
        prefix = f"{member}."
        state = {key.removeprefix(prefix): value for key, value in weights.items() if key.startswith(prefix)}
        try:
            network.load_state_dict(state)
        except RuntimeError as error:
            raise _unusable(file, f"does not fit the network {card.network}: {error}") from None
        networks.append(network.eval())
    return networks, card


def _unusable(file: Path, what: str) -> TransitError:
    return TransitError(
        f"{file} {what}",
        wanted="a finished run's model.safetensors",
        fix=f"transit train --resume {file.parent}",
        code="model-unusable",
    )
