"""What one step does, observed below autograd: operators, bytes, arithmetic, copies, and waits for the device."""

from __future__ import annotations

import sys
from collections import Counter
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

if TYPE_CHECKING:
    from collections.abc import Iterable
    from contextlib import AbstractContextManager

    from transit_cli.training.workload import Workload

#: Operators that return a device value to the host, which waits for everything queued.
SYNCHRONISING = frozenset({"aten._local_scalar_dense.default", "aten.nonzero.default", "aten.is_nonzero.default"})
#: Operators that return views: they move no bytes.
VIEWS = (
    "view",
    "reshape",
    "expand",
    "permute",
    "transpose",
    "t.",
    "slice",
    "select",
    "squeeze",
    "detach",
    "alias",
    "as_",
)
LARGEST = 8


@dataclass(frozen=True)
class SourceLine:
    """A line of the user's program."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}" if self.file else "inside torch"


@dataclass(frozen=True)
class LargeTensor:
    """A tensor that an operator made."""

    operator: str
    shape: tuple[int, ...]
    bytes: int


@dataclass(frozen=True)
class Inspection:
    """What one optimizer step does.

    Attributes:
        operators: calls by operator.
        bytes: read and written by operators, if each moved its tensors once.
        flops: floating-point operations of convolutions and matrix products, forward and backward.
        waits: how often the host waits for a device value, by source line.
        copies: bytes copied from pageable (not pinned) host memory to the device, by source line.
        largest: the largest tensors made.
    """

    operators: Counter[str]
    bytes: int
    flops: int
    waits: Counter[SourceLine]
    copies: Counter[SourceLine]
    largest: tuple[LargeTensor, ...]

    @property
    def calls(self) -> int:
        """Operators of a step."""
        return sum(self.operators.values())


@dataclass(eq=False)
class _Watch(TorchDispatchMode):
    operators: Counter[str] = field(default_factory=Counter)
    bytes: int = 0
    waits: Counter[SourceLine] = field(default_factory=Counter)
    copies: Counter[SourceLine] = field(default_factory=Counter)
    made: dict[LargeTensor, None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__init__()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = str(func)
        result = func(*args, **(kwargs or {}))
        self.operators[name] += 1
        if name in SYNCHRONISING:
            self.waits[caller()] += 1
        before, after = list(tensors(args)), list(tensors(result))
        if func.overloadpacket.__name__ in {"_to_copy", "copy_", "_copy_from"}:
            self._copy(func, before, after)
        if not name.removeprefix("aten.").startswith(VIEWS):
            self.bytes += sum(tensor.nbytes for tensor in (*before, *after))
            short = name.removeprefix("aten.").split(".")[0]
            for tensor in after:
                self.made[LargeTensor(short, tuple(tensor.shape), tensor.nbytes)] = None
        return result

    def _copy(self, func: Any, before: list[Tensor], after: list[Tensor]) -> None:
        source, target = (before[-1], before[0]) if func.overloadpacket.__name__ == "copy_" else (before[0], after[0])
        if source.device == target.device:
            return
        if target.device.type == "cpu":
            self.waits[caller()] += 1
        elif source.device.type == "cpu" and source.nbytes > 8 and not source.is_pinned():
            self.copies[caller()] += source.nbytes


def tensors(value: Any) -> Iterable[Tensor]:
    """The tensors in an operator's arguments or results."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, tuple | list):
        for item in value:
            yield from tensors(item)


def caller() -> SourceLine:
    """The innermost calling line outside torch and this package."""
    frame = sys._getframe(2)  # noqa: SLF001 - inspect.stack() reads source files, which takes milliseconds
    while frame is not None:
        file = frame.f_code.co_filename
        if not file.startswith((_TORCH, _PACKAGE)) and "importlib" not in file and not file.startswith("<"):
            path = Path(file)
            shown = "/".join(path.parts[-2:]) if "transit_cli" in path.parts else path.name
            return SourceLine(shown, frame.f_lineno)
        frame = frame.f_back
    return SourceLine("", 0)


def _kernels(execution: str, watch: _Watch) -> AbstractContextManager[None]:
    """Count the custom kernels of an execution too, but not their arithmetic."""

    def on_kernel(tensors: list[Tensor]) -> None:
        watch.operators["fused kernel"] += 1
        watch.bytes += sum({tensor.data_ptr(): tensor.nbytes for tensor in tensors}.values())

    if execution == "triton":
        from transit_cli.model.acceleration.cuda import fused

        return fused.watch_launches(on_kernel)
    if execution.startswith("metal"):
        from transit_cli.model.acceleration.metal import library

        return library.watch_launches(on_kernel)
    return nullcontext()


_TORCH = str(Path(torch.__file__).parent)
_PACKAGE = str(Path(__file__).parent)


def inspect(workload: Workload) -> Inspection:
    """Run one step and count. It takes many times as long as a normal step and is not timed."""
    group = [batch.gathered() for batch in workload.draw()]
    flops = FlopCounterMode(display=False)
    watch = _Watch()
    execution = workload.step.settings.execution
    if execution.startswith("metal"):  # its kernels are tried before the first step
        workload.run_step()
    with _kernels(execution, watch), flops, watch:
        workload.compute(workload.place(group))
    largest = sorted(watch.made, key=lambda made: -made.bytes)[:LARGEST]
    return Inspection(watch.operators, watch.bytes, flops.get_total_flops(), watch.waits, watch.copies, tuple(largest))
