"""`Device`, the protocol that the rest of transit computes through."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager

    import torch

Kind = Literal["cpu", "cuda", "mps"]
Precision = Literal["fp32", "fp16", "bf16"]


@dataclass(frozen=True)
class DeviceFacts:
    """Properties of a device that are known without running anything on it.

    Attributes:
        name: the manufacturer's name ("Apple M4 Pro", "NVIDIA H100 80GB HBM3").
        cores: CPU cores that this process may use, GPU cores or multiprocessors; None where unknown.
        memory_bytes: the memory it computes in; on Apple silicon and for a CPU, the machine's.
        bandwidth_gb_s: memory bandwidth as specified by the manufacturer, 1e9 bytes/s; None if unknown.
        software: system or driver ("macOS 15.1 (24B83)", "CUDA 12.6").
    """

    name: str
    cores: int | None = None
    memory_bytes: int | None = None
    bandwidth_gb_s: float | None = None
    software: str = ""


@dataclass(frozen=True)
class DeviceMemory:
    """Memory of this process on a device, in bytes.

    Attributes:
        allocated: held by tensors that are alive.
        driver: held from the driver: tensors, the allocator's cache, compiled graphs.
        limit: what the device should not exceed; None if unknown.
        peak: the maximum of `driver` since `reset_peak`; None if it can only be sampled.
    """

    allocated: int
    driver: int
    limit: int | None
    peak: int | None = None


class Timer(Protocol):
    """Times between points of a program on the device, without synchronizing at each."""

    def mark(self) -> None:
        """Note a point: everything queued so far comes before it."""

    def seconds(self) -> list[float]:
        """Wait for the device, and return the time between each two neighbouring marks."""
        ...


class Device(Protocol):
    """A device that has been opened and warmed up."""

    kind: Kind
    facts: DeviceFacts
    #: The largest batch with correct results; None if there is no such limit.
    max_batch: int | None
    #: Whether a whole training step can be captured and replayed as one graph.
    can_capture: bool
    #: The fastest safe precision, as measured.
    best_precision: Precision

    @property
    def torch_device(self) -> torch.device:
        """The device as torch knows it."""
        ...

    def synchronize(self) -> None:
        """Wait until everything queued has been computed."""

    def empty_cache(self) -> None:
        """Give memory that no tensor uses back to the system."""

    def memory(self) -> DeviceMemory:
        """Memory of this process on the device; cheap enough to be sampled."""
        ...

    def reset_peak(self) -> None:
        """Begin a new `DeviceMemory.peak`."""

    def cap_memory(self, fraction: float) -> None:
        """Make an allocation beyond this share (0 < fraction <= 1) of the limit fail as out of memory."""

    def rng_state(self) -> torch.Tensor:
        """The state of the device's random numbers: a uint8 tensor on the CPU."""
        ...

    def set_rng_state(self, state: torch.Tensor) -> None:
        """Restore a state that `rng_state` returned."""

    def is_out_of_memory(self, error: BaseException) -> bool:
        """Whether an error means that memory has run out, on the device or on its host."""
        ...

    def is_unsupported_operator(self, error: BaseException) -> bool:
        """Whether an error means that the device lacks an operator, or refuses a type or size."""
        ...

    def timer(self) -> Timer:
        """A new timer without marks."""
        ...


class Lane(Protocol):
    """Where one of several threads that take turns queues its work, with random generators of its own."""

    def open(self) -> None:
        """Queue the work of the thread that calls this apart from that of others."""

    def resume(self) -> None:
        """Let torch's default generators continue this lane's random numbers."""

    def pause(self) -> None:
        """Give the default generators the state back that they had before `resume`."""


class CapturingDevice(Device, Protocol):
    """A device that can run a captured sequence of kernels again: one whose `can_capture` is true."""

    def side_stream(self) -> AbstractContextManager[None]:
        """Run the block on a side stream, as CUDA graph capture requires for warm-up."""
        ...

    def capture(self, work: Callable[[], torch.Tensor], pool: object) -> tuple[torch.Tensor, Callable[[], None]]:
        """Record what `work` queues, without running it; returns its result and a function that replays it."""
        ...

    def lane(self) -> Lane:
        """A new lane."""
        ...

    def pool(self) -> object:
        """A handle of memory shared by captured work that never runs at the same time."""
        ...

    def concurrently(self, works: Sequence[Callable[[], torch.Tensor]]) -> list[torch.Tensor]:
        """Queue works that do not depend on each other side by side, and return their results."""
        ...


class CompilingDevice(Device, Protocol):
    """A device that compiles kernels from source: MPS."""

    def compile_shader(self, source: str) -> Any:
        """Kernels of a Metal source, as attributes; raises whatever torch does where it cannot."""
        ...


def says(error: BaseException, *texts: str) -> bool:
    """Whether a RuntimeError's message contains one of these (torch has no class for most failures)."""
    return isinstance(error, RuntimeError) and any(text in str(error) for text in texts)
