"""One trial in a child process (`transit_cli.utils.isolation`); the job is a `TrialSpec`.

It opens the device, limits its memory, and takes real training steps at one batch size. Its events are `ready`,
`step`..., then `done` or `error`.
"""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING, Any

from transit_cli.results import TransitError
from transit_cli.tuning.trials.spec import TrialSpec
from transit_cli.utils import isolation

if TYPE_CHECKING:
    from collections.abc import Callable

    from transit_cli.device.base import Device
    from transit_cli.memory.monitor import Monitor
    from transit_cli.tuning.trials.work import Work

#: Steps before any is timed: the first makes the optimizer's state and compiles, the second finds caches as they stay,
#: the fourth captures where whole steps are captured (`training.execution.cuda_graph`).
WARM_UP = 4

#: A quick run ends after so many steps in all and timed seconds, or after the second pair where steps are slow.
QUICK = ((10, 1.0), (5, 6.0))
#: The run that proves an answer.
LONG = ((200, 2.0), (10, 40.0))


def run_job(job: dict[str, Any], emit: Callable[[dict[str, Any]], None]) -> None:
    """Run a `TrialSpec`, given as JSON, and report its events."""

    def say(event: str, **values: Any) -> None:
        emit({"event": event, **values})

    from transit_cli.device import environment

    environment.prepare()
    try:
        _run(TrialSpec(**job), say)
    except TransitError as error:
        say("error", kind="transit", exit_code=int(error.exit_code), **error.document())


def _run(spec: TrialSpec, say: Callable[..., None]) -> None:
    import torch

    from transit_cli.device import select
    from transit_cli.memory import limit as memory_limit
    from transit_cli.memory.monitor import Monitor
    from transit_cli.tuning.trials.work import Work

    device = select.select(spec.train.get("device", "auto"))
    try:
        work = Work(spec, device)
        if device.kind == "cpu":
            # Threads start and kernels load in the first step. Under the limit a thread that cannot start would end the
            # process without words, and it would not be the batch's fault.
            work.start_kernels()
        limit = spec.limit_bytes or memory_limit.limit_bytes(device, spec.limit)
        memory_limit.impose(device, limit)
        facts = {"device": device.kind, "name": device.facts.name, "precision": work.precision}
        say("ready", **facts, torch=torch.__version__, limit_bytes=limit)
        with Monitor(device, interval=0.02) as monitor:
            seconds, steps = _time(spec, work, monitor, lambda done: say("step", steps=done))
        say("done", steps=steps, seconds_per_step=seconds, peak_bytes=_peak(device, monitor), execution=work.execution)
    except TransitError:
        raise
    except BaseException as error:  # noqa: BLE001 - whatever it is, the parent is told
        text = str(error).strip().splitlines()
        kind = "memory" if device.is_out_of_memory(error) else "other"
        say("error", kind=kind, type=type(error).__name__, text=text[0] if text else "", where=_where(error))


def _time(spec: TrialSpec, work: Work, monitor: Monitor, beat: Callable[[int], None]) -> tuple[float, int]:
    """Take steps until they have been timed well; the median seconds of a step, and how many there were."""
    ends = ((spec.steps, 0.0),) if spec.steps else LONG if spec.long else QUICK
    sizes = [spec.size] * (spec.accumulate - 1) + [spec.last or spec.size]
    times: list[float] = []
    steps, block, spent, started = 0, 1, 0.0, time.perf_counter()
    while not any(steps >= least and time.perf_counter() - started >= seconds for least, seconds in ends):
        before = time.perf_counter()
        for _ in range(block):
            work.step(sizes)
        work.device.synchronize()
        spent = (time.perf_counter() - before) / block
        monitor.sample()
        steps += block
        beat(steps)
        if steps > WARM_UP:
            times.append(spent)
            block = min(max(int(0.1 / spent), 1), 100)  # waiting for the device at each step would slow it down
            block = min(block, max(spec.steps - steps, 1)) if spec.steps else block
        else:
            started = time.perf_counter()
    return statistics.median(times) if times else spent, steps


def _peak(device: Device, monitor: Monitor) -> int:
    """The most memory that was held: resident on a CPU, by the driver's own figure or by sampling on a GPU."""
    from transit_cli.memory import reading

    return reading.peak_resident() if device.kind == "cpu" else monitor.peak.driver


def _where(error: BaseException) -> str:
    """The innermost line of the traceback outside site-packages: the user's code, or transit's."""
    import traceback

    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "site-packages" not in frame.filename]
    return f"{frames[-1].filename}:{frames[-1].lineno}" if frames else ""


if __name__ == "__main__":
    isolation.serve(run_job)
