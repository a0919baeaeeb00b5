"""The CPU as a device."""

from __future__ import annotations

import sys
import time

import psutil
import torch

from transit_cli.device import host
from transit_cli.device.allocator import keep_freed_memory
from transit_cli.device.base import DeviceFacts, DeviceMemory, Kind, Precision, says

#: Address space that will be reserved and mostly not used: 8 MiB for each thread's stack, 64 MiB at the heap's end.
RESERVED = 96 << 20


class CpuTimer:
    """Wall-clock time: on a CPU, calls are synchronous."""

    def __init__(self) -> None:
        self._marks: list[float] = []

    def mark(self) -> None:
        """Record the time."""
        self._marks.append(time.perf_counter())

    def seconds(self) -> list[float]:
        """The time between each two neighbouring marks."""
        return [after - before for before, after in zip(self._marks, self._marks[1:], strict=False)]


class CpuDevice:
    """The CPU: always available, reproducible bit for bit, the reference for the others."""

    kind: Kind = "cpu"
    max_batch: int | None = None
    can_capture = False
    #: bfloat16 ran at 0.7 to 0.86 of float32's speed on CPUs without instructions for it.
    best_precision: Precision = "fp32"

    def __init__(self) -> None:
        keep_freed_memory()
        self.torch_device = torch.device("cpu")
        self.facts = DeviceFacts(
            name=host.processor_name(),
            cores=host.usable_cores(),
            memory_bytes=host.memory_bytes(),
            software=f"{torch.get_num_threads()} threads",
        )
        self._process = psutil.Process()

    def synchronize(self) -> None:
        """Nothing to wait for."""

    def empty_cache(self) -> None:
        """Nothing to free: the C library has no such cache."""

    def memory(self) -> DeviceMemory:
        """Resident memory of this process; the limit is the machine's, or the container's where that is lower."""
        resident = self._process.memory_info().rss
        return DeviceMemory(allocated=resident, driver=resident, limit=host.memory_bytes())

    def reset_peak(self) -> None:
        """Does nothing: there is no peak."""

    def cap_memory(self, fraction: float) -> None:
        """Limit the memory of this process (RLIMIT_DATA), so that torch raises an error before Linux kills the process.

        The kernel counts writable address space, not what is in RAM. How the two differ is taken as it is now, and
        `RESERVED` is added for what will be reserved and not used. So a process fails at most that much beyond the
        share, and not before it. macOS does not enforce the limit; there the caller has to watch `memory.pressure`.
        """
        if sys.platform == "linux":
            import resource

            _, hard = resource.getrlimit(resource.RLIMIT_DATA)
            now = self._process.memory_info()
            wanted = int(fraction * host.memory_bytes()) + now.data - now.rss + RESERVED
            resource.setrlimit(resource.RLIMIT_DATA, (wanted if hard < 0 else min(wanted, hard), hard))

    def rng_state(self) -> torch.Tensor:
        """The state of the default generator."""
        return torch.get_rng_state()

    def set_rng_state(self, state: torch.Tensor) -> None:
        """Restore a state that `rng_state` returned."""
        torch.set_rng_state(state)

    def is_out_of_memory(self, error: BaseException) -> bool:
        """Whether the host's memory has run out."""
        return host_out_of_memory(error)

    def is_unsupported_operator(self, error: BaseException) -> bool:
        """Whether the CPU lacks an operator, mostly one for a half precision."""
        return isinstance(error, NotImplementedError) or says(error, "not implemented for 'Half'", "'BFloat16'")

    def timer(self) -> CpuTimer:
        """A new timer."""
        return CpuTimer()


def host_out_of_memory(error: BaseException) -> bool:
    """Whether an error means that the host has no memory left.

    oneDNN fails with "could not create a primitive" (or "a memory object") if its allocation failed.
    """
    texts = ("DefaultCPUAllocator", "can't allocate memory", "std::bad_alloc", "could not create a ")
    return isinstance(error, MemoryError) or says(error, *texts)
