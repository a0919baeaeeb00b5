"""The operators of one training step, in the order and with the shapes in which a device runs them.

The step runs on the CPU and is observed below autograd (`TorchDispatchMode`), where operators are dispatched. A few
operators take another path on MPS than on the CPU; `as_on_mps` makes the CPU take that path by registering the kernels
that only MPS has. Source: the entries of native_functions.yaml with an MPS key over a composite operator.
"""

from __future__ import annotations

from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor
from torch.library import Library
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from transit_cli.device.cpu import CpuDevice
from transit_cli.operators import autocast
from transit_cli.results import TransitError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from transit_cli.operators.prediction.registrations import Status
    from transit_cli.operators.step_factory import StepFactory

Phase = Literal["forward", "backward", "update"]

#: Operators that only choose between backends, and what MPS runs for them.
ON_MPS = {
    "convolution": "_mps_convolution",
    "convolution_backward": "mps_convolution_backward",
    "mkldnn_rnn_layer": "_lstm_mps",
    "mkldnn_rnn_layer_backward": "lstm_mps_backward",
    "_scaled_dot_product_flash_attention_for_cpu": "_scaled_dot_product_attention_math_for_mps",
    "_scaled_dot_product_flash_attention_for_cpu_backward": "scaled_dot_product_attention",
}

#: Dispatch keys of the kernels that decompose composite operators.
_COMPOSITE_KEYS = ("CompositeExplicitAutograd", "CompositeExplicitAutogradNonFunctional", "CompositeImplicitAutograd")


@dataclass(frozen=True)
class Argument:
    """A tensor argument: what of it decides whether a kernel takes it."""

    shape: tuple[int, ...]
    dtype: str
    contiguous: bool


@dataclass(frozen=True)
class Call:
    """An operator as the step calls it; equal calls are counted.

    Attributes:
        operator: its name with overload, as MPS has it ("add.Tensor", "_mps_convolution").
        phase: where in the step.
        tensors: its tensor arguments, those in lists included.
        options: its other arguments, as text.
        composite: whether it was run as its parts, which are calls of their own.
    """

    operator: str
    phase: Phase
    tensors: tuple[Argument, ...]
    options: str
    composite: bool = False


def name_of(function: Any) -> str:
    """An operator's name as native_functions.yaml has it."""
    return function.name().removeprefix("aten::")


def call_of(function: Any, phase: Phase, args: tuple[Any, ...], kwargs: dict[str, Any], *, on_mps: bool = True) -> Call:
    """A call, without the values of its tensors; with `on_mps` under the name of what MPS runs for it."""
    leaves = tree_leaves((args, kwargs))
    tensors = tuple(
        Argument(tuple(leaf.shape), str(leaf.dtype).removeprefix("torch."), leaf.is_contiguous())
        for leaf in leaves
        if isinstance(leaf, Tensor)
    )
    options = ", ".join(str(leaf) for leaf in leaves if not isinstance(leaf, Tensor))
    name = name_of(function)
    if not on_mps:
        return Call(name, phase, tensors, options)
    if name.startswith("convolution"):
        transposed = args[9] if "backward" in name and len(args) > 9 else args[6] if "backward" not in name else False
        base = ON_MPS[name]
        if transposed is True:
            base = base.replace("convolution", "convolution_transpose")
        return Call(base, phase, tensors, options)
    return Call(ON_MPS.get(name, name), phase, tensors, options)


