"""The interpretation of a profile: what limits the step, the evidence, and what to change."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from transit_cli.console import size
from transit_cli.profiling import batches, roofline

if TYPE_CHECKING:
    from collections.abc import Callable

    from transit_cli.device.base import Device
    from transit_cli.profiling.hotspots import Hotspots
    from transit_cli.profiling.operator_counts import Inspection
    from transit_cli.profiling.phases import StepTimes
    from transit_cli.profiling.roofline import Roofline
    from transit_cli.profiling.settings import ProfileSettings
    from transit_cli.profiling.step_memory import Growth
    from transit_cli.training.workload import Workload

#: Shares of a step above which something is reported.
STARVED, LAUNCHES, LIMIT, PRESSURE = 0.25, 0.25, 0.4, 0.85


@dataclass(frozen=True)
class Finding:
    """One conclusion from a profile.

    Attributes:
        id: a stable name.
        found: the conclusion, with the evidence.
        fix: what helps.
        change: settings that can be tried immediately, or None.
        gain: ratio of samples per second with the change; None if it was not tried.
    """

    id: str
    found: str
    fix: str
    change: dict[str, object] | None = None
    gain: float | None = None


@dataclass(frozen=True)
class Evidence:
    """What findings are based on: the settings, the device, and everything that was measured."""

    settings: ProfileSettings
    device: Device
    times: StepTimes
    inspection: Inspection
    roofline: Roofline
    hotspots: Hotspots
    growth: Growth | None
    memory_used: int
    memory_limit: int | None


def findings(evidence: Evidence) -> list[Finding]:
    """The conclusions, most important first. The last one is what bounds the step."""
    checks: tuple[Callable[[Evidence], list[Finding]], ...] = (
        _leak,
        _starved,
        _waits,
        _pageable,
        _pressure,
    )
    return [finding for check in checks for finding in check(evidence)] + [_bound(evidence)]


def _leak(evidence: Evidence) -> list[Finding]:
    growth = evidence.growth
    if growth is None or not growth.leaks:
        return []
    found = (
        f"memory grows by {size(growth.per_step)} per step ({len(growth.held)} steps, "
        f"{'every byte counted' if growth.counted == 'exact' else 'resident memory'})"
    )
    fix = "keep numbers, not tensors with a graph: store `loss.detach()` or `float(loss)`"
    return [Finding("memory-grows", found, f"{fix} in {_code_of(evidence.settings)}")]


def _starved(evidence: Evidence) -> list[Finding]:
    phases = evidence.times.phases
    loading = statistics.median(phases["data"]) + statistics.median(phases["transfer"])
    step = statistics.median(evidence.times.plain)
    if loading < STARVED * step:
        return []
    found = (
        f"starved by data: loading takes {loading / step:.0%} of the step ({loading * 1e3:.1f} of {step * 1e3:.1f} ms)"
    )
    loader = evidence.settings.loader
    if loader:
        fix = f"move the work in {loader} out of the loop, or make a view set of it (transit data import)"
    else:
        fix = "a larger --batch-size, so that fewer gathers do more"
    return [Finding("starved-by-data", found, fix, {"loader": None} if loader else None)]


def _waits(evidence: Evidence) -> list[Finding]:
    waits = evidence.inspection.waits
    if not waits:
        return []
    places = ", ".join(f"{site} ({count})" for site, count in waits.most_common(3))
    count = sum(waits.values())
    found = f"the host waits for the device {count} time{'s' if count > 1 else ''} per step: {places}"
    if evidence.device.kind == "cpu":
        found += "; free on a CPU, but on MPS or CUDA each drains the queue"
    return [Finding("host-synchronisation", found, "remove .item(), float(), bool() or .cpu() of a tensor there")]


def _pageable(evidence: Evidence) -> list[Finding]:
    copies = evidence.inspection.copies
    if not copies or evidence.device.kind != "cuda":  # MPS shares its memory with the host and has no pinned kind
        return []
    places = ", ".join(f"{site} ({size(count)})" for site, count in copies.most_common(3))
    fix = "pin_memory=True in the DataLoader with non_blocking=True, or keep the set on the device"
    return [Finding("pageable-copy", f"pageable memory is copied to the device each step: {places}", fix)]


def _pressure(evidence: Evidence) -> list[Finding]:
    used, limit = evidence.memory_used, evidence.memory_limit
    if not limit or used < PRESSURE * limit:
        return []
    found = f"memory pressure: {size(used)} of {size(limit)} in use"
    half = max(1, evidence.settings.batch_size // 2)
    fix = f"--batch-size {half} --accumulate {evidence.settings.accumulate * 2}: the same effective batch"
    return [Finding("memory-pressure", found, fix)]


def _bound(evidence: Evidence) -> Finding:
    """The limit of the machine that the step is closest to."""
    line, calls = evidence.roofline, evidence.inspection.calls
    shares = {"launches": line.calls_share, "bandwidth": line.bytes_share, "arithmetic": line.flops_share}
    if evidence.device.kind != "cpu":  # the host only queues the step, so its time is the launches'
        shares["launches"] = max(shares["launches"], _dispatch_share(evidence))
    name = max(shares, key=lambda key: shares[key])
    batch = evidence.settings.batch_size
    if name == "launches" and shares[name] >= LAUNCHES:
        found = (
            f"bound by launches: {calls:,} operators per step, {line.by_calls / calls * 1e6:.1f} us per call, "
            f"are {min(shares[name], 1):.0%} of its {line.seconds * 1e3:.1f} ms"
        )
        fix = f"fewer, larger operators; --batch-size {batch * 4} does more in each"
        return Finding("bound-by-launches", found, fix, {"batch_size": batch * 4})
    if name == "bandwidth" and shares[name] >= LIMIT:
        found = f"bound by memory bandwidth: its bytes take {shares[name]:.0%} of the step at this machine's copy rate"
        return Finding(
            "bound-by-bandwidth", found, "fewer bytes: --precision bf16 where the device has it, shorter views"
        )
    if name == "arithmetic" and shares[name] >= LIMIT:
        found = f"bound by arithmetic: its products take {shares[name]:.0%} of the step at this machine's peak rate"
        return Finding(
            "bound-by-arithmetic", found, "it is close to the machine's limit; a smaller network, or half precision"
        )
    top = evidence.hotspots.operators[0]
    found = (
        f"no single limit: {shares['arithmetic']:.0%} of the peak arithmetic, {shares['bandwidth']:.0%} of the peak "
        f"bandwidth, {shares['launches']:.0%} launches; the most expensive operator is {top.name} ({top.share:.0%})"
    )
    return Finding("no-single-limit", found, "transit probe-batch finds the batch that suits this machine best")


def _dispatch_share(evidence: Evidence) -> float:
    return statistics.median(evidence.times.dispatch) / statistics.median(evidence.times.plain)


def _code_of(settings: ProfileSettings) -> str:
    network = settings.network
    return network.rpartition(":")[0] if ":" in network else "your code"


def attempt(settings: ProfileSettings, run: Workload, finding: Finding) -> Finding:
    """The finding with the measured gain of its advice, if it can be tried immediately."""
    if finding.change is None:
        return finding
    other = batches.build(settings.replace(**finding.change))
    before, after = _rate(run), _rate(other)
    return replace(finding, gain=after / before)


def _rate(run: Workload) -> float:
    """Samples per second."""
    return run.samples / roofline.best(run.device, run.run_step, seconds=1.0)
