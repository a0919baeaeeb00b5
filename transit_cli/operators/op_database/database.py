"""PyTorch's own operator database (`op_db`) on a device: each operator's samples, forward and gradient.

It is private to torch (`torch.testing._internal`) and needs the package `expecttest`. Results are compared with float64
on the CPU as a network's operators are (`operators.tolerances`). An operator whose float32 results on the CPU are far
from float64, or differ from call to call, is not judged.
"""

from __future__ import annotations

import dataclasses
import itertools
import warnings
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from transit_cli.operators import tolerances
from transit_cli.operators.op_database.row import OperatorRow
from transit_cli.results import ExitCode, TransitError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from transit_cli.device.base import Device
    from transit_cli.operators.op_database.row import Part

#: Operators whose float32 error on the CPU is larger are ill-conditioned and not judged.
UNSTABLE = 1e-2


def operators() -> list[Any]:
    """The database's entries that take float32.

    Raises:
        TransitError: this torch has none, or expecttest is not installed.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from torch.testing._internal.common_methods_invocations import op_db
    except ImportError as error:
        raise TransitError(
            f"torch's operator database cannot be read: {error}",
            wanted="the package expecttest, and a torch that has its database",
            fix="pip install expecttest",
            exit_code=ExitCode.MACHINE,
            code="database-missing",
        ) from None
    return [entry for entry in op_db if entry.supports_dtype(torch.float32, "cpu")]


def key_of(entry: Any) -> str:
    """An entry's name, with its variant."""
    return f"{entry.name}.{entry.variant_test_name}" if entry.variant_test_name else str(entry.name)


def check(device: Device, wanted: Sequence[str], samples: int, emit: Callable[[dict[str, Any]], None]) -> None:
    """Check the entries named in `wanted` on up to `samples` samples each."""
    entries = {key_of(entry): entry for entry in operators()}
    for name in wanted:
        emit({"start": name})
        if name.removeprefix("new_").startswith("empty"):  # two calls may agree by chance
            row = OperatorRow("not judged", message="uninitialised memory")
        else:
            row = _check_entry(device, entries[name], samples)
        emit({"name": name, **dataclasses.asdict(row)})


def _check_entry(device: Device, entry: Any, samples: int) -> OperatorRow:
    row = OperatorRow("ok")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            inputs = entry.sample_inputs("cpu", torch.float32, requires_grad=entry.supports_autograd)
            for sample in itertools.islice(inputs, samples):
                row = _check_sample(device, entry, sample, row)
        except (AssertionError, AttributeError, ImportError, LookupError, RuntimeError, ValueError) as error:
            row = replace(row, forward="not judged", message=f"{type(error).__name__}: {error}".splitlines()[0])
    return replace(row, fell_back=any("will fall back to run on the CPU" in str(one.message) for one in caught))


def _check_sample(device: Device, entry: Any, sample: Any, row: OperatorRow) -> OperatorRow:
    """The row with one more sample: its outputs, and the gradients of their sum if there are any."""
    arguments = ((sample.input, *sample.args), sample.kwargs)
    try:
        exact = _results(entry, tolerances.copied(arguments, _exactly))
        host = _results(entry, tolerances.copied(arguments, _detached))
        again = _results(entry, tolerances.copied(arguments, _detached))
    except (RuntimeError, TypeError, NotImplementedError, ValueError) as error:  # no float64, or no such sample here
        message = row.message or f"on the CPU: {_first_line(error)}"
        return replace(row, message=message, forward=row.forward if row.samples else "not judged")
    if row.forward == "not judged" and not row.samples:
        row = replace(row, forward="ok")
    row = replace(row, samples=row.samples + 1)
    try:
        there = _results(entry, _on(device, tolerances.copied(arguments, _detached)))
        device.synchronize()
    except (RuntimeError, TypeError, NotImplementedError) as error:
        row = replace(row, message=_first_line(error)[:200])
        if row.forward not in {"ok", "not judged"}:
            return row
        return row.judged("forward", "missing" if "is not currently implemented" in str(error) else "refused")
    row = _judge(row, "forward", there[0], host[0], exact[0], again[0])
    return _judge(row, "gradient", there[1], host[1], exact[1], again[1])


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).splitlines()), "") or type(error).__name__


def _judge(row: OperatorRow, part: Part, *results: list[Tensor]) -> OperatorRow:
    there, host, exact, again = results
    if part == "gradient" and row.gradient == "none" and host:
        row = replace(row, gradient="ok")
    if not host or getattr(row, part) not in {"ok", "not judged"}:
        return row
    own = tolerances.compare(host, host, exact) if len(host) == len(exact) else None
    if own is None or own.error > UNSTABLE or not _same(host, again):
        return row.judged(part, "not judged")
    found = tolerances.compare(there, host, exact)
    row = replace(row, error=max(row.error, found.error))
    return row.judged(part, "wrong") if found.wrong else row


def _same(left: list[Tensor], right: list[Tensor]) -> bool:
    return all(
        a.shape == b.shape and torch.equal(a.nan_to_num(), b.nan_to_num()) for a, b in zip(left, right, strict=True)
    )


def _results(entry: Any, arguments: Any) -> tuple[list[Tensor], list[Tensor]]:
    """Outputs and gradients, on the CPU."""
    args, kwargs = arguments
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        outputs = tolerances.tensors_of(entry.op(*args, **kwargs))
    if any(output.is_sparse or output.layout != torch.strided for output in outputs):
        raise TypeError("sparse results are not compared")
    sources = [tensor for tensor in tolerances.tensors_of(arguments) if tensor.requires_grad]
    targets = [
        output for output in outputs if output.requires_grad and (output.is_floating_point() or output.is_complex())
    ]
    gradients: list[Tensor] = []
    if sources and targets and entry.supports_autograd:
        total = sum((output.abs() if output.is_complex() else output).sum() for output in targets)
        if isinstance(total, Tensor) and total.requires_grad:
            found = torch.autograd.grad(total, sources, allow_unused=True)
            gradients = [gradient.detach().cpu() for gradient in found if gradient is not None]
    return [output.detach().cpu() for output in outputs], gradients


def _detached(tensor: Tensor) -> Tensor:
    return tensor.detach().clone().requires_grad_(tensor.requires_grad)


def _exactly(tensor: Tensor) -> Tensor:
    if tensor.is_floating_point():
        return tensor.detach().double().requires_grad_(tensor.requires_grad)
    return tensor.detach().clone()


def _on(device: Device, arguments: Any) -> Any:
    def move(tensor: Tensor) -> Tensor:
        return tensor.detach().to(device.torch_device).requires_grad_(tensor.requires_grad)

    args, kwargs = tolerances.copied(arguments, move)
    home = torch.device("cpu")
    return args, {
        name: device.torch_device if name == "device" and torch.device(value) == home else value
        for name, value in kwargs.items()
    }
