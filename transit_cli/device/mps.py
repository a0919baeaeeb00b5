"""Apple GPUs through Metal. The one module that names `torch.mps` and `torch.backends.mps`.

Which function exists since which torch, and what each of them does wrong, is in docs/mps.md. Nothing of this has run on
a Mac: the simulated device of the tests runs it.
"""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING, Any

import torch

from transit_cli.device import chips, host, machine
from transit_cli.device.base import DeviceFacts, DeviceMemory, Kind, Precision, says
from transit_cli.device.cpu import host_out_of_memory

if TYPE_CHECKING:
    import contextlib
    from pathlib import Path

#: Weight gradients of conv1d are silently wrong from a batch of 65,536 (pytorch issue 96225, open).
MAX_BATCH = 65_535


def is_built() -> bool:
    """Whether this torch knows MPS at all: only the arm64 wheels for macOS do."""
    return torch.backends.mps.is_built()


def is_available() -> bool:
    """Whether torch reports MPS as available. Virtual machines do so too, and fail at the first tensor."""
    return torch.backends.mps.is_available()


def why_absent() -> str:
    """Why there is no MPS device; "" if there is one."""
    if is_available():
        return ""
    if platform.system() != "Darwin":
        return f"MPS is Apple's: this is {platform.system()}"
    if platform.machine() == "x86_64":
        rosetta = host.sysctl("sysctl.proc_translated") == 1
        return "this Python is built for Intel and runs under Rosetta" if rosetta else "this Mac has an Intel processor"
    if not is_built():
        return f"torch {torch.__version__} is built without MPS"
    found, wanted = platform.mac_ver()[0], machine.least_macos(torch.__version__)
    if machine.older(found, wanted):
        return f"torch {torch.__version__} needs macOS {wanted} for MPS, and this is {found}"
    if host.sysctl("kern.hv_vmm_present") == 1:
        return "macOS runs in a virtual machine, which provides no Metal device"
    return "torch finds no Metal device"


class MpsTimer:
    """MPS events: recorded in the command stream, read once at the end."""

    def __init__(self) -> None:
        self._marks: list[torch.mps.Event] = []

    def mark(self) -> None:
        """Record an event."""
        event = torch.mps.Event(enable_timing=True)
        event.record()
        self._marks.append(event)

    def seconds(self) -> list[float]:
        """Wait for the GPU, and return the time between each two neighbouring events."""
        torch.mps.synchronize()
        pairs = zip(self._marks, self._marks[1:], strict=False)
        return [before.elapsed_time(after) / 1000 for before, after in pairs]


class MpsDevice:
    """The GPU of an Apple chip. It shares the machine's memory, so running out of it means swapping, not an error."""

    kind: Kind = "mps"
    max_batch: int | None = MAX_BATCH
    can_capture = False
    #: Half precision has not been shown to be faster here, and torch's own tests exclude float16 convolution gradients.
    best_precision: Precision = "fp32"

    def __init__(self) -> None:
        self.torch_device = torch.device("mps", 0)
        name = host.processor_name()
        version = platform.mac_ver()[0]
        cores = _gpu_cores()
        self.facts = DeviceFacts(
            name=name,
            cores=cores,
            memory_bytes=host.memory_bytes(),
            bandwidth_gb_s=chips.bandwidth_gb_s(name, cores),
            software=f"macOS {version}" if version else platform.system(),
        )
        torch.zeros(1, device=self.torch_device)  # the first allocation builds the allocator and finds a broken driver
        self.synchronize()
        self._limit = torch.mps.recommended_max_memory()

    def synchronize(self) -> None:
        """Wait until everything queued has been computed; errors of queued work are raised here."""
        torch.mps.synchronize()

    def empty_cache(self) -> None:
        """Give cached buffers back to the system. Compiled graphs, one for each shape, stay."""
        torch.mps.empty_cache()

    def memory(self) -> DeviceMemory:
        """Bytes in tensors, bytes held from Metal, and the limit: Metal's recommendation, or what `cap_memory` left."""
        return DeviceMemory(
            allocated=torch.mps.current_allocated_memory(),
            driver=torch.mps.driver_allocated_memory(),
            limit=self._limit,
        )

    def reset_peak(self) -> None:
        """Torch keeps no peak on MPS: `memory.monitor` samples it."""

    def cap_memory(self, fraction: float) -> None:
        """Make torch raise beyond this share of Metal's recommendation (its own limit is 1.7, more than the RAM)."""
        torch.mps.set_per_process_memory_fraction(float(fraction))  # an int is refused
        self._limit = int(fraction * torch.mps.recommended_max_memory())

    def rng_state(self) -> torch.Tensor:
        """The state of the GPU's generator."""
        return torch.mps.get_rng_state()

    def set_rng_state(self, state: torch.Tensor) -> None:
        """Restore a state that `rng_state` returned."""
        torch.mps.set_rng_state(state)

    def is_out_of_memory(self, error: BaseException) -> bool:
        """Whether memory has run out. It is a plain RuntimeError; a tensor beyond Metal's largest buffer counts too."""
        return says(error, "MPS backend out of memory", "Invalid buffer size") or host_out_of_memory(error)

    def is_unsupported_operator(self, error: BaseException) -> bool:
        """Whether MPS has no kernel, refuses float64, or a kernel refuses a size ("Output channels > 65536 ...")."""
        if isinstance(error, TypeError):
            return "MPS" in str(error)
        refusals = ("not supported", "not implemented", "n't support", "not support", "only support", "unsupported")
        return isinstance(error, NotImplementedError) or (says(error, "MPS", "_mps") and says(error, *refusals))

    def compile_shader(self, source: str) -> Any:
        """Kernels of a Metal source, as attributes (torch 2.7 and later)."""
        if not hasattr(torch.mps, "compile_shader"):
            raise RuntimeError(f"torch {torch.__version__} has no torch.mps.compile_shader: 2.7 and later have")
        return torch.mps.compile_shader(source)

    def timer(self) -> MpsTimer:
        """A new timer."""
        return MpsTimer()


def _gpu_cores() -> int | None:
    """GPU cores, by torch 2.9 and later; None before, and where the function stumbles."""
    try:
        return int(torch.backends.mps.get_core_count())
    except (AttributeError, RuntimeError):
        return None


def has_metal_graph() -> bool:
    """Whether this torch can record a step once and run it again (pytorch 189019; in no release up to 2.15)."""
    return hasattr(torch.mps, "MetalGraph")


def signposts() -> contextlib.AbstractContextManager[object]:
    """While it lasts, every operator emits an interval for Instruments ("os_signpost", subsystem PyTorchMPS)."""
    return torch.mps.profiler.profile(mode="interval", wait_until_completed=False)


def metal_capture(path: Path) -> contextlib.AbstractContextManager[object]:
    """While it lasts, Metal's commands are recorded into a .gputrace for Xcode (torch 2.7 and later)."""
    return torch.mps.profiler.metal_capture(str(path))
