"""Gradients of weights and biases, computed for all layers at once when a backward pass has ended.

A backward pass leaves what a layer's weights need, and continues with the layer before. At the end, one launch computes
the parts of all gradients (each layer has threadgroups of its own in it), and a second one adds them up, in a fixed
order, into one buffer that holds all gradients side by side.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from transit_cli.model.acceleration.metal.library import MOST_BUFFERS, MOST_BYTES, Defines, Library, source

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

#: Most parts in which a convolution's gradients are summed, some five threadgroups for each core of an M4; and the
#: threadgroups of a layer from which on there are fewer parts: each is written and read again.
PROGRAMS, ENOUGH_GROUPS = 48, 192
#: Threads of a group, and int64 numbers of a row in `collect`, of a job in `weigh`.
GROUP, ROW, SIZES = 256, 6, 7


@dataclass(frozen=True)
class Job:
    """What a layer's weights need.

    Attributes:
        file: the source that computes it.
        function: the function in it.
        defines: what the source wants to have defined.
        types: how each tensor is declared; "" where the function gets none.
        tensors: what the function reads, in order.
        sizes: samples, length, length_out, stride.
        numbers: numbers of a part.
        programs: parts.
        blocks: threadgroups of a part.
        scratch: bytes of threadgroup memory; 0 where the function takes none.
        parameters: each with its first place in a part.
    """

    file: str
    function: str
    defines: Defines
    types: tuple[str, ...]
    tensors: tuple[Tensor, ...]
    sizes: tuple[int, int, int, int]
    numbers: int
    programs: int
    blocks: int
    scratch: int
    parameters: tuple[tuple[nn.Parameter, int], ...]


class Gradients:
    """All gradients of some parameters in one buffer.

    Args:
        library: the kernels.
        parameters: those that learn, float32, on the device.

    Attributes:
        flat: the gradients side by side, in the order of the parameters.
        squares: sums of their squares by threadgroup, as of the last `collect`.
    """

    def __init__(self, library: Library, parameters: Sequence[nn.Parameter]) -> None:
        self._library, self.parameters = library, parameters
        count = sum(parameter.numel() for parameter in parameters)
        self.flat = torch.zeros(count, device=parameters[0].device)
        self.squares = self.flat.new_zeros(-(-count // GROUP))
        self._begins: dict[nn.Parameter, int] = {}
        self._views: dict[nn.Parameter, Tensor] = {}
        for parameter, piece in zip(parameters, self.flat.split([p.numel() for p in parameters]), strict=True):
            self._begins[parameter] = int(piece.storage_offset())
            self._views[parameter] = piece.view_as(parameter)
        self._jobs: list[Job] = []
        self._parts = self.flat.new_empty(0)

    def add(self, job: Job) -> None:
        """Note a layer whose backward pass has been queued."""
        self._jobs.append(job)

    def forget(self) -> None:
        """Drop what was noted: the backward pass has failed."""
        self._jobs.clear()

    def collect(self) -> None:
        """Leave the gradients of everything noted in `.grad`, added to what is there, and all gradients in `flat`."""
        for parameter, view in self._views.items():
            if parameter.grad is not None and parameter.grad is not view:
                view.copy_(parameter.grad)  # PyTorch computed it
                parameter.grad = view
        try:
            for jobs in list(self._together()) or [[]]:
                self._launch(jobs)
        finally:
            self._jobs.clear()

    @property
    def whole(self) -> bool:
        """Whether every parameter has its gradient in `flat`."""
        return all(parameter.grad is view for parameter, view in self._views.items())

    def _together(self) -> Iterator[list[Job]]:
        """The jobs in groups that one launch can take: buffers are few, and a parameter comes but once."""
        group: list[Job] = []
        for job in self._jobs:
            known = {parameter for other in group for parameter, _ in other.parameters}
            buffers = sum(len(other.tensors) for other in [*group, job]) + 2
            rows = len(known) + len(job.parameters)
            again = any(parameter in known for parameter, _ in job.parameters)
            if group and (buffers > MOST_BUFFERS or rows * ROW * 8 > MOST_BYTES or again):
                yield group
                group = []
            group.append(job)
        if group:
            yield group

    def _launch(self, jobs: Sequence[Job]) -> None:
        size = sum(job.programs * job.numbers for job in jobs)
        if self._parts.numel() < size:
            self._parts = self.flat.new_empty(size)
        parts = self._parts[:size] if self._parts.numel() > size else self._parts
        sizes: list[int] = []
        rows: list[int] = []
        at = groups = 0
        for job in jobs:
            groups += job.programs * job.blocks
            sizes += [*job.sizes, at, job.programs, groups]
            for parameter, place in job.parameters:
                view = self._views.get(parameter)
                if view is None:
                    continue
                add = int(parameter.grad is view)
                rows += [self._begins[parameter], parameter.numel(), at + place, job.numbers, job.programs, add]
                parameter.grad = view
            at += job.programs * job.numbers
        if jobs:
            text, tensors = written(jobs), [tensor for job in jobs for tensor in job.tensors]
            self._library.written(text, "weight_gradients", GROUP)(*tensors, parts, sizes, groups=groups)
        collect = self._library.kernel("optimizer", "collect", GROUP)
        rows = rows or [0] * ROW
        count = self.flat.numel()
        given = parts if jobs else self.flat
        collect(given, self.flat, self.squares, rows, len(rows) // ROW, count, groups=self.squares.numel())


def written(jobs: Sequence[Job]) -> str:
    """A source whose one kernel runs these jobs, each in threadgroups of its own."""
    pieces: list[str] = []
    buffers: list[str] = []
    calls: list[str] = []
    scratch = max(job.scratch for job in jobs)
    for number, job in enumerate(jobs):
        pieces.append(source(job.file, number, job.defines))
        names: list[str] = []
        for type_ in job.types:
            names.append(f"given{len(buffers)}" if type_ else "0")
            if type_:
                buffers.append(f"device const {type_}* {names[-1]} [[buffer({len(buffers)})]]")
        end = number * SIZES + SIZES - 1
        begin = f" - uint(sizes[{end - SIZES}])" if number else ""
        more = ", scratch, thread_, lane, simd" if job.scratch else ", thread_"
        call = f"{job.function}_{number}({', '.join(names)}, parts, sizes + {number * SIZES}, group{begin}{more})"
        calls.append(f"  if (group < uint(sizes[{end}])) {{ {call}; return; }}\n")
    last = len(buffers)
    signature = ",\n    ".join(
        [
            *buffers,
            f"device float* parts [[buffer({last})]]",
            f"constant long* sizes [[buffer({last + 1})]]",
            "uint group [[threadgroup_position_in_grid]]",
            "uint thread_ [[thread_index_in_threadgroup]]",
            "uint lane [[thread_index_in_simdgroup]]",
            "uint simd [[simdgroup_index_in_threadgroup]]",
        ]
    )
    memory = f"  threadgroup float4 scratch[{scratch // 16}];\n" if scratch else ""
    head = f"[[max_total_threads_per_threadgroup({GROUP})]]\nkernel void weight_gradients(\n    {signature}) {{\n"
    return "".join(pieces) + head + memory + "".join(calls) + "}\n"
