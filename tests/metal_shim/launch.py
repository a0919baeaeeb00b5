"""Launches of compiled kernels: arguments become what torch.mps makes of them, and what it would get wrong is said.

A tensor becomes its storage from its offset on, without strides; a float float32; an int or a bool int64; a list an array
of either (torch/csrc/mps/Module.cpp and ATen/native/mps/OperationUtils.mm in pytorch/pytorch).
"""

from __future__ import annotations

import ctypes
import mmap
import re
import struct
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from pathlib import Path

#: A threadgroup's threads, a kernel's buffers, bytes of an argument that is no tensor.
MOST_THREADS, MOST_BUFFERS, MOST_BYTES = 1024, 31, 4096
TYPES = {
    torch.float32: "float",
    torch.float16: "half",
    torch.bfloat16: "bfloat",
    torch.uint8: "uchar",
    torch.int32: "int",
    torch.int64: "long",
}
BYTES = {"int": 4, "uint": 4, "long": 8, "bool": 1, "uchar": 1}


class MetalFault(RuntimeError):
    """What a GPU might not forgive: an argument of the wrong type, or what a kernel did."""


@dataclass(frozen=True)
class Parameter:
    """One parameter of a kernel: a buffer, or something that the hardware tells a thread."""

    declared: str
    name: str
    type: str
    index: int | None = None
    reference: bool = False
    fixed: bool = False
    position: int | None = None


class _Buffer(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("bytes", ctypes.c_uint64))


class Kernel:
    """A compiled kernel, called like one of `torch.mps.compile_shader`.

    Attributes:
        writes: of each buffer, whether the kernel may write it.
        threadgroup_bytes: threadgroup memory of its last launch.
        accessed: with checks, the bytes that threads have read and written in all launches: of buffers, and of
            threadgroup memory, each thread's own.
    """

    thread_execution_width = 32

    def __init__(
        self,
        library: ctypes.CDLL,
        path: Path,
        name: str,
        parameters: list[Parameter],
        limit: int,
        *,
        checks: bool,
        seed: int,
    ) -> None:
        self.name, self.max_threads_per_threadgroup, self.threadgroup_bytes = name, limit, 0
        self.accessed = [0, 0]
        self._library, self._path, self._checks, self._seed = library, path, checks, seed
        self._buffers = [parameter for parameter in parameters if parameter.position is None]
        self.writes = [
            "device" in one.declared.split() and "const" not in one.declared.split() for one in self._buffers
        ]

    def __call__(self, *arguments: Any, threads: Any = None, group_size: Any = None) -> None:
        """Run it; returns when it has run."""
        if len(arguments) != len(self._buffers):
            raise MetalFault(
                f"{self.name} has {len(self._buffers)} buffers and got {len(arguments)}: Metal reads nothing there"
            )
        if len(arguments) > MOST_BUFFERS:
            raise MetalFault(f"{self.name} has more than {MOST_BUFFERS} buffers")
        if threads is None:
            threads = next(argument.numel() for argument in arguments if isinstance(argument, torch.Tensor))
        threads = _dimensions(threads)
        limit = self.max_threads_per_threadgroup
        if group_size is None:
            group_size = [min(threads[0], limit)] if len(threads) == 1 else [limit, 1, 1][: len(threads)]
        group_size = _dimensions(group_size)
        if len(threads) != len(group_size):
            raise RuntimeError("threads and group_size must have the same number of dimensions")
        grid, group = [*threads, 1, 1][:3], [*group_size, 1, 1][:3]
        if 0 in grid or 0 in group:
            raise MetalFault(f"{self.name}: Metal refuses a launch of {threads} threads in groups of {group_size}")
        if group[0] * group[1] * group[2] > limit:
            raise ValueError(f"Threadgroup size exceeds {limit} limit")
        self._run(
            [_Held(*pair, self.name, guarded=self._checks) for pair in zip(arguments, self._buffers, strict=True)],
            grid,
            group,
        )

    def _run(self, held: list[_Held], grid: list[int], group: list[int]) -> None:
        count = len(held)
        findings, used = ctypes.create_string_buffer(16384), (ctypes.c_uint64 * 3)()
        entry = ctypes.cast(getattr(self._library, f"shim_entry_{self.name}"), ctypes.c_void_p)
        found = self._library.shim_run(
            entry,
            (ctypes.c_void_p * 32)(*[one.address for one in held]),
            (_Buffer * count)(*[_Buffer(one.address, one.size) for one in held]),
            (ctypes.c_char_p * count)(*[one.name.encode() for one in self._buffers]),
            ctypes.c_uint32(count),
            (ctypes.c_uint32 * 3)(*grid),
            (ctypes.c_uint32 * 3)(*group),
            ctypes.c_uint64(self._seed),
            int(self._checks),
            findings,
            ctypes.c_uint64(len(findings)),
            used,
        )
        for one in held:
            one.bring_back()
        self.threadgroup_bytes = used[0]
        self.accessed = [self.accessed[0] + used[1], self.accessed[1] + used[2]]
        if found:
            raise MetalFault(f"{self.name}:\n" + self._with_lines(findings.value.decode()))

    def _with_lines(self, findings: str) -> str:
        """The findings with lines of the source for addresses."""
        addresses = sorted(set(re.findall(r" @([0-9a-f]+)", findings)))
        if not addresses:
            return findings
        done = subprocess.run(["addr2line", "-e", self._path, *addresses], capture_output=True, text=True, check=False)
        lines = {
            a: line.rpartition("/")[2].partition(" ")[0]
            for a, line in zip(addresses, done.stdout.split("\n"), strict=False)
        }
        return re.sub(r" @([0-9a-f]+)", lambda found: f" at {lines.get(found[1], '?')}", findings)


