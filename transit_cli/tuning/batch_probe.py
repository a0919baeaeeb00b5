"""`transit probe-batch`: the largest batch that fits on this machine, and the best one."""

from __future__ import annotations

import shlex
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeVar

from transit_cli import config, console
from transit_cli.data.viewset import ViewSet
from transit_cli.device import host
from transit_cli.results import ExitCode, Result, Table, Text, TransitError
from transit_cli.tuning.batch_search import (
    LARGEST,
    THROUGHPUT_TOLERANCE,
    Answer,
    NothingFitsError,
    Trial,
    Verdict,
    search,
)
from transit_cli.tuning.chart import chart
from transit_cli.tuning.trials import trial as trials
from transit_cli.tuning.trials.spec import TrialSpec
from transit_cli.utils.files import atomic_write

if TYPE_CHECKING:
    from pathlib import Path

    from transit_cli.tuning.settings import ProbeSettings, WorkSettings
    from transit_cli.tuning.trials.trial import TrialMachine

_Settings = TypeVar("_Settings", bound="WorkSettings")

#: Optimizer steps per epoch below which networks learn little in the usual number of epochs.
FEW_STEPS = 8
#: Options of `transit train` that the answer of a probe depends on.
SHARED = ("network", "views", "scalars", "optimizer", "precision", "execution", "device")


@dataclass
class TrialRunner:
    """Runs trials of the same settings, all under the memory limit that the first one resolved."""

    settings: WorkSettings
    bar: console.Progress | None = None
    machine: TrialMachine | None = None
    trials: list[Trial] = field(default_factory=list)

    def __call__(self, size: int, long: bool = False, steps: int | None = None) -> Trial:
        """Run one size."""
        if self.bar:
            self.bar.update(len(self.trials), status=f"batch {size}" + (", for longer" if long else ""))
        spec = replace(spec_of(self.settings), size=size, long=long, steps=steps)
        if self.machine:
            spec = replace(spec, limit_bytes=self.machine.limit_bytes)
        trial, machine = trials.run(spec, self.settings.seconds)
        self.machine = self.machine or machine
        self.trials.append(trial)
        if self.bar:
            self.bar.print(_line(trial))
        return trial


def spec_of(settings: WorkSettings) -> TrialSpec:
    """The spec that all trials of these settings share."""
    train: dict[str, Any] = {name: getattr(settings, name) for name in SHARED}
    train["viewset"] = str(settings.viewset) if settings.viewset else None
    views = {} if settings.viewset else settings.lengths
    return TrialSpec(1, train=train, views=views, inputs=settings.shapes, limit=settings.memory_limit)


def training_rows(viewset: Path) -> int:
    """Rows of a view set that train: no batch is larger."""
    return len(ViewSet.open(viewset).labelled(("train",)))


def find(settings: ProbeSettings) -> tuple[Answer, TrialMachine]:
    """Search, showing each trial as it ends.

    Raises:
        TransitError: a step fails for another reason than the machine's limits, or not even one sample fits.
    """
    rows = training_rows(settings.viewset) if settings.viewset else LARGEST
    if rows < LARGEST:
        ceiling, reason = max(rows, 1), f"the view set has {rows:,} rows to train on"
    else:
        ceiling, reason = LARGEST, f"{LARGEST:,} is the largest to train with: beyond it, MPS computes wrong gradients"
    with console.progress("probe-batch") as bar:
        runner = TrialRunner(settings, bar)
        try:
            answer = search(runner, ceiling=ceiling, ceiling_reason=reason, stop_at_best=settings.only_best)
        except NothingFitsError as error:
            raise _nothing_fits(settings, error.trials[-1]) from None
    if runner.machine is None:  # no trial has reported it, so that none can have fitted
        raise _nothing_fits(settings, answer.trials[-1])
    return answer, runner.machine


