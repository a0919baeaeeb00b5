"""One profile: all measurements, in the order in which they disturb each other least."""

from __future__ import annotations

import json
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from transit_cli import console
from transit_cli.device import host
from transit_cli.memory.monitor import Monitor
from transit_cli.profiling import batches, fallbacks, hotspots, operator_counts, phases, roofline, step_memory
from transit_cli.profiling.report import verdict
from transit_cli.results import ExitCode, TransitError
from transit_cli.utils.files import atomic_write

if TYPE_CHECKING:
    from transit_cli.profiling.fallbacks import Fallback
    from transit_cli.profiling.report.verdict import Evidence, Finding
    from transit_cli.profiling.roofline import Peaks
    from transit_cli.profiling.settings import ProfileSettings
    from transit_cli.profiling.step_memory import Growth, Sample
    from transit_cli.training.workload import Workload


#: Executions whose phases overlap or cannot be marked, and the closest one whose phases can.
PROFILABLE_AS = {"replicas": "onednn", "cuda-graph": "eager", "triton": "eager"} | dict.fromkeys(
    ("metal", "metal-matrices"), "eager"
)


@dataclass(frozen=True)
class TrainedExecution:
    """How `transit train` executes this step, if that execution's phases cannot be separated.

    Attributes:
        name: "replicas" or "cuda-graph".
        seconds: of each step.
    """

    name: str
    seconds: list[float]


@dataclass(frozen=True)
class Profile:
    """What a profile found.

    Attributes:
        workload: what ran.
        evidence: what was measured.
        findings: conclusions, most important first.
        peaks: what the machine can do.
        timeline: memory through three steps.
        growth: memory over many steps; None if not checked.
        fallbacks: operators that MPS ran on the CPU; None if torch did not report them.
        as_trained: the execution of `transit train`, where the phases had to be measured in another.
        busy_percent: of the processors, used by other programs before and after.
    """

    workload: Workload
    evidence: Evidence
    findings: list[Finding]
    peaks: Peaks
    timeline: list[Sample]
    growth: Growth | None
    fallbacks: tuple[Fallback, ...] | None
    as_trained: TrainedExecution | None = None
    busy_percent: float = 0.0

    @property
    def step_seconds(self) -> float:
        """Median time of a step as `transit train` runs it."""
        return median(self.as_trained.seconds if self.as_trained else self.evidence.times.plain)


def profile(settings: ProfileSettings) -> Profile:
    """Profile what the settings describe.

    Raises:
        TransitError: memory ran out (what was known by then is in oom.json), or the workload itself failed.
    """
    busy = host.busy_percent()
    with console.progress("profiling", 5) as progress:
        run = batches.build(settings)
        try:
            found = _measure(run, settings, progress)
        except RuntimeError as error:
            if not run.device.is_out_of_memory(error):
                raise
            raise _out_of_memory(run, settings, error) from error
    return replace(found, busy_percent=max(busy, host.busy_percent()))


def _measure(run: Workload, settings: ProfileSettings, progress: console.Progress) -> Profile:
    with ExitStack() as stack:
        monitor = stack.enter_context(Monitor(run.device))
        progress.update(0, status="phases")
        run, as_trained = _profilable(run, settings)
        times = phases.measure(run, settings.steps)
        progress.update(1, status="memory")
        timeline = step_memory.timeline(run)
        growth = step_memory.growth(run, settings.growth_steps) if settings.growth_steps else None
    progress.update(2, status="operators")
    found = operator_counts.inspect(run)
    spots = hotspots.find(run)
    progress.update(3, status="this machine's limits")
    peaks = roofline.measure_peaks(run.device)
    launches, beside = roofline.launch_seconds(run.device, found.calls, run.run_step)
    step = min(times.plain)
    line = roofline.Roofline(step, found.bytes / peaks.copy, found.flops / peaks.matmul, launches / beside * step)
    peak = monitor.peak.resident if run.device.kind == "cpu" else monitor.peak.driver
    evidence = verdict.Evidence(
        settings, run.device, times, found, line, spots, growth, peak, run.device.memory().limit
    )
    findings = verdict.findings(evidence)
    if settings.try_:
        progress.update(4, status="trying what may help")
        findings = [verdict.attempt(settings, run, finding) for finding in findings]
    fell_back = None
    if run.device.kind == "mps" and not fallbacks.is_enabled():
        settings.out.mkdir(parents=True, exist_ok=True)
        fell_back = fallbacks.measure(settings, settings.out)
    return Profile(run, evidence, findings, peaks, timeline, growth, fell_back, as_trained)


def _profilable(run: Workload, settings: ProfileSettings) -> tuple[Workload, TrainedExecution | None]:
    """A workload whose phases can be separated, and the times of the execution that `transit train` uses."""
    if run.inference:
        return run, None
    run.run_step()
    name = run.runner.execution
    if name not in PROFILABLE_AS:
        return run, None
    seconds = phases.plain(run, settings.steps)
    return batches.build(settings.replace(execution=PROFILABLE_AS[name])), TrainedExecution(name, seconds)


def median(values: list[float]) -> float:
    """The median; 0 of nothing."""
    import statistics

    return statistics.median(values) if values else 0.0


def _out_of_memory(run: Workload, settings: ProfileSettings, error: RuntimeError) -> TransitError:
    """Write down what is known when memory runs out; the error names the file."""
    held = run.device.memory()
    file = settings.out / "oom.json"
    known = {
        "error": str(error).splitlines()[0],
        "device": run.device.kind,
        "network": settings.network,
        "batch_size": settings.batch_size,
        "allocated_bytes": held.allocated,
        "driver_bytes": held.driver,
        "limit_bytes": held.limit,
        "parameter_bytes": sum(parameter.nbytes for parameter in run.step.network.parameters()),
    }
    atomic_write(file, json.dumps(known, indent=2) + "\n")
    half = max(1, settings.batch_size // 2)
    return TransitError(
        f"memory ran out at a batch of {settings.batch_size}: {known['error']}",
        wanted=f"a step that fits; what was allocated is in {file}",
        fix=f"--batch-size {half} --accumulate {settings.accumulate * 2}, or transit probe-batch",
        exit_code=ExitCode.MACHINE,
        code="out-of-memory",
    )
