"""The Metal sources of this folder, compiled for the numbers that a network needs.

`compile` is the device's (`torch.mps.compile_shader` on a Mac). Kernels are compiled when they are first asked for,
once for each set of numbers.
"""

from __future__ import annotations

from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

#: Types of tensors in Metal's words.
TYPES = {torch.float32: "float", torch.float16: "half", torch.bfloat16: "bfloat"}
#: Metal has so many buffers for a kernel, and so many bytes for an argument that is no tensor.
MOST_BUFFERS, MOST_BYTES = 31, 4096
#: Kernels count in 32 bits.
MOST_NUMBERS = 2**31 - 1

Defines = tuple[tuple[str, object], ...]


class MetalError(RuntimeError):
    """Metal cannot run our kernels here; the text says why in a line."""


class Kernel:
    """A compiled kernel with the size of its threadgroups.

    Raises:
        MetalError: fewer threads fit into a group than the kernel is written for.
    """

    def __init__(self, name: str, function: Any, group: int) -> None:
        if (most := function.max_threads_per_threadgroup) < group:
            raise MetalError(f"{name} needs {group} threads a group, and this GPU gives it {most}")
        self.name, self.group = name, group
        self._function = function

    def __call__(self, *arguments: Any, groups: int | Sequence[int]) -> None:
        """Queue it on the device.

        Args:
            *arguments: tensors (contiguous), numbers and lists of numbers in the order of the kernel's buffers.
            groups: threadgroups, in up to three dimensions.
        """
        first, *more = [groups] if isinstance(groups, int) else groups
        for callback in _watchers:
            callback([argument for argument in arguments if isinstance(argument, Tensor)])
        self._function(*arguments, threads=[first * self.group, *more], group_size=[self.group, *[1] * len(more)])

    def over(self, *arguments: Any, count: int) -> None:
        """Queue it for `count` threads; the last group may be smaller."""
        for callback in _watchers:
            callback([argument for argument in arguments if isinstance(argument, Tensor)])
        self._function(*arguments, threads=[count], group_size=[self.group])


class Library:
    """Every kernel that has been asked for.

    Args:
        compile_: makes an object of a source, whose attributes are its kernels; raises what it likes.
        matrices: whether SIMD-groups multiply by 8 x 8 matrices where channels are many enough.
    """

    def __init__(self, compile_: Callable[[str], Any], *, matrices: bool = False) -> None:
        self._compile, self.matrices = compile_, matrices
        self._kernels: dict[object, Kernel] = {}
        self._compiled: dict[str, Any] = {}

    def kernel(self, file: str, name: str, group: int, **defines: object) -> Kernel:
        """A kernel of a source in this folder.

        Args:
            file: the source's name without ".metal".
            name: the kernel's.
            group: threads of its groups.
            **defines: what the source wants to have defined.

        Raises:
            MetalError: it cannot be compiled, or not with this many threads.
        """
        key = (file, name, *defines.items())
        if key not in self._kernels:
            self._kernels[key] = self._made(name, group, source(file, 0, tuple(defines.items())), f"{name}_0")
        return self._kernels[key]

    def written(self, text: str, name: str, group: int) -> Kernel:
        """A kernel of a text, which comes after common.metal."""
        if text not in self._kernels:
            self._kernels[text] = self._made(name, group, text, name)
        return self._kernels[text]

    def _made(self, name: str, group: int, text: str, attribute: str) -> Kernel:
        try:
            if text not in self._compiled:
                self._compiled[text] = self._compile(_text("common") + text)
            function = getattr(self._compiled[text], attribute)
        except Exception as error:  # SyntaxError, RuntimeError, whatever a torch raises: there is no kernel
            lines = [line for line in str(error).splitlines() if "error:" in line] or str(error).splitlines() or [""]
            raise MetalError(f"{name} does not compile ({type(error).__name__}: {lines[0].strip()[:120]})") from error
        return Kernel(name, function, group)


_watchers: list[Callable[[list[Tensor]], None]] = []


@contextmanager
def watch_launches(callback: Callable[[list[Tensor]], None]) -> Iterator[None]:
    """Within, call `callback` with the tensors of each kernel that is launched: a dispatch mode does not see them."""
    _watchers.append(callback)
    try:
        yield
    finally:
        _watchers.remove(callback)


def source(file: str, number: int, defines: Defines) -> str:
    """A source with its definitions around it; NAME(x) is x_number."""
    names = [("NAME(name)", f"name##_{number}"), *defines]
    before = "".join(f"#define {name} {value}\n" for name, value in names)
    after = "".join(f"#undef {name.partition('(')[0]}\n" for name, _ in names)
    return before + _text(file) + after


@cache
def _text(file: str) -> str:
    return Path(__file__).with_name(f"{file}.metal").read_text()