def _nothing_fits(settings: ProbeSettings, last: Trial) -> TransitError:
    limit = console.size(last.limit_bytes) if last.limit_bytes else settings.memory_limit
    return TransitError(
        f"not even a batch of {last.size} fits: {last.verdict} ({last.detail})",
        wanted=f"memory for one sample's step below {limit}, in {settings.seconds:g} s",
        fix="close other programs, or give a larger --memory-limit or --seconds",
        exit_code=ExitCode.MACHINE,
        code="nothing-fits",
    )


def probe(settings: ProbeSettings) -> Result:
    """Find the largest safe batch and the best one.

    Raises:
        TransitError: as `find`; or the file to write exists.
    """
    if settings.write and settings.write.exists():
        raise TransitError(
            f"{settings.write} exists already",
            wanted="a new name, so that nothing is overwritten",
            fix="give another --write",
            exit_code=ExitCode.USAGE,
            code="file-exists",
        )
    busy, started = host.busy_percent(), time.monotonic()
    answer, machine = find(settings)
    busy = max(busy, host.busy_percent())
    rows = training_rows(settings.viewset) if settings.viewset else 0
    seconds = time.monotonic() - started
    largest, best = answer.largest, answer.best
    settings = with_measured_execution(settings, best, machine)
    command = train_command(settings, best.size)
    if settings.write:
        try:
            atomic_write(settings.write, run_yaml(settings, best.size))
            command = f"transit train {settings.viewset or 'VIEWSET'} --config {settings.write}"
        except OSError as error:  # the search took long: show what it has found
            console.warn(f"{settings.write} cannot be written: {error.strerror}")
    data = {
        "largest_safe_batch": None if settings.only_best else largest.size,
        "best_batch": best.size,
        "verified": answer.verified,
        "stopped_by": answer.stopped_by,
        "memory_limit_bytes": machine.limit_bytes,
        "device": machine.device,
        "device_name": machine.name,
        "precision": machine.precision,
        "torch": machine.torch,
        "network": settings.network,
        "seconds": seconds,
        "busy_percent": busy,
        "optimizer_steps_per_epoch": steps_per_epoch(rows, best.size) if rows else None,
        "command": command,
        "trials": [_record(trial) for trial in answer.trials],
    }
    blocks = [_table(answer), Text("\n" + chart(answer.trials, machine.limit_bytes) + "\n")]
    warnings = [*host.busy_warnings(busy), *_warnings(answer)]
    return Result(data, blocks, _verdict(settings, answer, command, seconds, rows), warnings)


def steps_per_epoch(rows: int, batch: int) -> int:
    """Optimizer steps in a pass over so many training rows."""
    return max(1, round(rows / batch))


def with_measured_execution(settings: _Settings, trial: Trial, machine: TrialMachine) -> _Settings:
    """On a CPU, the settings with the execution of a trial: replicas take a third more memory than one thread."""
    return settings.replace(execution=trial.execution) if machine.device == "cpu" and trial.execution else settings


def train_command(settings: WorkSettings, batch: int, accumulate: int = 1) -> str:
    """The command that trains with this batch and the other probed options."""
    parts = ["transit", "train", str(settings.viewset or "VIEWSET"), "--batch-size", str(batch)]
    parts += ["--accumulate", str(accumulate)] if accumulate > 1 else []
    for setting in config.settings_of(type(settings)):
        value = getattr(settings, setting.name)
        if setting.name in SHARED and value != setting.default:
            parts += [setting.option, ",".join(value) if isinstance(value, tuple) else str(value)]
    if settings.shapes:
        return f"batch_size = {batch}  # in your own training loop"
    return shlex.join(parts)


def run_yaml(settings: WorkSettings, batch: int) -> str:
    """The answer as YAML for `transit train --config`."""
    from transit_cli.training.settings import TrainSettings

    shared = {name: getattr(settings, name) for name in SHARED}
    sources = dict.fromkeys(shared, "as it was probed") | {"batch_size": "transit probe-batch"}
    found = TrainSettings(**shared, batch_size=batch, sources=sources)
    lines = config.to_yaml(found, "train").splitlines()
    kept = [line for line in lines if line.split(":")[0] in {"transit_config", "command", "batch_size", *SHARED}]
    return "\n".join(kept) + "\n"


