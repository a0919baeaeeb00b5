"""Networks by name: `two-branch`, `astronet`, an installed plugin's (`transit.models`), or `my_net.py:build`.

A factory is called as `factory(views, scalars)` with the length in bins of each view by name (the global view first)
and the number of scalars. The network returns one logit per sample, [B] or [B, 1]. For several classes it is called
with `outputs=C` as well, and the network returns [B, C]. Its `forward` takes a mapping if it has one argument, and
otherwise the inputs in order:

    def forward(self, inputs): ...                        one: a mapping, inputs["global"] [B, L], inputs["scalars"] ...
    def forward(self, global_view, local_view): ...       more: the views in the order of `views`, then the scalars
"""

from __future__ import annotations

import ast
import importlib.util
import inspect
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from transit_cli import console, discovery
from transit_cli.results import ExitCode, TransitError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

FACTORY_HELP = "a function of (views, scalars) that returns a torch.nn.Module"
CLASSES_HELP = "for --target classes: a function of (views, scalars, outputs) whose network returns [B, outputs]"


def build(name: str, views: Mapping[str, int], scalars: int = 0, outputs: int = 1) -> nn.Module:
    """Build a network with random weights from torch's default generator.

    Args:
        name: a registered name, or "path.py:factory".
        views: the length in bins of each view, in the order of the inputs.
        scalars: number of scalars.
        outputs: 1 for a binary network, otherwise the number of classes.

    Returns:
        A module that maps {view: [B, L], "scalars": [B, S]} to logits [B], or [B, outputs] of several classes.

    Raises:
        TransitError: the network does not exist, its code fails, or it does not fit the views.
    """
    build_network = factory(name)
    try:
        network = build_network(dict(views), scalars, **({"outputs": outputs} if outputs > 1 else {}))
    except ValueError as error:
        raise _failure(name, f"does not fit the views: {error}", "views of lengths that it supports") from error
    except (Exception, SystemExit) as error:
        help_ = CLASSES_HELP if outputs > 1 else FACTORY_HELP
        raise _failure(name, f"cannot be built: {_said(error, name)}", help_) from error
    if not isinstance(network, nn.Module):
        raise _failure(name, f"is {type(network).__name__}", FACTORY_HELP)
    if type(network).__module__.startswith("transit_cli."):
        return network
    network = Adapted(network, tuple(views), scalars, outputs)
    _try_out(name, network, views, scalars)
    _warn_of_probabilities(name, network, views, scalars)
    return network


def factory(name: str) -> Callable[..., Any]:
    """The function that builds a network, by registered name or "path.py:function".

    Raises:
        TransitError: the network does not exist, or its code cannot be imported.
    """
    return _from_file(name) if ":" in name else _installed(name)


