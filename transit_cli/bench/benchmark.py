"""`transit bench`: all measurements; training throughputs are recorded for `transit train`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import psutil
import torch

from transit_cli import console
from transit_cli.bench import frameworks, previous, throughput
from transit_cli.bench.energy import EnergyUnavailable, Meter
from transit_cli.data.viewset import ViewSet
from transit_cli.device import host, precision
from transit_cli.device.select import select
from transit_cli.options import parse_bins
from transit_cli.profiling import roofline
from transit_cli.training.loading import samples
from transit_cli.training.runs import bench_record

if TYPE_CHECKING:
    from transit_cli.bench.frameworks import Comparison
    from transit_cli.bench.settings import BenchSettings
    from transit_cli.bench.throughput import Pass, Throughput
    from transit_cli.device.base import Device
    from transit_cli.profiling.report.compare import Change
    from transit_cli.profiling.roofline import Peaks

#: Share of the time for timing; the rest is for warm-up and counting operators.
TIMING = 0.5
#: A measurement that takes more than this multiple of its share of the time is skipped.
MAX_TIME_RATIO = 3.0
#: The batch size for the comparison of frameworks, if it was requested, and the number of rounds.
FRAMEWORK_BATCH, FRAMEWORK_ROUNDS = 64, 5


@dataclass(frozen=True)
class Skipped:
    """A measurement that was skipped.

    Attributes:
        network: its name.
        kind: training or inference.
        batch_size: samples at once.
        seconds: estimated time, from the smaller batch.
        needed: the value of --seconds that would include it.
    """

    network: str
    kind: Pass
    batch_size: int
    seconds: float
    needed: float


@dataclass(frozen=True)
class Benchmark:
    """The result of a benchmark.

    Attributes:
        device: where it was measured.
        views: length of each view.
        threads: of torch.
        busy_percent: share of the processors that other programs used, the larger of before and after.
        peaks: the device's limits.
        figures: what was measured.
        skipped: what was not measured.
        no_energy: why energy was not measured; "" if it was.
        largest_batch: the largest safe batch of the first network, if requested.
        comparisons: with other frameworks, by network.
        framework_batch: the batch size of these comparisons.
        previous_run: the document of a previous run, and each measurement with its change.
    """

    device: Device
    views: dict[str, int]
    threads: int
    busy_percent: float
    peaks: Peaks
    figures: list[Throughput]
    skipped: list[Skipped]
    no_energy: str
    largest_batch: int | None
    comparisons: dict[str, Comparison]
    framework_batch: int
    previous_run: tuple[previous.PreviousRun, list[tuple[Throughput, Change]]] | None


def bench(settings: BenchSettings) -> Benchmark:
    """Measure what the settings ask for.

    Raises:
        TransitError: device, network, view set or the file to compare with cannot be used.
    """
    before = previous.read(settings.compare) if settings.compare else None
    views = views_of(settings)
    settings = settings.replace(viewset=None, bins="/".join(map(str, views.values())))
    largest = largest_batch(settings, views) if settings.largest_batch else None
    device = select(settings.device)
    resolved = precision.resolve(device, settings.precision)
    busy = psutil.cpu_percent(interval=0.3)
    with console.progress("bench", 2 * len(settings.network) * len(settings.batch_size)) as bar:
        bar.update(0, status="this machine's limits")
        peaks = roofline.measure_peaks(device, precision.DTYPES[resolved])
        meter, no_energy = open_meter(device)
        found, skipped = _figures(settings, device, meter, bar)
        again = roofline.measure_peaks(device, precision.DTYPES[resolved])  # other programs rarely slow both
        peaks = roofline.Peaks(max(peaks.copy, again.copy), max(peaks.matmul, again.matmul))
    busy = max(busy, psutil.cpu_percent(interval=0.3))
    quiet = busy <= host.QUIET
    for warning in host.busy_warnings(busy):
        console.warn(warning)
    for figure in found:
        if figure.kind == "train":
            work = bench_record.RecordKey(figure.network, views, figure.batch_size, figure.precision)
            bench_record.keep(work, device, figure.samples_per_second, quiet=quiet)
    batch = FRAMEWORK_BATCH if FRAMEWORK_BATCH in settings.batch_size else settings.batch_size[0]
    comparisons = {}
    if settings.peers:
        for network in settings.network:
            comparisons[network] = _compare_frameworks(network, views, batch, device)
    then = (before, previous.compare(before, found)) if before else None
    threads = torch.get_num_threads()
    return Benchmark(device, views, threads, busy, peaks, found, skipped, no_energy, largest, comparisons, batch, then)


def views_of(settings: BenchSettings) -> dict[str, int]:
    """The length of each view.

    Raises:
        TransitError: the view set cannot be read, or lacks one of the two views.
    """
    if settings.viewset is None:
        return parse_bins(settings.bins)
    return samples.view_lengths(ViewSet.open(settings.viewset), ("global", "local"))


def open_meter(device: Device) -> tuple[Meter | None, str]:
    """An energy meter, or the reason why there is none."""
    try:
        return Meter(device), ""
    except EnergyUnavailable as reason:
        return None, str(reason)


def _figures(
    settings: BenchSettings,
    device: Device,
    meter: Meter | None,
    bar: console.Progress,
) -> tuple[list[Throughput], list[Skipped]]:
    found: list[Throughput] = []
    skipped: list[Skipped] = []
    sizes = sorted(set(settings.batch_size))
    share = settings.seconds / (2 * len(settings.network) * len(sizes))
    kinds: tuple[Pass, ...] = ("train", "infer")
    for network in settings.network:
        for kind in kinds:
            smaller: Throughput | None = None
            for size in sizes:
                bar.update(len(found) + len(skipped), status=f"{network}, {kind}, batch {size}")
                needed = throughput.estimated_seconds(kind, size, smaller, device)
                if needed > MAX_TIME_RATIO * share:
                    skipped.append(
                        Skipped(network, kind, size, needed, settings.seconds * needed / MAX_TIME_RATIO / share)
                    )
                    continue
                smaller = throughput.measure(settings, network, kind, size, TIMING * share, device=device, meter=meter)
                found.append(smaller)
                throughput.clear(device)
                speed = f"{smaller.samples_per_second:,.0f} samples/s"
                bar.update(len(found) + len(skipped), status=f"{network}, {kind}, batch {size}: {speed}", line=True)
    return found, skipped


def _compare_frameworks(network: str, views: dict[str, int], batch: int, device: Device) -> Comparison:
    """Train with other frameworks and transit in turn."""
    with console.progress(f"{network}, other frameworks", FRAMEWORK_ROUNDS) as bar:
        return frameworks.compare_frameworks(
            frameworks.BenchmarkConfig(network, views, batch, device.kind), FRAMEWORK_ROUNDS, after=bar.update
        )


def largest_batch(settings: BenchSettings, views: dict[str, int]) -> int:
    """The largest safe batch of the first network, by real steps in child processes."""
    from transit_cli.tuning.batch_probe import find
    from transit_cli.tuning.settings import ProbeSettings

    asked = ProbeSettings(
        network=settings.network[0],
        bins="/".join(map(str, views.values())),
        scalars=(),
        precision=settings.precision,
        device=settings.device,
    )
    answer, _ = find(asked)
    return answer.largest.size