def _record(trial: Trial) -> dict[str, Any]:
    return {
        "batch_size": trial.size,
        "verdict": str(trial.verdict),
        "samples_per_second": trial.samples_per_second,
        "seconds_per_step": trial.seconds_per_step,
        "execution": trial.execution or None,
        "peak_memory_bytes": trial.peak_bytes,
        "headroom_bytes": None if trial.peak_bytes is None else trial.limit_bytes - trial.peak_bytes,
        "steps": trial.steps,
        "proof": trial.long,
        "detail": trial.detail,
        "seconds": trial.seconds,
    }


def _table(answer: Answer) -> Table:
    columns = ("batch", "samples/s", "ms/step", "peak", "headroom", "steps", "verdict")
    rows = []
    for trial in sorted(answer.trials, key=lambda trial: (trial.size, trial.long)):
        speed = f"{trial.samples_per_second:,.0f}" if trial.samples_per_second else "-"
        step = f"{1000 * trial.seconds_per_step:.4g}" if trial.seconds_per_step else "-"
        peak = console.size(trial.peak_bytes) if trial.peak_bytes else "-"
        room = console.size(trial.limit_bytes - trial.peak_bytes) if trial.peak_bytes else "-"
        marks = [str(trial.verdict)]
        marks += ["verified"] if trial.long and trial.fits else []
        marks += ["best"] if trial is answer.best else []
        rows.append((trial.size, speed, step, peak, room, trial.steps or "-", ", ".join(marks)))
    return Table(columns, rows)


def _line(trial: Trial) -> str:
    what = f"{trial.samples_per_second:,.0f} samples/s" if trial.samples_per_second else trial.detail[:60]
    peak = f", {console.size(trial.peak_bytes)}" if trial.peak_bytes else ""
    return f"  batch {trial.size}: {trial.verdict}, {what}{peak}"


def _verdict(settings: ProbeSettings, answer: Answer, command: str, seconds: float, rows: int) -> str:
    largest, best = answer.largest, answer.best
    lines = [f"best batch for speed: {best.size}, {_why_best(answer)}"]
    if rows:
        steps = steps_per_epoch(rows, best.size)
        lines.append(f"an epoch of {rows:,} training rows has {steps} optimizer step{'s' * (steps > 1)} with it")
        if steps < FEW_STEPS:
            fewer = max(1, rows // FEW_STEPS)
            lines[-1] += f": networks learn little in so few, --batch-size {fewer} or smaller learns more per epoch"
    if not settings.only_best:
        proof = f"verified over {largest.steps} steps" if answer.verified else "NOT verified: no trial was left"
        used = f", {largest.peak_bytes / largest.limit_bytes:.0%} of the memory limit" if largest.peak_bytes else ""
        lines.append(f"largest safe batch: {largest.size}{used}, {proof}")
    lines.append(f"stopped by: {answer.stopped_by} ({len(answer.trials)} trials, {console.duration(seconds)})")
    lines.append(f"next: {command}")
    return "\n".join(lines)


def _why_best(answer: Answer) -> str:
    """Why a size is the best, as its row in the table says it too."""
    best, speeds = answer.best, [trial.samples_per_second or 0.0 for trial in answer.trials if trial.fits]
    here, fastest = best.samples_per_second or 0.0, max(speeds)
    if here >= (1 - THROUGHPUT_TOLERANCE) * fastest:
        return "the smallest within 5 % of the best throughput"
    again = max((t.samples_per_second or 0.0 for t in answer.trials if t.size == best.size and t.fits), default=here)
    if again > here:
        return f"by its first run, {again:,.0f} samples/s; the longer one reached {here:,.0f}, as timings vary"
    return f"the fastest that passed the longer run; {fastest:,.0f} samples/s were reached by another"


def _warnings(answer: Answer) -> list[str]:
    """Outcomes that the user should know about."""
    serious = (Verdict.CRASHED, Verdict.SWAPS)
    return [
        f"batch {trial.size} {trial.verdict}: {trial.detail}" for trial in answer.trials if trial.verdict in serious
    ]
