"""Faults planted between the test and the device (`--inject`), to see that they are found."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from transit_cli.operators import tolerances
from transit_cli.operators.trace import name_of

if TYPE_CHECKING:
    from collections.abc import Callable, Container

    from transit_cli.operators.trace import Call


class Injection:
    """Faults planted between the test and the device, to see them found.

    Args:
        kinds: missing, refuse, wrong; each goes into the first operator that suits it.
    """

    def __init__(self, kinds: Container[str]) -> None:
        self.kinds = kinds
        self.planted: dict[str, str] = {}

    def choose(self, call: Call) -> str:
        """The fault of this call, or ""."""
        weighty = call.operator.partition(".")[0] in {"linear", "addmm", "mm", "_mps_convolution"}
        if call.phase == "backward" and len(call.tensors) >= 3:
            kind = "wrong"
        elif call.phase == "forward" and call.tensors:
            kind = "refuse" if weighty else "missing"
        else:
            return ""
        if kind not in self.kinds or self.planted.setdefault(kind, call.operator) != call.operator:
            return ""
        return kind

    def run(self, kind: str, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Run an operator with its fault."""
        if kind == "missing":
            name = name_of(function)
            raise NotImplementedError(f"The operator 'aten::{name}' is not currently implemented (planted)")
        if kind == "refuse":
            raise NotImplementedError("Output channels > 65536 not supported at the MPS device. (planted)")
        results = function(*args, **kwargs)
        if kind == "wrong":
            for tensor in tolerances.tensors_of(results):
                if tensor.is_floating_point():
                    tensor.mul_(1.01)
        return results