class Library:
    """The kernels of one source, by name."""

    def __init__(self, kernels: dict[str, Kernel]) -> None:
        self._kernels = kernels

    def __getattr__(self, name: str) -> Kernel:
        if name.startswith("__"):
            raise AttributeError(name)
        if name not in self._kernels:
            raise RuntimeError(f"Failed to create function state object for: {name}")
        return self._kernels[name]

    def __dir__(self) -> list[str]:
        return list(self._kernels)


class _Held:
    """An argument as bytes at an address: a tensor's own, or where accesses are checked a copy far from all others."""

    def __init__(self, argument: Any, parameter: Parameter, kernel: str, *, guarded: bool) -> None:
        self._arena: mmap.mmap | None = None
        what = f"{kernel}: {parameter.name} is declared `{parameter.declared}` and got"
        if isinstance(argument, torch.Tensor):
            given = TYPES.get(argument.dtype)
            if given != parameter.type or parameter.fixed:
                raise MetalFault(f"{what} a tensor of {argument.dtype}, which Metal reinterprets")
            pairs = zip(argument.shape, argument.stride(), strict=True)
            span = 1 + sum((n - 1) * step for n, step in pairs) if argument.numel() else 0
            self.address, self.size = argument.data_ptr(), span * argument.element_size()
            self._kept: Any = argument
        else:
            data = _bytes_of(argument, what, parameter)
            if len(data) > MOST_BYTES:
                raise MetalFault(f"{what} {len(data)} bytes, and setBytes takes {MOST_BYTES}")
            self._kept = ctypes.create_string_buffer(data, len(data))
            self.address, self.size = ctypes.addressof(self._kept), len(data)
        if guarded:
            offset = self.address % 256
            self._arena = mmap.mmap(-1, max(4096, self.size + offset))
            self._original = self.address
            self.address = ctypes.addressof(ctypes.c_char.from_buffer(self._arena)) + offset
            ctypes.memmove(self.address, self._original, self.size)

    def bring_back(self) -> None:
        """Copy what the kernel wrote to where it belongs."""
        if self._arena is not None:
            ctypes.memmove(self._original, self.address, self.size)


def _bytes_of(argument: Any, what: str, parameter: Parameter) -> bytes:
    """A number or a list of them as torch.mps gives them to Metal, if the kernel declares them so."""
    several = isinstance(argument, list | tuple)
    numbers = list(argument) if several else [argument]
    if not numbers or not all(isinstance(number, int | float) for number in numbers):
        raise RuntimeError("Unsupported argument type")
    real = isinstance(numbers[0], float)
    if real:
        fits = parameter.type == "float"
    elif several:
        fits = parameter.type == "long"
    else:  # the low bytes of a little-endian int64
        fits = parameter.type in BYTES
    if not fits or not parameter.fixed or parameter.reference == several:
        raise MetalFault(
            f"{what} {'a list of ' if several else 'one '}{'float' if real else 'int'}, which Metal reinterprets"
        )
    if not real and not several and not 0 <= numbers[0] < 1 << 8 * BYTES[parameter.type]:
        raise MetalFault(f"{what} {numbers[0]}, which it does not hold")
    return struct.pack(f"<{len(numbers)}{'f' if real else 'q'}", *numbers)


def _dimensions(given: Any) -> list[int]:
    numbers = [given] if isinstance(given, int) else [int(number) for number in given]
    if not 0 < len(numbers) < 4:
        raise RuntimeError("one to three dimensions")
    return numbers
