"""Fallback of whole modules: run on the CPU what the device refuses, and copy the results back.

torch's PYTORCH_ENABLE_MPS_FALLBACK covers operators that MPS lacks, but not a kernel that exists and refuses a shape or
a type. Here a module or a function is tried on the device and, once one of its operators is refused, runs on the CPU
from then on. Weights, buffers and tensors in nested containers are moved by differentiable copies, so that gradients
reach the parameters on the device.
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
    """A module or function that runs on the CPU.

    Attributes:
        name: the module's name in its network, or the function's.
        cause: first sentence of the device's error message.
        calls: how often it ran on the CPU.
        seconds: total time on the CPU, including copies and the wait for work queued on the device.
    """

    name: str
    cause: str
    calls: int = 0
    seconds: float = 0.0


class CpuFallback:
    """Runs modules and functions on a device, or on the CPU if the device refuses them.

    Only errors that `device.is_unsupported_operator` recognises are caught.

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
        """Copies of a guarded network share the fallback."""
        return self

    def guard(self, network: nn.Module) -> None:
        """Guard every module of a network, so that only the smallest module that is refused moves to the CPU.

        Names and shapes of the network's state do not change.
        """
        for name, module in network.named_modules():
            if "forward" not in vars(module):  # an instance's own forward was set by other code
                module.__dict__["_cpu_fallback"] = (self, name or type(module).__name__)
                module.__dict__["forward"] = types.MethodType(_guarded_forward, module)

    def call(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call a function, on the CPU if the device refuses one of its operators; closed-over tensors do not move."""
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
            except Exception as error:  # the device decides whether it is a refusal
                if not self.device.is_unsupported_operator(error):
                    raise
                cause = str(error).splitlines()[0].split(". ")[0]
            self.sites[name] = FallbackSite(name, cause)
            console.warn(f"{name} runs on the CPU from now on, since {self.device.kind} refuses it: {cause}")
        return self._run_on_cpu(self.sites[name], function, module, args, kwargs)

    def _try_backward(self, function: Callable[..., Any], module: nn.Module | None, args: Any, kwargs: Any) -> None:
        """Run forward and backward on copies: a refusal in the real backward pass cannot be attributed to a module."""
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
            tensor = tensor.float()  # MPS has no float64
        return tensor.to(self.device.torch_device)

    def report(self) -> list[dict[str, Any]]:
        """What ran on the CPU, slowest first: name, cause, calls, seconds."""
        return [dataclasses.asdict(site) for site in sorted(self.sites.values(), key=lambda site: -site.seconds)]


def _guarded_forward(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
    """A module's guarded forward; as a bound method, it is rebound when the module is copied."""
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
    """Restore buffers and the states of the random generators after the block."""
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
