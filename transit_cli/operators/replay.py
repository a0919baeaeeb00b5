"""Checks every operator of a step, with its real shapes and values, on the device against the CPU.

The step runs on the CPU, made to take MPS's path and types, or on a CUDA device itself, whose path and types cannot be
had elsewhere. Each of its operators is run again on copies of its arguments: in float64 and in its own type on the CPU,
and on the device as called, with gaps between the elements, and with one sample expanded over the batch. The backward
pass consists of operators too, so that gradients are covered.
"""

from __future__ import annotations

import contextlib
import re
import time
import warnings
from collections import Counter
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from transit_cli.device.cpu import CpuDevice
from transit_cli.operators import tolerances
from transit_cli.operators.trace import as_on_mps, call_of, current_phase, name_of

if TYPE_CHECKING:
    from collections.abc import Callable, Container

    from transit_cli.device.base import Device
    from transit_cli.operators.step_factory import StepFactory
    from transit_cli.operators.trace import Call

Event = dict[str, Any]

#: Timed runs of an operator that fell back.
TIMED_RUNS = 5

_FELL_BACK = re.compile(r"operator 'aten::(\S+)' is not currently supported on the MPS backend and will fall back")

#: Operators that return positions, which may differ for equal values.
_TIES = ("max_pool", "max_unpool", "sort", "topk")


#: What one kernel saves for another: always contiguous, whatever the layout of the user's tensors.
_INTERNAL = {"mean", "rstd", "save_mean", "save_invstd", "indices", "total_weight", "mask"}


def replay_step(
    factory: StepFactory,
    device: Device,
    emit: Callable[[Event], None],
    skip: Container[int] = frozenset(),
    *,
    on_device: bool | None = None,
) -> Counter[Call]:
    """Run a training step and check its operators.

    Args:
        factory: whose step, in its precision.
        device: what is tested.
        emit: see `Replay`, as `skip`.
        skip: indices of calls that are not run on the device.
        on_device: whether the step runs on the device; by default on CUDA only, since an operator that MPS refuses or
            computes wrongly would end or spoil the test of the others.

    Returns:
        How often each call is made.
    """
    if on_device is None:
        on_device = device.kind == "cuda"
    home = device if on_device else CpuDevice()
    replay = Replay(device, emit, skip)
    with as_on_mps() if device.kind == "mps" and not on_device else contextlib.nullcontext():
        runner = factory.runner_on(home)
        batch = factory.batch(home, factory.settings.batch_size)
        runner.step.network.train()
        with replay:
            runner.gradients([batch])
            replay.updating = True
            runner.step.update()
    return replay.counts


