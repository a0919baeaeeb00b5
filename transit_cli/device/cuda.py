"""NVIDIA GPUs. The one module that names `torch.cuda`."""

from __future__ import annotations

import gc
import os
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

from transit_cli.device.base import DeviceFacts, DeviceMemory, Kind, Precision, says
from transit_cli.device.cpu import host_out_of_memory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence


def why_absent() -> str:
    """Why there is no CUDA device; "" if there is one."""
    if not torch.backends.cuda.is_built():
        return f"torch {torch.__version__} is built without CUDA"
    if not torch.cuda.is_available():
        return "torch finds no NVIDIA GPU or no working driver"
    return ""


def without_tf32() -> None:
    """Round products of float32 to float32, where by default they are TF32 (a GPU opened later turns it on again)."""
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False


class CudaTimer:
    """CUDA events: recorded on the GPU's own clock, read once at the end."""

    def __init__(self) -> None:
        self._marks: list[torch.cuda.Event] = []

    def mark(self) -> None:
        """Record an event on the current stream."""
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        self._marks.append(event)

    def seconds(self) -> list[float]:
        """Wait for the GPU, and return the time between each two neighbouring events."""
        torch.cuda.synchronize()
        pairs = zip(self._marks, self._marks[1:], strict=False)
        return [before.elapsed_time(after) / 1000 for before, after in pairs]


class _Streams(threading.local):
    """The streams of a thread beside its current one: always the same, as the allocator keeps blocks for each."""

    def __init__(self) -> None:
        self._made: list[torch.cuda.Stream] = []

    def first(self, count: int) -> list[torch.cuda.Stream]:
        """The side stream, and those of branches."""
        while len(self._made) < count:
            self._made.append(torch.cuda.Stream())
        return self._made[:count]


class CudaLane:
    """A stream, and a state of the GPU's and of the host's generator.

    A graph continues the state that the GPU's generator had when it was captured, whatever state it has when the graph
    is replayed.
    """

    def __init__(self, device: torch.device) -> None:
        # Torch hands out the same 32 streams of a priority again and again; others capture in those of priority 0.
        self._stream = torch.cuda.Stream(device, priority=-1)
        self._generator = torch.cuda.default_generators[self._stream.device_index]
        self._own, self._host = self._generator.clone_state(), torch.get_rng_state()

    def open(self) -> None:
        """Queue this thread's work in the lane's stream."""
        torch.cuda.set_stream(self._stream)

    def resume(self) -> None:
        """See `Lane.resume`."""
        self._others = self._generator.graphsafe_get_state(), torch.get_rng_state()
        self._generator.graphsafe_set_state(self._own)
        torch.set_rng_state(self._host)

    def pause(self) -> None:
        """See `Lane.pause`."""
        self._host = torch.get_rng_state()
        others, host = self._others
        self._generator.graphsafe_set_state(others)
        torch.set_rng_state(host)


