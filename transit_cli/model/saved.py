"""Finished networks in one safetensors file: the weights of all members, and a card that describes them.

Weights are named "MEMBER.PARAMETER" ("0.head.1.weight"). The header holds the card as JSON under "transit" and a
checksum of card and weights under "sha256". Reading the file executes nothing. A network of the user's is built from
its Python file, which lies beside the weights and is executed only if the caller trusts it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from typing import TYPE_CHECKING

from transit_cli.model.card import Card
from transit_cli.parsing import schema
from transit_cli.results import TransitError
from transit_cli.utils import machine_errors
from transit_cli.utils.files import atomic_write

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from torch import Tensor, nn

FILE = "model.safetensors"
_CARD, _CHECKSUM = "transit", "sha256"


def save(file: Path, states: Sequence[Mapping[str, Tensor]], card: Card) -> None:
    """Write members' weights (`state_dict`s on the CPU) and their card, atomically."""
    from safetensors.torch import save as to_bytes

    weights = {f"{m}.{name}": value.contiguous() for m, state in enumerate(states) for name, value in state.items()}
    content = json.dumps(dataclasses.asdict(card))
    atomic_write(file, _sorted(to_bytes(weights, {_CARD: content, _CHECKSUM: _checksum(content, weights)})))


def _sorted(content: bytes) -> bytes:
    """A safetensors file with sorted metadata: safetensors writes it in another order in every process."""
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text = text.ljust(-(-len(text) // 8) * 8)
    return len(text).to_bytes(8, "little") + text + content[8 + length :]


def _checksum(card: str, weights: Mapping[str, Tensor]) -> str:
    """SHA-256 of the card and of each tensor's name, type, shape and bytes, in the order of the names."""
    import torch

    digest = hashlib.sha256(card.encode())
    for name, value in sorted(weights.items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def read_header(file: Path) -> Card:
    """The card of a saved file, without its weights and their checksum; imports no torch.

    Raises:
        TransitError: the file does not exist, or has no valid card.
    """
    return _parse_card(file, _open(file, weights=False)[0])


def _read(file: Path) -> tuple[Card, dict[str, Tensor]]:
    """The card and the weights, checked against the checksum."""
    metadata, weights = _open(file, weights=True)
    card = _parse_card(file, metadata)
    if card.version > 1 and metadata.get(_CHECKSUM) != _checksum(metadata[_CARD], weights):
        raise _unusable(file, "is damaged: its checksum does not match")
    return card, weights


def _open(file: Path, *, weights: bool) -> tuple[dict[str, str], dict[str, Tensor]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="pt" if weights else "np") as opened:
            names = opened.keys() if weights else ()
            return opened.metadata() or {}, {name: opened.get_tensor(name) for name in names}
    except FileNotFoundError:
        raise _unusable(file, "does not exist") from None
    except (SafetensorError, OSError, ValueError, TypeError, RuntimeError, LookupError, AttributeError) as error:
        machine_errors.raise_if_machine(error)
        raise _unusable(file, f"cannot be read: {error}") from None


def _parse_card(file: Path, metadata: Mapping[str, str]) -> Card:
    if _CARD not in metadata:
        raise _unusable(file, "has no card: transit did not write it")
    return schema.parse(metadata[_CARD], Card, _source(file))


def read(file: Path) -> tuple[Card, list[dict[str, Tensor]]]:
    """The card and the weights of each member, on the CPU; nothing is built, and nothing executed.

    Raises:
        TransitError: the file does not exist or is damaged.
    """
    card, weights = _read(file)
    return card, _split_members(file, card, weights)


def load(file: Path, *, trust: bool = False) -> tuple[list[nn.Module], Card]:
    """The networks of a saved file, on the CPU, in evaluation mode, and their card.

    Args:
        file: the file.
        trust: execute the Python file beside it that defines the network, if the card names one.

    Raises:
        TransitError: the file does not exist or is damaged, its networks cannot be built, or that needs `trust`.
    """
    from transit_cli.model import registry  # imports torch

    card, weights = _read(file)
    name = _network_name(file, card, trust=trust)
    members = _split_members(file, card, weights)
    if ":" not in name:
        _check_shapes(file, card, members[0])
    networks = []
    for state in members:
        network = registry.build(name, card.views, len(card.scalars), card.outputs)
        try:
            network.load_state_dict(state)
        except RuntimeError as error:
            raise _unusable(file, f"does not fit the network {card.network}: {error}") from None
        networks.append(network.eval())
    return networks, card


def _network_name(file: Path, card: Card, *, trust: bool) -> str:
    """The name for `registry.build`; a Python file must lie beside the weights and be trusted."""
    source, colon, function = card.network.rpartition(":")
    if not colon:
        return card.network
    path = file.parent / source
    if source != path.name or not path.is_file():
        raise _unusable(file, f"needs the Python file {source!r}, which does not lie beside it")
    if not trust:
        raise TransitError(
            f"{file} needs the Python file {path}, which would be executed",
            wanted="--trust to execute it",
            fix=f"read {path}, then add --trust if you trust its author",
            code="network-untrusted",
        )
    return f"{path}:{function}"


def _split_members(file: Path, card: Card, weights: Mapping[str, Tensor]) -> list[dict[str, Tensor]]:
    """The state of each member.

    Raises:
        TransitError: there are weights of other members than the card's, or weights that are not finite.
    """
    members: list[dict[str, Tensor]] = [{} for _ in range(card.members)]
    indices = {str(index): index for index in range(card.members)}
    for name, value in weights.items():
        member, _, parameter = name.partition(".")
        if member not in indices:
            raise _unusable(file, f"has weights named {name!r}, but {card.members} members")
        if value.is_floating_point() and not bool(value.isfinite().all()):
            raise _unusable(file, f"has weights that are not finite: {name}")
        members[indices[member]][parameter] = value
    return members


def _check_shapes(file: Path, card: Card, state: Mapping[str, Tensor]) -> None:
    """Compare the shapes of the weights with the network's before memory is allocated for it."""
    import torch

    from transit_cli.model import registry  # imports torch

    if not str(getattr(registry.factory(card.network), "__module__", "")).startswith("transit_cli."):
        return
    with torch.device("meta"):
        expected = registry.build(card.network, card.views, len(card.scalars), card.outputs).state_dict()
    for name, value in expected.items():
        found = state.get(name)
        if found is None or found.shape != value.shape or found.dtype != value.dtype:
            shown = f"{list(found.shape)} {found.dtype}" if found is not None else "nothing"
            wanted = f"{list(value.shape)} {value.dtype}"
            raise _unusable(file, f"does not fit the network {card.network}: {name} is {shown}, not {wanted}")


def _source(file: Path) -> schema.Source:
    wanted = "the model.safetensors of a finished run"
    return schema.Source(str(file), wanted, f"transit train --resume {file.parent}", "model-unusable")


def _unusable(file: Path, problem: str) -> TransitError:
    return _source(file).error(problem)