class Adapted(nn.Module):
    """Adapter from a user's network to the interface of transit's: a mapping in, logits [B] or [B, outputs] out."""

    def __init__(self, network: nn.Module, views: tuple[str, ...], scalars: int, outputs: int = 1) -> None:
        super().__init__()
        self.network = network
        self.outputs = outputs
        self.order = (*views, "scalars") if scalars else views
        self.positional = _arguments(network.forward) > 1

    def forward(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """One logit per sample, [B], or one per class, [B, outputs]."""
        logits = self.network(*(inputs[name] for name in self.order)) if self.positional else self.network(inputs)
        return logits.squeeze(1) if logits.ndim == 2 and self.outputs == 1 else logits


def _arguments(forward: Callable[..., Any]) -> int:
    """Number of positional arguments of a bound `forward`; 2 for `*args`."""
    count = 0
    for parameter in inspect.signature(forward).parameters.values():
        if parameter.kind is parameter.VAR_POSITIONAL:
            return 2
        count += parameter.kind in {parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD}
    return count


def _try_out(name: str, network: Adapted, views: Mapping[str, int], scalars: int) -> None:
    """Run one forward pass on two samples of zeros, to report a network that does not fit before a run starts."""
    inputs = {view: torch.zeros(2, length) for view, length in views.items()}
    if scalars:
        inputs["scalars"] = torch.zeros(2, scalars)
    shapes = ", ".join(f"{view} {list(values.shape)}" for view, values in inputs.items())
    training = network.training
    try:
        with torch.no_grad():
            logits = network.eval()(inputs)
    except Exception as error:
        wanted = f"a forward that takes {'the inputs in this order' if network.positional else 'a mapping'}: {shapes}"
        raise _failure(name, f"fails in its first forward pass: {_said(error, name)}", wanted) from error
    finally:
        network.train(training)
    expected = (2,) if network.outputs == 1 else (2, network.outputs)
    if not isinstance(logits, Tensor) or logits.shape != expected:
        shape = list(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        wanted = "one logit per sample: [2] or [2, 1]" if network.outputs == 1 else f"logits {list(expected)}"
        raise _failure(name, f"returned {shape} for two samples", wanted)


def _installed(name: str) -> Callable[..., Any]:
    found = discovery.discover(discovery.MODELS).used
    if name.endswith(".py"):
        functions = _functions(Path(name).expanduser())
        raise TransitError(
            f"--network {name} names a file, and no function in it",
            wanted=f"FILE:FUNCTION, with {FACTORY_HELP}",
            fix=" or ".join(f"--network {name}:{function}" for function in functions or ("build",)),
            exit_code=ExitCode.USAGE,
            code="network-unknown",
        )
    if name not in found:
        known = ", ".join(found)
        raise TransitError(
            f"there is no network named {name!r}",
            wanted=f"{known}, or my_net.py:build for your own",
            fix="give another --network",
            exit_code=ExitCode.USAGE,
            code="network-unknown",
        )
    loaded = found[name].load()
    if not callable(loaded):
        raise found[name].failure(f"it is {type(loaded).__name__}, not a function")
    return loaded


def _functions(path: Path) -> list[str]:
    """The public functions of a Python file that take two arguments or more, `build` first; nothing is executed."""
    try:
        body = ast.parse(path.read_bytes()).body
    except (OSError, SyntaxError, ValueError):
        return []
    names = [
        item.name
        for item in body
        if isinstance(item, ast.FunctionDef) and not item.name.startswith("_") and len(item.args.args) > 1
    ]
    return sorted(names, key=lambda name: name != "build")[:3]


def _from_file(name: str) -> Callable[..., Any]:
    file, _, attribute = name.rpartition(":")
    path = Path(file).expanduser()
    if not path.is_file():
        raise _failure(name, f"names a file that does not exist: {path}", "my_net.py:build, file and function")
    module_name = f"transit_network_{path.stem}"
    spec = importlib.util.spec_from_file_location(module_name, path)
    if spec is None or spec.loader is None:
        raise _failure(name, f"names {path}, which is not Python source", "a file that ends in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module  # dataclasses and pickle look modules up by name
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise _failure(name, f"fails while it is imported: {_said(error, name)}", "a working file") from error
    found = getattr(module, attribute, None)
    if not callable(found):
        raise _failure(name, f"has no function {attribute!r}", FACTORY_HELP)
    return found


def _said(error: BaseException, name: str) -> str:
    """An exception of a user's network, with its line in their file, and how to see all of it."""
    file = Path(name.rpartition(":")[0]).name
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename).name == file]
    where = f" ({file}:{lines[-1]})" if lines and file else ""
    return f"{type(error).__name__}: {error}{where}; TRANSIT_DEBUG=1 shows the traceback"


def _warn_of_probabilities(name: str, network: Adapted, views: Mapping[str, int], scalars: int) -> None:
    """Warn of a network that seems to end in a sigmoid or softmax: training applies one to its logits."""
    random = torch.Generator().manual_seed(0)  # not the one that seeds weights
    scale = 10 ** torch.linspace(-1, 3, 32)[:, None]
    inputs = {view: scale * torch.randn(32, length, generator=random) for view, length in views.items()}
    if scalars:
        inputs["scalars"] = scale * torch.randn(32, scalars, generator=random)
    training = network.training
    with torch.no_grad():
        found = network.eval()(inputs)
    network.train(training)
    if found.min() >= 0 and found.max() <= 1 and found.std() > 0:
        console.warn(
            f"the network {name} returns only values from 0 to 1, whatever it is given: does it end in a sigmoid or "
            "softmax? It must return logits, to which training applies its own"
        )


def _failure(name: str, found: str, wanted: str) -> TransitError:
    return TransitError(
        f"the network {name} {found}",
        wanted=wanted,
        fix=f"correct {name.rpartition(':')[0]}" if ":" in name else "give another --network",
        code="network-unusable",
    )
