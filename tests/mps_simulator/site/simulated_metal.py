"""`torch.mps.compile_shader` of the simulated device: Metal sources run by tests/metal_shim, counted, with planted faults.

A fault names what it hits "metal.compile_shader" or "metal." and a kernel:

    missing:metal.compile_shader          this torch has no such function
    error:metal.compile_shader            no source compiles
    refuse:metal.NAME:32                  the GPU gives a group of this kernel only so many threads
    wrong:metal.NAME:0.5                  what it writes is off by this relative error
    slow:metal.NAME:0.2                   it takes so many seconds longer
    error:metal.NAME@call>=3              launching it fails, from this launch on
"""

from __future__ import annotations

import re
import sys
import time
from collections import Counter
from typing import Any

#: How often each kernel was launched, and the bytes of the tensors that it was given.
launches: Counter[str] = Counter()
moved: Counter[str] = Counter()
_faults: list[dict[str, Any]] = []


def install(root: str) -> None:
    """Give this process's torch the function."""
    import torch

    def compile_source(source: str) -> _Library:
        if _found("error", "compile_shader"):
            raise SyntaxError("failed to compile shader: shader.metal:1:1: error: planted")
        if root not in sys.path:
            sys.path.append(root)
        from tests.metal_shim import compile_shader

        return _Library(compile_shader(source))

    torch._C._mps_compileShader = compile_source


def add_fault(fault: dict[str, Any]) -> None:
    """Plant a fault from here on."""
    import torch

    _faults.append(fault | {"operator": fault["operator"].removeprefix("metal.")})
    if fault["kind"] == "missing" and hasattr(torch.mps, "compile_shader"):
        del torch.mps.compile_shader


def clear_faults() -> None:
    """Remove every fault but a missing function, which stays gone."""
    _faults.clear()


def _found(kind: str, name: str) -> dict[str, Any] | None:
    return next((fault for fault in _faults if fault["kind"] == kind and fault["operator"] == name), None)


class _Library:
    def __init__(self, library: Any) -> None:
        self._library = library

    def __getattr__(self, name: str) -> Any:
        return _Kernel(getattr(self._library, name), re.sub(r"_\d+$", "", name))


class _Kernel:
    def __init__(self, kernel: Any, name: str) -> None:
        self._kernel, self._name = kernel, name
        fault = _found("refuse", name)
        self.max_threads_per_threadgroup = int(fault["value"]) if fault else kernel.max_threads_per_threadgroup

    def __call__(self, *arguments: Any, **options: Any) -> None:
        import torch

        launches[self._name] += 1
        tensors = {a.data_ptr(): a for a in arguments if isinstance(a, torch.Tensor)}
        moved[self._name] += sum(tensor.nbytes for tensor in tensors.values())
        fault = _found("error", self._name)
        if fault and launches[self._name] >= fault["call"]:
            raise RuntimeError(f"planted: {self._name} cannot be launched")
        self._kernel(*arguments, **options)
        if fault := _found("slow", self._name):
            time.sleep(fault["value"])
        if fault := _found("wrong", self._name):
            for argument, written in zip(arguments, self._kernel.writes, strict=True):
                if written and argument.is_floating_point():
                    argument.mul_(1 + fault["value"])
