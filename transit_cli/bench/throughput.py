"""The throughput of a network, training or inferring at one batch size, compared with the machine's limits."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from transit_cli.bench.energy import EnergyUnavailable
from transit_cli.options import parse_bins
from transit_cli.profiling import operator_counts
from transit_cli.profiling.profiler import PROFILABLE_AS
from transit_cli.training import inference, workload
from transit_cli.training.execution import metal_inference
from transit_cli.training.settings import StepSettings

if TYPE_CHECKING:
    from collections.abc import Callable

    from transit_cli.bench.energy import Meter
    from transit_cli.bench.settings import BenchSettings
    from transit_cli.device.base import Device
    from transit_cli.profiling.operator_counts import Inspection
    from transit_cli.profiling.roofline import Peaks
    from transit_cli.training.workload import Workload

Pass = Literal["train", "infer"]

#: Runs after the first that are not counted, for caches, allocator and optimizer state.
WARM_UP = 2
#: Fewest timed blocks of runs, and seconds of a block: synchronizing after every step would slow it down.
MIN_BLOCKS, BLOCK = 5, 0.1
#: Duration of the first training step on a CPU, in steps: executions are timed against each other there.
FIRST_STEP = 18


@dataclass(frozen=True)
class Throughput:
    """The throughput of one network, pass and batch size.

    Attributes:
        network: its name.
        kind: training steps, or predictions from views in host memory.
        batch_size: samples at once.
        execution: how the training step runs; for inference "metal" if kernels were used, and "" otherwise.
        precision: arithmetic.
        seconds: per run of the batch, one value per block of runs.
        warm_up_seconds: of the first run, including selection, compilation and allocation.
        bytes: read and written by the operators of a run, if each moved its tensors once.
        flops: floating-point operations of its convolutions and matrix products.
        joules: of one run; None where energy cannot be measured.
    """

    network: str
    kind: Pass
    batch_size: int
    execution: str
    precision: str
    seconds: tuple[float, ...]
    warm_up_seconds: float
    bytes: int
    flops: int
    joules: float | None

    @property
    def median(self) -> float:
        """Median seconds of a run."""
        return statistics.median(self.seconds)

    @property
    def samples_per_second(self) -> float:
        """Samples per second, by the median."""
        return self.batch_size / self.median

    @property
    def spread(self) -> float:
        """The range of the middle half of the timings, as a share of the median."""
        low, _, high = statistics.quantiles(self.seconds, n=4)
        return (high - low) / self.median

    def bytes_share(self, peaks: Peaks) -> float:
        """Share of the measured copy rate."""
        return self.bytes / peaks.copy / self.median

    def flops_share(self, peaks: Peaks) -> float:
        """Share of the measured matrix-product rate."""
        return self.flops / peaks.matmul / self.median

    @property
    def watts(self) -> float | None:
        """Mean power."""
        return None if self.joules is None else self.joules / statistics.fmean(self.seconds)

    @property
    def samples_per_joule(self) -> float | None:
        """Samples per joule, which is samples per second per watt."""
        return self.batch_size / self.joules if self.joules else None


def measure(
    settings: BenchSettings,
    network: str,
    kind: Pass,
    batch_size: int,
    seconds: float,
    *,
    device: Device,
    meter: Meter | None,
) -> Throughput:
    """Measure one network, pass and batch size.

    Args:
        settings: precision, views and device.
        network: a network's name.
        kind: what to run.
        batch_size: samples at once.
        seconds: how long to time, once it is warm.
        device: the device of the settings, open.
        meter: of its energy, if there is one.
    """
    precision = settings.precision if kind == "train" else "fp32"
    views = parse_bins(settings.bins)

    def build(**changes: Any) -> Workload:
        asked = StepSettings(batch_size=batch_size, precision=precision, execution=settings.execution)
        asked = asked.replace(**changes)
        return workload.build(asked, network, views, device, inference=kind == "infer")

    run = build()
    work: Callable[[], object] = run.run_step
    if kind == "infer":
        inputs = {name: values.cpu() for name, values in run.draw()[0].inputs.items()}

        def work() -> object:
            return inference.logits([run.step.network], inputs, device, execution=settings.execution)

    first, found, joules = timed(work, device, seconds, meter)
    execution = run.runner.execution
    moved, computed = _counted(build, execution) if execution else (operator_counts.inspect(run),) * 2
    return Throughput(
        network=network,
        kind=kind,
        batch_size=batch_size,
        execution=execution or metal_inference.name_of(run.step.network),
        precision=run.step.precision,
        seconds=tuple(found),
        warm_up_seconds=first,
        bytes=moved.bytes,
        flops=computed.flops,
        joules=joules,
    )


def _counted(build: Callable[..., Workload], execution: str) -> tuple[Inspection, Inspection]:
    """What a training step moves as executed, or nearly so, and what the eager step computes."""
    counted = execution in {
        "triton",
        "metal",
        "metal-matrices",
    }  # their kernels can be watched, but not what they compute
    watched = execution if counted else PROFILABLE_AS.get(execution, execution)
    moved = operator_counts.inspect(build(execution=watched))
    return moved, operator_counts.inspect(build(execution="eager")) if counted else moved


def timed(
    work: Callable[[], object], device: Device, seconds: float, meter: Meter | None
) -> tuple[float, list[float], float | None]:
    """Seconds of the first run, of a run in each of several blocks, and joules of a run if they can be measured."""

    def block(count: int) -> float:
        start = time.perf_counter()
        for _ in range(count):
            work()
        device.synchronize()
        return (time.perf_counter() - start) / count

    first = block(1)
    one = block(WARM_UP)
    count = max(1, int(BLOCK / one))
    found: list[float] = []

    def blocks() -> None:
        end = time.perf_counter() + seconds
        while len(found) < MIN_BLOCKS or time.perf_counter() < end:
            found.append(block(count))

    if meter is None:
        blocks()
        return first, found, None
    try:
        return first, found, meter.joules_of(blocks) / (len(found) * count)
    except EnergyUnavailable:
        return first, found, None


def estimated_seconds(kind: Pass, batch_size: int, smaller: Throughput | None, device: Device) -> float:
    """Seconds for the warm-up and the shortest timing, estimated from a smaller batch."""
    if smaller is None:
        return 0.0
    run = smaller.median * batch_size / smaller.batch_size
    return run * ((FIRST_STEP if kind == "train" and device.kind == "cpu" else 1) + WARM_UP + MIN_BLOCKS + 1)


def clear(device: Device) -> None:
    """Free the memory of a measurement."""
    import gc

    gc.collect()
    device.empty_cache()
