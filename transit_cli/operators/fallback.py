"""Falling back well: run on the CPU what the device refuses, with its weights, and bring the results back.

torch's own variable, PYTORCH_ENABLE_MPS_FALLBACK, helps with operators that MPS lacks. It does not help where a kernel
is there and refuses a shape or a type. Here a module, or a function, is tried on the device and, once an operator of it
is refused, runs on the CPU from then on: weights, buffers, and tensors however nested move there and back by
differentiable copies, so that gradients reach the parameters that the optimizer holds on the device.
"""

from __future__ import annotations

import dataclasses
import time
import types
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils._pytree import tree_map

from transit_cli import console

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from transit_cli.device.base import Device


@dataclass
class FallbackSite:
    """A place that runs on the CPU.

    Attributes:
        name: the module's name in its network, or the function's.
        cause: the device's words, first sentence.
        calls: how often it ran on the CPU.
        seconds: how long that took in all, copies and the wait for the device's earlier work included.
    """

    name: str
    cause: str
    calls: int = 0
    seconds: float = 0.0


class CpuFallback:
    """Runs modules and functions on a device, or where it refuses them on the CPU.

    Only what `device.is_unsupported_operator` recognises is caught: any other error passes untouched.

    Args:
        device: where to try first.

    Attributes:
        sites: what runs on the CPU, by name.
    """

    def __init__(self, device: Device) -> None:
        self.device = device
        self.sites: dict[str, FallbackSite] = {}
        self._tried: set[str] = set()
        self._on_cpu = False
        self._trying = False

    def __deepcopy__(self, memo: Any) -> Self:
        """A copy of a guarded network shares its guard."""
        return self

    def guard(self, network: nn.Module) -> None:
        """Guard every module of a network, so that the smallest one that is refused moves and nothing else.

        Names and shapes of the network's state do not change.
        """
        for name, module in network.named_modules():
            if "forward" not in vars(module):  # a forward of the instance's own is somebody else's arrangement
                module.__dict__["_cpu_fallback"] = (self, name or type(module).__name__)
                module.__dict__["forward"] = types.MethodType(_guarded_forward, module)

    def call(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call a function, on the CPU if the device refuses an operator of it; what it closes over does not move."""
        return self._call(_name(function), function, None, args, kwargs)

    def _call(
        self, name: str, function: Callable[..., Any], module: nn.Module | None, args: tuple[Any, ...], kwargs: Any
    ) -> Any:
        if self._on_cpu:
            return function(*args, **kwargs)
        if name not in self.sites:
            try:
                if torch.is_grad_enabled() and name not in self._tried:
                    self._try_backward(function, module, args, kwargs)
                    self._tried.add(name)
                return function(*args, **kwargs)
            except Exception as error:  # whatever it is, the device knows whether it is a refusal
                if not self.device.is_unsupported_operator(error):
                    raise
                cause = str(error).splitlines()[0].split(". ")[0]
            self.sites[name] = FallbackSite(name, cause)
            console.warn(f"{name} runs on the CPU from now on, since {self.device.kind} refuses it: {cause}")
        return self._run_on_cpu(self.sites[name], function, module, args, kwargs)

    def _try_backward(self, function: Callable[..., Any], module: nn.Module | None, args: Any, kwargs: Any) -> None:
        """Run forward and backward once on copies: a refusal in the backward pass names no module, and is too late."""
        args, kwargs = _map((args, kwargs), lambda tensor: tensor.detach().requires_grad_(tensor.requires_grad))
        parameters = [p for p in module.parameters() if p.requires_grad] if module is not None else []
        outer, self._trying = self._trying, True
        try:
            with _unchanged(self.device, module):
                results = [t for t in _tensors(function(*args, **kwargs)) if t.requires_grad]
                sources = [t for t in _tensors((args, kwargs)) if t.requires_grad] + parameters
                if results and sources:
                    ones = [torch.ones_like(result) for result in results]
                    torch.autograd.grad(results, sources, ones, allow_unused=True)
        finally:
            self._trying = outer

    def _run_on_cpu(
        self, site: FallbackSite, function: Callable[..., Any], module: nn.Module | None, args: Any, kwargs: Any
    ) -> Any:
        start = time.perf_counter()
        args, kwargs = _map((args, kwargs), _to_cpu)
        self._on_cpu = True
        try:
            if module is None:
                results = function(*args, **kwargs)
            else:
                state = {name: _to_cpu(parameter) for name, parameter in module.named_parameters()}
                buffers = {name: _to_cpu(buffer) for name, buffer in module.named_buffers()}
                results = functional_call(module, state | buffers, args, kwargs)
                with torch.no_grad():
                    for name, buffer in module.named_buffers():  # a norm's running statistics
                        buffer.copy_(buffers[name])
        finally:
            self._on_cpu = False
        results = _map(results, self._to_device)
        if not self._trying:
            site.calls += 1
            site.seconds += time.perf_counter() - start
        return results

    def _to_device(self, tensor: Tensor) -> Tensor:
        if self.device.kind == "mps" and tensor.dtype == torch.float64:
            tensor = tensor.float()  # it has no other
        return tensor.to(self.device.torch_device)

    def report(self) -> list[dict[str, Any]]:
        """What ran on the CPU, the slowest first: name, cause, calls, seconds."""
        return [dataclasses.asdict(site) for site in sorted(self.sites.values(), key=lambda site: -site.seconds)]


def _guarded_forward(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
    """A module's forward under its guard. A bound method: a copy of the module is bound to the copy."""
    guard, name = vars(self)["_cpu_fallback"]
    plain = types.MethodType(type(self).forward, self)
    return guard._call(name, plain, self, args, kwargs)  # noqa: SLF001 - the guard's other half


def _name(function: Callable[..., Any]) -> str:
    return getattr(function, "__qualname__", type(function).__name__)


def _to_cpu(tensor: Tensor) -> Tensor:
    """A differentiable copy on the CPU; half precision becomes float32, which every CPU kernel takes."""
    half = tensor.dtype in {torch.float16, torch.bfloat16}
    return tensor.to("cpu", torch.float32) if half else tensor.to("cpu")


def _map(tree: Any, function: Callable[[Tensor], Tensor]) -> Any:
    """`tree` with `function` applied to every tensor in it: in containers of any depth, and in dataclasses."""

    def one(leaf: Any) -> Any:
        if isinstance(leaf, Tensor):
            return function(leaf)
        if dataclasses.is_dataclass(leaf) and not isinstance(leaf, type):
            changes = {field.name: _map(getattr(leaf, field.name), function) for field in dataclasses.fields(leaf)}
            return dataclasses.replace(leaf, **changes)
        return leaf

    return tree_map(one, tree)


def _tensors(tree: Any) -> list[Tensor]:
    found: list[Tensor] = []

    def note(tensor: Tensor) -> Tensor:
        found.append(tensor)
        return tensor

    _map(tree, note)
    return found


@contextmanager
def _unchanged(device: Device, module: nn.Module | None) -> Iterator[None]:
    """Put buffers and random numbers back as they were."""
    buffers = {name: buffer.clone() for name, buffer in module.named_buffers()} if module is not None else {}
    state, host_state = device.rng_state(), torch.get_rng_state()
    try:
        yield
    finally:
        device.set_rng_state(state)
        torch.set_rng_state(host_state)
        if module is not None:
            for name, buffer in module.named_buffers():
                buffer.copy_(buffers[name])