class Replay(TorchDispatchMode):
    """Checks each new kind of call once, and reports it.

    Args:
        device: what is tested.
        emit: called twice per kind of call: with {"start": index, "operator": ...}, then with the result.
        skip: indices of calls that are not run on the device, because they crashed it.
    """

    def __init__(self, device: Device, emit: Callable[[Event], None], skip: Container[int]) -> None:
        super().__init__()
        self.device, self.emit, self.skip = device, emit, skip
        self.counts: Counter[Call] = Counter()
        self.updating = False
        self._order: dict[Call, int] = {}
        self._refused: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Check a call if it is new; the step continues with the result of where it runs."""
        kwargs = kwargs or {}
        if func.namespace == "aten" and _computes(func, args, kwargs):
            phase = current_phase(updating=self.updating)
            call = call_of(func, phase, args, kwargs, on_mps=self.device.kind == "mps")
            self.counts[call] += 1
            if call not in self._order:
                index = self._order[call] = len(self._order)
                shapes = " ".join("x".join(map(str, tensor.shape)) or "scalar" for tensor in call.tensors[:3])
                dtypes = sorted({tensor.dtype for tensor in call.tensors})
                row = {"operator": call.operator, "phase": call.phase, "shapes": shapes, "dtypes": dtypes}
                if index not in self.skip:
                    self.emit({"start": index, **row})
                    here = (args, kwargs) if _is_on_cpu((args, kwargs)) else _moved((args, kwargs), _CPU)
                    outcome = self._outcome(func, *here)
                    self.emit({"index": index, **row, **outcome})
                    if "message" in outcome:
                        self._refused.add(index)
            index = self._order[call]
            if (index in self.skip or index in self._refused) and not _is_on_cpu((args, kwargs)):
                return self._run_on_cpu(func, args, kwargs)
        return func(*args, **kwargs)

    def _run_on_cpu(self, func: Any, args: Any, kwargs: Any) -> Any:
        """Run on the CPU what the device, on which the step runs, has refused."""
        there = _moved((args, kwargs), _CPU)
        results = func(*there[0], **there[1])
        written = tolerances.tensors_of(_written(func, args, kwargs))
        for tensor, result in zip(written, tolerances.tensors_of(_written(func, *there)), strict=True):
            tensor.copy_(result)
        if written:
            return written[0] if isinstance(results, Tensor) else None
        return _moved((results, {}), self.device.torch_device)[0]

    def _outcome(self, func: Any, args: Any, kwargs: Any) -> Event:
        variants: dict[str, Callable[[Tensor], Tensor]] = {"as called": _same_layout}
        if _written(func, args, kwargs):  # weights may be transposed, but not strided or expanded
            variants["strided"] = tolerances.permuted
        else:
            variants |= {"strided": tolerances.strided, "expanded": tolerances.expanded}
        if torch.Tag.nondeterministic_seeded in func.tags:
            variants = {"as called": _same_layout}
        outcome: Event = {"status": "ok", "fell_back": [], "elements": 0, "variants": []}
        for variant, layout in variants.items():
            found = self._check_layout(func, _laid_out(func, args, kwargs, layout))
            outcome["fell_back"] = sorted({*outcome["fell_back"], *found.pop("fell_back")})
            outcome["elements"] += found.pop("elements", 0)
            outcome["variants"].append(variant)
            if found["status"] != "ok":
                return outcome | found | {"variant": variant}
            if found.get("error", 0) >= outcome.get("error", 0):
                outcome |= found
        if outcome["fell_back"]:
            outcome |= {"status": "fell back", "milliseconds": self._time(func, args, kwargs)}
        return outcome

    def _check_layout(self, func: Any, arguments: Any) -> Event:
        """One layout: the device's results against the CPU's and float64's."""
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                on_device = _moved(arguments, self.device.torch_device)
                device_results = _flush_warnings(lambda: _run(func, on_device))
                self.device.synchronize()
                device_results = [tensor.cpu() for tensor in device_results]
            except (RuntimeError, TypeError) as error:
                return {"fell_back": [], "status": self._status_of(error), "message": str(error).splitlines()[0]}
        fell_back = [match[1] for warning in caught if (match := _FELL_BACK.search(str(warning.message)))]
        if torch.Tag.nondeterministic_seeded in func.tags:
            return {"status": "ok", "fell_back": fell_back, "random": True}
        references = _references(func, arguments, device_results)
        if references is None:
            return {"status": "not compared", "fell_back": fell_back}
        host, exact = references
        if any(word in name_of(func) for word in _TIES):
            kept = [index for index, tensor in enumerate(host) if tensor.is_floating_point()]
            device_results, host, exact = ([group[i] for i in kept] for group in (device_results, host, exact))
        found = tolerances.compare(device_results, host, exact)
        return {
            "status": "wrong" if found.wrong else "ok",
            "error": found.error,
            "bound": found.bound,
            "elements": found.elements,
            "fell_back": fell_back,
        }

    def _status_of(self, error: BaseException) -> str:
        if self.device.is_out_of_memory(error):
            return "out of memory"
        if "is not currently implemented" in str(error):
            return "missing"
        return "refused" if self.device.is_unsupported_operator(error) else "error"

    def _time(self, func: Any, args: Any, kwargs: Any) -> float:
        """Median milliseconds of the operator, including the copies to the CPU and back."""
        seconds = []
        for _ in range(TIMED_RUNS):
            there = _moved(tolerances.copied((args, kwargs), _same_layout), self.device.torch_device)
            self.device.synchronize()
            start = time.perf_counter()
            func(*there[0], **there[1])
            self.device.synchronize()
            seconds.append(time.perf_counter() - start)
        return 1000 * sorted(seconds)[TIMED_RUNS // 2]


_CPU = torch.device("cpu")


def _moved(arguments: Any, target: torch.device) -> Any:
    """Copies of positional and named arguments on a device, with the strides that they have."""

    def move(tensor: Tensor) -> Tensor:
        if 0 in tensor.stride() and tensor.numel():  # expanded: copy only the stored values
            one = tensor[tuple(slice(0, 1) if step == 0 else slice(None) for step in tensor.stride())]
            return one.to(target).expand(tensor.shape)
        there = torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device=target)
        return there.copy_(tensor)

    args, kwargs = tolerances.copied(arguments, move)
    return args, {name: target if isinstance(value, torch.device) else value for name, value in kwargs.items()}


