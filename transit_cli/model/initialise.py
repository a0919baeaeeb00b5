"""A new network that begins from the weights of a saved one with other inputs or another target.

Branches are matched by the view that they see; a view that the saved network has not seen begins with the nearest
branch, that of the local view if it fits. A dense layer takes the columns of the features it knows, and begins at zero
for those it does not, so that they change nothing at first. The output layer is taken if it means the same, or if the
new binary target can be formed from the saved classes. What does not fit stays random.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import nn

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from torch import Tensor

    from transit_cli.model.card import Card

#: The list of branches, one per view, of our own networks.
BRANCHES = ("branches", "columns")
#: What the output of a binary network begins from, if the saved networks tell its labels and others apart.
FORMED = "formed from classes"
#: The view whose branch is taken for one that the saved network has not seen.
NEAREST = "local"


@dataclass(frozen=True)
class Initial:
    """Saved networks from which new ones begin.

    Attributes:
        name: as the user gave it.
        file: the file.
        card: what they are.
        states: the weights of each member, on the CPU.
    """

    name: str
    file: Path
    card: Card
    states: Sequence[Mapping[str, Tensor]]


@dataclass(frozen=True)
class Inputs:
    """What a network takes and returns, as far as it decides what weights mean.

    Attributes:
        views: in the order of the branches.
        scalars: columns.
        target: labels that count as positive.
        classes: labels in the order of the outputs; empty for a binary network.
    """

    views: Sequence[str]
    scalars: Sequence[str]
    target: Sequence[str]
    classes: Sequence[str] = ()

    @classmethod
    def of(cls, card: Card) -> Inputs:
        """Those of saved networks."""
        columns = [scalar.column for scalar in card.scalars]
        return cls(list(card.views), columns, list(card.target), list(card.classes))


def freeze(network: nn.Module) -> None:
    """Exclude all parameters from training but those of the last dense layer, the output.

    Raises:
        ValueError: the network has no dense layer.
    """
    dense = [module for module in network.modules() if isinstance(module, nn.Linear)]
    if not dense:
        raise ValueError("no dense layer to train")
    network.requires_grad_(False)
    dense[-1].requires_grad_(True)


@torch.no_grad()
def initialise(network: nn.Module, inputs: Inputs, initial: Initial, member: int) -> dict[str, str]:
    """Load what fits of a saved member into a network.

    Args:
        network: the new network, with random weights.
        inputs: what it takes and returns.
        initial: where the weights come from.
        member: number of the new network, any; the saved members are used in turn.

    Returns:
        For each view and for "hidden" and "output", what it began from: the name of a saved view, "taken", "formed from
        classes", or "new". An output that is formed from classes is a first guess, see `binary_output.fit_output`.
    """
    saved = initial.states[member % len(initial.states)]
    before = Inputs.of(initial.card)
    own = network.state_dict()
    kind = next((kind for kind in BRANCHES if any(name.startswith(f"{kind}.") for name in own)), "")
    if not kind or not any(name.startswith(f"{kind}.") for name in saved):
        return _by_name(own, saved)
    sources = {}
    for index, view in enumerate(inputs.views):
        candidates = [name for name in (view, NEAREST, *before.views) if name in before.views]
        places = [before.views.index(name) for name in candidates]
        found = next((p for p in places if _copy(own, saved, f"{kind}.{index}.", f"{kind}.{p}.")), None)
        sources[view] = "new" if found is None else before.views[found]
    dense = [name.removesuffix("weight") for name in own if name.startswith("head.") and name.endswith("weight")]
    index = _features(own, saved, dense[0], (inputs, before), sources)
    hidden = index is not None and all(f"{name}weight" in saved for name in dense)
    for name in dense[:-1]:
        hidden = hidden and _copy_dense(own, saved, name, index)
        index = index if own[f"{name}weight"].ndim == 1 else None  # the first linear layer mixes the features
    last = _copy_output(own, saved, dense[-1], inputs, before) if hidden else "new"
    return sources | {"hidden": "taken" if hidden else "new", "output": last}


def _copy(own: Mapping[str, Tensor], saved: Mapping[str, Tensor], prefix: str, saved_prefix: str) -> bool:
    """Copy the saved parameters under a prefix if all exist in the same shapes."""
    pairs = {name: saved_prefix + name.removeprefix(prefix) for name in own if name.startswith(prefix)}
    if not all(there in saved and saved[there].shape == own[here].shape for here, there in pairs.items()):
        return False
    for here, there in pairs.items():
        own[here].copy_(saved[there])
    return True


def _features(
    own: Mapping[str, Tensor],
    saved: Mapping[str, Tensor],
    first: str,
    inputs: tuple[Inputs, Inputs],
    sources: Mapping[str, str],
) -> Tensor | None:
    """[F] for each input of the first dense layer its place among the saved ones, -1 for a new one.

    None if the views' features have other sizes. Scalars are known by their column: they keep the saved scaling.
    """
    now, before = inputs
    sizes: list[float] = []
    for weights, network in ((own, now), (saved, before)):
        if f"{first}weight" not in weights:
            return None
        features = weights[f"{first}weight"].shape[-1] - len(network.scalars)
        sizes.append(features / len(network.views))
    places: list[int]
    alike = list(now.views) == list(before.views)  # AstroNet's columns have different sizes
    if sizes[0] != sizes[1] or not (sizes[0].is_integer() or alike):
        return None
    if alike:
        places = list(range(round(sizes[0] * len(now.views))))
        return torch.tensor(places + _scalars(now, before, len(places)))
    size = int(sizes[0])
    places = []
    for view in now.views:
        known = sources[view] == view
        begin = before.views.index(view) * size if known else 0
        places += list(range(begin, begin + size)) if known else [-1] * size
    return torch.tensor(places + _scalars(now, before, size * len(before.views)))


def _scalars(now: Inputs, before: Inputs, first: int) -> list[int]:
    """For each scalar its place among the saved features, of which `first` are those of the views; -1 for a new one."""
    return [first + before.scalars.index(name) if name in before.scalars else -1 for name in now.scalars]


def _copy_dense(own: Mapping[str, Tensor], saved: Mapping[str, Tensor], name: str, index: Tensor | None) -> bool:
    """Copy a layer whose last dimension is `index` of the saved one's; False if its other dimensions differ."""
    for part in ("weight", "bias"):
        here, there = own[name + part], saved[name + part]
        indexed = index is not None and (part == "weight" or own[f"{name}weight"].ndim == 1)
        if not indexed:
            if here.shape != there.shape:
                return False
            here.copy_(there)
            continue
        assert index is not None
        if here.shape[:-1] != there.shape[:-1]:
            return False
        known = index >= 0
        here[..., known] = there[..., index[known]]
        if here.ndim == 2:
            here[:, ~known] = 0.0
    return True


def _copy_output(own: Mapping[str, Tensor], saved: Mapping[str, Tensor], name: str, now: Inputs, before: Inputs) -> str:
    """Copy the last layer if it means the same, or form it from the logits of classes."""
    if (list(now.classes), sorted(now.target)) == (list(before.classes), sorted(before.target)):
        return "taken" if _copy(own, saved, name, name) else "new"
    if now.classes or not before.classes or not set(now.target) & set(before.classes):
        return "new"
    positive = torch.tensor([label in now.target for label in before.classes])
    if bool(positive.all()):
        return "new"
    for part in ("weight", "bias"):
        rows = saved[name + part]
        own[name + part].copy_((rows[positive].mean(0) - rows[~positive].mean(0)).reshape(own[name + part].shape))
    return FORMED


def _by_name(own: Mapping[str, Tensor], saved: Mapping[str, Tensor]) -> dict[str, str]:
    """Parameters of the same name and shape: for networks whose structure is not known."""
    fits = {name for name, value in own.items() if name in saved and saved[name].shape == value.shape}
    for name in fits:
        own[name].copy_(saved[name])
    return {name: "taken" if name in fits else "new" for name in own}