class CudaDevice:
    """The current NVIDIA GPU (`CUDA_VISIBLE_DEVICES` chooses among several; under torchrun, each process's own)."""

    kind: Kind = "cuda"
    max_batch: int | None = None
    can_capture = True

    def __init__(self) -> None:
        if "LOCAL_RANK" in os.environ:  # one of several processes that torchrun has started, a GPU each
            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]) % torch.cuda.device_count())
        self.torch_device = torch.device("cuda", torch.cuda.current_device())
        found = torch.cuda.get_device_properties(self.torch_device)
        self.facts = DeviceFacts(
            name=found.name,
            cores=found.multi_processor_count,
            memory_bytes=found.total_memory,
            software=f"CUDA {torch.version.cuda}, compute capability {found.major}.{found.minor}",
        )
        self._limit = found.total_memory
        self._streams = _Streams()
        # From Ampere (8.0) on there is bfloat16 arithmetic, 1.0 to 1.4 times as fast as float32 on an H100.
        self.best_precision: Precision = "bf16" if found.major >= 8 else "fp32"
        torch.backends.cuda.matmul.allow_tf32 = True  # as torch's convolutions are by default
        torch.zeros(1, device=self.torch_device)
        self.synchronize()

    def synchronize(self) -> None:
        """Wait until everything queued has been computed."""
        torch.cuda.synchronize(self.torch_device)

    def empty_cache(self) -> None:
        """Give cached blocks back to the driver."""
        torch.cuda.empty_cache()

    def memory(self) -> DeviceMemory:
        """Bytes in tensors, bytes that torch's allocator reserved, and the GPU's own or what `cap_memory` left."""
        return DeviceMemory(
            allocated=torch.cuda.memory_allocated(self.torch_device),
            driver=torch.cuda.memory_reserved(self.torch_device),
            limit=self._limit,
            peak=torch.cuda.max_memory_reserved(self.torch_device),
        )

    def reset_peak(self) -> None:
        """Begin a new peak."""
        torch.cuda.reset_peak_memory_stats(self.torch_device)

    def cap_memory(self, fraction: float) -> None:
        """Make torch raise beyond this share of the GPU's memory."""
        torch.cuda.set_per_process_memory_fraction(float(fraction), self.torch_device)
        self._limit = int(fraction * (self.facts.memory_bytes or 0))

    def rng_state(self) -> torch.Tensor:
        """The state of the GPU's generator."""
        return torch.cuda.get_rng_state(self.torch_device)

    def set_rng_state(self, state: torch.Tensor) -> None:
        """Restore a state that `rng_state` returned."""
        torch.cuda.set_rng_state(state, self.torch_device)

    def is_out_of_memory(self, error: BaseException) -> bool:
        """Whether the GPU's or the host's memory has run out; libraries that allocate for themselves have own words."""
        texts = ("CUDA out of memory", "CUDA error: out of memory", "STATUS_ALLOC_FAILED")
        return isinstance(error, torch.OutOfMemoryError) or says(error, *texts) or host_out_of_memory(error)

    def is_unsupported_operator(self, error: BaseException) -> bool:
        """Whether CUDA lacks an operator, or this GPU's architecture is not in the build."""
        return isinstance(error, NotImplementedError) or says(error, "no kernel image is available")

    def timer(self) -> CudaTimer:
        """A new timer."""
        return CudaTimer()

    @contextmanager
    def side_stream(self) -> Iterator[None]:
        """Run the block on a side stream, in order with the current one."""
        current, (side,) = torch.cuda.current_stream(), self._streams.first(1)
        side.wait_stream(current)
        with torch.cuda.stream(side):
            yield
        current.wait_stream(side)

    def lane(self) -> CudaLane:
        """A new stream, and generators of its own."""
        return CudaLane(self.torch_device)

    def pool(self) -> object:
        """A handle of memory shared by graphs that never run at the same time."""
        return torch.cuda.graph_pool_handle()

    def concurrently(self, works: Sequence[Callable[[], torch.Tensor]]) -> list[torch.Tensor]:
        """Queue the first work on the current stream and each other on one of its own, then join them.

        Autograd runs a backward pass on the streams of the forward pass, so that it forks and joins too.
        """
        current = torch.cuda.current_stream()
        branches = self._streams.first(len(works))[1:]
        results = []
        for stream, work in zip(branches, works[1:], strict=True):
            stream.wait_stream(current)
            with torch.cuda.stream(stream):
                results.append(work())
        first = works[0]()
        for stream, result in zip(branches, results, strict=True):
            current.wait_stream(stream)
            result.record_stream(current)
        return [first, *results]

    def capture(self, work: Callable[[], torch.Tensor], pool: Any) -> tuple[torch.Tensor, Callable[[], None]]:
        """Record what `work` queues as a CUDA graph; other threads may use the GPU meanwhile.

        A graph that the garbage collector destroys meanwhile would spoil it ("operation not permitted when stream is
        capturing"), and a step and its executor refer to each other: they are collected before. It is recorded in the
        thread's side stream: cuBLAS has a workspace for each stream, and graphs recorded in the same one, as torch does
        by default, would share it when they run at the same time.
        """
        gc.collect()
        graph = torch.cuda.CUDAGraph()
        (side,) = self._streams.first(1)
        with torch.cuda.graph(graph, pool=pool, stream=side, capture_error_mode="thread_local"):
            result = work()
        return result, graph.replay