def _is_on_cpu(arguments: Any) -> bool:
    return all(tensor.device == _CPU for tensor in tolerances.tensors_of(arguments))


def _references(func: Any, arguments: Any, found: list[Tensor]) -> tuple[list[Tensor], list[Tensor]] | None:
    """An operator's results on the CPU, in its own type and in float64; None if the CPU has no such operator."""

    def results(change: Callable[[Tensor], Tensor]) -> list[Tensor] | None:
        try:
            return _run(func, tolerances.copied(arguments, change))
        except (RuntimeError, TypeError):
            return None

    host = results(_contiguous)  # values do not depend on the layout
    exact = results(tolerances.exactly)
    if host is None:  # no kernel for half precision
        if exact is None:
            return None
        host = [value.to(one.dtype) for value, one in zip(exact, found, strict=True)]
    return host, host if exact is None else exact  # kernels only for float32: the optimizer's counters, the scaler


def _flush_warnings(run: Callable[[], list[Tensor]]) -> list[Tensor]:
    """Run a function so that torch issues its warnings now: C++ keeps them until the outermost Python call returns.

    Inside a backward pass, or a dispatch mode, that is too late to attribute them to an operator. A method that calls
    back into Python ends such a call and releases them.
    """
    results: list[list[Tensor]] = []

    def once(_: float) -> float:
        results.append(run())
        return 0.0

    torch.zeros(1).apply_(once)
    return results[0]


def _laid_out(func: Any, args: Any, kwargs: Any, layout: Callable[[Tensor], Tensor]) -> Any:
    """Copies of the arguments in a memory layout; those that are internal to torch keep theirs."""
    names = [argument.name for argument in func._schema.arguments]  # noqa: SLF001 - the schema has no public name
    internal = [name in _INTERNAL for name in names]
    laid = [tolerances.copied(arg, _same_layout if internal[place] else layout) for place, arg in enumerate(args)]
    return tuple(laid), {name: tolerances.copied(arg, layout) for name, arg in kwargs.items()}


def _run(func: Any, arguments: Any) -> list[Tensor]:
    """An operator's results, or what it has written to."""
    args, kwargs = arguments
    results = func(*args, **kwargs)
    return tolerances.tensors_of(_written(func, args, kwargs)) or tolerances.tensors_of(results)


def _written(func: Any, args: Any, kwargs: Any) -> list[Any]:
    """The arguments that an operator writes to."""
    found = []
    for place, argument in enumerate(func._schema.arguments):  # noqa: SLF001 - the schema has no public name
        if argument.alias_info is not None and argument.alias_info.is_write:
            found.append(args[place] if place < len(args) else kwargs.get(argument.name))
    return found


def _computes(func: Any, args: Any, kwargs: Any) -> bool:
    """Whether an operator computes something from tensors: not a view, a factory, or the read of a value by the host.

    The gradient scaler's scale is excluded: a float64 scalar on the CPU, float32 on MPS.
    """
    if all(tensor.dtype == torch.float64 and tensor.numel() == 1 for tensor in tolerances.tensors_of((args, kwargs))):
        return False
    schema = func._schema  # noqa: SLF001
    views = any(r.alias_info is not None and not r.alias_info.is_write for r in schema.returns)
    host = name_of(func) in {
        "_local_scalar_dense",
        "detach",
        "alias",
        "copy_",
        "_to_copy",
        "empty_like",
        "record_stream",
    }
    return not views and not host


def _contiguous(tensor: Tensor) -> Tensor:
    return tensor.clone(memory_format=torch.contiguous_format)


def _same_layout(tensor: Tensor) -> Tensor:
    """A copy with the same strides, including gaps."""
    if 0 in tensor.stride() or not tensor.numel():
        return tensor.clone(memory_format=torch.preserve_format)
    return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype).copy_(tensor)
