"""A trial from outside: start the child, watch it and the machine, and say what became of it.

Whatever a batch does to the child - an error, an abort inside Metal, a hang, the kernel's out-of-memory killer - costs
this one trial and nothing else.
"""

from __future__ import annotations

import contextlib
import dataclasses
import signal
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import psutil

from transit_cli.memory import pressure, reading
from transit_cli.memory.limit import SWAP_ALLOWANCE
from transit_cli.results import ExitCode, TransitError
from transit_cli.tuning.batch_search import Trial, Verdict
from transit_cli.utils import isolation

if TYPE_CHECKING:
    from transit_cli.tuning.trials.spec import TrialSpec

#: What libraries print when memory runs out and they end the process instead of raising.
MEMORY_WORDS = (
    "out of memory",
    "insufficient memory",
    "bad_alloc",
    "cannot allocate memory",
    "can't allocate memory",
    "resource temporarily unavailable",
    "invalid buffer size",
    "could not create a primitive",
)


@dataclass
class _Seen:
    """What a child has said so far, why it was killed if it was, and how the machine was when it began."""

    events: dict[str, dict[str, Any]] = field(default_factory=dict)
    killed: tuple[Verdict, str] | None = None
    swap: int = field(default_factory=lambda: reading.read().swap_used)
    pressure: str = field(default_factory=lambda: pressure.read().level)

    def take(self, event: dict[str, Any]) -> None:
        self.events[event["event"]] = event

    @property
    def steps(self) -> int:
        return int(self.events.get("step", {}).get("steps", 0))


@dataclass(frozen=True)
class TrialMachine:
    """What the first trial found out about where it ran: device, its name, precision, torch, memory limit in bytes."""

    device: str
    name: str
    precision: str
    torch: str
    limit_bytes: int


def run(spec: TrialSpec, seconds: float) -> tuple[Trial, TrialMachine | None]:
    """Run one trial to its end, whatever that is.

    Args:
        spec: what to run.
        seconds: the longest that it may take, its start included.

    Returns:
        The trial, and the machine as it reported itself; None if it did not get that far.

    Raises:
        TransitError: it failed for a reason that is not about what the machine can take.
    """
    started = time.monotonic()
    seen = _Seen()
    with isolation.Child("transit_cli.tuning.trials.trial_process") as child:

        def watch() -> bool:
            seen.killed = _reason_to_kill(child.pid, seen, started + seconds)
            return seen.killed is not None

        end = child.run(dataclasses.asdict(spec), seen.take, watch=watch)
    ready = seen.events.get("ready")
    names = [item.name for item in dataclasses.fields(TrialMachine)]
    machine = TrialMachine(**{name: ready[name] for name in names}) if ready else None
    limit = machine.limit_bytes if machine else spec.limit_bytes or 0
    trial = Trial(spec.size, Verdict.FITS, limit, steps=seen.steps, long=spec.long)
    trial = dataclasses.replace(trial, **_outcome(spec, seen, end, limit))
    return dataclasses.replace(trial, seconds=time.monotonic() - started), machine


def _reason_to_kill(pid: int, seen: _Seen, deadline: float) -> tuple[Verdict, str] | None:
    if time.monotonic() > deadline:
        what = f"{seen.steps} steps" if seen.steps else "no step" if "ready" in seen.events else "not even a start"
        return Verdict.TOO_SLOW, f"{what} within the time limit"
    grown = reading.read().swap_used - seen.swap
    if grown > SWAP_ALLOWANCE:
        return Verdict.SWAPS, f"swap grew by {grown / 2**30:.1f} GiB"
    state = pressure.read()
    if state.level in {"warn", "critical"} and state.level != seen.pressure:
        return Verdict.SWAPS, f"memory pressure rose to {state.level} ({state.detail})"
    if seen.events.get("ready", {}).get("device") == "cpu":
        with contextlib.suppress(psutil.Error):
            resident = psutil.Process(pid).memory_info().rss
            limit = seen.events["ready"]["limit_bytes"]
            if resident > limit * 1.02:  # Linux refuses the memory before this; macOS has nothing that would
                return Verdict.OVER_LIMIT, f"{resident / 2**20:.0f} MiB resident"
    return None


def _outcome(spec: TrialSpec, seen: _Seen, end: isolation.ChildExit, limit: int) -> dict[str, Any]:
    """What the end of a child means, as fields of its trial."""
    if done := seen.events.get("done"):
        peak, per_step = int(done["peak_bytes"]), float(done["seconds_per_step"])
        measured = {"peak_bytes": peak, "seconds_per_step": per_step, "samples_per_second": spec.size / per_step}
        measured |= {"execution": str(done["execution"])}
        if peak > limit:
            return {**measured, "verdict": Verdict.OVER_LIMIT, "detail": f"{peak / 2**20:.0f} MiB"}
        return {**measured, "steps": int(done["steps"])}
    if seen.killed:
        return {"verdict": seen.killed[0], "detail": seen.killed[1]}
    if error := seen.events.get("error"):
        return _error(spec, error)
    if end.returncode == -signal.SIGKILL:
        return {"verdict": Verdict.OUT_OF_MEMORY, "detail": "killed by the system, as it does when memory runs out"}
    if any(word in end.stderr.lower() for word in MEMORY_WORDS):
        return {"verdict": Verdict.OUT_OF_MEMORY, "detail": isolation.last_line(end.stderr)}
    if end.kind == "aborted":
        return {"verdict": Verdict.CRASHED, "detail": end.message}
    raise _failure(spec, f"the process ended with status {end.returncode}: {end.message}")


def _error(spec: TrialSpec, error: dict[str, Any]) -> dict[str, Any]:
    if error["kind"] == "transit":
        texts = {key: error[key] for key in ("wanted", "fix", "code")}
        raise TransitError(error["found"], exit_code=ExitCode(error["exit_code"]), **texts)
    text = f"{error['type']}: {error['text']}"
    if error["kind"] == "memory":
        return {"verdict": Verdict.OUT_OF_MEMORY, "detail": text}
    where = f" ({error['where']})" if error["where"] else ""
    raise _failure(spec, f"{text}{where}")


def _failure(spec: TrialSpec, what: str) -> TransitError:
    return TransitError(
        f"a training step fails at batch {spec.size}, and not for want of memory: {what}",
        wanted="a network and a device that can take one step",
        fix="transit doctor, if the network is not yours",
        exit_code=ExitCode.MACHINE,
        code="step-failed",
    )