class CallRecorder(TorchDispatchMode):
    """Counts the calls that reach the device; composite operators are decomposed into their parts.

    Args:
        statuses: the status of each operator on the target.
    """

    def __init__(self, statuses: Mapping[str, Status]) -> None:
        super().__init__()
        self.statuses = statuses
        self.calls: Counter[Call] = Counter()
        self.updating = False
        self._inside: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Record one call and run it."""
        kwargs = kwargs or {}
        phase = current_phase(updating=self.updating)
        name = name_of(func)
        key = ""
        if self.statuses.get(name) != "native" and name not in ON_MPS and name not in self._inside:
            has = torch._C._dispatch_has_kernel_for_dispatch_key  # noqa: SLF001 - there is no public function
            key = next((key for key in _COMPOSITE_KEYS if has(func.name(), key)), "")
        if func.namespace == "aten":
            call = call_of(func, phase, args, kwargs)
            self.calls[replace(call, composite=True) if key else call] += 1
        return self._look_into(name, func, key, args, kwargs) if key else func(*args, **kwargs)

    def _look_into(self, name: str, func: Any, key: str, args: Any, kwargs: Any) -> Any:
        """Run a composite operator's own code under the recorder, so that its parts are recorded."""
        self._inside.add(name)  # some call themselves with another dispatch key
        try:
            with self:
                return func._op_dk(getattr(torch._C.DispatchKey, key), *args, **kwargs)  # noqa: SLF001
        finally:
            self._inside.discard(name)


def current_phase(*, updating: bool) -> Phase:
    """The phase of the step, by whether autograd is running a backward pass."""
    if updating:
        return "update"
    return "backward" if torch._C._current_autograd_node() is not None else "forward"  # noqa: SLF001 - there is no public function


def trace(factory: StepFactory, samples: int, statuses: Mapping[str, Status]) -> Counter[Call]:
    """The calls of one training step, forward to update, with how often each is made.

    Args:
        factory: whose step.
        samples: the batch.
        statuses: the status of each operator on the target.

    Raises:
        TransitError: the step does not run on the CPU.
    """
    device = CpuDevice()
    recorder = CallRecorder(statuses)
    with as_on_mps():
        runner = factory.runner_on(device)
        batch = factory.batch(device, samples)
        runner.step.network.train()
        try:
            with recorder:
                runner.gradients([batch])
                recorder.updating = True
                runner.step.update()
        except (RuntimeError, TypeError, ValueError) as error:
            raise TransitError(
                f"the training step of {factory.settings.network} fails on the CPU: {error}",
                wanted="a network that trains",
                fix=f"correct {factory.settings.network.partition(':')[0]}",
                code="network-unusable",
            ) from error
    return recorder.calls


@contextmanager
def as_on_mps() -> Iterator[None]:
    """Make the CPU take MPS's path, with its types.

    Registers CPU kernels for the composite operators that MPS has kernels for, and MPS's lists for autocast.
    """
    library = Library("aten", "IMPL")
    try:
        for name, kernel in _MPS_KERNELS.items():
            library.impl(name, kernel, "CPU")
        with autocast.mps_lists():
            yield
    finally:
        library._destroy()  # noqa: SLF001 - as torch's own scoped libraries do


def _linear(inputs: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    product = inputs.matmul(weight.t())
    return product if bias is None else product + bias


def _linear_backward(inputs: Tensor, grad: Tensor, weight: Tensor, mask: list[bool]) -> tuple[Tensor | None, ...]:
    rows = grad.reshape(-1, grad.shape[-1])
    return (
        grad.matmul(weight) if mask[0] else None,
        rows.t().mm(inputs.reshape(-1, inputs.shape[-1])) if mask[1] else None,
        rows.sum(0) if mask[2] else None,
    )


def _max_pool2d(inputs: Tensor, *options: Any) -> Tensor:
    return torch.ops.aten.max_pool2d_with_indices(inputs, *options)[0]


def _max_pool2d_backward(grad: Tensor, inputs: Tensor, kernel: Any, *options: Any) -> Tensor:
    stride, padding, dilation, ceil = (*options, *(kernel, 0, 1, False)[len(options) :])
    indices = torch.ops.aten.max_pool2d_with_indices(inputs, kernel, stride, padding, dilation, ceil)[1]
    backward = torch.ops.aten.max_pool2d_with_indices_backward
    return backward(grad, inputs, kernel, stride or kernel, padding, dilation, ceil, indices)


_MPS_KERNELS = {
    "linear": _linear,
    "linear_backward": _linear_backward,
    "max_pool2d": _max_pool2d,
    "max_pool2d_backward": _max_pool2d_backward,
}
