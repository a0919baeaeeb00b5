"""MPS's autocast on the CPU, so that a step that is traced there gives operators the types that MPS gives them.

Each kind of device has its own lists of operators that autocast runs in half precision, in float32, or in the widest
type of their arguments: layer norm is float32 on MPS and CUDA, and half on the CPU. Which operators MPS's lists contain
is asked of the installed torch; in which list each is comes from PyTorch's aten/src/ATen/autocast_mode.cpp.
"""

from __future__ import annotations

import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.library import Library, fallthrough_kernel
from torch.utils._pytree import tree_leaves, tree_map

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

#: Operators that run in the type of autocast.
HALF = frozenset(
    [
        "_convolution",
        "_mps_convolution",
        "conv1d",
        "conv2d",
        "conv3d",
        "conv_tbc",
        "conv_transpose1d",
        "conv_transpose2d",
        "conv_transpose3d",
        "convolution",
        "prelu",
        "addmm",
        "addmv",
        "addr",
        "matmul",
        "einsum",
        "mm",
        "mv",
        "linear",
        "addbmm",
        "baddbmm",
        "bmm",
        "chain_matmul",
        "linalg_multi_dot",
        "lstm_cell",
        "scaled_dot_product_attention",
    ]
)
#: Operators that run in the widest floating-point type of their arguments.
WIDEST = frozenset(
    ["addcdiv", "addcmul", "atan2", "bilinear", "cross", "dot", "grid_sampler", "index_put", "tensordot", "scatter_add"]
)


@contextmanager
def mps_lists() -> Iterator[None]:
    """Make `torch.autocast("cpu")` cast as `torch.autocast("mps")` does.

    What MPS has in no list is not cast, and what is in neither of those above runs in float32.
    """
    library = Library("aten", "IMPL")
    on_mps = _with_kernel("AutocastMPS")
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Warning only once for all operators")  # overriding is what is wanted
            for name in on_mps | _with_kernel("AutocastCPU"):
                library.impl(name, _kernel(name) if name in on_mps else fallthrough_kernel, "AutocastCPU")
        yield
    finally:
        library._destroy()  # noqa: SLF001 - as torch's own scoped libraries do


def _with_kernel(key: str) -> frozenset[str]:
    """Operators, with their overloads, that have a kernel for a dispatch key."""
    names = torch._C._dispatch_get_all_op_names()  # noqa: SLF001 - there is no public function
    has = torch._C._dispatch_has_kernel_for_dispatch_key  # noqa: SLF001
    return frozenset(name.removeprefix("aten::") for name in names if name.startswith("aten::") and has(name, key))


def _kernel(name: str) -> Callable[..., Any]:
    base, _, overload = name.partition(".")
    function = getattr(getattr(torch.ops.aten, base), overload or "default")

    def cast_and_run(*args: Any, **kwargs: Any) -> Any:
        wanted = _type_for(base, (args, kwargs))

        def cast(value: Any) -> Any:
            eligible = isinstance(value, Tensor) and value.is_floating_point() and value.dtype != torch.float64
            return value.to(wanted) if eligible else value

        args, kwargs = tree_map(cast, (args, kwargs))
        with torch.autocast("cpu", enabled=False):
            return function(*args, **kwargs)

    return cast_and_run


def _type_for(base: str, arguments: Any) -> torch.dtype:
    half = torch.get_autocast_dtype("cpu")
    if base in HALF:
        return half
    if base not in WIDEST:
        return torch.float32
    found = {tensor.dtype for tensor in tree_leaves(arguments) if isinstance(tensor, Tensor)}
    return torch.float32 if torch.float32 in found else half
