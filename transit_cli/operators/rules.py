"""Shapes and types that MPS refuses or computes wrongly although it has the operator.

Each rule concerns one traced call. Sources are PyTorch's issues; macOS versions are given if known.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from transit_cli.operators.trace import Call

Severity = Literal["refused", "wrong", "doubtful"]


@dataclass(frozen=True)
class Incompatibility:
    """A call that MPS refuses or computes wrongly.

    Attributes:
        operator: its name.
        severity: `refused` stops the program, with or without the fallback variable; `wrong` gives wrong results;
            `doubtful` has been wrong on some chips or systems.
        found: the cause.
        fix: what to change.
        source: PyTorch issue or file.
    """

    operator: str
    severity: Severity
    found: str
    fix: str
    source: str


def check(calls: Iterable[Call], version: tuple[int, int]) -> list[Incompatibility]:
    """Apply the rules to the calls of a step; each cause is reported once.

    Args:
        calls: traced calls.
        version: of torch, two numbers.
    """
    found: dict[tuple[str, str], Incompatibility] = {}
    for call in calls:
        for rule in _RULES:
            finding = rule(call, version)
            if finding is not None:  # calls that follow from it have the same cause
                found.setdefault((finding.severity, finding.found), finding)
    return list(found.values())


def _base(call: Call) -> str:
    return call.operator.partition(".")[0]


def _double(call: Call, _: tuple[int, int]) -> Incompatibility | None:
    wide = {tensor.dtype for tensor in call.tensors} & {"float64", "complex128"}
    if not wide and "torch.float64" not in call.options:
        return None
    if call.phase == "update" and all(math.prod(tensor.shape) == 1 for tensor in call.tensors):
        return None  # the gradient scaler's scale, which is float64 on the CPU and float32 on MPS
    return Incompatibility(
        "double()" if _base(call) == "_to_copy" else _base(call),
        "refused",
        "it computes in float64, which MPS does not have",
        "make it float32 (tensor.float(), dtype=torch.float32)",
        "TypeError of torch's MPS allocator",
    )


def _adaptive_average(call: Call, _: tuple[int, int]) -> Incompatibility | None:
    if _base(call) != "_adaptive_avg_pool2d" or not call.tensors:
        return None
    height, width = call.tensors[0].shape[-2:]
    wanted = [int(part) for part in call.options.split(", ")[:2]]
    if height % wanted[0] == 0 and width % wanted[1] == 0:
        return None
    return Incompatibility(
        "adaptive_avg_pool1d",
        "refused",
        f"a length of {width} does not divide into {wanted[1]} parts",
        "pool to 1, or to a divisor of the length, or use avg_pool1d",
        "pytorch issues 96056, 143864",
    )


def _adaptive_maximum(call: Call, version: tuple[int, int]) -> Incompatibility | None:
    if _base(call) != "adaptive_max_pool2d" or not call.tensors or version >= (2, 14):
        return None
    height, width = call.tensors[0].shape[-2:]
    wanted = [int(part) for part in call.options.split(", ")[:2]]
    if height % wanted[0] == 0 and width % wanted[1] == 0:
        return None
    return Incompatibility(
        "adaptive_max_pool1d",
        "wrong",
        f"a length of {width} does not divide into {wanted[1]} parts, and the maxima are silently wrong",
        "pool to 1, or to a divisor of the length, or use torch 2.14",
        "pytorch issue 190064",
    )


def _long_convolution(call: Call, _: tuple[int, int]) -> Incompatibility | None:
    if not _base(call).startswith("_mps_convolution") or not call.tensors:
        return None
    longest = max(max(tensor.shape, default=0) for tensor in call.tensors[:1])
    if longest <= 1 << 16:
        return None
    return Incompatibility(
        "conv1d",
        "refused",
        f'a dimension of {longest:,}: above 65,536 the kernel fails with "Output channels > 65536 not supported"',
        "bin or split the series to at most 65,536 points",
        "pytorch issues 142515, 152278",
    )


def _large_batch(call: Call, _: tuple[int, int]) -> Incompatibility | None:
    if not _base(call).startswith("mps_convolution") or not call.tensors or call.tensors[0].shape[0] < 1 << 16:
        return None
    return Incompatibility(
        "convolution_backward",
        "wrong",
        f"at a batch of {call.tensors[0].shape[0]:,} the gradient of the weights is silently wrong",
        "give a --batch-size of at most 65,535",
        "pytorch issue 96225",
    )


def _layer_norm_first(call: Call, version: tuple[int, int]) -> Incompatibility | None:
    if _base(call) != "native_layer_norm_backward" or not call.options.endswith("False, True, True"):
        return None
    if version >= (2, 14):
        return None
    return Incompatibility(
        "layer_norm",
        "doubtful",
        "as a first layer, whose input needs no gradient, its own gradients have been wrong",
        "put it behind a layer with weights",
        "pytorch issue 183825",
    )


def _long_reduction(call: Call, version: tuple[int, int]) -> Incompatibility | None:
    if _base(call) != "linear_backward" or len(call.tensors) < 3 or version >= (2, 14):
        return None
    rows, columns = call.tensors[0].shape[0], call.tensors[0].shape[-1]
    if max(rows, columns) < 32_767:
        return None
    return Incompatibility(
        "linear_backward",
        "doubtful",
        f"a sum over {max(rows, columns):,} products has been garbage on M1 and M2 (not on M4)",
        "use torch 2.14, or a narrower layer",
        "pytorch issues 177116, 193487",
    )


def _half_convolution(call: Call, _: tuple[int, int]) -> Incompatibility | None:
    if not _base(call).startswith("mps_convolution") or all(tensor.dtype != "float16" for tensor in call.tensors):
        return None
    return Incompatibility(
        "convolution_backward",
        "doubtful",
        "its float16 gradients are left out of PyTorch's own tests on MPS",
        "compare losses before you trust them, or give --precision fp32",
        "SKIPLIST_GRAD in torch/testing/_internal/common_mps.py",
    )


_RULES: tuple[Callable[[Call, tuple[int, int]], Incompatibility | None], ...] = (
    _double,
    _adaptive_average,
    _adaptive_maximum,
    _long_convolution,
    _large_batch,
    _layer_norm_first,
    _long_reduction,
    _half_convolution,
)
