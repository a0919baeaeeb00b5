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

Severity = Literal["refused", "wrong", "doubtful", "slow"]


@dataclass(frozen=True)
class Incompatibility:
    """A call that MPS refuses or computes wrongly.

    Attributes:
        operator: its name.
        severity: `refused` stops the program, with or without the fallback variable; `wrong` gives wrong results;
            `doubtful` has been wrong on some chips or systems; `slow` is correct.
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
    batched = _base(call) in {"bmm", "baddbmm", "addbmm"}
    if not call.tensors or not (batched or _base(call) in {"mm", "addmm", "linear", "linear_backward"}):
        return None
    if version >= (2, 14) and not batched:  # routed to torch's own kernels by 183535
        return None
    if _base(call) == "linear_backward":
        summed = max(call.tensors[0].shape[0], call.tensors[0].shape[-1])
    else:
        summed = call.tensors[1 if _base(call) in {"addmm", "baddbmm", "addbmm"} else 0].shape[-1]
    if summed < 32_767:
        return None
    return Incompatibility(
        _base(call),
        "doubtful",
        f"a sum over {summed:,} products has been garbage on M1 and M2 (not on M4)",
        "split the sum into parts below 32,767" if batched else "use torch 2.14, or a narrower layer",
        "pytorch issue 195163" if batched else "pytorch issues 177116, 193487",
    )


def _huge_product(call: Call, _: tuple[int, int]) -> Incompatibility | None:
    if _base(call) not in {"bmm", "baddbmm"} or len(call.tensors) < 2:
        return None
    left, right = call.tensors[-2:]
    elements = math.prod(left.shape[:2]) * right.shape[-1]
    if elements <= 1 << 32:
        return None
    return Incompatibility(
        _base(call),
        "wrong",
        f"a product of {elements:,} elements: beyond 4,294,967,296 the gradients are silently wrong, the product too "
        "if an input is not contiguous",
        "give a smaller --batch-size",
        "pytorch issue 197636",
    )


def _long_kernel(call: Call, version: tuple[int, int]) -> Incompatibility | None:
    if not _base(call).startswith("_mps_convolution") or len(call.tensors) < 2:
        return None
    longest = max(call.tensors[1].shape[2:], default=0)
    one_dimensional = len(call.tensors[1].shape) == 3
    if longest < 256 or (one_dimensional and version >= (2, 15)):  # kernels of torch's own, without MPSGraph
        return None
    return Incompatibility(
        f"conv{len(call.tensors[1].shape) - 2}d",
        "wrong" if version < (2, 14) else "doubtful",  # 188359 was closed in July 2026; its release is not established
        f"a kernel of {longest} points: from 256 the results have been silently wrong",
        "use shorter kernels, dilated ones" + (", or torch 2.15" if one_dimensional else ""),
        "pytorch issue 188335, pull request 188359",
    )


def _view_into_convolution(call: Call, _: tuple[int, int]) -> Incompatibility | None:
    if not _base(call).startswith("_mps_convolution") or not call.tensors:
        return None
    inputs = call.tensors[0]
    if inputs.contiguous or inputs.shape[0] < 2:
        return None
    return Incompatibility(
        f"conv{len(inputs.shape) - 2}d",
        "doubtful",
        "its input is a view (chunk, slice, transpose): all but the first sample have been wrong (torch 2.9 and 2.10, "
        "macOS 26.2, M5 Pro)",
        "call .contiguous() before the convolution",
        "pytorch issues 169342, 180984",
    )


def _padding_backward(call: Call, version: tuple[int, int]) -> Incompatibility | None:
    reflected = _base(call) == "reflection_pad1d_backward"
    if not (reflected or _base(call) == "replication_pad1d_backward") or len(call.tensors) < 2 or version >= (2, 15):
        return None
    shape = call.tensors[1].shape
    size = shape[-1] if reflected else shape[0]
    if reflected and (size <= 1 << 16 or size % (1 << 16) == 0):
        return None
    if not reflected and (len(shape) < 3 or size < 1 << 16):
        return None
    return Incompatibility(
        "pad",
        "wrong",
        f"the gradient of {'reflection' if reflected else 'replication'} padding is silently wrong at a "
        f"{'length' if reflected else 'batch'} of {size:,}",
        "keep it at 65,536 or below, pad with zeros, or use torch 2.15",
        "pytorch issues 196949, 135447, pull request 196985",
    )


def _channels_last_backward(call: Call, version: tuple[int, int]) -> Incompatibility | None:
    if not _base(call).startswith("mps_convolution") or version >= (2, 15):
        return None
    if len(call.tensors) < 2 or len(call.tensors[1].shape) != 4 or call.tensors[1].contiguous:
        return None
    return Incompatibility(
        "convolution_backward",
        "slow",
        "its input is channels-last, which made it 12 to 30 times slower than contiguous (bfloat16, as reported)",
        "keep images contiguous, or use a torch that has pull request 193623 (August 2026)",
        "pytorch issues 192551, 193349",
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
    _huge_product,
    _long_kernel,
    _view_into_convolution,
    _padding_backward,
    _channels_last_backward,
    _half_convolution,
)
