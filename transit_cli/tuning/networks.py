"""A user's own network with inputs and outputs of any shape, adapted to the training step."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from transit_cli.model import registry
from transit_cli.results import TransitError

if TYPE_CHECKING:
    from collections.abc import Mapping


#: The name of the inputs of a user's own network, with a number: they are passed in this order.
PLAIN = "input"


def build_own(name: str) -> nn.Module:
    """A user's own network, from a factory without arguments.

    Raises:
        TransitError: there is no such factory, it requires arguments, or it does not return a module.
    """
    factory = registry.factory(name)
    required = [
        parameter.name
        for parameter in inspect.signature(factory).parameters.values()
        if parameter.default is parameter.empty
        and parameter.kind not in {parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD}
    ]
    if required:
        raise TransitError(
            f"{name} requires arguments ({', '.join(required)}), and with --input it is given none",
            wanted="a function without arguments that returns a torch.nn.Module",
            fix="omit --input, or give the arguments defaults",
            code="network-unusable",
        )
    network = factory()
    if not isinstance(network, nn.Module):
        raise TransitError(
            f"{name} returned {type(network).__name__}",
            wanted="a function that returns a torch.nn.Module",
            fix=f"correct {name.rpartition(':')[0] or name}",
            code="network-unusable",
        )
    return OneLogit(network)


class OneLogit(nn.Module):
    """A network with any output, as one logit per sample: the mean of its outputs.

    Its whole forward and backward pass runs; only its own loss, which transit does not know, is missing.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Logits [B]."""
        count = len(next(iter(inputs.values())))
        outputs = _tensors(self.network(*inputs.values()))
        return torch.stack([values.reshape(count, -1).float().mean(1) for values in outputs]).mean(0)


def _tensors(output: object) -> list[Tensor]:
    """The floating-point tensors in a tensor, a list, a tuple or a mapping, at any depth."""
    if isinstance(output, Tensor):
        return [output] if output.is_floating_point() else []
    items = list(output.values()) if isinstance(output, dict) else output
    return [tensor for item in items for tensor in _tensors(item)] if isinstance(items, list | tuple) else []
